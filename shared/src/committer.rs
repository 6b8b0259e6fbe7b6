//! The one task that owns a machine: it decides commands, makes their events durable, and only then
//! shows and answers anything.
//!
//! ```text
//!  submit ─▶ queue ─▶ decide ─▶ open batch ─▶ seal ─▶ record in flight ─▶ publish ─▶ answer
//!           by class           (next record)          (at most one)        view
//! ```
//!
//! - While a record is in flight, arriving commands are decided into the open batch. They see
//!   everything decided before them; nobody else does until it is durable.
//! - A batch is sealed only when no record is in flight. So every answer, also one without events,
//!   has waited for each record that could have influenced it, and for its own batch.
//! - A batch that neither changed anything nor must prove a commit appends nothing.
//! - An append that fails ends the committer. The state in memory is then ahead of what is durable,
//!   and nobody who waits is told anything but that it stopped. There is no way back but a restart.

mod growth;
mod queue;
mod recover;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use headroom_core::machine::Machine;
use headroom_core::record::Position;
use headroom_core::time::{Clock, Millis, Now};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

pub use recover::{RecoverError, Recovered, recover};

use crate::log::{AppendError, Log, LogError};
use queue::Queue;
use task::Task;

/// What an overloaded asker is told to wait before it asks again.
pub const OVERLOAD_RETRY: Duration = Duration::from_millis(500);

/// The committer's bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Most commands in one batch.
    pub batch_commands: usize,
    /// A batch that holds so many events takes no further command.
    pub batch_events: usize,
    /// A command with a time limit is refused when so many wait before it.
    pub queue_limit: usize,
    /// How often, before a batch is sealed, the runtime may first run the tasks that are ready:
    /// what they submit still joins the batch.
    pub yields: usize,
    /// How long a batch of nothing but [`Class::Heartbeat`](headroom_core::machine::Class) stays open, for
    /// services where these come one by one from many askers and none is in a hurry. Anything else that
    /// arrives has the batch sealed at once.
    pub linger: Duration,
    /// Events after which a snapshot is due.
    pub snapshot_after: u64,
    /// Bytes of records after which a snapshot is due, unless the last snapshot had more.
    pub snapshot_bytes: u64,
    /// Events in one snapshot chunk.
    pub chunk_events: usize,
    /// Records that a watcher of [`Handle::events`] may lag behind before it misses some.
    pub watch_records: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_commands: 1024,
            batch_events: 16_384,
            queue_limit: 4096,
            yields: 32,
            linger: Duration::ZERO,
            snapshot_after: 200_000,
            snapshot_bytes: 8 * 1024 * 1024,
            chunk_events: 256,
            watch_records: 1024,
        }
    }
}

/// The published state: everything in it is durable.
pub struct View<M: Machine> {
    /// The state.
    pub state: M::State,
    /// The last record in it.
    pub position: Position,
    /// When that record was sealed; right after a start, the time of the start.
    pub time: Now,
}

/// One durable record, for those who watch.
pub struct Committed<M: Machine> {
    /// The record.
    pub position: Position,
    /// When it was sealed, by the wall clock.
    pub time: Millis,
    /// What happened.
    pub events: Vec<M::Event>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done<R> {
    /// What the machine replied.
    pub reply: R,
    /// The durable position when it was given: at least all that the reply depends on.
    pub position: Position,
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many wait. The command was not decided.
    #[error(
        "overloaded: {waiting} commands wait, at most {limit} may; try again in {} ms",
        retry_after.as_millis()
    )]
    Overloaded {
        /// Commands that would be decided before this one.
        waiting: usize,
        /// How many may wait.
        limit: usize,
        /// When to ask again.
        retry_after: Duration,
    },
    /// It waited too long. The command was not decided.
    #[error(
        "waited {} ms in the queue, the limit is {} ms; the request was not decided",
        waited.as_millis(),
        limit.as_millis()
    )]
    Expired {
        /// How long it waited.
        waited: Duration,
        /// How long it could.
        limit: Duration,
    },
    /// The committer stopped. The command may have been decided and even be durable.
    #[error("the service is stopping or its store failed; the outcome of the request is unknown")]
    Stopped,
}

/// How many commands were refused undecided since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// At once, because too many waited before them.
    pub overloaded: u64,
    /// Because they had waited too long.
    pub expired: u64,
}

/// Why a committer stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A record was not acknowledged.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A snapshot could not be written, or what it replaces not be trimmed.
    #[error("snapshot {sequence}: {cause}")]
    Snapshot {
        /// The snapshot.
        sequence: u64,
        /// What happened.
        cause: LogError,
    },
    /// A defect: the machine or the log panicked.
    #[error("{part} panicked")]
    Panicked {
        /// Which.
        part: &'static str,
    },
}

