//! What a media server's lists, ends and silence do to its legs, whatever they cross on the way.

use headroom_core::{Millis, SourceId};

use super::refusal::ask;
use super::story::status;
use super::*;
use crate::Conflict;

/// A node that has had one leg granted, and the revision of its list then. Nobody has heard of the grant.
fn granted() -> (Rig, u64) {
    let mut rig = Rig::new(9);
    rig.settle();
    ask(&mut rig, 501, call("c", &["a"]));
    rig.settle();
    let as_of = rig.bench.state.counters.revision;
    (rig, as_of)
}

/// The source says that it runs nothing of what it was granted until then.
fn lists_none(rig: &mut Rig, as_of: u64) -> Reply {
    rig.run(Command::Sync { source: SourceId::default(), as_of, legs: vec![] })
}

#[test]
fn a_list_ends_only_legs_of_its_source_admitted_before_it_was_made() {
    let mut rig = Rig::new(9);
    let mut elsewhere = call("other", &["z"]);
    elsewhere.info.source = SourceId::new("second").expect("a source");
    rig.admit(elsewhere);
    rig.admit(call("c", &["a"]));
    rig.admit(call("d", &["b"]));
    let as_of = rig.bench.state.counters.revision;
    rig.tick(Millis(10_000));
    rig.admit(call("e", &["late"]));
    let listed = vec![leg_id("a"), leg_id("ghost")];
    let reply = rig.run(Command::Sync { source: SourceId::default(), as_of, legs: listed });
    assert_eq!(reply, Reply::Synced { ended: vec![leg_id("b")], unknown: vec![leg_id("ghost")] });
    rig.settle();
    rig.check_rest();
    let ahead = rig.run(Command::Sync { source: SourceId::default(), as_of: 1_000, legs: vec![] });
    assert!(matches!(ahead, Reply::Invalid { field: "as_of", .. }));
}

#[test]
fn a_list_that_may_be_older_than_a_grant_does_not_end_its_leg_for_ten_seconds() {
    for (delivered, restart) in [(true, false), (false, false), (true, true)] {
        // The source reads the revision and makes its list, and only then learns of the grant.
        let (mut rig, as_of) = granted();
        if delivered {
            rig.run(Command::Delivered { legs: vec![leg_id("a")] });
        }
        let none = |rig: &mut Rig| {
            rig.run(Command::Tick { synchronized: true });
            lists_none(rig, as_of)
        };
        let kept = Reply::Synced { ended: vec![], unknown: vec![] };
        assert_eq!(none(&mut rig), kept);
        if restart {
            rig.restart();
        }
        rig.tick(Millis(9_999));
        assert_eq!(none(&mut rig), kept);
        rig.tick(Millis(1));
        let gone = Reply::Synced { ended: vec![leg_id("a")], unknown: vec![] };
        assert_eq!(none(&mut rig), if delivered { gone } else { kept });
    }
}

#[test]
fn a_list_does_not_end_a_leg_whose_answer_was_late_and_has_just_gone_out() {
    let (mut rig, as_of) = granted();
    // A slow disk.
    rig.tick(Millis(12_000));
    let kept = Reply::Synced { ended: vec![], unknown: vec![] };
    // The second answer is that to a question that was repeated.
    for _ in 0..2 {
        rig.run(Command::Delivered { legs: vec![leg_id("a")] });
        rig.tick(Millis(9_999));
        assert_eq!(lists_none(&mut rig, as_of), kept, "made before the answer arrived");
    }
    rig.tick(Millis(1));
    assert_eq!(lists_none(&mut rig, as_of), Reply::Synced { ended: vec![leg_id("a")], unknown: vec![] });
}

#[test]
fn a_list_does_not_end_a_leg_that_was_asked_for_again_just_now_alone_or_with_others() {
    for legs in [["a"].as_slice(), &["a", "b"]] {
        let mut rig = Rig::new(9);
        rig.admit(call("c", &["a"]));
        let as_of = rig.bench.state.counters.revision;
        rig.tick(Millis(30_000));
        // The first answer was lost, and this one is on its way.
        rig.run(Command::Admit { ask: AskId(502), call: call("c", legs) });
        rig.settle();
        assert_eq!(lists_none(&mut rig, as_of), Reply::Synced { ended: vec![], unknown: vec![] });
    }
}

#[test]
fn a_list_that_is_long_on_the_way_does_not_end_a_leg_that_was_asked_for_again_since() {
    let (mut rig, as_of) = granted();
    rig.run(Command::Delivered { legs: vec![leg_id("a")] });
    rig.tick(Millis(15_000));
    // The first answer was lost; more is asked for, and this one arrives.
    rig.admit(call("c", &["a", "b"]));
    let newer = rig.bench.state.counters.revision;
    rig.tick(Millis(30_000));
    assert_eq!(lists_none(&mut rig, as_of), Reply::Synced { ended: vec![], unknown: vec![] });
    let both = Reply::Synced { ended: vec![leg_id("a"), leg_id("b")], unknown: vec![] };
    assert_eq!(lists_none(&mut rig, newer), both, "one that was read since ends it");
}

