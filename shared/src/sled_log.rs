//! The embedded log, on sled 0.34.
//!
//! | what | key | value |
//! | --- | --- | --- |
//! | identity | `i` | checked `[format, generation, created]` |
//! | head | `h` | checked `[sequence, hash]` of the last record |
//! | record | `r` sequence | the record |
//! | chunk | `c` snapshot, index | the chunk |
//! | manifest | `m` snapshot | checked `[link, hashes of the chunks]` |
//!
//! A *checked* value begins with its SHA-256. Records need none: each holds the hash of the one
//! before and the head holds the last one's. A record and the new head are one atomic batch.
//!
//! Durable means: sled has flushed, and then `fdatasync` on the database file succeeded through a
//! handle of our own, because sled's flush ends in `sync_file_range`, which does not reach a disk's
//! volatile cache. After a failed write or sync nothing is tried again: the kernel may have dropped
//! what it could not write, and a second sync would lie.
//!
//! sled takes damage at its end for a write that was cut short, and opens without it. A witness beside
//! it, a file of its own, knows better which record was the last.

mod files;
mod pieces;
mod witness;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use headroom_core::record::{Hash, Link};
use headroom_core::time::Millis;
use minicbor::{Decode, Encode};
use sled::{Batch, Db};

use crate::log::{AppendError, Contents, Item, KEPT_SNAPSHOTS, Log, LogError, Part, Sealed, Visitor};
use pieces::{CHUNK, MANIFEST, RECORD, get, numbered, prefix, put, sequence_of};
use witness::Witness;

/// Version of the layout above.
const FORMAT: u32 = 1;
/// Bytes of chunks written, and keys removed, between two syncs, each followed by a pause that leaves
/// the disk to appends. sled reuses a segment of its file (512 KiB) about two segments after its content
/// was moved, so a sync must come before that, or the only durable copy would be written over. Appends
/// wait while keys are removed, so few are at a time.
const BYTES_PER_PAUSE: usize = 256 * 1024;
const REMOVALS_PER_PAUSE: usize = 64;
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes of the disk that a snapshot leaves to records, but at most this part of the file system: a full
/// disk ends the service, a snapshot that is late only lets the log grow.
const KEPT_FREE: u64 = 64 * 1024 * 1024;
const KEPT_FREE_PART: u64 = 8;

/// What the store says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    #[n(0)]
    format: u32,
    /// Random identity of the history; renewed by a restore from a backup.
    #[n(1)]
    pub generation: u64,
    /// When the store was created, by the wall clock.
    #[n(2)]
    pub created: Millis,
}

#[derive(Encode, Decode)]
struct Manifest {
    #[n(0)]
    link: Link,
    #[n(1)]
    chunks: Vec<Hash>,
}

/// The embedded log: one folder, one process.
pub struct SledLog {
    // Fields drop in order: sled closes before the lock on the folder goes.
    db: Db,
    identity: Mutex<Identity>,
    head: Mutex<Link>,
    disk: Mutex<Disk>,
    witness: Witness,
    dir: PathBuf,
    _lock: std::fs::File,
}

/// Our own handle of sled's file. One lock around the sync and its outcome: the kernel reports a
/// failure to a handle once, so two threads must not take each other's.
struct Disk {
    file: std::fs::File,
    broken: Option<String>,
}

