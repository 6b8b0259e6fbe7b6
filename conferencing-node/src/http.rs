//! The local interface as HTTP/JSON, under `/v1`, and its description as OpenAPI.

mod calls;
pub(crate) mod feed;
mod legs;
mod node;
mod reader;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use headroom_shared::convert::FieldError;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::agent::Agent;
pub use refusal::MAX_BODY;
use refusal::Refusal;

type App = State<Arc<Agent>>;

/// What is said of the interface as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Headroom conferencing node",
        description = "What a media server asks of the conferencing node on its host, before each call leg, when its \
                       media change and when it ends. Every request is idempotent by leg. The gRPC service \
                       headroom.admission.v1 says the same.",
        license(name = "MIT OR Apache-2.0")
    ),
    servers((url = "/"))
)]
struct Described;

/// All routes.
pub fn router(agent: Arc<Agent>) -> Router {
    // Around the routes, because the method decides among them.
    Router::new()
        .fallback_service(served(agent))
        .layer(map_request(overridden))
        .layer(from_fn_with_state(ANSWER, in_time))
}

fn routes() -> OpenApiRouter<Arc<Agent>> {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(calls::admit))
        .routes(routes!(calls::end_call))
        .routes(routes!(legs::list, legs::sync, legs::change_many))
        .routes(routes!(legs::change, legs::end_leg))
        .routes(routes!(node::status))
        .routes(routes!(node::drain, node::undrain))
        .routes(routes!(node::events))
}

fn served(agent: Arc<Agent>) -> Router {
    let (routes, described) = routes().split_for_parts();
    let described = described.to_json().unwrap_or_default();
    let described = move || async move { ([(header::CONTENT_TYPE, "application/json")], described) };
    routes
        .route(DESCRIPTION, get(described))
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(agent)
}

/// Longest time until an answer; less than what a server has for a request of any kind.
const ANSWER: Duration = Duration::from_secs(20);

/// Where the description is.
const DESCRIPTION: &str = "/v1/openapi.json";

/// The header in which a client that can only send POST says what it means; the usual name for it.
const OVERRIDE: &str = "x-http-method-override";

/// The HTTP clients of some media servers know GET and POST alone.
async fn overridden(mut request: Request) -> Result<Request, Refusal> {
    // A page that somebody on this host looks at could ask in his browser, which says so.
    if request.headers().contains_key(header::ORIGIN) {
        let text = "web pages may not ask here: the request has an `origin` header";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", text).at("origin"));
    }
    let Some(wanted) = request.headers().get(OVERRIDE).filter(|_| request.method() == Method::POST) else {
        return Ok(request);
    };
    let methods = [Method::PUT, Method::PATCH, Method::DELETE];
    let Some(method) = methods.into_iter().find(|method| wanted.as_bytes() == method.as_str().as_bytes())
    else {
        let text = "it must be PUT, PATCH or DELETE, and the request a POST";
        return Err(Refusal::malformed(FieldError::new(OVERRIDE, text)));
    };
    *request.method_mut() = method;
    Ok(request)
}

/// Answers that the outcome is unknown when there is no answer in time. What is under way goes on.
async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = format!("nothing was decided within {limit:?}: say it again");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text).into_response()
        }
    }
}

async fn nowhere(uri: Uri, headers: HeaderMap) -> Response {
    let grpc = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/grpc"));
    if grpc {
        return tonic::Status::unimplemented(format!("{} is not served here", uri.path())).into_http();
    }
    let text = format!("{} is not served here; {DESCRIPTION} says what is", uri.path());
    Refusal::new(StatusCode::NOT_FOUND, "not_found", text).into_response()
}

async fn wrong_method(uri: Uri) -> Response {
    let text = format!("{} does not take this method", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text).into_response()
}
