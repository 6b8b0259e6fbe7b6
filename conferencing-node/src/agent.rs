//! Between the local interface and the machine: submits commands, and lets people wait for the pool.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conferencing_core::{AskId, Command, Decision, LegVerdict, Node, Outcome, Reply, State, Status};
use headroom_core::time::Clock;
use headroom_core::{Call, CallId, LegId, Media, Millis, SourceId};
use headroom_shared::committer::{Handle, SubmitError, View};
use headroom_shared::rpc::Shutdown;
use tokio::sync::{Notify, mpsc, oneshot};

/// Longest time in which a request may wait to be looked at; after that it is dropped undecided.
const QUEUE: Duration = Duration::from_millis(200);

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// It was not decided, or its outcome is unknown.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A field contradicts the state.
    #[error("{field}: {text}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        text: String,
    },
    /// A defect: the machine answered something else than was asked.
    #[error("internal error: an unexpected answer to {command}")]
    Unexpected {
        /// What was asked.
        command: &'static str,
    },
}

/// What the local interface works with.
pub struct Agent {
    handle: Handle<Node>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
    asks: Mutex<HashMap<AskId, oneshot::Sender<Outcome>>>,
    next: AtomicU64,
    wake: Notify,
    delivered: mpsc::UnboundedSender<Vec<LegId>>,
}

impl Agent {
    /// Begins, with the task that notes which answers have gone out.
    #[must_use]
    pub fn start(handle: Handle<Node>, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Arc<Self> {
        let (delivered, mut gone_out) = mpsc::unbounded_channel::<Vec<LegId>>();
        let submit = handle.clone();
        tokio::spawn(async move {
            while let Some(mut legs) = gone_out.recv().await {
                while let Ok(more) = gone_out.try_recv() {
                    legs.extend(more);
                }
                if submit.submit(Command::Delivered { legs }).await.is_err() {
                    return;
                }
            }
        });
        let (asks, next, wake) = (Mutex::default(), AtomicU64::new(1), Notify::new());
        Arc::new(Self { handle, clock, shutdown, asks, next, wake, delivered })
    }

    /// The newest durable state.
    #[must_use]
    pub fn view(&self) -> Arc<View<Node>> {
        self.handle.view()
    }

    /// The committer's handle.
    #[must_use]
    pub const fn handle(&self) -> &Handle<Node> {
        &self.handle
    }

    /// When to end.
    #[must_use]
    pub const fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Resolves when there may be something to say to the pool.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The time since boot.
    #[must_use]
    pub fn boot(&self) -> Millis {
        self.clock.now().boot
    }

    /// Submits a command however long it takes, and hands out the answers to those who wait.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`].
    pub async fn submit(&self, command: Command) -> Result<Reply, SubmitError> {
        let reply = self.handle.submit(command).await?.reply;
        self.hand_out(&reply);
        Ok(reply)
    }

    async fn ask(&self, command: Command) -> Result<Reply, AgentError> {
        let reply = self.handle.submit_within(command, QUEUE).await?.reply;
        self.hand_out(&reply);
        self.wake.notify_one();
        Ok(reply)
    }

    fn hand_out(&self, reply: &Reply) {
        let (Reply::Outcomes(outcomes) | Reply::Uplink { outcomes, .. } | Reply::Ended { outcomes, .. }) =
            reply
        else {
            return;
        };
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        for (ask, outcome) in outcomes {
            if let Some(waiter) = asks.remove(ask) {
                // Who asked may have gone away.
                let _ = waiter.send(outcome.clone());
            }
        }
    }

    fn register(&self) -> (AskId, oneshot::Receiver<Outcome>) {
        let ask = AskId(self.next.fetch_add(1, Ordering::Relaxed));
        let (waiter, answer) = oneshot::channel();
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).insert(ask, waiter);
        (ask, answer)
    }

