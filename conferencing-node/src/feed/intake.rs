//! Has events recorded in the order in which they come.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use conferencing_core::{Decision, FeedEvent, Happened, LegVerdict, Place};
use headroom_core::{Call, DenialReason, Direction, LegId, Service};
use tokio::sync::Mutex;

use super::disconnect::Disconnects;
use super::event::Event;
use crate::agent::{Agent, AgentError};

/// Sources are told apart by so many queues.
const QUEUES: usize = 64;

/// Takes events.
pub(crate) struct Intake {
    agent: Arc<Agent>,
    /// Who ends legs for which no license is left, if anybody does.
    disconnects: Option<Disconnects>,
    queues: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Intake {
    pub(crate) fn new(agent: Arc<Agent>, disconnects: Option<Disconnects>) -> Arc<Self> {
        let queues = std::iter::repeat_with(Mutex::default).take(QUEUES).collect();
        Arc::new(Self { agent, disconnects, queues, hasher: RandomState::new() })
    }

    /// Takes the events of a request in order, each durably before the next. In a task of its own: a sender that goes
    /// away does not leave them half taken, and its next attempt, which begins with the same event, waits for this one.
    ///
    /// # Errors
    /// [`AgentError`]; what comes before has been taken.
    pub(crate) async fn take(self: &Arc<Self>, events: Vec<Event>) -> Result<(), AgentError> {
        let intake = Arc::clone(self);
        let task = tokio::spawn(async move {
            let Some(first) = events.first() else { return Ok(()) };
            let queue = usize::try_from(intake.hasher.hash_one(&first.source)).unwrap_or_default() % QUEUES;
            let _turn = intake.queues[queue].lock().await;
            for event in &events {
                intake.take_one(event).await?;
            }
            Ok(())
        });
        task.await.unwrap_or(Err(AgentError::Unexpected { command: "feed" }))
    }

    async fn take_one(&self, event: &Event) -> Result<(), AgentError> {
        let view = self.agent.view();
        let meaning = event.means(|leg| view.state.legs.get(leg).cloned());
        if meaning.what == Happened::Unreadable {
            tracing::warn!(event = event.summary(), "an event of a leg that cannot be read");
        }
        let heard = view.state.heard(&meaning.source);
        let denied = match heard.place(&meaning, self.agent.wall()) {
            Place::Next(_) => self.asked(&meaning).await,
            Place::Again | Place::Before => None,
        };
        self.agent.feed(meaning).await?;
        tracing::debug!(event = event.summary(), "taken");
        if let (Some(disconnects), Some((leg, reason))) = (&self.disconnects, denied) {
            disconnects.want(leg, reason.word());
        }
        Ok(())
    }

    /// Asks for what is about to be recorded anyway, when somebody acts on the answer.
    async fn asked(&self, event: &FeedEvent) -> Option<(LegId, DenialReason)> {
        self.disconnects.as_ref()?;
        let Happened::LegRuns(call) = &event.what else { return None };
        let leg = call.legs.first()?;
        // What a gateway call costs is known once its outbound leg begins, which then stands for the call.
        if call.info.service == Service::Gateway && leg.direction == Direction::In {
            return None;
        }
        let known = self.agent.view().state.legs.get(&leg.leg).cloned();
        let reason = match known {
            Some(record) if record.revoked => None,
            Some(_) => {
                let change = vec![(leg.leg.clone(), leg.media)];
                match self.agent.update(change).await.ok()?.pop()? {
                    LegVerdict::Denied { reason, .. } => Some(reason),
                    _ => None,
                }
            }
            None => match self.agent.admit((**call).clone()).await.ok()? {
                Decision::Denied(reason) => Some(reason),
                _ => None,
            },
        };
        Some((leg.leg.clone(), reason?))
    }

    /// Why a call that has yet to begin may not, if it may not. When that cannot be told now it may.
    pub(crate) async fn foresee(&self, call: Call) -> Option<DenialReason> {
        self.agent.foresee(call).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a call goes on for which nobody could be asked");
            None
        })
    }
}
