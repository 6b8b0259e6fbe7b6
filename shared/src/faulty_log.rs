//! A log that fails on demand, around any other: what a disk or a network can do to a committer.
//!
//! [`FaultyLog::plan`] says what the coming appends meet, one fault each, in order; appends without
//! a plan pass. [`FaultyLog::stall`] holds appends until [`FaultyLog::resume`].

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use headroom_core::record::Link;
use tokio::sync::watch;

use crate::log::{AppendError, Contents, Log, LogError, Sealed, Visitor};

/// What an append meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it passes.
    Pass,
    /// It fails and nothing is written.
    FailBefore,
    /// It is written, but the answer is an error.
    DurableThenError,
    /// Nothing is written, and the answer does not say so.
    LostThenError,
    /// Half of it is written, as by a store that is not atomic, and the answer is an error.
    Tear,
}

#[derive(Default)]
struct Plan {
    appends: VecDeque<Fault>,
    snapshot: Option<LogError>,
    stalled: bool,
}

/// A log that fails on demand.
pub struct FaultyLog<L> {
    inner: Arc<L>,
    plan: Mutex<Plan>,
    resumed: Condvar,
    held: watch::Sender<usize>,
}

impl<L: Log> FaultyLog<L> {
    /// Around `inner`, without faults so far.
    pub fn new(inner: Arc<L>) -> Self {
        Self {
            inner,
            plan: Mutex::new(Plan::default()),
            resumed: Condvar::new(),
            held: watch::Sender::new(0),
        }
    }

    /// The log inside.
    pub fn inner(&self) -> &Arc<L> {
        &self.inner
    }

    /// What the coming appends meet.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().appends.extend(faults);
    }

    /// The next snapshot fails like this.
    pub fn fail_snapshot(&self, error: LogError) {
        self.lock().snapshot = Some(error);
    }

    /// Appends wait from now on.
    pub fn stall(&self) {
        self.lock().stalled = true;
    }

    /// Appends go on.
    pub fn resume(&self) {
        self.lock().stalled = false;
        self.resumed.notify_all();
    }

    /// Waits until an append is being held by [`FaultyLog::stall`].
    pub async fn held(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.held.subscribe().wait_for(|held| *held > 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_fault(&self) -> Fault {
        let mut plan = self.lock();
        if plan.stalled {
            self.held.send_modify(|held| *held += 1);
            while plan.stalled {
                plan = self.resumed.wait(plan).unwrap_or_else(PoisonError::into_inner);
            }
            self.held.send_modify(|held| *held -= 1);
        }
        plan.appends.pop_front().unwrap_or(Fault::Pass)
    }
}

fn injected() -> LogError {
    LogError::io("write", "the log", "injected fault")
}

impl<L: Log> Log for FaultyLog<L> {
    fn contents(&self) -> Result<Contents, LogError> {
        self.inner.contents()
    }

    fn load(&self, from: Link, visit: &mut Visitor<'_>) -> Result<(), LogError> {
        self.inner.load(from, visit)
    }

    fn append(&self, record: &Sealed) -> Result<(), AppendError> {
        let sequence = record.link.sequence;
        let unknown = Err(AppendError::Unknown { sequence, cause: injected() });
        match self.next_fault() {
            Fault::Pass => self.inner.append(record),
            Fault::FailBefore => Err(AppendError::Failed { sequence, cause: injected() }),
            Fault::LostThenError => unknown,
            Fault::DurableThenError => self.inner.append(record).and(unknown),
            Fault::Tear => {
                let bytes = record.bytes[..record.bytes.len() / 2].to_vec();
                self.inner.append(&Sealed { bytes, ..record.clone() }).and(unknown)
            }
        }
    }

    fn snapshot(&self, at: Link, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError> {
        let failure = self.lock().snapshot.take();
        failure.map_or(Ok(()), Err)?;
        self.inner.snapshot(at, chunks)
    }

    fn trim(&self) -> Result<(), LogError> {
        self.inner.trim()
    }
}