    fn forget(&self, ask: AskId) {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).remove(&ask);
    }

    /// Waits for the pool until the budget is over, then has the node decide.
    async fn wait(
        &self,
        ask: AskId,
        mut answer: oneshot::Receiver<Outcome>,
        until: Millis,
    ) -> Result<Outcome, AgentError> {
        let left = u64::try_from(until.since(self.boot()).0).unwrap_or_default();
        if let Ok(Ok(outcome)) = tokio::time::timeout(Duration::from_millis(left), &mut answer).await {
            return Ok(outcome);
        }
        self.submit(Command::Expire { asks: vec![ask] }).await?;
        self.wake.notify_one();
        // Decided now, or just before: either way it has been handed out, or is about to be.
        answer.await.map_err(|_| AgentError::Submit(SubmitError::Stopped))
    }

    /// May a call's legs begin?
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn admit(&self, call: Call) -> Result<Decision, AgentError> {
        let (ask, answer) = self.register();
        match self.ask(Command::Admit { ask, call }).await {
            Ok(Reply::Decided(decision)) => {
                self.forget(ask);
                Ok(decision)
            }
            Ok(Reply::Waiting { until, .. }) => match self.wait(ask, answer, until).await? {
                Outcome::Call(decision) => Ok(decision),
                Outcome::Leg(_) => Err(AgentError::Unexpected { command: "admit" }),
            },
            Ok(_) => {
                self.forget(ask);
                Err(AgentError::Unexpected { command: "admit" })
            }
            Err(error) => {
                self.forget(ask);
                Err(error)
            }
        }
    }

    /// May legs change their media? Each is decided alone.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn update(&self, changes: Vec<(LegId, Media)>) -> Result<Vec<LegVerdict>, AgentError> {
        let mut answers = HashMap::new();
        let mut legs = Vec::with_capacity(changes.len());
        for (leg, media) in changes {
            let (ask, answer) = self.register();
            answers.insert(ask, answer);
            legs.push((ask, leg, media));
        }
        let asks: Vec<_> = legs.iter().map(|(ask, _, _)| *ask).collect();
        let reply = self.ask(Command::UpdateLegs { legs }).await;
        let waits = |reply: &[LegVerdict], ask: &AskId| {
            reply.iter().any(|v| matches!(v, LegVerdict::Waiting { ask: waiting, .. } if waiting == ask))
        };
        let verdicts = match reply {
            Ok(Reply::Legs(verdicts)) => Ok(verdicts),
            Ok(_) => Err(AgentError::Unexpected { command: "update_legs" }),
            Err(error) => Err(error),
        };
        for ask in asks {
            if !verdicts.as_ref().is_ok_and(|verdicts| waits(verdicts, &ask)) {
                self.forget(ask);
            }
        }
        let mut decided = Vec::new();
        for verdict in verdicts? {
            decided.push(match verdict {
                LegVerdict::Waiting { ask, until } => {
                    let answer =
                        answers.remove(&ask).ok_or(AgentError::Unexpected { command: "update_legs" })?;
                    match self.wait(ask, answer, until).await? {
                        Outcome::Leg(verdict) => verdict,
                        Outcome::Call(_) => return Err(AgentError::Unexpected { command: "update_legs" }),
                    }
                }
                verdict => verdict,
            });
        }
        Ok(decided)
    }

    /// Legs ended. Answers how many ran until now.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn end_legs(&self, legs: Vec<LegId>) -> Result<u64, AgentError> {
        self.ended(Command::EndLegs { legs }).await
    }

    /// Every leg of a call ended. Answers how many ran until now.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn end_call(&self, call: CallId) -> Result<u64, AgentError> {
        self.ended(Command::EndCall { call }).await
    }

    /// An end is never refused, so it waits as long as it takes.
    async fn ended(&self, command: Command) -> Result<u64, AgentError> {
        let reply = self.submit(command).await?;
        self.wake.notify_one();
        match reply {
            Reply::Ended { count, .. } => Ok(count),
            _ => Err(AgentError::Unexpected { command: "end" }),
        }
    }

    /// A source lists its legs. Answers those that ended, and those that do not run here.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn sync(
        &self,
        source: SourceId,
        as_of: u64,
        legs: Vec<LegId>,
    ) -> Result<(Vec<LegId>, Vec<LegId>), AgentError> {
        match self.ask(Command::Sync { source, as_of, legs }).await? {
            Reply::Synced { ended, unknown } => Ok((ended, unknown)),
            Reply::Invalid { field, text } => Err(AgentError::Invalid { field, text }),
            _ => Err(AgentError::Unexpected { command: "sync" }),
        }
    }

    /// How the node stands.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn status(&self) -> Result<Status, AgentError> {
        match self.ask(Command::Status).await? {
            Reply::Status(status) => Ok(*status),
            _ => Err(AgentError::Unexpected { command: "status" }),
        }
    }

    /// The answer that grants these legs is on its way to the media server.
    pub fn delivered(&self, legs: Vec<LegId>) {
        // The task ends only with the service.
        let _ = self.delivered.send(legs);
    }

    /// The media server is being told of these revoked legs.
    pub fn told(self: &Arc<Self>, legs: Vec<LegId>) {
        if legs.is_empty() {
            return;
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            if agent.submit(Command::Told { legs }).await.is_ok() {
                agent.wake.notify_one();
            }
        });
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
}

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

/// Revocations of a source: those that are on, then each as it happens. Whoever reads the stream
/// counts as told.
pub fn revocations(
    agent: &Arc<Agent>,
    source: Option<SourceId>,
) -> impl futures::Stream<Item = Revocation> + Send + use<> {
    let agent = Arc::clone(agent);
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut events = agent.handle().events();
        let mut seen = std::collections::HashSet::new();
        let end = agent.shutdown().wait();
        tokio::pin!(end);
        loop {
            // The state says all there is to say, so a watcher that lags behind misses nothing.
            let now = Agent::revoked(&agent.view().state, source.as_ref());
            seen.retain(|leg| now.iter().any(|revocation| revocation.leg == *leg));
            for revocation in now {
                let leg = revocation.leg.clone();
                if seen.insert(leg.clone()) {
                    if sender.send(revocation).await.is_err() {
                        return;
                    }
                    agent.told(vec![leg]);
                }
            }
            tokio::select! {
                () = &mut end => return,
                () = sender.closed() => return,
                event = events.recv() => {
                    if matches!(event, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
                        return;
                    }
                }
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}
