//! The embedded log: durable, exact or refusing, and never in files that are not synced.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headroom_core::record::Link;
use headroom_shared::committer::{Options, recover};
use headroom_shared::disk_log::DiskLog;
use headroom_shared::log::{AppendError, Item, Log, LogError, Sealed};
use proptest::prelude::*;

use crate::committer::ask;
use crate::toy::{Command, State, Toy, append, sealed, snapshot, start};

pub(crate) fn state(log: &dyn Log) -> State {
    recover::<Toy>(log).unwrap().state
}

/// A log with two snapshots, records before, between and after.
pub(crate) fn history(dir: &Path) -> State {
    let log = DiskLog::create(dir, 1).unwrap();
    let mut link = Link::default();
    for round in 0..3 {
        for size in [1, 40, 3_000] {
            link = append(&log, link, size + round);
        }
        if round < 2 {
            snapshot(&log, link, &state(&log), 700);
            log.trim().unwrap();
        }
    }
    state(&log)
}

/// The files of a store, in order.
pub(crate) fn store_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(store_files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Copies the files of a store over what is there.
pub(crate) fn copy(from: &Path, to: &Path) {
    for path in store_files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, target).unwrap();
    }
}

/// The newest file of records.
pub(crate) fn newest_records(dir: &Path) -> PathBuf {
    store_files(&dir.join("records")).pop().unwrap()
}

/// Opens sled itself; retries while its threads let go of the file.
fn raw(dir: &Path) -> sled::Db {
    let dir = dir.join("snapshots");
    for _ in 0..2_000 {
        match sled::open(&dir) {
            Ok(db) => return db,
            Err(_) => std::thread::yield_now(),
        }
    }
    sled::open(dir).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_commands_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state/log");
    drop(DiskLog::create(&dir, 5).unwrap());
    for round in 1..=4 {
        let log = Arc::new(DiskLog::open(&dir).unwrap());
        let (handle, committer) = start(&log, Options { snapshot_after: 30, ..Options::default() });
        assert_eq!(handle.view().state.values.values().sum::<i64>(), (round - 1) * 200);
        let asked: Vec<_> = (0..200).map(|key| ask(&handle, Command::Add(key, 1))).collect();
        let mut last = 0;
        for answer in asked {
            let done = answer.await.unwrap().unwrap();
            assert_eq!((done.reply, done.position.generation), (round, 5));
            last = last.max(done.position.sequence);
        }
        committer.stop().await.unwrap();
        assert_eq!(log.contents().unwrap().head.sequence, last);
    }
}

#[test]
fn a_store_is_never_made_twice_nor_opened_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let error = DiskLog::open(&dir).err().unwrap();
    assert_eq!(error, LogError::Missing { path: dir.clone() });
    assert!(!dir.exists(), "looking for a store makes nothing");
    let log = DiskLog::create(&dir, 3).unwrap();
    assert_eq!(log.identity().generation, 3);
    assert_eq!(DiskLog::create(&dir, 4).err().unwrap(), LogError::Exists { path: dir.clone() });
    drop(log);
    assert_eq!(DiskLog::create(&dir, 4).err().unwrap(), LogError::Exists { path: dir.clone() });
    assert_eq!(DiskLog::open(&dir).unwrap().identity().generation, 3);
    let occupied = folder.path().join("other");
    fs::create_dir(&occupied).unwrap();
    fs::write(occupied.join("precious"), "x").unwrap();
    assert!(matches!(DiskLog::create(&occupied, 1), Err(LogError::Exists { .. })));
    assert!(occupied.join("precious").exists());
}

#[test]
fn a_store_without_identity_or_records_or_of_another_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    drop(DiskLog::create(&dir, 3).unwrap());
    let records = newest_records(&dir);
    let kept = fs::read(dir.join("identity")).unwrap();
    fs::remove_file(dir.join("identity")).unwrap();
    assert_eq!(DiskLog::open(&dir).err().unwrap(), LogError::damaged(Item::Identity, "it is missing"));
    fs::write(dir.join("identity"), kept).unwrap();
    fs::remove_file(&records).unwrap();
    let missing = LogError::damaged(Item::Head, "there are no files of records");
    assert_eq!(DiskLog::open(&dir).err().unwrap(), missing);
    fs::write(dir.join("db"), "").unwrap();
    assert_eq!(DiskLog::open(&dir).err().unwrap(), LogError::Format { found: 1, supported: 2 });
}

