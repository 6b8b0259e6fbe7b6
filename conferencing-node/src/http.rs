//! The local interface as HTTP/JSON, under `/v1`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::map_request;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use conferencing_core::{Conflict, Decision, LegRecord, LegVerdict};
use futures::StreamExt;
use headroom_core::call::MAX_LEGS;
use headroom_core::{IdError, LegId, SourceId};
use headroom_shared::committer::SubmitError;
use headroom_shared::convert::FieldError;
use serde_json::{Value, json};

use crate::agent::{Agent, AgentError, revocations};
use crate::json;

/// Largest body that is read.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// How much of a body that is too large is read before the connection closes.
const DRAINED: usize = 64 * 1024 * 1024;

const KEEPALIVE: Duration = Duration::from_secs(15);

type App = State<Arc<Agent>>;
type Segment = Result<Path<String>, PathRejection>;

/// All routes.
pub fn router(agent: Arc<Agent>) -> Router {
    // Around the routes, because the method decides among them.
    Router::new().fallback_service(routes(agent)).layer(map_request(overridden))
}

fn routes(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/calls", post(admit))
        .route("/v1/calls/{call}", axum::routing::delete(end_call))
        .route("/v1/legs", get(list).put(sync).patch(change_many))
        .route("/v1/legs/{leg}", patch(change).delete(end_leg))
        .route("/v1/status", get(status))
        .route("/v1/drain", post(drain).delete(undrain))
        .route("/v1/events", get(events))
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(agent)
}

/// The header in which a client that can only send POST says what it means; the usual name for it.
const OVERRIDE: &str = "x-http-method-override";

/// The HTTP clients of some media servers know GET and POST alone.
async fn overridden(mut request: Request) -> Result<Request, Refusal> {
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

/// A refusal.
struct Refusal {
    code: StatusCode,
    error: &'static str,
    field: Option<String>,
    text: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(code: StatusCode, error: &'static str, text: impl Into<String>) -> Self {
        Self { code, error, field: None, text: text.into(), retry_after: None }
    }

    fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    fn malformed(error: FieldError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", error.description).at(error.field)
    }

    fn invalid(field: impl Into<String>, text: impl Into<String>) -> Self {
        let (field, text) = (field.into(), text.into());
        // The field has a place of its own.
        let text = text.strip_prefix(&format!("{field}: ")).map_or(text.clone(), str::to_owned);
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", text).at(field)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error, "text": self.text });
        if let Some(field) = self.field {
            body["field"] = Value::String(field);
        }
        let mut response = (self.code, axum::Json(body)).into_response();
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1).to_string();
            if let Ok(value) = HeaderValue::from_str(&seconds) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}

impl From<AgentError> for Refusal {
    fn from(error: AgentError) -> Self {
        let text = error.to_string();
        match error {
            AgentError::Submit(SubmitError::Overloaded { retry_after, .. }) => Self {
                retry_after: Some(retry_after),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", text)
            },
            AgentError::Submit(SubmitError::Expired { limit, .. }) => Self {
                retry_after: Some(limit),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", text)
            },
            AgentError::Submit(SubmitError::Stopped) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
            }
            AgentError::Invalid { field, text } => Self::invalid(field, text),
            AgentError::Unexpected { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text),
        }
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Self::new(StatusCode::CONFLICT, conflict.word(), conflict.to_string()).at(conflict.field())
    }
}

/// A body of at most [`MAX_BODY`] bytes.
struct Body(Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Refusal;

    /// A body that is too large is read on for a while and dropped: a client that still writes when the
    /// connection closes would see a broken pipe instead of the refusal.
    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let mut stream = request.into_body().into_data_stream();
        let (mut body, mut read) = (Vec::new(), 0_usize);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                Refusal::new(StatusCode::BAD_REQUEST, "malformed", error.to_string()).at("body")
            })?;
            read = read.saturating_add(chunk.len());
            if read <= MAX_BODY {
                body.extend_from_slice(&chunk);
            } else if read > DRAINED {
                break;
            }
        }
        if read > MAX_BODY {
            let text = format!("the body is larger than {MAX_BODY} bytes");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text).at("body"));
        }
        Ok(Self(body.into()))
    }
}

