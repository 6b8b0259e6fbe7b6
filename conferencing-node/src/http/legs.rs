//! Legs: changed, ended, listed.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use conferencing_core::{LegRecord, LegVerdict};
use headroom_core::LegId;
use headroom_core::call::MAX_LEGS;

use super::App;
use super::reader::{Asked, Reader, reader};
use super::refusal::{Answer, Body, LegPath, OfBody, OfPath, Refusal, Segment, ok, read, segment};
use crate::json;

/// May this leg change its media?
#[utoipa::path(
    patch,
    path = "/v1/legs/{leg}",
    params(LegPath),
    request_body = json::ChangeBody,
    responses(
        (status = 200, description = "The change may happen.", body = json::LegDecisionBody),
        (status = 403, description = "The leg keeps what it has.", body = json::LegDecisionBody),
        (status = 404, description = "No such leg runs here.", body = json::ProblemBody),
        (status = 409, description = "The leg has ended.", body = json::ProblemBody),
        OfBody,
    )
)]
pub(super) async fn change(State(agent): App, leg: Segment, body: Body) -> Answer {
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
    Ok((code, Json(json::verdict(&leg, verdict))).into_response())
}

/// May these legs change their media? Each is decided alone.
#[utoipa::path(
    patch,
    path = "/v1/legs",
    request_body = json::ChangesBody,
    responses(
        (status = 200, description = "A decision for each.", body = json::LegDecisionsBody),
        OfBody,
    )
)]
pub(super) async fn change_many(State(agent): App, body: Body) -> Answer {
    let body: json::ChangesBody = read(body)?;
    let count = body.legs.len();
    if count == 0 || count > MAX_LEGS {
        return Err(Refusal::invalid("legs", format!("{count} given, 1 to {MAX_LEGS} are allowed")));
    }
    let changes: Vec<_> =
        body.legs.into_iter().map(|change| (change.0.leg, change.0.media.0.into())).collect();
    let mut seen = BTreeSet::new();
    if let Some(index) = changes.iter().position(|(leg, _)| !seen.insert(leg)) {
        let text = format!("{} is given twice", changes[index].0);
        return Err(Refusal::invalid(format!("legs[{index}].leg"), text));
    }
    let verdicts = agent.update(changes.clone()).await?;
    let legs: Vec<_> =
        changes.iter().zip(&verdicts).map(|((leg, _), verdict)| json::verdict(leg, verdict)).collect();
    ok(json::LegDecisionsBody { legs })
}

/// A leg ended. Never refused.
#[utoipa::path(
    delete,
    path = "/v1/legs/{leg}",
    params(LegPath),
    responses(
        (status = 200, description = "They have ended.", body = json::EndedBody),
        OfPath,
    )
)]
pub(super) async fn end_leg(State(agent): App, leg: Segment) -> Answer {
    let ended = agent.end_legs(vec![segment(leg, "leg")?]).await?;
    ok(json::EndedBody { ended })
}

/// The legs that run; their media server shows life thereby.
#[utoipa::path(
    get,
    path = "/v1/legs",
    params(Asked),
    responses(
        (status = 200, description = "The legs.", body = json::LegsBody),
        OfPath,
    )
)]
pub(super) async fn list(State(agent): App, uri: Uri) -> Answer {
    let Reader { source, observer } = reader(&agent, &uri)?;
    let view = agent.view();
    let state = &view.state;
    let wanted = |record: &&Arc<LegRecord>| source.as_ref().is_none_or(|source| record.source() == source);
    let legs: Vec<_> = state
        .legs
        .values()
        .filter(wanted)
        .map(|record| json::running(record, state.unconfirmed.contains(record.id())))
        .collect();
    if !observer {
        agent.read_by(state, source.as_ref());
    }
    ok(json::LegsBody { as_of: state.counters.revision, legs })
}

/// Which legs of a media server run; the others it had have ended.
#[utoipa::path(
    put,
    path = "/v1/legs",
    request_body = json::SyncBody,
    responses(
        (status = 200, description = "They are in line.", body = json::SyncedBody),
        OfBody,
    )
)]
pub(super) async fn sync(State(agent): App, body: Body) -> Answer {
    let body: json::SyncBody = read(body)?;
    let legs = body.legs.into_iter().map(|leg| leg.0).collect();
    let (ended, unknown) = agent.sync(body.source, body.as_of, legs).await?;
    ok(json::synced(&ended, &unknown))
}
