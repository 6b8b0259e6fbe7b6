//! From a log back to a state: exactly, or not at all.

use std::ops::ControlFlow;

use headroom_core::machine::Machine;
use headroom_core::record::{self, Link, RecordError};

use crate::log::{Contents, Item, Log, LogError, Part};

/// A state and where in the history it stands.
pub struct Recovered<M: Machine> {
    /// The state after the last record.
    pub state: M::State,
    /// Identity of the history.
    pub generation: u64,
    /// The last record.
    pub head: Link,
    /// Events and records since the snapshot that this was read from, an empty record counting as one event.
    pub since_snapshot: u64,
}

/// Why a log does not give its state back. The service must not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The log cannot be read, or something in it is missing or damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record is not what was written there.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The last record is not the one that was acknowledged.
    #[error("record {sequence} is not the one that the log's head names: the hash differs")]
    Head {
        /// The last record.
        sequence: u64,
    },
}

/// What a record of so many events adds to what makes a snapshot due. Empty records count too:
/// heartbeats alone must not let a log grow for ever.
pub(super) fn weight(events: usize) -> u64 {
    events.max(1) as u64
}

/// Rebuilds the state: from the newest snapshot, or, where that is damaged, from the one before,
/// and the records after it. Either way the result is the same and ends at the log's head; a
/// damaged or missing record is never passed over.
///
/// # Errors
/// [`RecoverError`] names the record or chunk at fault.
pub fn recover<M: Machine>(log: &dyn Log) -> Result<Recovered<M>, RecoverError> {
    let contents = log.contents()?;
    for error in &contents.unusable {
        tracing::warn!(%error, "a snapshot cannot be used");
    }
    let mut first_error = None;
    // With records from the very first on, the empty state is a starting point like a snapshot.
    for base in contents.snapshots.iter().copied().chain([Link::default()]) {
        match replay(log, &contents, base) {
            Ok(recovered) => {
                if let Some(error) = first_error {
                    tracing::warn!(%error, sequence = base.sequence, "recovered from an older snapshot");
                }
                return Ok(recovered);
            }
            Err(error) => {
                // The newest base tells best what is wrong.
                first_error.get_or_insert(error);
            }
        }
    }
    // There is always at least the empty beginning, so there is an error.
    Err(first_error.unwrap_or(RecoverError::Head { sequence: contents.head.sequence }))
}

fn replay<M: Machine>(log: &dyn Log, contents: &Contents, base: Link) -> Result<Recovered<M>, RecoverError> {
    let mut recovered = Recovered::<M> {
        state: M::State::default(),
        generation: contents.generation,
        head: base,
        since_snapshot: 0,
    };
    let mut refused = None;
    let mut chunks = 0;
    // A record is applied only once the next one, or the head, has confirmed its hash: a machine
    // never sees an event that was not written.
    let mut unconfirmed = Vec::new();
    log.load(base, &mut |part| {
        let applied = match part {
            Part::Chunk(bytes) => {
                let item = Item::Chunk { snapshot: base.sequence, index: chunks };
                chunks += 1;
                apply_chunk(&mut recovered, item, bytes)
            }
            Part::Record(bytes) => apply_record(&mut recovered, &mut unconfirmed, bytes),
        };
        match applied {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                refused = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match refused {
        Some(error) => Err(error),
        None if recovered.head != contents.head => {
            Err(RecoverError::Head { sequence: contents.head.sequence })
        }
        None => {
            apply_all(&mut recovered, &unconfirmed);
            Ok(recovered)
        }
    }
}

fn apply_chunk<M: Machine>(to: &mut Recovered<M>, item: Item, bytes: &[u8]) -> Result<(), RecoverError> {
    let events: Vec<M::Event> =
        record::open_chunk(bytes).map_err(|error| LogError::damaged(item, error.to_string()))?;
    apply_all(to, &events);
    Ok(())
}

fn apply_record<M: Machine>(
    to: &mut Recovered<M>,
    unconfirmed: &mut Vec<M::Event>,
    bytes: &[u8],
) -> Result<(), RecoverError> {
    let (link, _, events) = record::open::<M::Event>(to.head, bytes)?;
    apply_all(to, unconfirmed);
    to.since_snapshot += weight(events.len());
    to.head = link;
    *unconfirmed = events;
    Ok(())
}

fn apply_all<M: Machine>(to: &mut Recovered<M>, events: &[M::Event]) {
    for event in events {
        M::apply(&mut to.state, event);
    }
}