#[test]
fn a_list_that_is_the_first_to_arrive_after_a_suspend_ends_no_leg_that_was_granted_just_before() {
    for delivered in [true, false] {
        let (mut rig, as_of) = granted();
        if delivered {
            rig.run(Command::Delivered { legs: vec![leg_id("a")] });
        }
        rig.pass(Millis(3 * Millis::HOUR.0));
        assert_eq!(lists_none(&mut rig, as_of), Reply::Synced { ended: vec![], unknown: vec![] });
    }
}

#[test]
fn ends_of_ten_thousand_legs_that_never_ran_are_remembered_and_push_no_other_out() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    rig.end(&["a"]);
    for batch in 0..30 {
        rig.pass(Millis(1));
        let legs = (0..500).map(|n| leg_id(&format!("s{batch}.{n}"))).collect();
        rig.run(Command::EndLegs { legs });
    }
    assert_eq!(rig.bench.state.dead.len(), crate::dead::MAX_STRANGERS + 1);
    rig.check_snapshot();
    let mut released =
        |leg: &str| matches!(rig.admit(call("d", &[leg])), Decision::Conflict(Conflict::Released { .. }));
    assert!(released("a") && released("s29.0") && released("s10.0"));
    assert!(!released("s9.499"));
}

#[test]
fn a_question_that_comes_after_the_end_of_its_leg_begins_nothing_whether_the_leg_was_known_or_not() {
    let mut rig = Rig::new(9);
    rig.settle();
    let ended = rig.run(Command::EndLegs { legs: vec![leg_id("a")] });
    assert!(matches!(ended, Reply::Ended { count: 0, .. }));
    let late = rig.run(Command::Admit { ask: AskId(501), call: call("c", &["a"]) });
    assert!(matches!(late, Reply::Decided(Decision::Conflict(Conflict::Released { .. }))), "{late:?}");
    rig.pass(Millis(59_000));
    rig.run(Command::EndLegs { legs: vec![leg_id("a")] });
    rig.pass(Millis::SECOND);
    rig.admit(call("c", &["a"]));
    rig.settle();
    assert_eq!(rig.pool.used(), 1);
}

#[test]
fn a_silent_source_raises_an_alarm_and_its_legs_are_released_at_last() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    rig.tick(Millis(2 * Millis::MINUTE.0));
    assert_eq!(status(&mut rig).alarms, ["source_silent:"]);
    rig.tick(Millis(2 * Millis::HOUR.0));
    rig.settle();
    assert_eq!(rig.pool.used(), 0);
    rig.check_rest();
}

#[test]
fn a_machine_that_wakes_up_lets_its_media_servers_speak_before_it_takes_them_for_silent() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    rig.tick(Millis(118 * Millis::MINUTE.0));
    // Suspended.
    rig.pass(Millis(3 * Millis::HOUR.0));
    rig.run(Command::Tick { synchronized: true });
    rig.settle();
    assert_eq!(rig.pool.used(), 1, "seconds of three hours count");
    rig.run(Command::Alive { source: SourceId::default() });
    rig.tick(Millis(119 * Millis::MINUTE.0));
    rig.settle();
    assert_eq!(rig.pool.used(), 1);
    rig.tick(Millis::MINUTE);
    rig.settle();
    assert_eq!(rig.pool.used(), 0);
    rig.check_rest();
}

#[test]
fn a_grant_whose_answer_was_on_its_way_when_the_machine_was_suspended_is_not_taken_back() {
    let (mut rig, _) = granted();
    rig.pass(Millis(3 * Millis::HOUR.0));
    rig.run(Command::Tick { synchronized: true });
    rig.settle();
    assert_eq!(rig.pool.used(), 1, "it was not dropped meanwhile");
    rig.run(Command::Delivered { legs: vec![leg_id("a")] });
    rig.tick(Millis(2 * Millis::MINUTE.0));
    rig.settle();
    assert_eq!(rig.pool.used(), 1);
    rig.check_rest();
}

#[test]
fn a_lease_whose_end_is_owed_stays_in_the_books_when_its_id_is_used_again_and_replaced() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    rig.connected = false;
    rig.run(Command::EndLegs { legs: vec![leg_id("a")] });
    rig.pass(Millis::MINUTE);
    rig.admit(call("d", &["a"]));
    let mut takes_over = call("d", &["b"]);
    takes_over.legs[0].replaces = Some(leg_id("a"));
    rig.admit(takes_over);
    assert_eq!(rig.bench.state.held_set, rig.pool.set(), "the pool has heard of nothing");
    rig.connected = true;
    rig.pass(Millis(20_000));
    rig.settle();
    rig.check_rest();
    assert_eq!(rig.pool.used(), 1);
}
