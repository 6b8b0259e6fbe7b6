//! Standard output of the command lines.

use std::io::{self, Write};

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

/// The word people use for a protobuf enum value: `DENIAL_REASON_DRAINING` without its prefix, in lower
/// case.
#[must_use]
pub fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}
