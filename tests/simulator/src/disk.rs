//! What is durable: a history of records and snapshots, as every log keeps it.
//! A crash leaves the record in flight there or not; a torn one is dropped at the next start, because
//! nobody was answered for it.

use std::collections::VecDeque;
use std::sync::Arc;

use headroom_core::machine::Machine;
use headroom_core::record::{self, Link, RecordError, Sealed};

/// Events in one chunk of a snapshot.
const CHUNK: usize = 64;

/// A durable history.
#[derive(Clone, Default)]
pub struct Disk {
    /// Identity of the history.
    pub generation: u64,
    head: Link,
    /// The newest two, oldest first.
    snapshots: VecDeque<(Link, Arc<[Vec<u8>]>)>,
    /// Every record after the older snapshot.
    records: VecDeque<Arc<Sealed>>,
}

/// A state read from a disk.
pub struct Recovered<M: Machine> {
    /// The state.
    pub state: M::State,
    /// Where the chain stands.
    pub head: Link,
    /// Identity of the history.
    pub generation: u64,
}

impl Disk {
    /// An empty history.
    #[must_use]
    pub fn new(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }

    /// Where the chain stands.
    #[must_use]
    pub fn head(&self) -> Link {
        self.head
    }

    /// Records since the newest snapshot.
    #[must_use]
    pub fn since_snapshot(&self) -> u64 {
        self.head.sequence - self.snapshots.back().map_or(0, |(link, _)| link.sequence)
    }

    /// Appends a record; `false` when it does not follow the head.
    #[must_use]
    pub fn append(&mut self, sealed: Sealed) -> bool {
        if sealed.after != self.head {
            return false;
        }
        self.head = sealed.link;
        self.generation = sealed.generation.unwrap_or(self.generation);
        self.records.push_back(Arc::new(sealed));
        true
    }

    /// Writes a snapshot of the state at the head, and drops what recovery from two snapshots does not
    /// need.
    pub fn snapshot<M: Machine>(&mut self, state: &M::State) {
        let mut chunks = Vec::new();
        let mut events = M::snapshot(state);
        loop {
            let chunk: Vec<M::Event> = events.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                break;
            }
            chunks.push(record::seal_chunk(&chunk));
        }
        self.snapshots.push_back((self.head, chunks.into()));
        if self.snapshots.len() > 2 {
            self.snapshots.pop_front();
            let oldest = self.snapshots[0].0.sequence;
            self.records.retain(|sealed| sealed.link.sequence > oldest);
        }
    }

    /// Reads the state back: from the newest snapshot, or from the one before when that is damaged.
    ///
    /// # Errors
    /// [`RecordError`] when the history does not add up.
    pub fn recover<M: Machine>(&self, newest_is_damaged: bool) -> Result<Recovered<M>, RecordError> {
        let skip = usize::from(newest_is_damaged);
        let base = self.snapshots.iter().rev().nth(skip);
        // Without an older one only the empty beginning is left, if the records go back to it.
        let base = if skip > 0 && self.snapshots.len() == 2 { base } else { self.snapshots.back() };
        let (mut state, mut link) = (M::State::default(), Link::default());
        if let Some((at, chunks)) = base {
            for chunk in chunks.iter() {
                let events = record::open_chunk::<M::Event>(chunk).map_err(|error| {
                    RecordError::Undecodable { sequence: at.sequence, why: error.to_string() }
                })?;
                for event in &events {
                    M::apply(&mut state, event);
                }
            }
            link = *at;
        }
        let base = link.sequence;
        for sealed in self.records.iter().filter(|sealed| sealed.link.sequence > base) {
            let (next, _, events) = record::open::<M::Event>(link, &sealed.bytes)?;
            for event in &events {
                M::apply(&mut state, event);
            }
            link = next;
        }
        if link != self.head {
            return Err(RecordError::Chain { sequence: self.head.sequence });
        }
        Ok(Recovered { state, head: link, generation: self.generation })
    }
}
