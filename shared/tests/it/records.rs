//! The files of records: cut short, damaged, missing, and removed.

use std::fs;
use std::path::Path;

use headroom_core::record::Link;
use headroom_shared::disk_log::DiskLog;
use headroom_shared::log::{Item, Log, LogError};

use crate::disk_log::{copy, history, newest_records, opened, state, store_files};
use crate::toy::{State, append, snapshot};

/// A store with records in several files and no snapshot.
fn many_files(dir: &Path) -> State {
    let log = DiskLog::create(dir, 1).unwrap();
    let mut link = Link::default();
    for _ in 0..20 {
        // About 700 KB.
        link = append(&log, link, 60_000);
    }
    append(&log, link, 3);
    assert!(store_files(&dir.join("records")).len() >= 3);
    state(&log)
}

#[test]
fn a_record_that_was_cut_short_goes_and_the_history_continues() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let expected = history(&dir);
    let whole = fs::read(newest_records(&dir)).unwrap();
    let next = {
        let copied = folder.path().join("ahead");
        copy(&dir, &copied);
        let log = DiskLog::open(&copied).unwrap();
        append(&log, log.contents().unwrap().head, 50);
        fs::read(newest_records(&copied)).unwrap()
    };
    // From its first byte to all but its last, and as a disk leaves what it did not write.
    let mut zeros = whole.clone();
    zeros.resize(next.len(), 0);
    let cut = [whole.len() + 1, whole.len() + 63, whole.len() + 64, whole.len() + 90, next.len() - 1];
    for left in cut.map(|length| next[..length].to_vec()).into_iter().chain([zeros]) {
        fs::write(newest_records(&dir), &left).unwrap();
        let log = DiskLog::open(&dir).unwrap();
        assert_eq!(state(&log), expected);
        assert_eq!(fs::read(newest_records(&dir)).unwrap(), whole);
    }
    let log = DiskLog::open(&dir).unwrap();
    append(&log, log.contents().unwrap().head, 50);
    let expected = state(&log);
    drop(log);
    assert_eq!(state(&DiskLog::open(&dir).unwrap()), expected);
}

#[test]
fn a_damaged_record_that_others_follow_is_never_taken_for_one_that_was_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let log = DiskLog::create(&dir, 1).unwrap();
    // As a power cut leaves the note of what was acknowledged: far behind.
    let behind = fs::read(dir.join("witness")).unwrap();
    let mut link = Link::default();
    for _ in 0..5 {
        link = append(&log, link, 3);
    }
    drop(log);
    fs::write(dir.join("witness"), behind).unwrap();
    let file = newest_records(&dir);
    let whole = fs::read(&file).unwrap();
    let frame = whole.len() / 5;
    for at in [3, frame + 5, 2 * frame + 100, 3 * frame + 60] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let error = DiskLog::open(&dir).err().unwrap();
        let record = u64::try_from(at / frame + 1).unwrap();
        assert!(error.to_string().starts_with(&format!("record {record} is damaged: ")), "{error}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "what is refused is left as it is");
    }
}

#[test]
fn a_damaged_record_after_which_another_was_begun_is_never_taken_for_one_that_was_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let log = DiskLog::create(&dir, 1).unwrap();
    let behind = fs::read(dir.join("witness")).unwrap();
    let link = append(&log, Link::default(), 3);
    let frame = fs::read(newest_records(&dir)).unwrap().len();
    append(&log, link, 3);
    drop(log);
    let whole = fs::read(newest_records(&dir)).unwrap();
    // A flipped bit in the first, and of the second: nothing but a byte, its header, most of it.
    for (at, left) in [(frame - 1, frame + 1), (2, frame + 64), (frame - 1, whole.len() - 1)] {
        let mut bytes = whole[..left].to_vec();
        bytes[at] ^= 1;
        fs::write(newest_records(&dir), &bytes).unwrap();
        fs::write(dir.join("witness"), &behind).unwrap();
        let error = DiskLog::open(&dir).err().unwrap();
        assert!(error.to_string().starts_with("record 1 is damaged: "), "{error}");
    }
}

#[test]
fn a_record_that_was_in_flight_counts_once_the_store_was_opened_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let log = DiskLog::create(&dir, 1).unwrap();
    let link = append(&log, Link::default(), 3);
    let before = fs::read(dir.join("witness")).unwrap();
    append(&log, link, 3);
    drop(log);
    // As a process leaves it that was killed between the record and the note of it.
    fs::write(dir.join("witness"), before).unwrap();
    drop(DiskLog::open(&dir).unwrap());
    let whole = fs::read(newest_records(&dir)).unwrap();
    fs::write(newest_records(&dir), &whole[..whole.len() - 1]).unwrap();
    let why = "it was acknowledged, and the store ends at record 1; of the next one, it was cut short";
    assert_eq!(DiskLog::open(&dir).err().unwrap(), LogError::damaged(Item::Record(2), why));
}

#[test]
fn a_store_that_ends_before_one_of_its_snapshots_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let log = DiskLog::create(&dir, 1).unwrap();
    let behind = fs::read(dir.join("witness")).unwrap();
    let link = append(&log, Link::default(), 3);
    let first = fs::read(newest_records(&dir)).unwrap();
    let link = append(&log, link, 3);
    snapshot(&log, link, &state(&log), 10);
    drop(log);
    fs::write(dir.join("witness"), behind).unwrap();
    fs::write(newest_records(&dir), first).unwrap();
    let why = "there is a snapshot of it, and the store ends at record 1";
    assert_eq!(DiskLog::open(&dir).err().unwrap(), LogError::damaged(Item::Record(2), why));
}

#[test]
fn records_in_many_files_are_read_back_and_a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let expected = many_files(&dir);
    assert_eq!(opened(&dir), Ok(expected.clone()));
    let files = store_files(&dir.join("records"));
    let first = |file: &Path| file.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    // Begun for a record that was never written.
    let begun = dir.join(format!("records/{:020}", 22));
    for left in ["", "HRF"] {
        fs::write(&begun, left).unwrap();
        assert_eq!(opened(&dir), Ok(expected.clone()));
        assert!(!begun.exists());
    }
    for file in &files[..files.len() - 1] {
        let kept = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        assert_eq!(opened(&dir), Err(format!("record {} is damaged: it is missing", first(file))));
        fs::write(file, kept).unwrap();
    }
    let last = files.last().unwrap();
    fs::remove_file(last).unwrap();
    // With another file begun after it, the gap shows whatever is known of the last record.
    fs::write(&begun, "").unwrap();
    assert_eq!(opened(&dir), Err(format!("record {} is damaged: it is missing", first(last))));
    fs::remove_file(&begun).unwrap();
    let why = format!(
        "record 21 is damaged: it was acknowledged, and the store ends at record {}",
        first(last) - 1
    );
    assert_eq!(opened(&dir), Err(why));
}

#[test]
fn files_of_records_that_no_kept_snapshot_needs_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let expected = many_files(&dir);
    let log = DiskLog::open(&dir).unwrap();
    let before = store_files(&dir.join("records"));
    snapshot(&log, log.contents().unwrap().head, &expected, 20_000);
    log.trim().unwrap();
    assert_eq!(store_files(&dir.join("records")), before, "one snapshot is not enough");
    append(&log, log.contents().unwrap().head, 3);
    let expected = state(&log);
    snapshot(&log, log.contents().unwrap().head, &expected, 20_000);
    log.trim().unwrap();
    assert_eq!(store_files(&dir.join("records")), before[before.len() - 1..]);
    drop(log);
    assert_eq!(opened(&dir), Ok(expected));
}