#[test]
fn a_store_in_use_is_refused_with_a_clear_word() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let log = DiskLog::create(&dir, 1).unwrap();
    let error = DiskLog::open(&dir).err().unwrap();
    assert_eq!(error, LogError::InUse { path: dir.clone() });
    assert!(error.to_string().ends_with("another process has it open"));
    drop(log);
    DiskLog::open(&dir).unwrap();
}

#[test]
fn a_creation_that_was_cut_short_leaves_no_store_and_does_not_stand_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let making = folder.path().join("log.creating");
    fs::create_dir(&making).unwrap();
    fs::write(making.join("identity"), "half").unwrap();
    assert!(matches!(DiskLog::open(&dir), Err(LogError::Missing { .. })));
    DiskLog::create(&dir, 1).unwrap();
    assert!(!making.exists());
}

#[test]
fn a_half_written_index_does_not_keep_the_store_shut() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let expected = history(&dir);
    fs::write(dir.join("snapshots/snap.FFFFFFFFFFFFFFFF.generating"), "half").unwrap();
    assert_eq!(state(&DiskLog::open(&dir).unwrap()), expected);
}

#[test]
fn a_record_that_does_not_follow_the_head_is_fenced() {
    let folder = tempfile::tempdir().unwrap();
    let log = DiskLog::create(&folder.path().join("log"), 1).unwrap();
    let first = append(&log, Link::default(), 2);
    let again = log.append(&sealed(Link::default(), 3));
    assert_eq!(again, Err(AppendError::Fenced { wanted: 1, head: first }));
    let skipped = log.append(&sealed(Link { sequence: 5, ..first }, 3));
    assert_eq!(skipped, Err(AppendError::Fenced { wanted: 6, head: first }));
    assert_eq!(state(&log).values.len(), 2);
}

#[test]
fn a_renewed_generation_keeps_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    history(&dir);
    let log = DiskLog::open(&dir).unwrap();
    let (created, head) = (log.identity().created, log.contents().unwrap().head);
    let renewing = Sealed { generation: Some(99), ..sealed(head, 3) };
    log.append(&renewing).unwrap();
    assert_eq!((log.contents().unwrap().generation, log.contents().unwrap().head), (99, renewing.link));
    let expected = state(&log);
    drop(log);
    let log = DiskLog::open(&dir).unwrap();
    assert_eq!((log.contents().unwrap().generation, log.identity().created), (99, created));
    assert_eq!(state(&log), expected);
    append(&log, renewing.link, 1);
    assert_eq!(log.contents().unwrap().generation, 99);
}

#[test]
fn a_history_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    drop(DiskLog::create(&dir, 1).unwrap());
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_store_that_ends_before_the_last_acknowledged_record_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, older) = (folder.path().join("log"), folder.path().join("older"));
    let log = DiskLog::create(&dir, 1).unwrap();
    let link = append(&log, Link::default(), 3);
    drop(log);
    copy(&dir, &older);
    fs::remove_file(older.join("witness")).unwrap();
    let log = DiskLog::open(&dir).unwrap();
    append(&log, link, 3);
    drop(log);
    copy(&older, &dir);
    let error = DiskLog::open(&dir).err().unwrap();
    let why = "it was acknowledged, and the store ends at record 1";
    assert_eq!(error, LogError::damaged(Item::Record(2), why));
    fs::write(dir.join("witness"), "").unwrap();
    assert!(matches!(DiskLog::open(&dir), Err(LogError::Witness { .. })));
}

#[test]
fn nothing_ever_goes_to_files_that_are_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let log = DiskLog::create(&dir, 1).unwrap();
    let mut link = Link::default();
    for round in 0..30 {
        // From a few bytes to about 700 KB.
        link = append(&log, link, if round % 3 == 0 { 60_000 } else { 40 * round });
        if round % 5 == 4 {
            snapshot(&log, link, &state(&log), 20_000);
            log.trim().unwrap();
        }
        let blobs = fs::read_dir(dir.join("snapshots/blobs")).unwrap().count();
        assert_eq!(blobs, 0, "after record {}", link.sequence);
    }
    let expected = state(&log);
    drop(log);
    assert_eq!(state(&DiskLog::open(&dir).unwrap()), expected);
    assert_eq!(fs::read_dir(dir.join("snapshots/blobs")).unwrap().count(), 0);
    let largest = raw(&dir).iter().map(|entry| entry.unwrap().1.len()).max().unwrap();
    assert!(largest <= 6 * 1024);
}

