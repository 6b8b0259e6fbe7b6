//! The files around sled: made whole or not at all, locked, and cleaned of what keeps sled shut.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sled::Db;

use super::witness::Witness;
use crate::log::LogError;

/// sled's page cache. The machine's state lives in memory by itself; sled is only its history.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// How long a store that this process just closed may take to let go of its file.
const CLOSING: Duration = Duration::from_secs(10);
const LOCK: &str = "lock";
const DATA: &str = "db";

/// Makes a store: filled beside its place, made durable, and then moved there in one step, so that
/// a crash leaves either a whole store or none.
pub(super) fn create(dir: &Path, fill: impl FnOnce(&Db) -> Result<(), LogError>) -> Result<(), LogError> {
    let failed = |doing| move |error| LogError::io(doing, dir, error);
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(LogError::Exists { path: dir.to_owned() });
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(LogError::io("look into", dir, error)),
    }
    let parent = parent(dir);
    fs::create_dir_all(&parent).map_err(failed("make the folder of"))?;
    let making = beside(dir)?;
    // Left by a creation that was cut short; nothing in it was ever used.
    if making.exists() {
        fs::remove_dir_all(&making).map_err(failed("clear the way for"))?;
    }
    // For its owner only: the history names who spoke with whom.
    fs::DirBuilder::new().mode(0o700).create(&making).map_err(failed("create"))?;
    File::create(making.join(LOCK)).map_err(failed("create"))?;
    Witness::create(&making)?;
    let db = config(&making).create_new(true).open().map_err(|error| LogError::io("create", dir, error))?;
    fill(&db)?;
    db.flush().map_err(|error| LogError::io("flush", dir, error))?;
    drop(db);
    for entry in fs::read_dir(&making).map_err(failed("sync"))? {
        let path = entry.map_err(failed("sync"))?.path();
        sync(&path)?;
    }
    sync(&making)?;
    fs::rename(&making, dir).map_err(failed("create"))?;
    sync(&parent)
}

/// Takes the folder for this process.
pub(super) fn lock(dir: &Path) -> Result<File, LogError> {
    if !dir.join(DATA).is_file() {
        return Err(LogError::Missing { path: dir.to_owned() });
    }
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK));
    let file = file.map_err(|error| LogError::io("lock", dir, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(LogError::io("lock", dir, error)),
    }
}

/// Opens sled. The caller holds the lock.
pub(super) fn open(dir: &Path) -> Result<Db, LogError> {
    remove_half_written(dir)?;
    let begun = Instant::now();
    loop {
        match config(dir).open() {
            Ok(db) => {
                // Opening can replace sled's own index file.
                sync(dir)?;
                return Ok(db);
            }
            // sled's threads may hold its file a moment longer than the store that was dropped.
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                if begun.elapsed() > CLOSING {
                    return Err(LogError::InUse { path: dir.to_owned() });
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(LogError::io("open", dir, error)),
        }
    }
}

/// A handle of our own on the file that must be synced.
pub(super) fn data_file(dir: &Path) -> Result<File, LogError> {
    let path = dir.join(DATA);
    File::options().read(true).write(true).open(&path).map_err(|error| LogError::io("open", path, error))
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
    // The committer flushes each record itself; a timed flush would only compete with it.
    sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None)
}

fn beside(dir: &Path) -> Result<PathBuf, LogError> {
    let Some(name) = dir.file_name() else {
        return Err(LogError::io("create", dir, "the path has no name"));
    };
    let mut name = name.to_owned();
    name.push(".creating");
    Ok(dir.with_file_name(name))
}

fn parent(dir: &Path) -> PathBuf {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn sync(path: &Path) -> Result<(), LogError> {
    let failed = |error| LogError::io("sync", path, error);
    File::open(path).map_err(failed)?.sync_all().map_err(failed)
}
