//! Between the local interface and the machine: submits commands, and lets people wait for the pool.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conferencing_core::{
    AskId, Command, Decision, FeedEvent, LegVerdict, Node, Outcome, Reply, State, Status,
};
use headroom_core::time::Clock;
use headroom_core::{Call, CallId, DenialReason, LegId, Media, Millis, SourceId};
use headroom_shared::committer::{Handle, SubmitError, View};
use headroom_shared::rpc::Shutdown;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::revocations::revoked;

/// Longest time in which a request may wait to be looked at; after that it is dropped undecided.
const QUEUE: Duration = Duration::from_millis(200);

/// How often a drain looks whether what was asked before it has been answered.
const LOOK: Duration = Duration::from_millis(20);

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
    /// The status as it was last asked for.
    seen: Mutex<Option<Status>>,
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
        Arc::new(Self { handle, clock, shutdown, asks, next, wake, delivered, seen: Mutex::default() })
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

    /// The time by the wall clock.
    #[must_use]
    pub fn wall(&self) -> Millis {
        self.clock.now().wall
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
    pub async fn submit(self: &Arc<Self>, command: Command) -> Result<Reply, SubmitError> {
        self.carry_out(command, None).await
    }

    async fn ask(self: &Arc<Self>, command: Command) -> Result<Reply, AgentError> {
        let reply = self.carry_out(command, Some(QUEUE)).await?;
        self.wake.notify_one();
        Ok(reply)
    }

    /// In a task of its own: an answer to one request can decide others, and must reach those who wait
    /// for them also when the one who asked has gone.
    async fn carry_out(
        self: &Arc<Self>,
        command: Command,
        limit: Option<Duration>,
    ) -> Result<Reply, SubmitError> {
        let agent = Arc::clone(self);
        let task = tokio::spawn(async move {
            let done = match limit {
                Some(limit) => agent.handle.submit_within(command, limit).await?,
                None => agent.handle.submit(command).await?,
            };
            agent.hand_out(&done.reply);
            Ok(done.reply)
        });
        task.await.unwrap_or(Err(SubmitError::Stopped))
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

    fn register(self: &Arc<Self>) -> Waiter {
        let ask = AskId(self.next.fetch_add(1, Ordering::Relaxed));
        let (waiter, answer) = oneshot::channel();
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).insert(ask, waiter);
        Waiter { agent: Arc::clone(self), ask, answer }
    }

    /// Waits for the pool until the budget is over, then has the node decide what is still open.
    async fn wait(self: &Arc<Self>, waiters: Vec<Waiter>, until: Millis) -> Result<Vec<Outcome>, AgentError> {
        let left = u64::try_from(until.since(self.boot()).0).unwrap_or_default();
        let deadline = tokio::time::Instant::now() + Duration::from_millis(left);
        let mut decided = Vec::with_capacity(waiters.len());
        for mut waiter in waiters {
            let outcome = tokio::time::timeout_at(deadline, &mut waiter.answer).await;
            decided.push(outcome.map_err(|_| waiter));
        }
        let late = decided.iter().filter_map(|outcome| outcome.as_ref().err().map(|waiter| waiter.ask));
        let asks: Vec<_> = late.collect();
        if !asks.is_empty() {
            self.submit(Command::Expire { asks }).await?;
            self.wake.notify_one();
        }
        let mut outcomes = Vec::with_capacity(decided.len());
        for outcome in decided {
            let outcome = match outcome {
                Ok(outcome) => outcome,
                // Decided now, or just before: either way it has been handed out, or is about to be.
                Err(mut waiter) => (&mut waiter.answer).await,
            };
            outcomes.push(outcome.map_err(|_| AgentError::Submit(SubmitError::Stopped))?);
        }
        Ok(outcomes)
    }

    /// May a call's legs begin?
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn admit(self: &Arc<Self>, call: Call) -> Result<Decision, AgentError> {
        let waiter = self.register();
        match self.ask(Command::Admit { ask: waiter.ask, call }).await? {
            Reply::Decided(decision) => Ok(decision),
            Reply::Waiting { until, .. } => match self.wait(vec![waiter], until).await?.pop() {
                Some(Outcome::Call(decision)) => Ok(decision),
                _ => Err(AgentError::Unexpected { command: "admit" }),
            },
            _ => Err(AgentError::Unexpected { command: "admit" }),
        }
    }

    /// A call's legs run already, by their media server's own decision. Never denied, so it waits as long as it
    /// takes.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn adopt(self: &Arc<Self>, call: Call) -> Result<Decision, AgentError> {
        let reply = self.submit(Command::Adopt { call }).await?;
        self.wake.notify_one();
        match reply {
            Reply::Decided(decision) => Ok(decision),
            _ => Err(AgentError::Unexpected { command: "adopt" }),
        }
    }

    /// A platform tells what happened. Never refused, so it waits as long as it takes.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn feed(self: &Arc<Self>, event: FeedEvent) -> Result<u64, AgentError> {
        self.ended(Command::Feed { event }).await
    }

    /// Why a call may not begin, if it may not, as far as is known here.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn foresee(self: &Arc<Self>, call: Call) -> Result<Option<DenialReason>, AgentError> {
        match self.ask(Command::Foresee { call }).await? {
            Reply::Foreseen(reason) => Ok(reason),
            _ => Err(AgentError::Unexpected { command: "foresee" }),
        }
    }

    /// New calls are no longer taken, or taken again. Answers how many legs run, once what was asked before has been
    /// answered: it may still be granted.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn drain(self: &Arc<Self>, on: bool) -> Result<u64, AgentError> {
        self.submit(Command::Drain { on }).await?;
        let asks = || self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<AskId> = asks().keys().copied().collect();
        // Each is answered within its budget.
        while before.iter().any(|ask| asks().contains_key(ask)) {
            tokio::time::sleep(LOOK).await;
        }
        Ok(self.view().state.legs.len() as u64)
    }

    /// May legs change their media? Each is decided alone.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn update(
        self: &Arc<Self>,
        changes: Vec<(LegId, Media)>,
    ) -> Result<Vec<LegVerdict>, AgentError> {
        let waiters: Vec<_> = changes.iter().map(|_| self.register()).collect();
        let legs = changes.into_iter().zip(&waiters).map(|((leg, media), w)| (w.ask, leg, media)).collect();
        let unexpected = AgentError::Unexpected { command: "update_legs" };
        let Reply::Legs(mut verdicts) = self.ask(Command::UpdateLegs { legs }).await? else {
            return Err(unexpected);
        };
        let until = |verdict: &LegVerdict| match verdict {
            LegVerdict::Waiting { until, .. } => Some(*until),
            _ => None,
        };
        // One request, one budget.
        let Some(until) = verdicts.iter().filter_map(until).min() else { return Ok(verdicts) };
        let open = |verdict: &LegVerdict| matches!(verdict, LegVerdict::Waiting { .. });
        let waiting = waiters.into_iter().zip(&verdicts).filter(|(_, verdict)| open(verdict));
        let outcomes = self.wait(waiting.map(|(waiter, _)| waiter).collect(), until).await?;
        for (verdict, outcome) in verdicts.iter_mut().filter(|verdict| open(verdict)).zip(outcomes) {
            let Outcome::Leg(decided) = outcome else { return Err(unexpected) };
            *verdict = decided;
        }
        Ok(verdicts)
    }

    /// Legs ended. Answers how many ran until now.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn end_legs(self: &Arc<Self>, legs: Vec<LegId>) -> Result<u64, AgentError> {
        self.ended(Command::EndLegs { legs }).await
    }

    /// Every leg of a call ended. Answers how many ran until now.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn end_call(self: &Arc<Self>, call: CallId) -> Result<u64, AgentError> {
        self.ended(Command::EndCall { call }).await
    }

    /// An end is never refused, so it waits as long as it takes.
    async fn ended(self: &Arc<Self>, command: Command) -> Result<u64, AgentError> {
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
        self: &Arc<Self>,
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

    /// How the node stands; when too much waits before the question, how it stood when it was last asked.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn status(self: &Arc<Self>) -> Result<Status, AgentError> {
        let last = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match self.ask(Command::Status).await {
            Ok(Reply::Status(status)) => {
                *last() = Some((*status).clone());
                Ok(*status)
            }
            Err(AgentError::Submit(
                late @ (SubmitError::Overloaded { .. } | SubmitError::Expired { .. }),
            )) => last().clone().ok_or(AgentError::Submit(late)),
            Err(error) => Err(error),
            Ok(_) => Err(AgentError::Unexpected { command: "status" }),
        }
    }

    /// A source shows life. Nobody waits for it to be noted.
    pub fn alive(self: &Arc<Self>, source: SourceId) {
        let agent = Arc::clone(self);
        tokio::spawn(async move { agent.submit(Command::Alive { source }).await });
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

    /// A media server has read the list: it counts as told of its own legs. Without a name it is the
    /// default source.
    pub fn read_by(self: &Arc<Self>, state: &State, source: Option<&SourceId>) {
        let reader = source.cloned().unwrap_or_default();
        let revoked = revoked(state, Some(&reader));
        self.told(revoked.into_iter().map(|revoked| revoked.leg).collect());
    }
}

/// Somebody who waits for an answer; gone when he no longer does.
struct Waiter {
    agent: Arc<Agent>,
    ask: AskId,
    answer: oneshot::Receiver<Outcome>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.agent.asks.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.ask);
    }
}
