//! The snapshots, in sled.
//!
//! | what | key | value |
//! | --- | --- | --- |
//! | chunk | `c` snapshot, index | the chunk |
//! | manifest | `m` snapshot | checked `[link, hashes of the chunks]` |
//!
//! Durable means: sled has flushed, and then `fdatasync` on the database file succeeded through a
//! handle of our own, because sled's flush ends in `sync_file_range`, which does not reach a disk's
//! volatile cache. After a failed write or sync nothing is tried again: the kernel may have dropped
//! what it could not write, and a second sync would lie.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headroom_core::record::{Hash, Link};
use minicbor::{Decode, Encode};
use sled::{Batch, Db};

use super::files::sync;
use super::pieces::{CHUNK, MANIFEST, Stored, get, numbered, sequence_of, split};
use super::{checked, unchecked};
use crate::log::{Item, KEPT_SNAPSHOTS, LogError, Part, Visitor};

/// sled's page cache. Snapshots are written once and read once, in order.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// How long a store that this process just closed may take to let go of its file.
const CLOSING: Duration = Duration::from_secs(10);
/// Most bytes of values written, or keys removed, between two syncs, each followed by a pause that leaves
/// the disk to records. sled writes over a segment of its file (512 KiB) as soon as one more segment is full
/// after the one that its content was moved to. A sync must come before that, or the only durable copy would
/// be gone. What sled writes for these bytes is several times as much (a node that has changed often is written
/// anew, both halves of one that is split, nodes that are moved out of segments to be freed), so a tenth of a
/// segment is what one sync is for; the power-cut tests watch that what was written stays below a segment.
const BYTES_PER_PAUSE: usize = 48 * 1024;
const REMOVALS_PER_PAUSE: usize = 16;
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes of the disk that a snapshot leaves to records, but at most this part of the file system: a full
/// disk ends the service, a snapshot that is late only lets the log grow.
const KEPT_FREE: u64 = 64 * 1024 * 1024;
const KEPT_FREE_PART: u64 = 8;

#[derive(Encode, Decode)]
struct Manifest {
    #[n(0)]
    link: Link,
    #[n(1)]
    chunks: Vec<Hash>,
}

pub(super) struct Snapshots {
    db: Db,
    file: File,
    dir: PathBuf,
}

impl Snapshots {
    /// Makes an empty database.
    pub(super) fn create(dir: &Path) -> Result<(), LogError> {
        let db = config(dir).create_new(true).open().map_err(|error| LogError::io("create", dir, error))?;
        db.flush().map_err(|error| LogError::io("flush", dir, error))?;
        drop(db);
        for entry in fs::read_dir(dir).map_err(|error| LogError::io("sync", dir, error))? {
            sync(&entry.map_err(|error| LogError::io("sync", dir, error))?.path())?;
        }
        sync(dir)
    }

