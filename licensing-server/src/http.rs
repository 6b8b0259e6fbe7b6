//! `POST /v1/activations`: a machine's request as XML, answered by XML.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Extensions, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use headroom_core::activation::MAX_XML;
use headroom_shared::committer::SubmitError;
use licensing_core::Refusal;

use crate::api::source;
use crate::office::{Office, Unanswered};

/// The path machines post to.
pub const PATH: &str = "/v1/activations";
const XML: &str = "application/xml; charset=utf-8";

/// The route, over an office.
pub fn route(office: Office) -> Router {
    Router::new().route(PATH, post(answer)).layer(DefaultBodyLimit::max(MAX_XML)).with_state(office)
}

async fn answer(State(office): State<Office>, extensions: Extensions, body: Bytes) -> Response {
    match office.answer(&body, source(&extensions)).await {
        Ok(xml) => ([(CONTENT_TYPE, XML)], xml).into_response(),
        Err(error) => refusal(&error),
    }
}

/// One line that says what is wrong, and when to come back.
fn refusal(error: &Unanswered) -> Response {
    let (code, retry_after) = match error {
        Unanswered::Request(_) => (StatusCode::BAD_REQUEST, None),
        Unanswered::Refused(Refusal::Limited { retry_after, .. }) => {
            (StatusCode::TOO_MANY_REQUESTS, Some((retry_after.0 + 999) / 1000))
        }
        Unanswered::Submit(SubmitError::Stopped) => (StatusCode::SERVICE_UNAVAILABLE, Some(10)),
        Unanswered::Submit(_) => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
        Unanswered::Refused(_) | Unanswered::Defect(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
    };
    let mut response = (code, format!("{error}\n")).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
