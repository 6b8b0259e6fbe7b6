//! What conferencing platforms on other hosts say and ask, as HTTP/JSON. Who does not show credentials is not heard.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use headroom_shared::convert::FieldError;
use headroom_shared::telemetry::Seldom;
use serde::Serialize;
use serde_json::json;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

use super::in_time;
use super::refusal::{Answer, Body, Refusal, ok};
use crate::feed::credentials::Credentials;
use crate::feed::intake::Intake;
use crate::feed::{event, policy};

/// Where events are posted.
const EVENTS: &str = "/feed/v1/events";
/// Where the platform asks before it lets a call into a service; the path is the platform's.
const POLICY: &str = "/policy/v1/service/configuration";

/// The platform waits for 7 s; one that is answered later would not hear it.
const ANSWER: Duration = Duration::from_secs(6);

static STRANGERS: Seldom = Seldom::new(Duration::from_secs(10));

/// All routes.
pub(crate) fn router(intake: Arc<Intake>, credentials: Credentials) -> Router {
    Router::new()
        .route(EVENTS, post(events))
        .route(POLICY, get(configuration))
        .fallback(nowhere)
        .method_not_allowed_fallback(super::wrong_method)
        .layer(from_fn_with_state(ANSWER, in_time))
        .layer(from_fn_with_state(Arc::new(credentials), admitted))
        .with_state(intake)
}

async fn admitted(State(known): State<Arc<Credentials>>, request: Request, next: Next) -> Response {
    let said = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let peer = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let peer = peer.and_then(|info| info.get_ref().remote_addr());
    let peer = peer.map_or_else(|| "somebody".to_owned(), |address| address.ip().to_string());
    if said.is_some_and(|said| known.admit(said)) {
        let path = request.uri().path().to_owned();
        let response = next.run(request).await;
        if !response.status().is_success() {
            // The sender tries again, and gives up some time.
            tracing::warn!(peer, path, status = %response.status(), "what a platform said was not taken");
        }
        return response;
    }
    if STRANGERS.is_due() {
        tracing::warn!(peer, "somebody without credentials speaks on the port for feeds");
    }
    let text = "a user and password, or a token, of the file feed_credentials is needed";
    let mut refusal = Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", text).into_response();
    let asks =
        HeaderValue::from_static("Basic realm=\"headroom\", charset=\"UTF-8\", Bearer realm=\"headroom\"");
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, asks);
    refusal
}

async fn nowhere(uri: Uri) -> Refusal {
    let text = format!("{} is not served here; events are posted to {EVENTS}", uri.path());
    Refusal::new(StatusCode::NOT_FOUND, "not_found", text)
}

#[derive(Serialize)]
struct TakenBody {
    /// Events that are recorded now.
    events: usize,
}

/// Takes an event, or several. Answers once they are durable: what is not answered the platform sends again.
async fn events(State(intake): State<Arc<Intake>>, Body(body): Body) -> Answer {
    let events = event::read(&body).map_err(|error| {
        tracing::warn!(%error, "an event that cannot be read");
        Refusal::malformed(error)
    })?;
    let count = events.len();
    intake.take(events).await?;
    ok(TakenBody { events: count })
}

/// May a call begin? An empty result leaves everything else to the platform.
async fn configuration(State(intake): State<Arc<Intake>>, uri: Uri) -> Answer {
    let Query(asked) = Query::<HashMap<String, String>>::try_from_uri(&uri)
        .map_err(|error| Refusal::malformed(FieldError::new("query", error.body_text())))?;
    let reason = match policy::call(&asked) {
        Some(call) => intake.foresee(call).await,
        None => None,
    };
    let action = if reason.is_some() { "reject" } else { "continue" };
    ok(json!({ "status": "success", "action": action, "result": {} }))
}
