//! A log in memory, for tests and simulations: durable as long as somebody holds it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use headroom_core::record::Link;

use crate::log::{AppendError, Contents, Item, KEPT_SNAPSHOTS, Log, LogError, Part, Sealed, Visitor};

/// A log in memory. A "restart" is a new committer on the same log.
pub struct MemoryLog {
    stored: Mutex<Stored>,
}

/// What a [`MemoryLog`] holds; a test may damage it.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Identity of the history.
    pub generation: u64,
    /// The last record.
    pub head: Link,
    /// The records, by number.
    pub records: BTreeMap<u64, Vec<u8>>,
    /// The snapshots, by number.
    pub snapshots: BTreeMap<u64, (Link, Vec<Vec<u8>>)>,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new(generation: u64) -> Self {
        Self { stored: Mutex::new(Stored { generation, ..Stored::default() }) }
    }

    /// What it holds, to look at or to damage.
    pub fn stored(&self) -> MutexGuard<'_, Stored> {
        // A panic while the guard was held can have broken nothing but a test's own damage.
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn blocks(&self) -> bool {
        false
    }

    fn contents(&self) -> Result<Contents, LogError> {
        let stored = self.stored();
        let snapshots = stored.snapshots.values().rev().map(|(link, _)| *link).collect();
        Ok(Contents { generation: stored.generation, head: stored.head, snapshots, unusable: Vec::new() })
    }

    fn load(&self, from: Link, visit: &mut Visitor<'_>) -> Result<(), LogError> {
        // A copy, so that the visitor may take its time or look at the log itself.
        let stored = self.stored().clone();
        if from != Link::default() {
            let found = stored.snapshots.get(&from.sequence).filter(|(link, _)| *link == from);
            let Some((_, chunks)) = found else {
                return Err(LogError::damaged(Item::Manifest(from.sequence), "it is missing"));
            };
            for chunk in chunks {
                if visit(Part::Chunk(chunk)).is_break() {
                    return Ok(());
                }
            }
        }
        for sequence in from.sequence + 1..=stored.head.sequence {
            let Some(record) = stored.records.get(&sequence) else {
                return Err(LogError::damaged(Item::Record(sequence), "it is missing"));
            };
            if visit(Part::Record(record)).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn append(&self, record: &Sealed) -> Result<(), AppendError> {
        let mut stored = self.stored();
        if stored.head != record.after {
            return Err(AppendError::Fenced { wanted: record.link.sequence, head: stored.head });
        }
        stored.records.insert(record.link.sequence, record.bytes.clone());
        stored.head = record.link;
        stored.generation = record.generation.unwrap_or(stored.generation);
        Ok(())
    }

    fn snapshot(&self, at: Link, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError> {
        let chunks = chunks.collect();
        self.stored().snapshots.insert(at.sequence, (at, chunks));
        Ok(())
    }

    fn trim(&self) -> Result<(), LogError> {
        let mut stored = self.stored();
        while stored.snapshots.len() > KEPT_SNAPSHOTS {
            stored.snapshots.pop_first();
        }
        if stored.snapshots.len() == KEPT_SNAPSHOTS
            && let Some(oldest) = stored.snapshots.keys().next().copied()
        {
            stored.records = stored.records.split_off(&(oldest + 1));
        }
        Ok(())
    }
}