    /// Opens the database. The caller holds the lock of the store.
    pub(super) fn open(dir: &Path) -> Result<Self, LogError> {
        remove_half_written(dir)?;
        // A process that was killed leaves what is not durable, and sled makes a durable index of it; itself it
        // syncs the file before only where there is something to clear behind the last entry.
        let path = dir.join("db");
        if path.exists() {
            sync(&path)?;
        }
        let begun = Instant::now();
        let db = loop {
            match config(dir).open() {
                Ok(db) => break db,
                // sled's threads may hold its file a moment longer than the store that was dropped.
                Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                    if begun.elapsed() > CLOSING {
                        return Err(LogError::InUse { path: dir.to_owned() });
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(LogError::io("open", dir, error)),
            }
        };
        // Opening can replace sled's own index file.
        sync(dir)?;
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(|error| LogError::io("open", path, error))?;
        Ok(Self { db, file, dir: dir.to_owned() })
    }

    /// Where complete snapshots stand, newest first, and what is wrong with others.
    pub(super) fn list(&self) -> Result<(Vec<Link>, Vec<LogError>), LogError> {
        let mut numbers = Vec::new();
        for key in self.db.scan_prefix([MANIFEST]).keys() {
            numbers.extend(sequence_of(&key.map_err(|error| LogError::io("read", &self.dir, error))?));
        }
        numbers.dedup();
        let (mut complete, mut unusable) = (Vec::new(), Vec::new());
        for sequence in numbers.into_iter().rev() {
            match self.manifest(sequence) {
                Ok(manifest) => complete.push(manifest.link),
                Err(error) => unusable.push(error),
            }
        }
        Ok((complete, unusable))
    }

    fn manifest(&self, sequence: u64) -> Result<Manifest, LogError> {
        let stored = Stored::Manifest(sequence);
        let manifest: Manifest = unchecked(&get(&self.db, stored)?)
            .map_err(|why| LogError::damaged(Item::Manifest(sequence), why))?;
        if manifest.link.sequence != sequence {
            let why = format!("it speaks of snapshot {}", manifest.link.sequence);
            return Err(LogError::damaged(Item::Manifest(sequence), why));
        }
        Ok(manifest)
    }

    /// The newest snapshot, and the newest before it whose chunks are whole. The newest was written by this
    /// process, the others may have been damaged since.
    pub(super) fn kept(&self) -> Result<Option<[Link; KEPT_SNAPSHOTS]>, LogError> {
        let (complete, _) = self.list()?;
        let Some((newest, others)) = complete.split_first() else { return Ok(None) };
        Ok(others.iter().find(|at| self.is_whole(at.sequence)).map(|other| [*newest, *other]))
    }

    fn is_whole(&self, snapshot: u64) -> bool {
        self.load(snapshot, &mut |_| ControlFlow::Continue(())).is_ok()
    }

    /// Hands out the chunks of a snapshot.
    pub(super) fn load(&self, snapshot: u64, visit: &mut Visitor<'_>) -> Result<ControlFlow<()>, LogError> {
        for (index, hash) in (0..).zip(self.manifest(snapshot)?.chunks) {
            let stored = Stored::Chunk { snapshot, index };
            let chunk = get(&self.db, stored)?;
            if Hash::of(&chunk) != hash {
                return Err(LogError::damaged(stored.into(), "its hash differs from the manifest's"));
            }
            if visit(Part::Chunk(&chunk)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Writes a snapshot.
    pub(super) fn write(&self, at: Link, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError> {
        let snapshot = at.sequence;
        if self.manifest(snapshot).is_ok_and(|manifest| manifest.link == at) && self.is_whole(snapshot) {
            return Ok(());
        }
        self.room()?;
        // What an earlier attempt left would mix with this one.
        self.remove(numbered(MANIFEST, snapshot), numbered(MANIFEST, snapshot + 1))?;
        self.remove(numbered(CHUNK, snapshot), numbered(CHUNK, snapshot + 1))?;
        let mut hashes = Vec::new();
        let mut unsynced = 0;
        for (index, chunk) in (0..).zip(chunks) {
            if let Err(error) = self.room() {
                self.remove(numbered(CHUNK, snapshot), numbered(CHUNK, snapshot + 1))?;
                return Err(error);
            }
            self.put(Stored::Chunk { snapshot, index }, &chunk, &mut unsynced)?;
            hashes.push(Hash::of(&chunk));
        }
        self.make_durable()?;
        let manifest = checked(&Manifest { link: at, chunks: hashes });
        self.put(Stored::Manifest(snapshot), &manifest, &mut 0)?;
        self.make_durable()
    }

    /// Removes all but these.
    pub(super) fn keep(&self, [newest, other]: [Link; KEPT_SNAPSHOTS]) -> Result<(), LogError> {
        let between = (other.sequence + 1, newest.sequence);
        // Manifests first: a snapshot that loses chunks must not look complete.
        self.remove(vec![MANIFEST], numbered(MANIFEST, other.sequence))?;
        self.remove(numbered(MANIFEST, between.0), numbered(MANIFEST, between.1))?;
        self.remove(vec![CHUNK], numbered(CHUNK, other.sequence))?;
        self.remove(numbered(CHUNK, between.0), numbered(CHUNK, between.1))
    }

    /// Writes an item. What is not durable is counted, and made durable before it is too much.
    fn put(&self, stored: Stored, bytes: &[u8], unsynced: &mut usize) -> Result<(), LogError> {
        for (key, value) in split(stored, bytes)? {
            if *unsynced + value.len() > BYTES_PER_PAUSE {
                self.make_durable()?;
                std::thread::sleep(PAUSE);
                *unsynced = 0;
            }
            *unsynced += value.len();
            self.db.insert(key, value).map_err(|error| LogError::io("write", &self.dir, error))?;
        }
        Ok(())
    }

    fn make_durable(&self) -> Result<(), LogError> {
        let flushed = self.db.flush().map_err(|error| LogError::io("flush", &self.dir, error));
        let durable = flushed
            .and_then(|_| self.file.sync_data().map_err(|error| LogError::io("sync", &self.dir, error)));
        if durable.is_err() {
            // The kernel may show what the disk does not have: whoever opens next shall see the disk.
            let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        }
        durable
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
            self.db.apply_batch(batch).map_err(|error| LogError::io("write", &self.dir, error))?;
            self.make_durable()?;
            std::thread::sleep(PAUSE);
        }
    }
}

/// sled refuses to open beside a half-written index, which it can always make again.
fn remove_half_written(dir: &Path) -> Result<(), LogError> {
    let failed = |error| LogError::io("look into", dir, error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path).map_err(|error| LogError::io("remove", &path, error))?;
        }
    }
    Ok(())
}

fn config(dir: &Path) -> sled::Config {
    // Snapshots are flushed where they must be; a timed flush would only compete with records.
    sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None)
}
