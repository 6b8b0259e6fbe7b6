//! The support log: a line for everything an administrator may be asked about later. It follows what is
//! durable, beside the path of requests, so a flood of denials slows no grant.

use std::sync::Arc;

use headroom_core::NodeName;
use headroom_shared::committer::{Committed, Handle};
use management_core::{Event, HolderId, PoolMachine};
use tokio::sync::broadcast::error::RecvError;

/// What these lines are filtered by.
const TARGET: &str = "support";

/// Writes until the service ends.
pub(crate) async fn log(pool: Handle<PoolMachine>) {
    let mut events = pool.events();
    loop {
        match events.recv().await {
            Ok(committed) => write(&pool, &committed),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(target: TARGET, missed, "records passed too fast; `denials` has them all");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn write(pool: &Handle<PoolMachine>, committed: &Arc<Committed<PoolMachine>>) {
    let node = |holder: HolderId| {
        let name = pool.view().state.node_of(holder);
        name.as_ref().map_or_else(String::new, |name: &NodeName| name.to_string())
    };
    for event in &committed.events {
        match event {
            Event::Denied(denial) => tracing::info!(
                target: TARGET,
                node = node(denial.holder),
                call = %denial.call.info.call,
                reason = %denial.reason,
                needed = %denial.charge,
                in_use = denial.pool.in_use.0,
                limit = denial.pool.limit().0,
                by_node = denial.by_node,
                "denied: {}", denial.reason.text()
            ),
            Event::SessionLapsed { holder, leases, .. } => {
                tracing::warn!(target: TARGET, node = node(*holder), leases, "session lapsed, leases returned");
            }
            Event::CloneFound { node, instance } => {
                tracing::error!(target: TARGET, %node, instance, "a second machine uses this node's identity");
            }
            Event::RolledBack(found) => tracing::error!(
                target: TARGET,
                node = found.node.as_ref().map_or("", |node| node.as_str()),
                seen = found.seen,
                here = found.here,
                "this store is older than what a node has seen of it: every session is fenced"
            ),
            Event::OverCommitBegan { feature, cause, .. } => {
                tracing::warn!(target: TARGET, %feature, ?cause, "more units are in use than the licenses permit");
            }
            Event::OverCommitEnded { feature } => {
                tracing::info!(target: TARGET, %feature, "use is within the licenses again");
            }
            Event::AlarmRaised { key, text, quiet: false, .. } => {
                tracing::warn!(target: TARGET, alarm = %key.name, subject = %key.subject, "raised: {text}");
            }
            Event::AlarmCleared { key, quiet: false, .. } => {
                tracing::info!(target: TARGET, alarm = %key.name, subject = %key.subject, "cleared");
            }
            Event::LicenseRemoved { license, left, .. } => {
                tracing::warn!(target: TARGET, %license, "license {}", left.text());
            }
            Event::RequestClosed { outcome, .. } => {
                tracing::info!(target: TARGET, "license request: {outcome}")
            }
            Event::ClockSet { leap, .. } if leap.0 != 0 => {
                tracing::warn!(target: TARGET, seconds = leap.0 / 1000, "license time leapt");
            }
            Event::TestModeOn { .. } => tracing::warn!(target: TARGET, "TEST MODE is on for 8 hours"),
            Event::TestModeOff { by_itself, .. } => {
                tracing::warn!(target: TARGET, by_itself, "test mode is off")
            }
            _ => {}
        }
    }
}
