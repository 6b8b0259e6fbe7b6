//! The embedded log: records in files of their own, snapshots in sled 0.34.
//!
//! | in the folder | what |
//! | --- | --- |
//! | `identity` | checked `[format, generation, created]`, never changed |
//! | `records/` | the records, one write and one sync each |
//! | `snapshots/` | the snapshots, a sled database |
//! | `witness` | the last record that was acknowledged |
//! | `lock` | held by the process that uses the store |
//!
//! A *checked* value begins with its SHA-256. Records hold the hash of the one before.
//!
//! Records are not in sled, because a record there costs a dozen hand-overs between threads and two
//! waits for the disk more, and because sled takes damage at its end for a write that was cut short and
//! opens without it.

mod files;
mod frame;
mod pieces;
mod records;
mod snapshots;
mod witness;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use headroom_core::record::{Hash, Link};
use headroom_core::time::Millis;
use minicbor::{Decode, Encode};

use crate::log::{AppendError, Contents, Log, LogError, Sealed, Visitor};
use records::Records;
use snapshots::Snapshots;
use witness::Witness;

/// Version of the layout above. The first one kept records in sled.
const FORMAT: u32 = 2;

/// What the store says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    #[n(0)]
    format: u32,
    /// Random identity of the history at its beginning; a record can renew it.
    #[n(1)]
    pub generation: u64,
    /// When the store was created, by the wall clock.
    #[n(2)]
    pub created: Millis,
}

/// The embedded log: one folder, one process.
pub struct DiskLog {
    // Fields drop in order: the lock on the folder goes last.
    records: Records,
    snapshots: Snapshots,
    witness: Witness,
    identity: Identity,
    _lock: std::fs::File,
}

/// Where the parts of a store are.
struct Places {
    identity: PathBuf,
    records: PathBuf,
    snapshots: PathBuf,
}

impl Places {
    fn of(dir: &Path) -> Self {
        Self {
            identity: dir.join("identity"),
            records: dir.join("records"),
            snapshots: dir.join("snapshots"),
        }
    }
}

impl DiskLog {
    /// Makes a store in `dir`, which must not exist or be empty, and opens it.
    ///
    /// # Errors
    /// [`LogError::Exists`] when there is anything.
    pub fn create(dir: &Path, generation: u64) -> Result<Self, LogError> {
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let created = Millis(i64::try_from(created.as_millis()).unwrap_or(i64::MAX));
        let identity = Identity { format: FORMAT, generation, created };
        files::create(dir, |making| {
            let places = Places::of(making);
            files::write(&places.identity, &checked(&identity))?;
            Witness::create(making)?;
            Records::create(&places.records)?;
            Snapshots::create(&places.snapshots)
        })?;
        Self::open(dir)
    }

    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// [`LogError::Missing`] when there is none, [`LogError::InUse`] when another process has it,
    /// [`LogError::Damaged`] when it does not know what it is or where its chain ends.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let places = Places::of(dir);
        if dir.join("db").is_file() {
            return Err(LogError::Format { found: 1, supported: FORMAT });
        }
        if !places.identity.exists() && !places.records.exists() {
            return Err(LogError::Missing { path: dir.to_owned() });
        }
        let lock = files::lock(dir)?;
        // Whoever made it may have been killed before its name was durable.
        files::sync_names(dir)?;
        let identity = files::read_identity(&places.identity)?;
        if identity.format != FORMAT {
            return Err(LogError::Format { found: identity.format, supported: FORMAT });
        }
        let witness = Witness::open(dir)?;
        let snapshots = Snapshots::open(&places.snapshots)?;
        let newest = snapshots.list()?.0.first().copied();
        let records = Records::open(&places.records, identity.generation, witness.last()?, newest)?;
        // A record that was in flight counts from now on.
        let head = records.head().link;
        if head.sequence > 0 {
            witness.note(head)?;
        }
        witness.make_durable()?;
        Ok(Self { records, snapshots, witness, identity, _lock: lock })
    }

    /// What the store says it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }
}

impl Log for DiskLog {
    fn contents(&self) -> Result<Contents, LogError> {
        let head = self.records.head();
        let (snapshots, unusable) = self.snapshots.list()?;
        Ok(Contents { generation: head.generation, head: head.link, snapshots, unusable })
    }

    fn load(&self, from: Link, visit: &mut Visitor<'_>) -> Result<(), LogError> {
        if from != Link::default() && self.snapshots.load(from.sequence, visit)?.is_break() {
            return Ok(());
        }
        self.records.load(from.sequence, visit)
    }

    fn append(&self, record: &Sealed) -> Result<(), AppendError> {
        let sequence = record.link.sequence;
        if self.records.begins_file() {
            self.witness.make_durable().map_err(|cause| AppendError::Failed { sequence, cause })?;
        }
        self.records.append(record)?;
        self.witness.note(record.link).map_err(|cause| AppendError::Unknown { sequence, cause })
    }

    fn snapshot(&self, at: Link, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError> {
        self.witness.make_durable()?;
        self.snapshots.write(at, chunks)
    }

    fn trim(&self) -> Result<(), LogError> {
        let Some(kept) = self.snapshots.kept()? else { return Ok(()) };
        self.snapshots.keep(kept)?;
        self.records.trim(kept[1].sequence)
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        // Nothing depends on it: after a power cut it only tells damage better.
        let _ = self.witness.make_durable();
    }
}

fn checked<T: Encode<()>>(value: &T) -> Vec<u8> {
    let content = minicbor::to_vec(value).expect("derived encoders into memory have no errors");
    [&Hash::of(&content).0[..], &content].concat()
}

fn unchecked<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first_chunk::<32>() {
        Some((hash, content)) if Hash::of(content).0 == *hash => {
            minicbor::decode(content).map_err(|error| error.to_string())
        }
        _ => Err("its hash differs from its content's".into()),
    }
}