#[test]
fn a_snapshot_that_was_cut_short_does_not_count_and_the_next_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let expected = history(&dir);
    let log = DiskLog::open(&dir).unwrap();
    let before = log.contents().unwrap();
    let mut chunks = 0;
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut given = std::iter::from_fn(|| {
            chunks += 1;
            assert!(chunks < 4, "cut short");
            Some(vec![0; 20_000])
        });
        log.snapshot(before.head, &mut given)
    }));
    assert!(cut.is_err());
    drop(log);
    let log = DiskLog::open(&dir).unwrap();
    assert_eq!(log.contents().unwrap(), before);
    assert_eq!(state(&log), expected);
    snapshot(&log, before.head, &expected, 100);
    snapshot(&log, before.head, &State::default(), 100);
    log.trim().unwrap();
    drop(log);
    let log = DiskLog::open(&dir).unwrap();
    assert_eq!(log.contents().unwrap().snapshots.len(), 2);
    assert_eq!(log.contents().unwrap().snapshots[0], before.head);
    assert_eq!(state(&log), expected, "a snapshot that is there is not written again");
}

/// The store's state, if it opens.
pub(crate) fn opened(dir: &Path) -> Result<State, String> {
    let log = DiskLog::open(dir).map_err(|error| error.to_string())?;
    recover::<Toy>(&log).map(|recovered| recovered.state).map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn damage_to_any_byte_on_the_disk_is_refused_or_the_state_is_exact(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8u8,
        cut in prop::bool::weighted(0.2), late in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("log");
        history(&dir);
        let log = DiskLog::open(&dir).unwrap();
        let mut link = log.contents().unwrap().head;
        for _ in 0..20 {
            link = append(&log, link, 5);
        }
        let expected = state(&log);
        // As a killed process leaves it.
        let killed = folder.path().join("killed");
        copy(&dir, &killed);
        drop(log);
        let files = store_files(&killed);
        let files: Vec<_> = files.into_iter().filter(|file| fs::metadata(file).unwrap().len() > 0).collect();
        let file = if late { newest_records(&killed) } else { files[which.index(files.len())].clone() };
        let mut bytes = fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        let at = if late { used - at.index(used.min(4096)) } else { at.index(used + 1) };
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        fs::write(&file, &bytes).unwrap();
        // sled may give up in its own way; a service that ends is one that refuses
        let found = std::panic::catch_unwind(|| opened(&killed));
        if let Ok(Ok(state)) = found {
            prop_assert_eq!(state, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damage_to_any_value_of_a_snapshot_leaves_the_state_exact(
        which in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), how in 0..10u8,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("log");
        let expected = history(&dir);
        let db = raw(&dir);
        let keys: Vec<_> = db.iter().keys().map(|key| key.unwrap()).collect();
        let key = &keys[which.index(keys.len())];
        let mut value = db.get(key).unwrap().unwrap().to_vec();
        match how {
            8 => drop(db.remove(key).unwrap()),
            9 => {
                value.truncate(byte.index(value.len()));
                db.insert(key, value).unwrap();
            }
            bit => {
                let at = byte.index(value.len());
                value[at] ^= 1 << bit;
                db.insert(key, value).unwrap();
            }
        }
        drop(db);
        let found = DiskLog::open(&dir).map(|log| recover::<Toy>(&log).map(|recovered| recovered.state));
        // The other snapshot and the records after it are whole.
        prop_assert_eq!(found.unwrap().unwrap(), expected);
    }
}

#[test]
fn a_damaged_snapshot_does_not_count_when_others_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    history(&dir);
    let log = DiskLog::open(&dir).unwrap();
    let [newest, older] = log.contents().unwrap().snapshots[..] else { panic!("two snapshots") };
    drop(log);
    let db = raw(&dir);
    let chunk = [&b"c"[..], &newest.sequence.to_be_bytes()].concat();
    let (key, value) = db.scan_prefix(chunk).next().unwrap().unwrap();
    db.insert(key, vec![0; value.len()]).unwrap();
    drop(db);
    let log = DiskLog::open(&dir).unwrap();
    let (head, expected) = (log.contents().unwrap().head, state(&log));
    snapshot(&log, head, &expected, 700);
    log.trim().unwrap();
    assert_eq!(log.contents().unwrap().snapshots, [head, older]);
    assert_eq!(state(&log), expected);
}
