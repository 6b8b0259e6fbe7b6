//! The committer's loop.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc as threads};
use std::time::Duration;

use headroom_core::commit::{Closed, Durably, Sequencer};
use headroom_core::machine::{Class, Machine};
use headroom_core::record::{self, Link, Position};
use headroom_core::time::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::growth::Growth;
use super::queue::{Reply, Room, Waiting};
use super::recover::Recovered;
use super::{CommitError, Committed, Done, Options, Shared, View};
use crate::log::{AppendError, Log, LogError, Sealed};

/// How often, while an append takes long, what waited beyond its limit is refused.
const SWEEP: Duration = Duration::from_millis(50);

/// Of the thread that writes a snapshot: about a tenth of an ordinary thread's share of a busy processor.
const SNAPSHOT_NICENESS: i32 = 10;

/// The sequencer with what it needs around it: who asks, what is appended where, what is shown.
pub(super) struct Task<M: Machine> {
    shared: Arc<Shared<M>>,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    options: Options,
    sequencer: Sequencer<M, Reply<M>>,
    /// Reports in the open batch.
    reports: usize,
    /// Until when the open batch may stay open; `None` when somebody in it is in a hurry.
    lingers: Option<Instant>,
    /// Taken from the queue, not decided yet.
    taken: VecDeque<Waiting<M>>,
    appender: Appender,
    snapshot: Option<Snapshot>,
    growth: Growth,
}

/// A snapshot being written.
struct Snapshot {
    sequence: u64,
    /// How many bytes it has.
    done: oneshot::Receiver<Result<u64, LogError>>,
}

/// What became of a snapshot.
#[derive(PartialEq, Eq)]
enum Outcome {
    Written { bytes: u64 },
    NoRoom,
}

/// Where records are appended, and what became of them.
struct Appender {
    records: Records,
    results: mpsc::UnboundedReceiver<Appended>,
}

type Appended = Result<(), AppendError>;

/// The way of a record into the log.
enum Records {
    /// To a thread, because appending blocks.
    Thread(threads::Sender<Sealed>),
    /// At once, because it does not.
    Here { log: Arc<dyn Log>, done: mpsc::UnboundedSender<Appended> },
}

impl Appender {
    fn start(log: Arc<dyn Log>) -> Self {
        let (done, results) = mpsc::unbounded_channel();
        if !log.blocks() {
            return Self { records: Records::Here { log, done }, results };
        }
        let (records, work) = threads::channel::<Sealed>();
        std::thread::spawn(move || {
            for record in work {
                if done.send(log.append(&record)).is_err() {
                    break;
                }
            }
            // In this order: whoever sees the results end may open the log again.
            drop(log);
            drop(done);
        });
        Self { records: Records::Thread(records), results }
    }

    /// The outcome follows in `results`; an error says that nobody appends any more.
    fn append(&self, record: Sealed) -> Result<(), CommitError> {
        let taken = match &self.records {
            Records::Thread(records) => records.send(record).is_ok(),
            Records::Here { log, done } => done.send(log.append(&record)).is_ok(),
        };
        if taken { Ok(()) } else { Err(CommitError::Panicked { part: "the log" }) }
    }

    /// Ends the thread and waits until it has let go of the log.
    async fn stop(mut self) {
        drop(self.records);
        while self.results.recv().await.is_some() {}
    }
}

impl<M: Machine> Task<M> {
    pub(super) fn new(
        shared: Arc<Shared<M>>,
        log: Arc<dyn Log>,
        clock: Arc<dyn Clock>,
        options: Options,
        recovered: Recovered<M>,
    ) -> Self {
        Self {
            shared,
            appender: Appender::start(Arc::clone(&log)),
            log,
            clock,
            options,
            sequencer: Sequencer::new(recovered.state, recovered.head, recovered.generation),
            reports: 0,
            lingers: None,
            taken: VecDeque::new(),
            snapshot: None,
            growth: recovered.growth,
        }
    }

    /// Runs until the queue is closed and empty, or until something fails.
    pub(super) async fn run(mut self) -> Result<(), CommitError> {
        // Also when the machine panics: nobody may wait for ever.
        let _abandon = Abandon(Arc::clone(&self.shared));
        if let Err(error) = self.serve().await {
            // Without waiting for threads: on a failing disk they may hang.
            tracing::error!(%error, "the committer stops");
            return Err(error);
        }
        if self.snapshot.is_some() {
            finished(&mut self.snapshot).await?;
        }
        drop(self.log);
        self.appender.stop().await;
        Ok(())
    }

