//! Deciding, sealing, answering, bounding.

use std::sync::Arc;
use std::time::Duration;

use headroom_core::machine::Class;
use headroom_shared::committer::{CommitError, Handle, Options, Refused, SubmitError};
use headroom_shared::faulty_log::FaultyLog;
use headroom_shared::memory_log::MemoryLog;
use tokio::task::JoinHandle;

use crate::toy::{Command, Toy, settle, start};

type Asked = JoinHandle<Result<headroom_shared::committer::Done<i64>, SubmitError>>;

pub(crate) fn ask(handle: &Handle<Toy>, command: Command) -> Asked {
    let handle = handle.clone();
    tokio::spawn(async move { handle.submit(command).await })
}

pub(crate) fn faulty() -> Arc<FaultyLog<MemoryLog>> {
    Arc::new(FaultyLog::new(Arc::new(MemoryLog::new(7))))
}

/// Options under which one command fills a batch.
fn narrow(batch_commands: usize) -> Options {
    Options { batch_commands, ..Options::default() }
}

/// Stalls the log with one record in flight and the next batch full.
async fn stalled(log: &FaultyLog<MemoryLog>, handle: &Handle<Toy>, batch: usize) -> Vec<Asked> {
    log.stall();
    let mut asked = vec![ask(handle, Command::Add(0, 1))];
    log.held().await;
    asked.extend((0..batch).map(|_| ask(handle, Command::Add(0, 1))));
    settle().await;
    assert_eq!(handle.waiting(), 0);
    asked
}

