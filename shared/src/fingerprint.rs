//! Reads what identifies this machine; [`headroom_core::fingerprint`] hashes it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use headroom_core::fingerprint::{Fingerprint, FingerprintError, Sources};

const MACHINE_ID: &str = "etc/machine-id";
const INTERFACES: &str = "sys/class/net";
const PRODUCT_UUID: &str = "sys/class/dmi/id/product_uuid";
/// Files by which containers are known. Their machine id is the image's or the host's, and their
/// addresses are new with every start.
const CONTAINER: [&str; 3] = [".dockerenv", "run/.containerenv", "run/secrets/kubernetes.io"];
/// Interfaces that software makes, by the beginning of their names.
const VIRTUAL: [&str; 8] = ["lo", "veth", "docker", "br-", "virbr", "tun", "tap", "dummy"];

/// Why a machine's fingerprint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A source is there but cannot be read. Leaving it out would look like another machine.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The source.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is nothing to make it of.
    #[error("no fingerprint can be made of the sources under {}: {error}", root.display())]
    Sources {
        /// Where they were looked for.
        root: PathBuf,
        /// What is wrong with them.
        error: FingerprintError,
    },
}

/// Reads the fingerprint of the machine whose files are under `root`: `/`, or a test's own folder.
///
/// # Errors
/// When a source cannot be read, or none exists.
pub fn read(root: &Path) -> Result<Fingerprint, ReadError> {
    let sources = Sources {
        machine_id: text(&root.join(MACHINE_ID))?,
        macs: macs(&root.join(INTERFACES))?,
        product_uuid: for_root(text(&root.join(PRODUCT_UUID)))?,
    };
    Fingerprint::new(&sources).map_err(|error| ReadError::Sources { root: root.to_owned(), error })
}

/// Whether the files under `root` are a container's.
#[must_use]
pub fn container(root: &Path) -> bool {
    CONTAINER.iter().any(|mark| root.join(mark).exists())
}

/// Makes the fingerprint of a machine id that is kept in a file: a container's, which has nothing else that
/// stays. A copy of the file is not told apart from it.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn read_kept(file: &Path) -> Result<Fingerprint, ReadError> {
    let sources = Sources { machine_id: text(file)?, ..Sources::default() };
    Fingerprint::new(&sources).map_err(|error| ReadError::Sources { root: file.to_owned(), error })
}

/// A source that only root may read says nothing to others; [`Fingerprint::matches`] knows that.
fn for_root(text: Result<Option<String>, ReadError>) -> Result<Option<String>, ReadError> {
    match text {
        Err(ReadError::Io { error, .. }) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        text => text,
    }
}

/// A file's text; a file that does not exist says nothing.
fn text(path: &Path) -> Result<Option<String>, ReadError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::Io { path: path.to_owned(), error }),
    }
}

/// The addresses of the physical interfaces: those with a device behind them. Where none has one,
/// as in a container, those of all interfaces that are not plainly made by software.
fn macs(interfaces: &Path) -> Result<Vec<String>, ReadError> {
    let failed = |error| ReadError::Io { path: interfaces.to_owned(), error };
    let entries = match fs::read_dir(interfaces) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let (mut physical, mut others) = (Vec::new(), Vec::new());
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        // Beside the interfaces lie files that drivers make, such as bonding_masters.
        if !entry.path().is_dir() {
            continue;
        }
        let Some(address) = text(&entry.path().join("address"))? else {
            continue;
        };
        if entry.path().join("device").exists() {
            physical.push(address);
        } else if !VIRTUAL.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            others.push(address);
        }
    }
    Ok(if physical.is_empty() { others } else { physical })
}

#[cfg(test)]
mod tests {
    use super::*;
    use headroom_core::fingerprint::Source;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, content).expect("written");
        }
        root
    }

    const FULL: [(&str, &str); 6] = [
        ("etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n"),
        ("sys/class/net/eth0/address", "02:fc:00:00:00:01\n"),
        ("sys/class/net/eth0/device/uevent", ""),
        ("sys/class/net/veth7/address", "02:fc:00:00:00:77\n"),
        ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
        ("sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8052-B4C04F564433\n"),
    ];

    #[test]
    fn a_fingerprint_is_read_from_three_sources_and_follows_physical_addresses_only() {
        let before = read(machine(&FULL).path()).expect("a fingerprint");
        assert_eq!(before.sources(), Source::ALL.to_vec());
        let mut files = FULL;
        files[3].1 = "02:fc:00:00:00:78\n";
        let other_veth = read(machine(&files).path()).expect("a fingerprint");
        assert!(before.matches(&other_veth));
        files[1].1 = "02:fc:00:00:00:02\n";
        let other_card = read(machine(&files).path()).expect("a fingerprint");
        assert_eq!(before.differences(&other_card), vec![Source::MacAddresses]);
    }

    #[test]
    fn a_file_among_the_interfaces_is_none_of_them() {
        let mut files = FULL.to_vec();
        files.push(("sys/class/net/bonding_masters", "bond0\n"));
        let plain = read(machine(&FULL).path()).expect("a fingerprint");
        assert_eq!(read(machine(&files).path()).expect("a fingerprint"), plain);
    }

    #[test]
    fn without_physical_interfaces_the_others_count_but_not_those_software_makes() {
        let files = [("sys/class/net/net1/address", "02:00:00:00:00:09"), FULL[3], FULL[4]];
        let one = read(machine(&files).path()).expect("a fingerprint");
        let two = read(machine(&files[..1]).path()).expect("a fingerprint");
        assert!(one.matches(&two));
    }

    #[test]
    fn a_container_is_known_by_its_marks_and_identified_by_what_is_kept() {
        let plain = machine(&FULL);
        assert!(!container(plain.path()));
        for mark in CONTAINER {
            assert!(container(machine(&[(mark, "")]).path()), "{mark}");
        }
        let kept = machine(&[("kept", "0123"), ("copy", "0123"), ("empty", "")]);
        let one = read_kept(&kept.path().join("kept")).expect("a fingerprint");
        assert!(one.matches(&read_kept(&kept.path().join("copy")).expect("a fingerprint")));
        assert!(matches!(read_kept(&kept.path().join("empty")), Err(ReadError::Sources { .. })));
    }

    #[test]
    fn a_machine_without_any_source_has_no_fingerprint() {
        assert!(matches!(read(machine(&[]).path()), Err(ReadError::Sources { .. })));
        assert!(matches!(read(machine(&[FULL[4]]).path()), Err(ReadError::Sources { .. })));
    }
}
