//! The folder of a store: made whole or not at all, and locked.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::{Identity, unchecked};
use crate::log::{Item, LogError};

const LOCK: &str = "lock";

/// Makes a store: filled beside its place, made durable, and then moved there in one step, so that
/// a crash leaves either a whole store or none.
pub(super) fn create(dir: &Path, fill: impl FnOnce(&Path) -> Result<(), LogError>) -> Result<(), LogError> {
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
    fill(&making)?;
    sync(&making)?;
    fs::rename(&making, dir).map_err(failed("create"))?;
    sync(&parent)
}

/// Takes the folder for this process.
pub(super) fn lock(dir: &Path) -> Result<File, LogError> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK));
    let file = file.map_err(|error| LogError::io("lock", dir, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(LogError::io("lock", dir, error)),
    }
}

/// Writes a small file that never changes.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let failed = |error| LogError::io("write", path, error);
    let mut file = File::create_new(path).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// Reads what a store says it is.
pub(super) fn read_identity(path: &Path) -> Result<Identity, LogError> {
    match fs::read(path) {
        Ok(bytes) => unchecked(&bytes).map_err(|why| LogError::damaged(Item::Identity, why)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(LogError::damaged(Item::Identity, "it is missing"))
        }
        Err(error) => Err(LogError::io("read", path, error)),
    }
}

fn beside(dir: &Path) -> Result<PathBuf, LogError> {
    let Some(name) = dir.file_name() else {
        return Err(LogError::io("create", dir, "the path has no name"));
    };
    let mut name = name.to_owned();
    name.push(".creating");
    Ok(dir.with_file_name(name))
}

/// Makes the names of a folder, and of those above it, durable: a store may be in one that was made just now,
/// by whomever, and would be gone with it. One that may not be read was not made by this user, and what another
/// file system says of the folder that it is mounted on has no part in it.
pub(super) fn sync_names(dir: &Path) -> Result<(), LogError> {
    let failed = |error| LogError::io("sync the folders above", dir, error);
    let dir = dir.canonicalize().map_err(failed)?;
    let device = fs::metadata(&dir).map_err(failed)?.dev();
    for above in dir.ancestors().skip(1) {
        if fs::metadata(above).map_err(failed)?.dev() != device {
            break;
        }
        match File::open(above) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            opened => opened.and_then(|folder| folder.sync_all()).map_err(failed)?,
        }
    }
    Ok(())
}

fn parent(dir: &Path) -> PathBuf {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes a file, or what a folder lists, durable.
pub(super) fn sync(path: &Path) -> Result<(), LogError> {
    let failed = |error| LogError::io("sync", path, error);
    File::open(path).map_err(failed)?.sync_all().map_err(failed)
}
