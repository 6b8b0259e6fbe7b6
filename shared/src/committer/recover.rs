//! From a log back to a state: exactly, or not at all.

use std::ops::ControlFlow;
use std::sync::mpsc;

use headroom_core::machine::Machine;
use headroom_core::record::{self, Link, RecordError};

use super::growth::Growth;
use crate::log::{Contents, Item, Log, LogError, Part};

/// A state and where in the history it stands.
pub struct Recovered<M: Machine> {
    /// The state after the last record.
    pub state: M::State,
    /// Identity of the history.
    pub generation: u64,
    /// The last record.
    pub head: Link,
    /// The snapshot that this was read from, and what came after it.
    pub(super) growth: Growth,
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

/// How many decoded pieces may wait to be applied.
const AHEAD: usize = 16;

/// Reads, checks and decodes on one thread, and applies on this one: each is about half of the work.
fn replay<M: Machine>(log: &dyn Log, contents: &Contents, base: Link) -> Result<Recovered<M>, RecoverError> {
    let mut state = M::State::default();
    let read = std::thread::scope(|scope| {
        let (pieces, decoded) = mpsc::sync_channel::<Vec<M::Event>>(AHEAD);
        let reader = scope.spawn(move || read::<M>(log, contents, base, &pieces));
        for event in decoded.into_iter().flatten() {
            M::apply(&mut state, &event);
        }
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let Read { head, growth } = read;
    Ok(Recovered { state, generation: contents.generation, head, growth })
}

/// How far a history was read.
struct Read {
    head: Link,
    growth: Growth,
}

/// Hands on the events of a whole history. A record's events are handed on only once the next one, or the
/// head, has confirmed its hash: a machine never sees an event that was not written.
fn read<M: Machine>(
    log: &dyn Log,
    contents: &Contents,
    base: Link,
    pieces: &mpsc::SyncSender<Vec<M::Event>>,
) -> Result<Read, RecoverError> {
    let mut read = Read { head: base, growth: Growth::default() };
    let (mut refused, mut chunks, mut unconfirmed) = (None, 0, Vec::new());
    let mut take = |part: Part<'_>| match part {
        Part::Chunk(bytes) => {
            let item = Item::Chunk { snapshot: base.sequence, index: chunks };
            chunks += 1;
            read.growth.chunk(bytes.len());
            record::open_chunk(bytes).map_err(|error| LogError::damaged(item, error.to_string()).into())
        }
        Part::Record(bytes) => {
            let (link, _, events) = record::open::<M::Event>(read.head, bytes)?;
            read.growth.record(events.len(), bytes.len());
            read.head = link;
            Ok(std::mem::replace(&mut unconfirmed, events))
        }
    };
    // Whoever applies ends before this only by a panic, which it then tells itself.
    log.load(base, &mut |part| match take(part).map(|events| pieces.send(events)) {
        Ok(Ok(())) => ControlFlow::Continue(()),
        Ok(Err(_)) => ControlFlow::Break(()),
        Err(error) => {
            refused = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match refused {
        Some(error) => Err(error),
        None if read.head != contents.head => Err(RecoverError::Head { sequence: contents.head.sequence }),
        None => {
            let _ = pieces.send(unconfirmed);
            Ok(read)
        }
    }
}