#[tokio::test]
async fn the_second_command_of_a_batch_sees_the_first_and_both_share_a_record() {
    let log = faulty();
    let (handle, committer) = start(&log, Options::default());
    log.stall();
    let first = ask(&handle, Command::Add(1, 1));
    log.held().await;
    let second = ask(&handle, Command::Add(1, 10));
    settle().await;
    let third = ask(&handle, Command::Add(1, 100));
    settle().await;
    log.resume();
    let first = first.await.unwrap().unwrap();
    let (second, third) = (second.await.unwrap().unwrap(), third.await.unwrap().unwrap());
    assert_eq!((first.reply, second.reply, third.reply), (1, 11, 111));
    assert_eq!((first.position.sequence, second.position.sequence, third.position.sequence), (1, 2, 2));
    assert_eq!(second.position.generation, 7);
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn signs_of_life_wait_for_each_other_and_hold_nobody_up() {
    let log = faulty();
    let (handle, committer) = start(&log, Options { linger: Duration::from_hours(1), ..Options::default() });
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(ask(&handle, Command::Beat));
        settle().await;
    }
    assert!(asked.iter().all(|beat| !beat.is_finished()));
    // Somebody in a hurry has all of them answered, and so has the end.
    asked.push(ask(&handle, Command::Add(1, 1)));
    for answer in asked {
        assert_eq!(answer.await.unwrap().unwrap().position.sequence, 1);
    }
    let last = ask(&handle, Command::Beat);
    settle().await;
    committer.stop().await.unwrap();
    assert_eq!(last.await.unwrap().unwrap().position.sequence, 2);

    let (handle, committer) = start(&log, Options::default());
    assert_eq!(handle.submit(Command::Beat).await.unwrap().position.sequence, 3);
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn commands_that_arrive_together_share_a_record() {
    let log = faulty();
    let (handle, committer) = start(&log, Options::default());
    let asked: Vec<_> = (0..100).map(|_| ask(&handle, Command::Add(1, 1))).collect();
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
    assert!(handle.view().position.sequence <= 2);
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_without_events_waits_for_the_record_in_flight() {
    let log = faulty();
    let (handle, committer) = start(&log, Options::default());
    log.stall();
    let add = ask(&handle, Command::Add(1, 1));
    log.held().await;
    let read = ask(&handle, Command::Read(1));
    settle().await;
    assert!(!add.is_finished() && !read.is_finished());
    assert!(handle.view().state.values.is_empty());
    log.resume();
    assert_eq!(read.await.unwrap().unwrap().reply, 1);
    assert!(handle.view().state.values.contains_key(&1));
    add.await.unwrap().unwrap();
    let alone = handle.submit(Command::Read(1)).await.unwrap();
    assert_eq!((alone.reply, alone.position.sequence), (1, 1));
    assert_eq!(log.inner().stored().head.sequence, 1, "reading appends nothing");
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn a_heartbeat_commits_a_record_even_without_events() {
    let log = faulty();
    let (handle, committer) = start(&log, Options::default());
    assert_eq!(handle.submit(Command::Beat).await.unwrap().position.sequence, 1);
    log.stall();
    let beat = ask(&handle, Command::Beat);
    log.held().await;
    settle().await;
    assert!(!beat.is_finished());
    log.resume();
    assert_eq!(beat.await.unwrap().unwrap().position.sequence, 2);
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn the_view_and_the_watchers_have_a_record_before_its_askers_have_their_answers() {
    let log = faulty();
    let (handle, committer) = start(&log, Options::default());
    let mut watched = handle.events();
    for n in 1..=20 {
        let done = handle.submit(Command::Add(1, 1)).await.unwrap();
        assert_eq!(handle.view().position, done.position);
        assert_eq!(handle.view().state.values.get(&1), Some(&n));
        let committed = watched.try_recv().unwrap();
        assert_eq!((committed.position, committed.events.len()), (done.position, 1));
    }
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn urgent_commands_are_decided_first() {
    let log = faulty();
    let classes = Class::ALL.len();
    let (handle, committer) = start(&log, narrow(classes));
    let asked = stalled(&log, &handle, classes).await;
    let marks: Vec<_> = Class::ALL.iter().rev().map(|class| ask(&handle, Command::Mark(*class, 0))).collect();
    settle().await;
    assert_eq!(handle.waiting(), classes);
    log.resume();
    for answer in asked.into_iter().chain(marks) {
        answer.await.unwrap().unwrap();
    }
    let decided: Vec<u32> = handle.view().state.marks.iter().map(|(class, _)| *class).collect();
    assert_eq!(decided, vec![0, 1, 2, 3, 4, 5, 6]);
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn reports_take_at_most_a_quarter_of_a_batch_and_all_get_through() {
    let log = faulty();
    let (handle, committer) = start(&log, narrow(8));
    let asked = stalled(&log, &handle, 8).await;
    let mut watched = handle.events();
    let mut marks = Vec::new();
    for tag in 0..20 {
        marks.push(ask(&handle, Command::Mark(Class::Report, tag)));
        marks.push(ask(&handle, Command::Mark(Class::Allocate, tag)));
    }
    settle().await;
    log.resume();
    for answer in asked.into_iter().chain(marks) {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(handle.view().state.marks.len(), 40);
    let report = Class::Report as u32;
    while let Ok(committed) = watched.try_recv() {
        let reports = committed
            .events
            .iter()
            .filter(|event| matches!(event, crate::toy::Event::Marked(class, _) if *class == report));
        assert!(reports.count() <= 2);
        assert!(committed.events.len() <= 8);
    }
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn a_batch_that_is_full_of_events_leaves_what_was_taken_with_it_to_the_next() {
    let log = faulty();
    let (handle, committer) = start(&log, Options { batch_events: 100, ..Options::default() });
    log.stall();
    let first = ask(&handle, Command::Add(0, 1));
    log.held().await;
    let asked: Vec<_> = (0..10).map(|_| ask(&handle, Command::Fill(60))).collect();
    settle().await;
    log.resume();
    first.await.unwrap().unwrap();
    let mut sequences = Vec::new();
    for answer in asked {
        sequences.push(answer.await.unwrap().unwrap().position.sequence);
    }
    assert_eq!(sequences, [2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn a_new_identity_of_the_history_holds_from_its_record_on() {
    let log = faulty();
    let (handle, committer) = start(&log, Options::default());
    let before = handle.submit(Command::Add(1, 1)).await.unwrap().position;
    let renewed = handle.submit(Command::Renew(99)).await.unwrap().position;
    assert_eq!((before.generation, renewed.generation), (7, 99));
    assert_eq!(handle.view().position, renewed);
    committer.stop().await.unwrap();
    let (handle, committer) = start(&log, Options::default());
    assert_eq!(handle.view().position, renewed);
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn an_overloaded_queue_refuses_at_once_what_has_a_limit_but_not_what_is_more_urgent() {
    let log = faulty();
    let (handle, committer) = start(&log, Options { queue_limit: 3, ..narrow(1) });
    let mut asked = stalled(&log, &handle, 1).await;
    asked.extend((0..3).map(|_| ask(&handle, Command::Add(0, 1))));
    settle().await;
    let limit = Duration::from_secs(60);
    let refused = handle.submit_within(Command::Add(0, 1000), limit).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Overloaded { waiting: 3, limit: 3, .. }), "{refused}");
    assert_eq!(refused.to_string(), "overloaded: 3 commands wait, at most 3 may; try again in 500 ms");
    assert_eq!(handle.refused(), Refused { overloaded: 1, expired: 0 });
    asked.push(ask(&handle, Command::Add(0, 1)));
    let urgent = handle.clone();
    asked.push(tokio::spawn(async move { urgent.submit_within(Command::Beat, limit).await }));
    settle().await;
    log.resume();
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(handle.view().state.values.get(&0), Some(&6));
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_that_waited_too_long_is_dropped_undecided_even_while_the_log_stalls() {
    let log = faulty();
    let (handle, committer) = start(&log, narrow(1));
    let asked = stalled(&log, &handle, 1).await;
    let limit = Duration::from_millis(20);
    let refused = handle.submit_within(Command::Add(0, 1000), limit).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Expired { limit: l, waited } if l == limit && waited > l));
    assert_eq!(handle.refused(), Refused { overloaded: 0, expired: 1 });
    log.resume();
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(handle.view().state.values.get(&0), Some(&2));
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn an_asker_that_goes_away_disturbs_nobody() {
    let log = faulty();
    let (handle, committer) = start(&log, narrow(4));
    let asked = stalled(&log, &handle, 4).await;
    let queued: Vec<_> = (0..4).map(|_| ask(&handle, Command::Add(0, 1))).collect();
    settle().await;
    for asked in asked.iter().chain(&queued) {
        asked.abort();
    }
    settle().await;
    let last = ask(&handle, Command::Add(0, 1));
    log.resume();
    assert_eq!(last.await.unwrap().unwrap().reply, 10, "what was submitted stands");
    committer.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_answers_what_waits_and_accepts_nothing_more() {
    let log = faulty();
    let (handle, committer) = start(&log, narrow(2));
    let mut asked = stalled(&log, &handle, 2).await;
    asked.extend((0..9).map(|_| ask(&handle, Command::Add(0, 1))));
    settle().await;
    let stopping = tokio::spawn(committer.stop());
    settle().await;
    assert_eq!(handle.submit(Command::Beat).await.unwrap_err(), SubmitError::Stopped);
    log.resume();
    stopping.await.unwrap().unwrap();
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(handle.view().state.values.get(&0), Some(&12));
    assert_eq!(Arc::strong_count(&log), 1, "the log is let go");
}

#[tokio::test]
async fn a_dropped_committer_finishes_what_waits() {
    let log = faulty();
    let (handle, committer) = start(&log, Options::default());
    let asked = ask(&handle, Command::Add(0, 1));
    settle().await;
    drop(committer);
    asked.await.unwrap().unwrap();
    assert_eq!(handle.submit(Command::Beat).await.unwrap_err(), SubmitError::Stopped);
}

#[tokio::test]
async fn a_machine_that_panics_stops_the_committer_and_leaves_nobody_waiting() {
    let log = faulty();
    let (handle, mut committer) = start(&log, Options::default());
    let beside = ask(&handle, Command::Add(0, 1));
    assert_eq!(handle.submit(Command::Panic).await.unwrap_err(), SubmitError::Stopped);
    assert!(matches!(committer.failed().await, CommitError::Panicked { .. }));
    assert_eq!(handle.submit(Command::Beat).await.unwrap_err(), SubmitError::Stopped);
    let _ = beside.await.unwrap();
}
