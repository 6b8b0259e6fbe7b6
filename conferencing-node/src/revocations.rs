//! Legs that an administrator wants ended, for those who run them: those that are, then each as it happens.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use conferencing_core::{Command, State};
use headroom_core::{CallId, LegId, SourceId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use crate::agent::Agent;

/// An administrator wants a leg ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The leg.
    pub leg: LegId,
    /// Its call.
    pub call: CallId,
    /// Its media server.
    pub source: SourceId,
}

/// Revoked legs of a source that run, all sources when none is given.
#[must_use]
pub fn revoked(state: &State, source: Option<&SourceId>) -> Vec<Revocation> {
    state
        .revoked
        .iter()
        .filter_map(|leg| state.legs.get(leg))
        .filter(|record| source.is_none_or(|source| record.source() == source))
        .map(|record| Revocation {
            leg: record.id().clone(),
            call: record.call().clone(),
            source: record.source().clone(),
        })
        .collect()
}

/// A source that reads the stream of its revocations shows life so often.
const LIFE: Duration = Duration::from_secs(30);

/// Revocations of a source: those that are on, then each as it happens. A source that reads its stream
/// counts as told, and as alive while it reads, unless an observer reads; without a name it is the
/// default source.
pub fn revocations(
    agent: &Arc<Agent>,
    source: Option<SourceId>,
    observer: bool,
) -> impl futures::Stream<Item = Revocation> + Send + use<> {
    let agent = Arc::clone(agent);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut events = agent.handle().events();
        let mut seen = HashSet::new();
        let reader = source.clone().unwrap_or_default();
        let mut life = tokio::time::interval(LIFE);
        let end = agent.shutdown().wait();
        tokio::pin!(end);
        loop {
            // The state says all there is to say, so a watcher that lags behind misses nothing.
            let now = revoked(&agent.view().state, source.as_ref());
            seen.retain(|leg| now.iter().any(|revocation| revocation.leg == *leg));
            for revocation in now {
                let (leg, own) = (revocation.leg.clone(), !observer && revocation.source == reader);
                if seen.insert(leg.clone()) {
                    if sender.send(revocation).await.is_err() {
                        return;
                    }
                    if own {
                        agent.told(vec![leg]);
                    }
                }
            }
            tokio::select! {
                () = &mut end => return,
                () = sender.closed() => return,
                _ = life.tick(), if !observer => {
                    if agent.submit(Command::Alive { source: reader.clone() }).await.is_err() {
                        return;
                    }
                }
                event = events.recv() => {
                    if matches!(event, Err(RecvError::Closed)) {
                        return;
                    }
                }
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}
