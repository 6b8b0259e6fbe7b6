//! A call begins, and ends.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use conferencing_core::Decision;

use super::App;
use super::refusal::{Answer, Body, CallPath, OfBody, OfPath, Refusal, Segment, ok, read, segment};
use crate::json;

/// May these legs begin? All of them or none.
#[utoipa::path(
    post,
    path = "/v1/calls",
    request_body = json::CallBody,
    responses(
        (status = 200, description = "The legs may run.", body = json::GrantedBody),
        (status = 403, description = "They may not.", body = json::DeniedBody),
        (status = 409, description = "A leg has ended within the last minute (`released`), an administrator wants it \
                                      ended (`revoked`), or it runs in another call (`conflict`).",
         body = json::ProblemBody),
        OfBody,
    )
)]
pub(super) async fn admit(State(agent): App, body: Body) -> Answer {
    let body: json::CallBody = read(body)?;
    let running = body.running;
    let call = body.into();
    match if running { agent.adopt(call).await? } else { agent.admit(call).await? } {
        Decision::Granted(granted) => {
            let mine = granted.legs.iter().filter(|leg| leg.owner.is_none());
            agent.delivered(mine.map(|leg| leg.leg.clone()).collect());
            ok(json::granted(&granted))
        }
        Decision::Denied(reason) => Ok((StatusCode::FORBIDDEN, Json(json::denied(reason))).into_response()),
        Decision::Conflict(conflict) => Err(conflict.into()),
        Decision::Refused { field, text } => Err(Refusal::invalid(field, text)),
    }
}

/// Every leg of a call on this node ended.
#[utoipa::path(
    delete,
    path = "/v1/calls/{call}",
    params(CallPath),
    responses(
        (status = 200, description = "They have ended.", body = json::EndedBody),
        OfPath,
    )
)]
pub(super) async fn end_call(State(agent): App, call: Segment) -> Answer {
    let ended = agent.end_call(segment(call, "call")?).await?;
    ok(json::EndedBody { ended })
}