    async fn serve(&mut self) -> Result<(), CommitError> {
        self.snapshot_if_due();
        loop {
            self.decide();
            let lingers = self.lingers();
            if !self.sequencer.is_flying() {
                if self.sequencer.commands() > 0 && lingers.is_none() {
                    self.gather().await;
                    self.seal()?;
                    continue;
                }
                if self.sequencer.commands() == 0 && self.taken.is_empty() && self.shared.queue.finished() {
                    return Ok(());
                }
            }
            let room = self.room().commands > 0;
            let waiting = self.sequencer.is_flying() && (!room || self.shared.queue.len() > 0);
            tokio::select! {
                biased;
                result = self.appender.results.recv(), if self.sequencer.is_flying() => self.appended(result)?,
                result = finished(&mut self.snapshot), if self.snapshot.is_some() => {
                    self.snapshot = None;
                    self.shared.snapshot_writing.store(false, Ordering::Relaxed);
                    let outcome = result?;
                    self.shared.snapshot_postponed.store(outcome == Outcome::NoRoom, Ordering::Relaxed);
                    match outcome {
                        Outcome::Written { bytes } => self.growth.written(bytes),
                        Outcome::NoRoom => self.growth.postponed(&self.options),
                    }
                    self.snapshot_if_due();
                }
                () = self.shared.queue.arrival(), if room => {}
                () = until(lingers), if !self.sequencer.is_flying() => {}
                () = tokio::time::sleep(SWEEP), if waiting => {
                    self.shared.queue.sweep(&mut self.taken);
                }
            }
        }
    }

    /// Until when the open batch waits for company, if it does.
    fn lingers(&self) -> Option<Instant> {
        let until = self.lingers.filter(|until| *until > Instant::now())?;
        (self.room().commands > 0 && !self.shared.queue.closed()).then_some(until)
    }

    /// What the open batch still takes.
    fn room(&self) -> Room {
        let limit = self.options.batch_commands.max(1);
        if self.sequencer.events().len() >= self.options.batch_events {
            return Room { commands: 0, reports: 0 };
        }
        Room {
            commands: limit - self.sequencer.commands(),
            reports: (limit / 4).max(1).saturating_sub(self.reports),
        }
    }

    /// Decides what waits and fits. Answers how many commands that were.
    fn decide(&mut self) -> usize {
        let before = self.sequencer.commands();
        if self.taken.is_empty() {
            self.shared.queue.take(self.room(), &mut self.taken);
        } else {
            // What the batch before had no room for may have waited too long by now.
            self.shared.queue.sweep_taken(&mut self.taken);
        }
        if self.taken.is_empty() {
            return 0;
        }
        let now = self.clock.now();
        // One command may emit much, so the room is looked at before each.
        while self.room().commands > 0
            && let Some(Waiting { command, reply, .. }) = self.taken.pop_front()
        {
            let class = M::class(&command);
            if class != Class::Heartbeat {
                self.lingers = None;
            } else if self.sequencer.commands() == 0 {
                self.lingers = Some(Instant::now() + self.options.linger);
            }
            self.reports += usize::from(class == Class::Report);
            self.sequencer.decide(now, command, reply);
        }
        self.sequencer.commands() - before
    }

    /// Lets ready tasks run first: what they submit shares this record instead of waiting for it.
    async fn gather(&mut self) {
        for _ in 0..self.options.yields {
            if self.room().commands == 0 {
                return;
            }
            tokio::task::yield_now().await;
            if self.decide() == 0 {
                return;
            }
        }
    }

    /// Seals the open batch and sends it off, or answers at once when there is nothing to append.
    fn seal(&mut self) -> Result<(), CommitError> {
        (self.reports, self.lingers) = (0, None);
        match self.sequencer.seal() {
            None => Ok(()),
            Some(Closed::Unchanged { answers, position }) => {
                answer::<M>(answers, position);
                Ok(())
            }
            Some(Closed::Record(sealed)) => self.appender.append(sealed),
        }
    }