impl SledLog {
    /// Makes a store in `dir`, which must not exist or be empty, and opens it.
    ///
    /// # Errors
    /// [`LogError::Exists`] when there is anything.
    pub fn create(dir: &Path, generation: u64) -> Result<Self, LogError> {
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let created = Millis(i64::try_from(created.as_millis()).unwrap_or(i64::MAX));
        files::create(dir, |db| {
            let mut batch = Batch::default();
            put(&mut batch, Item::Identity, &checked(&Identity { format: FORMAT, generation, created }))?;
            put(&mut batch, Item::Head, &checked(&Link::default()))?;
            db.apply_batch(batch).map_err(|error| LogError::io("write", dir, error))
        })?;
        Self::open(dir)
    }

    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// [`LogError::Missing`] when there is none, [`LogError::InUse`] when another process has it,
    /// [`LogError::Damaged`] when it does not know what it is or where its chain ends.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let lock = files::lock(dir)?;
        let db = files::open(dir)?;
        let file = files::data_file(dir)?;
        let identity: Identity = read_checked(&db, Item::Identity)?;
        if identity.format > FORMAT {
            return Err(LogError::Format { found: identity.format, supported: FORMAT });
        }
        let head: Link = read_checked(&db, Item::Head)?;
        let witness = Witness::open(dir)?;
        witness.confirms(head)?;
        if let Some(next) = db.range(numbered(RECORD, head.sequence + 1)..vec![RECORD + 1]).keys().next() {
            let next = next.ok().as_deref().and_then(sequence_of).unwrap_or(head.sequence + 1);
            return Err(LogError::damaged(
                Item::Head,
                format!("record {next} follows it, {}", head.sequence),
            ));
        }
        Ok(Self {
            db,
            identity: Mutex::new(identity),
            head: Mutex::new(head),
            disk: Mutex::new(Disk { file, broken: None }),
            witness,
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// What the store says it is.
    pub fn identity(&self) -> Identity {
        *lock(&self.identity)
    }

    /// Applies a batch; durable only after [`Self::make_durable`].
    fn write(&self, batch: Batch) -> Result<(), LogError> {
        self.usable()?;
        self.db.apply_batch(batch).map_err(|error| self.broken("write", &error))
    }

    fn make_durable(&self) -> Result<(), LogError> {
        self.db.flush().map_err(|error| self.broken("flush", &error))?;
        let mut disk = lock(&self.disk);
        if let Some(why) = &disk.broken {
            return Err(LogError::Broken { why: why.clone() });
        }
        disk.file.sync_data().map_err(|error| {
            let failure = LogError::io("sync", &self.dir, error);
            disk.broken = Some(failure.to_string());
            failure
        })
    }

    fn usable(&self) -> Result<(), LogError> {
        match &lock(&self.disk).broken {
            None => Ok(()),
            Some(why) => Err(LogError::Broken { why: why.clone() }),
        }
    }

    fn broken(&self, doing: &'static str, error: &sled::Error) -> LogError {
        let failure = LogError::io(doing, &self.dir, error);
        lock(&self.disk).broken.get_or_insert_with(|| failure.to_string());
        failure
    }

    /// The sequences of all manifests, complete or not, in order.
    fn manifests(&self) -> Result<Vec<u64>, LogError> {
        let mut found = Vec::new();
        for key in self.db.scan_prefix([MANIFEST]).keys() {
            let key = key.map_err(|error| LogError::io("read", &self.dir, error))?;
            found.extend(sequence_of(&key));
        }
        found.dedup();
        Ok(found)
    }

    fn manifest(&self, sequence: u64) -> Result<Manifest, LogError> {
        let manifest: Manifest = read_checked(&self.db, Item::Manifest(sequence))?;
        if manifest.link.sequence != sequence {
            let why = format!("it speaks of snapshot {}", manifest.link.sequence);
            return Err(LogError::damaged(Item::Manifest(sequence), why));
        }
        Ok(manifest)
    }

    /// Whether the disk has room for more than records.
    fn room(&self) -> Result<(), LogError> {
        let disk =
            rustix::fs::statvfs(&self.dir).map_err(|error| LogError::io("look at", &self.dir, error))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let kept = KEPT_FREE.min(disk.f_blocks.saturating_mul(disk.f_frsize) / KEPT_FREE_PART);
        if free < kept { Err(LogError::NoRoom { path: self.dir.clone(), free, kept }) } else { Ok(()) }
    }

    /// Removes all keys from `from` up to, not including, `to`, leaving the disk to others now and
    /// then.
    fn remove(&self, from: Vec<u8>, to: Vec<u8>) -> Result<(), LogError> {
        if from >= to {
            return Ok(());
        }
        let mut keys = self.db.range(from..to).keys();
        loop {
            let mut batch = Batch::default();
            let mut removed = 0;
            for key in keys.by_ref().take(REMOVALS_PER_PAUSE) {
                batch.remove(key.map_err(|error| LogError::io("read", &self.dir, error))?);
                removed += 1;
            }
            if removed == 0 {
                return Ok(());
            }
            self.write(batch)?;
            self.make_durable()?;
            std::thread::sleep(PAUSE);
        }
    }
}

impl Log for SledLog {
    fn contents(&self) -> Result<Contents, LogError> {
        let mut snapshots = Vec::new();
        let mut unusable = Vec::new();
        for sequence in self.manifests()?.into_iter().rev() {
            match self.manifest(sequence) {
                Ok(manifest) => snapshots.push(manifest.link),
                Err(error) => unusable.push(error),
            }
        }
        Ok(Contents { generation: self.identity().generation, head: *lock(&self.head), snapshots, unusable })
    }

    fn load(&self, from: Link, visit: &mut Visitor<'_>) -> Result<(), LogError> {
        let head = *lock(&self.head);
        if from != Link::default() {
            let snapshot = from.sequence;
            for (index, hash) in (0..).zip(self.manifest(snapshot)?.chunks) {
                let item = Item::Chunk { snapshot, index };
                let chunk = get(&self.db, item)?;
                if Hash::of(&chunk) != hash {
                    return Err(LogError::damaged(item, "its hash differs from the manifest's"));
                }
                if visit(Part::Chunk(&chunk)) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
        }
        for sequence in from.sequence + 1..=head.sequence {
            let record = get(&self.db, Item::Record(sequence))?;
            if visit(Part::Record(&record)) == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn append(&self, record: &Sealed) -> Result<(), AppendError> {
        let sequence = record.link.sequence;
        // Held to the end: a second writer meets the head that this record leaves.
        let mut head = lock(&self.head);
        if *head != record.after {
            return Err(AppendError::Fenced { wanted: sequence, head: *head });
        }
        let mut batch = Batch::default();
        let mut identity = lock(&self.identity);
        let renewed = record.generation.map(|generation| Identity { generation, ..*identity });
        self.usable()
            .and_then(|()| put(&mut batch, Item::Record(sequence), &record.bytes))
            .and_then(|()| put(&mut batch, Item::Head, &checked(&record.link)))
            .and_then(|()| renewed.map_or(Ok(()), |new| put(&mut batch, Item::Identity, &checked(&new))))
            .map_err(|cause| AppendError::Failed { sequence, cause })?;
        self.write(batch)
            .and_then(|()| self.make_durable())
            .and_then(|()| self.witness.note(record.link))
            .map_err(|cause| AppendError::Unknown { sequence, cause })?;
        *head = record.link;
        *identity = renewed.unwrap_or(*identity);
        Ok(())
    }

    fn snapshot(&self, at: Link, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError> {
        let snapshot = at.sequence;
        if self.manifest(snapshot).is_ok_and(|manifest| manifest.link == at) {
            return Ok(());
        }
        self.room()?;
        // What an earlier attempt left would mix with this one.
        self.remove(prefix(Item::Manifest(snapshot)), numbered(MANIFEST, snapshot + 1))?;
        self.remove(numbered(CHUNK, snapshot), numbered(CHUNK, snapshot + 1))?;
        let mut hashes = Vec::new();
        let mut unsynced = 0;
        for (index, chunk) in (0..).zip(chunks) {
            let mut batch = Batch::default();
            put(&mut batch, Item::Chunk { snapshot, index }, &chunk)?;
            self.write(batch)?;
            hashes.push(Hash::of(&chunk));
            unsynced += chunk.len();
            if unsynced >= BYTES_PER_PAUSE {
                unsynced = 0;
                self.make_durable()?;
                if let Err(error) = self.room() {
                    self.remove(numbered(CHUNK, snapshot), numbered(CHUNK, snapshot + 1))?;
                    return Err(error);
                }
                std::thread::sleep(PAUSE);
            }
        }
        self.make_durable()?;
        let mut batch = Batch::default();
        put(&mut batch, Item::Manifest(snapshot), &checked(&Manifest { link: at, chunks: hashes }))?;
        self.write(batch)?;
        self.make_durable()
    }

    fn trim(&self) -> Result<(), LogError> {
        let kept = self.contents()?.snapshots;
        let Some(oldest) = kept.get(KEPT_SNAPSHOTS - 1) else {
            return Ok(());
        };
        // Manifests first: a snapshot that loses chunks must not look complete.
        self.remove(vec![MANIFEST], numbered(MANIFEST, oldest.sequence))?;
        self.remove(vec![CHUNK], numbered(CHUNK, oldest.sequence))?;
        self.remove(vec![RECORD], numbered(RECORD, oldest.sequence + 1))?;
        // What attempts between the kept snapshots left.
        for pair in kept[..KEPT_SNAPSHOTS].windows(2) {
            self.remove(numbered(CHUNK, pair[1].sequence + 1), numbered(CHUNK, pair[0].sequence))?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics between two changes that belong together.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn checked<T: Encode<()>>(value: &T) -> Vec<u8> {
    let content = minicbor::to_vec(value).expect("derived encoders into memory have no errors");
    [&Hash::of(&content).0[..], &content].concat()
}

fn read_checked<T: for<'b> Decode<'b, ()>>(db: &Db, item: Item) -> Result<T, LogError> {
    unchecked(&get(db, item)?).map_err(|why| LogError::damaged(item, why))
}

fn unchecked<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first_chunk::<32>() {
        Some((hash, content)) if Hash::of(content).0 == *hash => {
            minicbor::decode(content).map_err(|error| error.to_string())
        }
        _ => Err("its hash differs from its content's".into()),
    }
}
