//! What failing appends and snapshots do to a committer, and what a restart finds after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use headroom_core::record::RecordError;
use headroom_shared::committer::{CommitError, Options, RecoverError, SubmitError, recover};
use headroom_shared::faulty_log::{Fault, FaultyLog};
use headroom_shared::log::{AppendError, Log as _, LogError};
use headroom_shared::memory_log::MemoryLog;
use proptest::prelude::*;

use crate::committer::{ask, faulty};
use crate::toy::{Command, Toy, settle, start};

const FAULTS: [Fault; 4] = [Fault::FailBefore, Fault::DurableThenError, Fault::LostThenError, Fault::Tear];

#[tokio::test]
async fn a_failed_append_stops_the_committer_and_nobody_who_waits_is_answered() {
    for fault in FAULTS {
        let log = faulty();
        let (handle, mut committer) = start(&log, Options { batch_commands: 1, ..Options::default() });
        handle.submit(Command::Add(1, 1)).await.unwrap();
        log.stall();
        log.plan([fault]);
        let in_flight = ask(&handle, Command::Add(1, 10));
        log.held().await;
        let decided = ask(&handle, Command::Read(1));
        settle().await;
        let queued = ask(&handle, Command::Add(1, 100));
        settle().await;
        log.resume();
        let error = committer.failed().await;
        match (fault, &error) {
            (Fault::FailBefore, CommitError::Append(AppendError::Failed { sequence: 2, .. })) => {}
            (Fault::FailBefore, _) => panic!("{error}"),
            (_, CommitError::Append(AppendError::Unknown { sequence: 2, .. })) => {}
            _ => panic!("{error}"),
        }
        assert_eq!(committer.failed().await, error, "it can be asked again");
        for asked in [in_flight, decided, queued] {
            assert_eq!(asked.await.unwrap(), Err(SubmitError::Stopped));
        }
        assert_eq!(handle.submit(Command::Beat).await, Err(SubmitError::Stopped));
        assert_eq!(handle.view().state.values.get(&1), Some(&1), "nothing unacknowledged is shown");
        assert_eq!(committer.stop().await, Err(error));
    }
}

#[tokio::test]
async fn after_a_failed_append_a_restart_is_exact_up_to_the_record_in_flight_or_refused_by_number() {
    for fault in FAULTS {
        let log = faulty();
        let (handle, mut committer) = start(&log, Options::default());
        handle.submit(Command::Add(1, 1)).await.unwrap();
        log.plan([fault]);
        handle.submit(Command::Add(1, 10)).await.unwrap_err();
        committer.failed().await;
        let recovered = recover::<Toy>(&*log).map(|recovered| recovered.state.values[&1]);
        match fault {
            Fault::DurableThenError => assert_eq!(recovered, Ok(11)),
            Fault::Tear => assert!(matches!(
                recovered,
                Err(RecoverError::Record(RecordError::Undecodable { sequence: 2, .. }))
            )),
            _ => assert_eq!(recovered, Ok(1)),
        }
    }
}

#[tokio::test]
async fn a_second_writer_is_fenced_off() {
    let log = faulty();
    let (first, committer) = start(&log, Options::default());
    let (second, mut fenced) = start(&log, Options::default());
    first.submit(Command::Add(1, 1)).await.unwrap();
    assert_eq!(second.submit(Command::Add(1, 1)).await, Err(SubmitError::Stopped));
    let error = fenced.failed().await;
    assert!(matches!(error, CommitError::Append(AppendError::Fenced { wanted: 1, .. })), "{error}");
    first.submit(Command::Add(1, 1)).await.unwrap();
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn a_failed_snapshot_stops_the_committer_and_loses_nothing() {
    let log = faulty();
    let (handle, mut committer) = start(&log, Options { snapshot_after: 3, ..Options::default() });
    log.fail_snapshot(LogError::io("write", "the log", "a test"));
    for _ in 0..3 {
        handle.submit(Command::Add(1, 1)).await.unwrap();
    }
    let error = committer.failed().await;
    assert!(matches!(error, CommitError::Snapshot { sequence: 3, .. }), "{error}");
    assert_eq!(recover::<Toy>(&*log).unwrap().state.values[&1], 3);
}

#[tokio::test]
async fn without_room_for_a_snapshot_the_committer_goes_on_and_tries_again() {
    let log = faulty();
    let (handle, committer) = start(&log, Options { snapshot_after: 4, ..Options::default() });
    log.fail_snapshot(LogError::NoRoom { path: "the log".into(), free: 1, kept: 2 });
    let mut events = 0;
    for postponed in [true, false] {
        while handle.snapshot_postponed() != postponed {
            handle.submit(Command::Add(1, 1)).await.unwrap();
            events += 1;
        }
    }
    committer.stop().await.unwrap();
    assert!(!log.contents().unwrap().snapshots.is_empty());
    assert_eq!(recover::<Toy>(&*log).unwrap().state.values[&1], events);
}

#[derive(Debug, Clone)]
enum Step {
    Add(u32, i64),
    Restart,
    Fault(Fault),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..5u32, 1..10i64).prop_map(|(key, n)| Step::Add(key, n)),
        1 => Just(Step::Restart),
        1 => prop::sample::select(&FAULTS[..3]).prop_map(Step::Fault),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_state_is_what_was_acknowledged_plus_at_most_the_record_in_flight(steps in steps(), snapshot_after in 1..20u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let memory = Arc::new(MemoryLog::new(1));
            let options = Options { snapshot_after, chunk_events: 2, ..Options::default() };
            let mut log = Arc::new(FaultyLog::new(Arc::clone(&memory)));
            let (mut handle, mut committer) = start(&log, options.clone());
            let mut acknowledged = BTreeMap::<u32, i64>::new();
            for step in steps {
                let restart = match step {
                    Step::Restart => true,
                    Step::Fault(fault) => {
                        log.plan([fault]);
                        false
                    }
                    Step::Add(key, n) => match handle.submit(Command::Add(key, n)).await {
                        Ok(done) => {
                            *acknowledged.entry(key).or_default() += n;
                            assert_eq!(done.reply, acknowledged[&key]);
                            false
                        }
                        Err(error) => {
                            assert_eq!(error, SubmitError::Stopped);
                            committer.failed().await;
                            let found = recover::<Toy>(&*memory).unwrap().state.values;
                            if found != acknowledged {
                                *acknowledged.entry(key).or_default() += n;
                            }
                            true
                        }
                    },
                };
                if restart {
                    // After a failure it is stopped already.
                    let _ = committer.stop().await;
                    log = Arc::new(FaultyLog::new(Arc::clone(&memory)));
                    (handle, committer) = start(&log, options.clone());
                }
                assert_eq!(handle.view().state.values, acknowledged);
            }
            let _ = committer.stop().await;
        });
    }
}
