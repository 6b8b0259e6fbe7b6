//! What makes a machine durable: an append-only history of opaque records, and snapshots of it.
//!
//! The trait is narrow on purpose, so that a replicated store can stand behind it: a record is
//! appended by compare-and-append on the head of the chain, and an append whose outcome is unknown
//! says so. What is here blocks, unless a log says otherwise; the [`committer`](crate::committer) calls
//! it from threads of its own. A log never looks into records or chunks: their meaning, and the check that each record
//! follows the one before, is [`headroom_core::record`]'s.

use std::ops::ControlFlow;
use std::path::PathBuf;

use headroom_core::record::Link;
pub use headroom_core::record::Sealed;

/// How many snapshots are kept. Every record after the older one stays too, so that the state can
/// be recovered exactly from either.
pub const KEPT_SNAPSHOTS: usize = 2;

/// What a log holds, without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Random identity of this history.
    pub generation: u64,
    /// The last record; number 0 before the first.
    pub head: Link,
    /// Where complete snapshots stand, newest first.
    pub snapshots: Vec<Link>,
    /// Snapshots that are there but cannot be used, and why.
    pub unusable: Vec<LogError>,
}

/// One piece of a history, as [`Log::load`] hands it out.
#[derive(Debug)]
pub enum Part<'a> {
    /// The next chunk of the snapshot.
    Chunk(&'a [u8]),
    /// The next record.
    Record(&'a [u8]),
}

/// Receives a history piece by piece; `Break` ends the reading.
pub type Visitor<'a> = dyn FnMut(Part<'_>) -> ControlFlow<()> + 'a;

/// A durable history.
pub trait Log: Send + Sync + 'static {
    /// Whether writing may take time. One that never waits for a disk or a network is written to where
    /// the committer runs: on a clock that is simulated, another thread would answer at no defined time.
    fn blocks(&self) -> bool {
        true
    }

    /// What there is.
    ///
    /// # Errors
    /// When the log cannot be read or its head is damaged.
    fn contents(&self) -> Result<Contents, LogError>;

    /// Hands out the snapshot at `from`, then every record after it up to the head, in order.
    /// `Link::default()` stands for the empty beginning, which has no snapshot.
    ///
    /// # Errors
    /// When a chunk or record is missing or damaged; the error names it. What was handed out
    /// before is then worth nothing.
    fn load(&self, from: Link, visit: &mut Visitor<'_>) -> Result<(), LogError>;

    /// Appends a record if the head is still `record.after`. `Ok` means durable.
    ///
    /// # Errors
    /// [`AppendError`] tells whether the record may be there.
    fn append(&self, record: &Sealed) -> Result<(), AppendError>;

    /// Writes a snapshot of the state at `at`. It counts only once it is complete and durable.
    /// May run at the same time as `append`; leaves room for it.
    ///
    /// # Errors
    /// When it did not become durable. Earlier snapshots and all records are untouched. After
    /// [`LogError::NoRoom`] the log goes on as before.
    fn snapshot(&self, at: Link, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError>;

    /// Drops what recovery from the newest [`KEPT_SNAPSHOTS`] snapshots does not need. Not called
    /// at the same time as `snapshot`.
    ///
    /// # Errors
    /// When the log cannot be written.
    fn trim(&self) -> Result<(), LogError>;
}

/// Why a record was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended: this writer is not the only one, or not the newest. Nothing written.
    #[error(
        "record {wanted} was refused: the log stands at record {}, another writer may have appended",
        head.sequence
    )]
    Fenced {
        /// The number that was to be written.
        wanted: u64,
        /// Where the log stands.
        head: Link,
    },
    /// The record may or may not be durable.
    #[error("record {sequence} may or may not be durable: {cause}")]
    Unknown {
        /// The record.
        sequence: u64,
        /// What happened.
        cause: LogError,
    },
    /// The record was not written.
    #[error("record {sequence} was not written: {cause}")]
    Failed {
        /// The record.
        sequence: u64,
        /// What happened.
        cause: LogError,
    },
}

/// A thing that a log keeps, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// What the store says it is.
    Identity,
    /// Where the chain ends.
    Head,
    /// A record.
    Record(u64),
    /// A snapshot's list of chunks.
    Manifest(u64),
    /// A chunk of a snapshot.
    Chunk {
        /// The snapshot's sequence.
        snapshot: u64,
        /// The chunk's number, from 0.
        index: u32,
    },
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identity => f.write_str("the store's identity"),
            Self::Head => f.write_str("the log's head"),
            Self::Record(sequence) => write!(f, "record {sequence}"),
            Self::Manifest(sequence) => write!(f, "the manifest of snapshot {sequence}"),
            Self::Chunk { snapshot, index } => write!(f, "chunk {index} of snapshot {snapshot}"),
        }
    }
}

/// What can go wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Nothing there. A service never begins empty by accident.
    #[error("there is no store in {}: initialise it first", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Something there already.
    #[error("{} exists already and is not overwritten", path.display())]
    Exists {
        /// Where it is.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("a service already runs with the store in {}: another process has it open", path.display())]
    InUse {
        /// Where it is.
        path: PathBuf,
    },
    /// Written by a newer version, or by one from before the first release.
    #[error("the store has format {found}, this version reads format {supported}")]
    Format {
        /// The store's format.
        found: u32,
        /// The format that is understood.
        supported: u32,
    },
    /// Something is missing or not what was written.
    #[error("{item} is damaged: {why}")]
    Damaged {
        /// What is damaged.
        item: Item,
        /// How.
        why: String,
    },
    /// The note of the last record that was acknowledged is missing or cannot be read.
    #[error("the witness of the last record, {}, is damaged: {why}", path.display())]
    Witness {
        /// The note.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system or the store refused.
    #[error("cannot {doing} {}: {why}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What was answered.
        why: String,
    },
    /// Too little of the disk is free for a snapshot: what is left is kept for records. Nothing is broken.
    #[error(
        "no snapshot in {}: {} KiB of the disk are free, {} KiB are kept for records",
        path.display(),
        free / 1024,
        kept / 1024
    )]
    NoRoom {
        /// Where it was to be.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that a snapshot must leave free.
        kept: u64,
    },
    /// An earlier write or sync failed; what is on the disk is no longer known.
    #[error("the store is closed since an earlier failure: {why}")]
    Broken {
        /// The earlier failure.
        why: String,
    },
}

impl LogError {
    /// Damage, with the thing and what is wrong with it.
    pub fn damaged(item: Item, why: impl Into<String>) -> Self {
        Self::Damaged { item, why: why.into() }
    }

    /// A refusal of the operating system or the store.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>, why: impl ToString) -> Self {
        Self::Io { doing, path: path.into(), why: why.to_string() }
    }
}