type Answer = Result<Response, Refusal>;

fn ok(body: Value) -> Answer {
    Ok(axum::Json(body).into_response())
}

fn read<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    json::read(&body.0).map_err(Refusal::malformed)
}

fn segment<T: std::str::FromStr<Err = IdError>>(segment: Segment, field: &str) -> Result<T, Refusal> {
    let malformed = |text: String| Refusal::malformed(FieldError::new(field, text));
    let Path(text) = segment.map_err(|rejection| malformed(rejection.body_text()))?;
    text.parse().map_err(|error: IdError| malformed(error.to_string()))
}

async fn admit(State(agent): App, body: Body) -> Answer {
    let body: json::CallBody = read(body)?;
    let running = body.running;
    let call = body.into();
    match if running { agent.adopt(call).await? } else { agent.admit(call).await? } {
        Decision::Granted(granted) => {
            let mine = granted.legs.iter().filter(|leg| leg.owner.is_none());
            agent.delivered(mine.map(|leg| leg.leg.clone()).collect());
            ok(json::granted(&granted))
        }
        Decision::Denied(reason) => {
            Ok((StatusCode::FORBIDDEN, axum::Json(json::denied(reason))).into_response())
        }
        Decision::Conflict(conflict) => Err(conflict.into()),
        Decision::Refused { field, text } => Err(Refusal::invalid(field, text)),
    }
}

async fn end_call(State(agent): App, call: Segment) -> Answer {
    let ended = agent.end_call(segment(call, "call")?).await?;
    ok(json!({ "ended": ended }))
}

async fn end_leg(State(agent): App, leg: Segment) -> Answer {
    let ended = agent.end_legs(vec![segment(leg, "leg")?]).await?;
    ok(json!({ "ended": ended }))
}

async fn change(State(agent): App, leg: Segment, body: Body) -> Answer {
    let leg: LegId = segment(leg, "leg")?;
    let body: json::ChangeBody = read(body)?;
    let verdicts = agent.update(vec![(leg.clone(), body.media.0.into())]).await?;
    let verdict = verdicts.first().unwrap_or(&LegVerdict::Unknown);
    let code = match verdict {
        LegVerdict::Granted { .. } => StatusCode::OK,
        LegVerdict::Denied { .. } => StatusCode::FORBIDDEN,
        LegVerdict::Refused { field, text } => return Err(Refusal::invalid(field.clone(), text.clone())),
        LegVerdict::Released => {
            return Err(Refusal::new(StatusCode::CONFLICT, "released", format!("{leg} has ended")).at("leg"));
        }
        LegVerdict::Unknown | LegVerdict::Waiting { .. } => {
            let text = format!("no leg {leg} runs here");
            return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_leg", text).at("leg"));
        }
    };
    Ok((code, axum::Json(json::verdict(&leg, verdict))).into_response())
}

async fn change_many(State(agent): App, body: Body) -> Answer {
    let body: json::ChangesBody = read(body)?;
    let count = body.legs.len();
    if count == 0 || count > MAX_LEGS {
        return Err(Refusal::invalid("legs", format!("{count} given, 1 to {MAX_LEGS} are allowed")));
    }
    let changes: Vec<_> =
        body.legs.into_iter().map(|change| (change.0.leg, change.0.media.0.into())).collect();
    let mut seen = std::collections::BTreeSet::new();
    if let Some(index) = changes.iter().position(|(leg, _)| !seen.insert(leg)) {
        let text = format!("{} is given twice", changes[index].0);
        return Err(Refusal::invalid(format!("legs[{index}].leg"), text));
    }
    let verdicts = agent.update(changes.clone()).await?;
    let legs: Vec<_> =
        changes.iter().zip(&verdicts).map(|((leg, _), verdict)| json::verdict(leg, verdict)).collect();
    ok(json!({ "legs": legs }))
}

