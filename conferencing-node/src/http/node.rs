//! The node itself: how it stands, whether it takes new calls, what it wants ended.

use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::StreamExt;

use super::App;
use super::reader::{Asked, Reader, asked, reader};
use super::refusal::{Answer, OfPath, ok};
use crate::json;
use crate::revocations::revocations;

const KEEPALIVE: Duration = Duration::from_secs(15);

/// Contact, grace, counts, alarms; the media server that asks shows life thereby.
#[utoipa::path(
    get,
    path = "/v1/status",
    params(Asked),
    responses(
        (status = 200, description = "The status.", body = json::StatusBody),
        OfPath,
    )
)]
pub(super) async fn status(State(agent): App, uri: Uri) -> Answer {
    reader(&agent, &uri)?;
    ok(json::status(&agent.status().await?))
}

/// New calls are no longer taken, so that the machine can be taken out of service once its legs have ended. Kept over a
/// restart.
#[utoipa::path(
    post,
    path = "/v1/drain",
    responses(
        (status = 200, description = "It is so, durably.", body = json::DrainingBody),
        OfPath,
    )
)]
pub(super) async fn drain(State(agent): App) -> Answer {
    let legs = agent.drain(true).await?;
    ok(json::DrainingBody { draining: true, legs })
}

/// New calls are taken again.
#[utoipa::path(
    delete,
    path = "/v1/drain",
    responses(
        (status = 200, description = "It is so, durably.", body = json::DrainingBody),
        OfPath,
    )
)]
pub(super) async fn undrain(State(agent): App) -> Answer {
    let legs = agent.drain(false).await?;
    ok(json::DrainingBody { draining: false, legs })
}

/// Legs an administrator wants ended, as server-sent events: those that are, then each as it happens.
#[utoipa::path(
    get,
    path = "/v1/events",
    params(Asked),
    responses(
        (status = 200, description = "Events `revoked`; their data is JSON.", body = json::RevokedBody,
         content_type = "text/event-stream"),
        OfPath,
    )
)]
pub(super) async fn events(State(agent): App, uri: Uri) -> Answer {
    let Reader { source, observer } = asked(&uri)?;
    let events = revocations(&agent, source, observer).map(|revoked| {
        Event::default().event("revoked").json_data(json::RevokedBody {
            leg: revoked.leg.to_string(),
            call: revoked.call.to_string(),
            source: revoked.source.to_string(),
        })
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEPALIVE)).into_response())
}
