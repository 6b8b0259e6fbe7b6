//! Files that are there whole or not at all, with the right permissions from the first moment.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes a file in one step, readable by its owner only.
///
/// # Errors
/// What the system says.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, 0o600)
}

/// Writes a file in one step, readable by everybody.
///
/// # Errors
/// What the system says.
pub fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, 0o644)
}

/// Finds out whether a new file can be written, for those who cannot take back what the file is about.
///
/// # Errors
/// What the system says; [`io::ErrorKind::AlreadyExists`] when something is there.
pub fn check_new(path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists already and is left alone"));
    }
    let (_, partial) = places(path)?;
    let _ = std::fs::remove_file(&partial);
    std::fs::OpenOptions::new().write(true).create_new(true).open(&partial)?;
    std::fs::remove_file(&partial)
}

/// A file's folder, and where it is written before it is whole.
fn places(path: &Path) -> io::Result<(&Path, PathBuf)> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    Ok((folder, folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()))))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (folder, partial) = places(path)?;
    // Left over from a process of the same number that was killed meanwhile.
    let _ = std::fs::remove_file(&partial);
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)?;
        std::fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}