/// The legs that run; `?source=…` for one source only.
async fn list(State(agent): App, uri: Uri) -> Answer {
    let Reader { source, observer } = reader(&agent, &uri)?;
    let view = agent.view();
    let state = &view.state;
    let wanted = |record: &&Arc<LegRecord>| source.as_ref().is_none_or(|source| record.source() == source);
    let legs: Vec<_> = state
        .legs
        .values()
        .filter(wanted)
        .map(|record| json::leg(record, state.unconfirmed.contains(record.id())))
        .collect();
    if !observer {
        agent.read_by(state, source.as_ref());
    }
    ok(json!({ "as_of": state.counters.revision, "legs": legs }))
}

async fn sync(State(agent): App, body: Body) -> Answer {
    let body: json::SyncBody = read(body)?;
    let legs = body.legs.into_iter().map(|leg| leg.0).collect();
    let (ended, unknown) = agent.sync(body.source, body.as_of, legs).await?;
    let words = |legs: Vec<LegId>| legs.iter().map(ToString::to_string).collect::<Vec<_>>();
    ok(json!({ "ended": words(ended), "unknown": words(unknown) }))
}

/// How the node stands.
async fn status(State(agent): App, uri: Uri) -> Answer {
    reader(&agent, &uri)?;
    ok(json::status(&agent.status().await?))
}

/// New calls are no longer taken.
async fn drain(State(agent): App) -> Answer {
    let legs = agent.drain(true).await?;
    ok(json!({ "draining": true, "legs": legs }))
}

/// New calls are taken again.
async fn undrain(State(agent): App) -> Answer {
    let legs = agent.drain(false).await?;
    ok(json!({ "draining": false, "legs": legs }))
}

/// Revocations as server-sent events; `?source=…` for one source only.
async fn events(State(agent): App, uri: Uri) -> Answer {
    let Reader { source, observer } = asked(&uri)?;
    let events = revocations(&agent, source, observer).map(|revoked| {
        let data = json!({
            "leg": revoked.leg.as_str(), "call": revoked.call.as_str(), "source": revoked.source.as_str(),
        });
        Ok::<_, Infallible>(Event::default().event("revoked").data(data.to_string()))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEPALIVE)).into_response())
}

/// Who reads, as the query says.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    source: Option<String>,
    observer: Option<bool>,
}

/// Who reads.
struct Reader {
    source: Option<SourceId>,
    /// No media server: no source shows life, and nobody counts as told of revoked legs.
    observer: bool,
}

fn asked(uri: &Uri) -> Result<Reader, Refusal> {
    let Query(Asked { source, observer }) = Query::try_from_uri(uri)
        .map_err(|error| Refusal::malformed(FieldError::new("query", error.body_text())))?;
    let source: Option<Result<SourceId, IdError>> = source.map(|text| text.parse());
    let source = source.transpose().map_err(|error| Refusal::malformed(FieldError::new("source", error)))?;
    Ok(Reader { source, observer: observer.unwrap_or(false) })
}

/// Who reads; unless it is an observer, the source that is named shows life, or the default one does.
fn reader(agent: &Arc<Agent>, uri: &Uri) -> Result<Reader, Refusal> {
    let reader = asked(uri)?;
    if !reader.observer {
        agent.alive(reader.source.clone().unwrap_or_default());
    }
    Ok(reader)
}

async fn nowhere(uri: Uri, headers: HeaderMap) -> Response {
    let grpc = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/grpc"));
    if grpc {
        return tonic::Status::unimplemented(format!("{} is not served here", uri.path())).into_http();
    }
    let text = format!(
        "{} is not served here; paths begin with /v1/calls, /v1/legs, /v1/status, /v1/drain or /v1/events",
        uri.path()
    );
    Refusal::new(StatusCode::NOT_FOUND, "not_found", text).into_response()
}

async fn wrong_method(uri: Uri) -> Response {
    let text = format!("{} does not take this method", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text).into_response()
}
