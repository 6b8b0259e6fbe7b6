//! Standard input and output of the command lines, and words for people.

use std::io::{self, Read, Write};
use std::path::Path;

/// Writes to standard output. A reader that has seen enough is no error.
///
/// # Errors
/// What the system says, for example that the disk is full.
pub fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line.
///
/// # Errors
/// As [`write()`].
pub fn line(text: impl AsRef<str>) -> io::Result<()> {
    write(&format!("{}\n", text.as_ref()))
}

/// Reads a file, or standard input when it is `-`: at most one byte more than `most`, so that what is too
/// large shows as such and costs no more.
///
/// # Errors
/// What the system says.
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let (mut bytes, limit) = (Vec::new(), u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1));
    if path.as_os_str() == "-" {
        io::stdin().take(limit).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// An error with all that led to it.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The word people use for a protobuf enum value: `DENIAL_REASON_DRAINING` without its prefix, in lower
/// case.
#[must_use]
pub fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}
