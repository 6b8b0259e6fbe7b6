//! Why a request is not carried out, and how its body and path are read.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use conferencing_core::Conflict;
use futures::StreamExt;
use headroom_core::IdError;
use headroom_shared::committer::SubmitError;
use headroom_shared::convert::FieldError;
use utoipa::{IntoParams, IntoResponses};

use crate::agent::AgentError;
use crate::json;

/// Largest body that is read.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// How much of a body that is too large is read before the connection closes.
const DRAINED: usize = 64 * 1024 * 1024;

/// How a request with a body can be refused, besides what its own answer says.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers, and is none")]
pub(super) enum OfBody {
    /// Malformed.
    #[response(status = 400)]
    Malformed(json::ProblemBody),
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(json::ProblemBody),
    /// It cannot be judged as it was put.
    #[response(status = 422)]
    Invalid(json::ProblemBody),
    /// Too much to do; `Retry-After` says when to ask again.
    #[response(status = 503)]
    Overloaded(json::ProblemBody),
}

/// How a request without a body can be refused.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers, and is none")]
pub(super) enum OfPath {
    /// Malformed.
    #[response(status = 400)]
    Malformed(json::ProblemBody),
    /// Too much to do, and `Retry-After` says when to ask again; or the node is ending.
    #[response(status = 503)]
    Unavailable(json::ProblemBody),
}

pub(super) type Segment = Result<Path<String>, PathRejection>;

/// A leg in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "describes a path, which is read as a whole")]
pub(super) struct LegPath {
    /// The leg.
    #[param(schema_with = json::schema::id)]
    leg: String,
}

/// A call in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "describes a path, which is read as a whole")]
pub(super) struct CallPath {
    /// The call.
    #[param(schema_with = json::schema::id)]
    call: String,
}

/// A refusal.
pub(super) struct Refusal {
    code: StatusCode,
    error: &'static str,
    field: Option<String>,
    text: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(code: StatusCode, error: &'static str, text: impl Into<String>) -> Self {
        Self { code, error, field: None, text: text.into(), retry_after: None }
    }

    pub(super) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub(super) fn malformed(error: FieldError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", error.description).at(error.field)
    }

    pub(super) fn invalid(field: impl Into<String>, text: impl Into<String>) -> Self {
        let (field, text) = (field.into(), text.into());
        // The field has a place of its own.
        let text = text.strip_prefix(&format!("{field}: ")).map_or(text.clone(), str::to_owned);
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", text).at(field)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json::ProblemBody { error: self.error, text: self.text, field: self.field };
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
pub(super) struct Body(pub(super) Bytes);

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

pub(super) type Answer = Result<Response, Refusal>;

pub(super) fn ok(body: impl serde::Serialize) -> Answer {
    Ok(axum::Json(body).into_response())
}

pub(super) fn read<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    json::read(&body.0).map_err(Refusal::malformed)
}

pub(super) fn segment<T: std::str::FromStr<Err = IdError>>(
    segment: Segment,
    field: &str,
) -> Result<T, Refusal> {
    let malformed = |text: String| Refusal::malformed(FieldError::new(field, text));
    let Path(text) = segment.map_err(|rejection| malformed(rejection.body_text()))?;
    text.parse().map_err(|error: IdError| malformed(error.to_string()))
}