/// What askers and readers share with the task.
struct Shared<M: Machine> {
    queue: Queue<M>,
    view: ArcSwap<View<M>>,
    events: broadcast::Sender<Arc<Committed<M>>>,
    snapshot_writing: AtomicBool,
    snapshot_postponed: AtomicBool,
}

/// Submits commands and reads the published state. Cheap to clone.
pub struct Handle<M: Machine> {
    shared: Arc<Shared<M>>,
}

impl<M: Machine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M: Machine> Handle<M> {
    /// Has a command decided, and waits for its answer as long as it takes. Dropping the future does
    /// not withdraw the command.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`].
    pub async fn submit(&self, command: M::Command) -> Result<Done<M::Reply>, SubmitError> {
        self.ask(command, None).await
    }

    /// Has a command decided, unless it still waits to be after `limit`: then it is dropped
    /// undecided. Once decided, its answer is waited for as long as it takes. Dropping the future
    /// does not withdraw the command.
    ///
    /// # Errors
    /// [`SubmitError::Overloaded`] at once when too many wait.
    pub async fn submit_within(
        &self,
        command: M::Command,
        limit: Duration,
    ) -> Result<Done<M::Reply>, SubmitError> {
        self.ask(command, Some(limit)).await
    }

    async fn ask(&self, command: M::Command, limit: Option<Duration>) -> Result<Done<M::Reply>, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(command, limit, reply)?;
        answer.await.unwrap_or(Err(SubmitError::Stopped))
    }

    /// The newest durable state. Never waits.
    #[must_use]
    pub fn view(&self) -> Arc<View<M>> {
        self.shared.view.load_full()
    }

    /// Every record that becomes durable from now on. One who lags too far behind is told how many
    /// it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Committed<M>>> {
        self.shared.events.subscribe()
    }

    /// How many commands wait to be decided.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.queue.len()
    }

    /// How many commands were refused undecided.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.shared.queue.refused()
    }

    /// Whether a snapshot is being written.
    #[must_use]
    pub fn snapshot_writing(&self) -> bool {
        self.shared.snapshot_writing.load(Ordering::Relaxed)
    }

    /// Whether the last snapshot was not written because the disk is nearly full. Until one is, the log
    /// only grows.
    #[must_use]
    pub fn snapshot_postponed(&self) -> bool {
        self.shared.snapshot_postponed.load(Ordering::Relaxed)
    }
}

/// The running committer. Dropping it lets it finish what waits and end by itself.
pub struct Committer {
    task: JoinHandle<Result<(), CommitError>>,
    close: Box<dyn Fn() + Send + Sync>,
    ended: Option<Result<(), CommitError>>,
}

/// Recovers the machine from the log and starts its committer. Call it in a tokio runtime; it
/// blocks until the state is recovered.
///
/// # Errors
/// [`RecoverError`] when the log does not give back exactly what was acknowledged.
pub fn start<M: Machine>(
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<(Handle<M>, Committer), RecoverError> {
    let recovered = recover::<M>(&*log)?;
    let position = Position { generation: recovered.generation, sequence: recovered.head.sequence };
    tracing::info!(position.generation, position.sequence, "state recovered");
    let view = View { state: recovered.state.clone(), position, time: clock.now() };
    let shared = Arc::new(Shared {
        queue: Queue::new(options.queue_limit),
        view: ArcSwap::from_pointee(view),
        events: broadcast::Sender::new(options.watch_records.max(1)),
        snapshot_writing: AtomicBool::new(false),
        snapshot_postponed: AtomicBool::new(false),
    });
    let task = Task::new(Arc::clone(&shared), log, clock, options, recovered);
    let close = {
        let shared = Arc::clone(&shared);
        Box::new(move || shared.queue.close())
    };
    let committer = Committer { task: tokio::spawn(task.run()), close, ended: None };
    Ok((Handle { shared }, committer))
}

impl Committer {
    /// Resolves when the committer has stopped by failure; pends for ever while it has not. May be
    /// dropped and called again.
    pub async fn failed(&mut self) -> CommitError {
        match self.ended().await {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        }
    }

    /// Accepts nothing more, decides and answers what waits, and ends. The log is let go.
    ///
    /// # Errors
    /// The failure that kept it from doing so.
    pub async fn stop(mut self) -> Result<(), CommitError> {
        (self.close)();
        self.ended().await
    }

    async fn ended(&mut self) -> Result<(), CommitError> {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let ended = (&mut self.task).await.unwrap_or(Err(CommitError::Panicked { part: "the machine" }));
        self.ended.insert(ended).clone()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        (self.close)();
    }
}
