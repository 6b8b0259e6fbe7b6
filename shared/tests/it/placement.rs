//! Where a log is written to.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use headroom_core::record::Link;
use headroom_shared::committer::Options;
use headroom_shared::log::{AppendError, Contents, Log, LogError, Sealed, Visitor};
use headroom_shared::memory_log::MemoryLog;

use crate::toy::{Command, start};

/// Notes who writes.
struct Watched {
    log: MemoryLog,
    blocks: bool,
    writers: Mutex<HashSet<ThreadId>>,
}

impl Watched {
    fn written(&self) {
        self.writers.lock().unwrap().insert(std::thread::current().id());
    }
}

impl Log for Watched {
    fn blocks(&self) -> bool {
        self.blocks
    }

    fn contents(&self) -> Result<Contents, LogError> {
        self.log.contents()
    }

    fn load(&self, from: Link, visit: &mut Visitor<'_>) -> Result<(), LogError> {
        self.log.load(from, visit)
    }

    fn append(&self, record: &Sealed) -> Result<(), AppendError> {
        self.written();
        self.log.append(record)
    }

    fn snapshot(&self, at: Link, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError> {
        self.written();
        self.log.snapshot(at, chunks)
    }

    fn trim(&self) -> Result<(), LogError> {
        self.log.trim()
    }
}

/// Who writes what commands change; the committer runs on the thread that asks.
async fn writers(blocks: bool) -> HashSet<ThreadId> {
    let log = Arc::new(Watched { log: MemoryLog::new(1), blocks, writers: Mutex::default() });
    let (handle, committer) = start(&log, Options { snapshot_after: 3, ..Options::default() });
    for sequence in 1..=10 {
        let done = handle.submit(Command::Add(1, 1)).await.unwrap();
        assert_eq!(done.position.sequence, sequence);
    }
    committer.stop().await.unwrap();
    assert!(!log.log.stored().snapshots.is_empty());
    log.writers.lock().unwrap().clone()
}

#[tokio::test]
async fn a_log_that_does_not_block_is_written_to_where_the_committer_runs_and_any_other_is_not() {
    let here = std::thread::current().id();
    assert_eq!(writers(false).await, HashSet::from([here]));
    assert!(!writers(true).await.contains(&here));
}