    /// A record is durable, or the end has come.
    fn appended(&mut self, result: Option<Result<(), AppendError>>) -> Result<(), CommitError> {
        result.ok_or(CommitError::Panicked { part: "the log" })??;
        let Some(Durably { state, position, time, events, bytes, answers }) = self.sequencer.durable() else {
            return Ok(());
        };
        self.growth.record(events.len(), bytes);
        self.shared.view.store(Arc::new(View { state, position, time }));
        if self.shared.events.receiver_count() > 0 {
            let committed = Committed { position, time: time.wall, events };
            // Fails only when the last watcher left meanwhile.
            let _ = self.shared.events.send(Arc::new(committed));
        }
        answer::<M>(answers, position);
        self.snapshot_if_due_at(self.sequencer.link());
        Ok(())
    }

    /// When nothing is in flight, the last sealed record is the published one.
    fn snapshot_if_due(&mut self) {
        if !self.sequencer.is_flying() {
            self.snapshot_if_due_at(self.sequencer.link());
        }
    }

    /// Writes the published state, which stands at `link`; where that blocks, on a thread of its own.
    fn snapshot_if_due_at(&mut self, link: Link) {
        if !self.growth.is_due(&self.options) || self.snapshot.is_some() {
            return;
        }
        self.growth.begun();
        let view = self.shared.view.load_full();
        let log = Arc::clone(&self.log);
        let chunk_events = self.options.chunk_events.max(1);
        let (report, done) = oneshot::channel();
        let blocks = log.blocks();
        let write = move || {
            let written = write_snapshot::<M>(&*log, link, &view.state, chunk_events);
            // Whoever hears of the end may open the log again.
            drop(log);
            let _ = report.send(written);
        };
        if blocks {
            std::thread::spawn(move || {
                // Whoever waits for an answer comes first; where that cannot be arranged, the pauses must do.
                let _ = rustix::process::setpriority_process(None, SNAPSHOT_NICENESS);
                write();
            });
        } else {
            write();
        }
        self.shared.snapshot_writing.store(true, Ordering::Relaxed);
        self.snapshot = Some(Snapshot { sequence: link.sequence, done });
    }
}

fn write_snapshot<M: Machine>(
    log: &dyn Log,
    at: Link,
    state: &M::State,
    chunk_events: usize,
) -> Result<u64, LogError> {
    let mut bytes = 0;
    let mut events = M::snapshot(state);
    let mut chunks = std::iter::from_fn(|| {
        let chunk: Vec<M::Event> = events.by_ref().take(chunk_events).collect();
        let sealed = (!chunk.is_empty()).then(|| record::seal_chunk(&chunk))?;
        bytes += sealed.len() as u64;
        Some(sealed)
    });
    log.snapshot(at, &mut chunks)?;
    log.trim()?;
    Ok(bytes)
}

/// The outcome of a snapshot; pends for ever when there is none.
async fn finished(snapshot: &mut Option<Snapshot>) -> Result<Outcome, CommitError> {
    let Some(Snapshot { sequence, done }) = snapshot else {
        return std::future::pending().await;
    };
    match done.await {
        Ok(Ok(bytes)) => {
            tracing::info!(sequence, bytes, "snapshot written");
            Ok(Outcome::Written { bytes })
        }
        Ok(Err(error @ LogError::NoRoom { .. })) => {
            tracing::error!(sequence, %error, "the snapshot is postponed, and the log grows");
            Ok(Outcome::NoRoom)
        }
        Ok(Err(cause)) => Err(CommitError::Snapshot { sequence: *sequence, cause }),
        Err(_) => Err(CommitError::Panicked { part: "the snapshot" }),
    }
}

/// Resolves then; pends for ever without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn answer<M: Machine>(answers: Vec<(Reply<M>, M::Reply)>, position: Position) {
    for (asker, reply) in answers {
        // The asker may have gone; the decision stands.
        let _ = asker.send(Ok(Done { reply, position }));
    }
}

/// Ends all waiting when the task ends, however it ends.
struct Abandon<M: Machine>(Arc<Shared<M>>);

impl<M: Machine> Drop for Abandon<M> {
    fn drop(&mut self) {
        self.0.queue.abandon();
    }
}
