//! Snapshots, trimming, and starting from them.

use std::sync::Arc;
use std::time::Duration;

use headroom_shared::committer::{Options, RecoverError, recover};
use headroom_shared::disk_log::DiskLog;
use headroom_shared::log::{Log, LogError};
use headroom_shared::memory_log::MemoryLog;

use crate::toy::{Command, State, Toy, start};

fn options(snapshot_after: u64) -> Options {
    Options { snapshot_after, chunk_events: 3, ..Options::default() }
}

/// Runs the same commands, with restarts, on a log; answers the state.
async fn run(log: &Arc<impl Log>, snapshot_after: u64) -> State {
    for round in 0..6 {
        let (handle, committer) = start(log, options(snapshot_after));
        for n in 0..20 {
            handle.submit(Command::Add(n % 7, i64::from(round * n))).await.unwrap();
            handle.submit(Command::Beat).await.unwrap();
        }
        committer.stop().await.unwrap();
    }
    recover::<Toy>(&**log).unwrap().state
}

#[tokio::test]
async fn a_state_from_snapshot_and_tail_is_the_one_from_all_records() {
    let plain = Arc::new(MemoryLog::new(1));
    let expected = run(&plain, u64::MAX).await;
    assert!(plain.contents().unwrap().snapshots.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let sled = Arc::new(DiskLog::create(&folder.path().join("log"), 1).unwrap());
    let memory = Arc::new(MemoryLog::new(1));
    assert_eq!(run(&memory, 25).await, expected);
    assert_eq!(run(&sled, 25).await, expected);
    assert_eq!(memory.contents().unwrap().head, plain.contents().unwrap().head, "the same history");
    for log in [&*memory as &dyn Log, &*sled] {
        let snapshots = log.contents().unwrap().snapshots;
        assert_eq!(snapshots.len(), 2);
        assert!(snapshots[1].sequence > 100, "{snapshots:?}");
    }
    let older = memory.contents().unwrap().snapshots[1].sequence;
    assert_eq!(memory.stored().records.keys().next(), Some(&(older + 1)));
}

#[tokio::test]
async fn a_state_can_be_recovered_exactly_from_the_older_snapshot_too() {
    let log = Arc::new(MemoryLog::new(1));
    let expected = run(&log, 25).await;
    let newest = log.contents().unwrap().snapshots[0].sequence;
    log.stored().snapshots.get_mut(&newest).unwrap().1[0][0] ^= 0xff;
    assert_eq!(recover::<Toy>(&*log).unwrap().state, expected);
    log.stored().snapshots.remove(&newest);
    assert_eq!(recover::<Toy>(&*log).unwrap().state, expected);
    log.stored().snapshots.clear();
    let refused = recover::<Toy>(&*log).map(|_| ()).unwrap_err();
    assert_eq!(refused.to_string(), "record 1 is damaged: it is missing");
}

#[tokio::test]
async fn heartbeats_alone_do_not_let_the_log_grow_for_ever() {
    let log = Arc::new(MemoryLog::new(1));
    let (handle, committer) = start(&log, options(10));
    let trimmed = async {
        while log.stored().records.first_key_value().is_none_or(|(first, _)| *first == 1) {
            handle.submit(Command::Beat).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), trimmed).await.expect("old records go");
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn a_missing_or_foreign_last_record_is_refused() {
    let log = Arc::new(MemoryLog::new(1));
    run(&log, u64::MAX).await;
    let last = log.stored().head.sequence;
    let removed = log.stored().records.remove(&last).unwrap();
    let refused = recover::<Toy>(&*log).map(|_| ()).unwrap_err();
    assert!(matches!(refused, RecoverError::Log(LogError::Damaged { .. })), "{refused}");
    assert_eq!(refused.to_string(), format!("record {last} is damaged: it is missing"));
    let mut foreign = removed;
    *foreign.last_mut().unwrap() ^= 1;
    log.stored().records.insert(last, foreign);
    recover::<Toy>(&*log).map(|_| ()).unwrap_err();
}
