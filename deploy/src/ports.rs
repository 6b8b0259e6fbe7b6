//! Are the ports free, and if not, who has them?

use std::net::TcpListener;
use std::path::Path;

use crate::{Error, Result};

/// Refuses when a port of 127.0.0.1 cannot be had. Port 0 always can.
///
/// # Errors
/// [`Error::PortTaken`] with the holder, as far as it can be seen.
pub fn check_free(port: u16, used_for: &str) -> Result<()> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = holder(port).map(|who| format!(" by {who}")).unwrap_or_default();
            Err(Error::PortTaken { port, used_for: used_for.to_owned(), holder })
        }
        Err(source) => Err(Error::Io { doing: format!("port {port} on 127.0.0.1"), source }),
    }
}

/// The process that listens on a port: its name and id.
fn holder(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| listening_inode(line, port)).collect::<Vec<_>>())
        .collect();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        if holds_any(&entry.path(), &inodes) {
            let command = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", command.trim()));
        }
    }
    None
}

/// The socket of a line of `/proc/net/tcp`, if it listens on `port`.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let at = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    (at == port && *state == LISTEN).then(|| (*inode).to_owned())
}

fn holds_any(process: &Path, inodes: &[String]) -> bool {
    let Ok(files) = std::fs::read_dir(process.join("fd")) else { return false };
    files.flatten().filter_map(|f| std::fs::read_link(f.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        target
            .strip_prefix("socket:[")
            .and_then(|t| t.strip_suffix(']'))
            .is_some_and(|i| inodes.iter().any(|x| x == i))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_with_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let message = check_free(port, "a test").unwrap_err().to_string();
        assert!(message.contains(&port.to_string()), "{message}");
        assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");
        drop(listener);
        check_free(port, "a test").unwrap();
    }
}
