//! The note of the last record, after a power cut: it may be behind, but it can be read.

use std::fs;

use headroom_shared::disk_log::DiskLog;
use headroom_shared::log::{Item, Log as _, LogError};

use crate::disk_log::{copy, history, newest_records, state};
use crate::toy::append;

/// Notes are in blocks of their own.
const BLOCK: usize = 4096;

#[test]
fn a_power_cut_that_spoils_whatever_of_the_witness_is_not_durable_leaves_a_store_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, killed) = (folder.path().join("log"), folder.path().join("killed"));
    history(&dir);
    for round in 0..4 {
        let log = DiskLog::open(&dir).unwrap();
        // Opening ends with a sync, and so does closing; in between there is none.
        let durable = fs::read(dir.join("witness")).unwrap();
        let mut link = log.contents().unwrap().head;
        for _ in 0..=round {
            link = append(&log, link, 5);
        }
        let expected = state(&log);
        copy(&dir, &killed);
        drop(log);
        let mut spoilt = fs::read(killed.join("witness")).unwrap();
        let mut changed = 0;
        for (at, block) in spoilt.chunks_mut(BLOCK).enumerate() {
            let before = durable.chunks(BLOCK).nth(at);
            if before != Some(block) {
                changed += 1;
                block.fill(0xff);
            }
        }
        assert_eq!(changed, 1, "a note that is durable was written over");
        fs::write(killed.join("witness"), spoilt).unwrap();
        assert_eq!(state(&DiskLog::open(&killed).unwrap()), expected, "after {round} more records");
        fs::remove_dir_all(&killed).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_the_note_of_its_last_record() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, killed) = (folder.path().join("log"), folder.path().join("killed"));
    history(&dir);
    let log = DiskLog::open(&dir).unwrap();
    let mut link = log.contents().unwrap().head;
    for _ in 0..3 {
        link = append(&log, link, 5);
        copy(&dir, &killed);
        let records = newest_records(&killed);
        let length = fs::metadata(&records).unwrap().len();
        fs::File::options().write(true).open(&records).unwrap().set_len(length - 1).unwrap();
        let error = DiskLog::open(&killed).err().unwrap();
        assert!(
            matches!(error, LogError::Damaged { item: Item::Record(number), .. } if number == link.sequence),
            "{error}"
        );
        fs::remove_dir_all(&killed).unwrap();
    }
}
