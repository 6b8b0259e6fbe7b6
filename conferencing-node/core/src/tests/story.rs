//! What a media server and an operator see, step by step.

use headroom_core::{DenialReason, Media, Millis, Presentation, Protocol, SourceId, Units};

use super::*;
use crate::{Conflict, Contact, LegVerdict, Status};

pub(super) fn optimistic(decision: &Decision) -> bool {
    match decision {
        Decision::Granted(granted) => granted.optimistic,
        other => panic!("not granted: {other:?}"),
    }
}

pub(super) fn status(rig: &mut Rig) -> Status {
    match rig.run(Command::Status) {
        Reply::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

pub(super) fn update(rig: &mut Rig, name: &str, media: Media) -> LegVerdict {
    rig.asks += 1;
    let ask = AskId(rig.asks);
    let Reply::Legs(mut verdicts) = rig.run(Command::UpdateLegs { legs: vec![(ask, leg_id(name), media)] })
    else {
        panic!("no verdicts");
    };
    let verdict = match verdicts.remove(0) {
        LegVerdict::Waiting { ask, .. } => {
            rig.settle();
            rig.run(Command::Expire { asks: vec![ask] });
            let at = rig.answers.iter().position(|(id, _)| *id == ask).expect("an answer");
            match rig.answers.remove(at).1 {
                Outcome::Leg(verdict) => verdict,
                Outcome::Call(_) => panic!("an answer about a call"),
            }
        }
        verdict => verdict,
    };
    rig.settle();
    verdict
}

#[test]
fn a_full_pool_denies_and_an_ended_leg_makes_room() {
    let mut rig = Rig::new(2);
    assert!(!optimistic(&rig.admit(call("c", &["a", "b"]))));
    assert_eq!(rig.admit(call("d", &["x"])), Decision::Denied(DenialReason::InsufficientLicenses));
    rig.end(&["a"]);
    assert!(!optimistic(&rig.admit(call("d", &["x"]))));
    rig.check_rest();
    rig.check_snapshot();
}

#[test]
fn asking_again_for_running_legs_gives_the_same_grant_without_the_pool() {
    let mut rig = Rig::new(1);
    let first = rig.admit(call("c", &["a"]));
    rig.connected = false;
    assert_eq!(rig.admit(call("c", &["a"])), first);
    let other = rig.admit(call("other", &["a"]));
    assert!(matches!(other, Decision::Conflict(Conflict::OtherCall { .. })), "{other:?}");
}

#[test]
fn the_id_of_an_ended_leg_is_dead_for_a_minute() {
    let mut rig = Rig::new(2);
    rig.admit(call("c", &["a"]));
    rig.end(&["a"]);
    let again = rig.admit(call("c", &["a"]));
    assert!(matches!(again, Decision::Conflict(Conflict::Released { .. })), "{again:?}");
    rig.pass(Millis::MINUTE);
    assert!(!optimistic(&rig.admit(call("c2", &["a"]))));
    rig.check_rest();
}

#[test]
fn out_of_contact_calls_are_permitted_and_adopted_afterwards_even_above_the_limit() {
    let mut rig = Rig::new(2);
    rig.admit(call("c", &["a"]));
    rig.connected = false;
    for name in ["b", "x", "y"] {
        assert!(optimistic(&rig.admit(call(name, &[name]))));
    }
    assert_eq!(status(&mut rig).contact, Contact::Out);
    assert_eq!(status(&mut rig).optimistic, 3);
    rig.end(&["x", "a"]);
    rig.connected = true;
    rig.pass(Millis(20_000));
    rig.settle();
    rig.check_rest();
    assert_eq!(rig.pool.used(), 2);
    // The call that nobody else saw is told for the history.
    rig.pass(Millis(20_000));
    rig.settle();
    assert_eq!(rig.pool.past, 1);
    assert!(rig.bench.state.past.is_empty());
    assert_eq!(status(&mut rig).contact, Contact::In);
}

#[test]
fn a_fresh_word_that_the_pool_is_full_is_believed_for_fifteen_seconds() {
    let mut rig = Rig::new(1);
    rig.admit(call("c", &["a"]));
    rig.connected = false;
    assert_eq!(rig.admit(call("d", &["b"])), Decision::Denied(DenialReason::InsufficientLicenses));
    // What needs no unit, or moves one, is not held back.
    let mut control = call("e", &["x"]);
    control.legs[0].media = Media::CONTROL_ONLY;
    assert!(optimistic(&rig.admit(control)));
    let mut transfer = call("c", &["a2"]);
    transfer.legs[0].replaces = Some(leg_id("a"));
    assert!(optimistic(&rig.admit(transfer)));
    rig.pass(Millis(15_001));
    assert!(optimistic(&rig.admit(call("d", &["b"]))));
}

#[test]
fn a_late_grant_settles_a_late_denial_is_adopted_and_a_hang_up_is_given_back() {
    let mut rig = Rig::new(1);
    rig.settle();
    for (ask, name) in [(101, "a"), (102, "b"), (103, "x")] {
        rig.run(Command::Admit { ask: AskId(ask), call: call(name, &[name]) });
    }
    let Reply::Uplink { next: Next::Send { id, request, .. }, .. } = rig.run(Command::Poll) else {
        panic!("nothing to send");
    };
    let answer = rig.pool.serve(&request);
    rig.run(Command::EndLegs { legs: vec![leg_id("a")] });
    rig.run(Command::Expire { asks: vec![AskId(102)] });
    rig.run(Command::Answered { request: id, outcome: answer, jitter: 0 });
    rig.settle();
    let by_ask = |ask| rig.answers.iter().find(|(id, _)| *id == AskId(ask)).map(|(_, o)| o.clone());
    assert!(matches!(by_ask(101), Some(Outcome::Call(Decision::Conflict(Conflict::Released { .. })))));
    assert!(matches!(by_ask(102), Some(Outcome::Call(Decision::Granted(g))) if g.optimistic));
    assert_eq!(by_ask(103), Some(Outcome::Call(Decision::Denied(DenialReason::InsufficientLicenses))));
    rig.check_rest();
    assert_eq!(rig.pool.held.len(), 1);
}

#[test]
fn a_late_denial_tells_no_media_server_of_the_leg_that_was_granted_meanwhile() {
    let mut rig = Rig::new(1);
    rig.settle();
    for (ask, name) in [(101, "a"), (102, "b")] {
        rig.run(Command::Admit { ask: AskId(ask), call: call(name, &[name]) });
    }
    let Reply::Uplink { next: Next::Send { id, request, .. }, .. } = rig.run(Command::Poll) else {
        panic!("nothing to send");
    };
    let answer = rig.pool.serve(&request);
    // All answers are lost with the process.
    rig.run(Command::Expire { asks: vec![AskId(102)] });
    rig.run(Command::Answered { request: id, outcome: answer, jitter: 0 });
    rig.restart();
    assert_eq!((status(&mut rig).legs, status(&mut rig).unconfirmed), (2, 2));
    rig.tick(Millis::MINUTE);
    assert_eq!(status(&mut rig).legs, 0, "nobody named it");
}

#[test]
fn a_replaced_leg_moves_its_unit_once_and_none_after_it_was_revoked() {
    let mut rig = Rig::new(2);
    rig.admit(call("c", &["a", "b"]));
    rig.connected = false;
    let takes_over = |old: &str, legs: &[&str]| {
        let mut call = call("c", legs);
        for leg in &mut call.legs {
            leg.replaces = Some(leg_id(old));
        }
        call
    };
    let full = Decision::Denied(DenialReason::InsufficientLicenses);
    assert_eq!(rig.admit(takes_over("a", &["x", "y"])), full, "one unit moves, two are needed");
    assert!(optimistic(&rig.admit(takes_over("a", &["x"]))));
    rig.connected = true;
    rig.pass(Millis(20_000));
    rig.settle();
    rig.pool.revoke(&leg_id("x"));
    rig.pool.capacity = 1;
    rig.pass(Millis(20_000));
    rig.settle();
    rig.connected = false;
    assert_eq!(rig.admit(takes_over("x", &["z"])), full, "it has no unit any more");
    assert!(optimistic(&rig.admit(takes_over("b", &["z"]))));
}

#[test]
fn a_change_that_needs_more_can_be_denied_and_the_leg_keeps_what_it_has() {
    let mut rig = Rig::new(1);
    rig.admit(call("c", &["a"]));
    let mut control = call("d", &["b"]);
    control.legs[0].media = Media::CONTROL_ONLY;
    assert!(!optimistic(&rig.admit(control)));
    let denied = update(&mut rig, "b", Media::AUDIO_VIDEO);
    assert_eq!(denied, LegVerdict::Denied { reason: DenialReason::InsufficientLicenses, units: Units::ZERO });
    assert_eq!(
        update(&mut rig, "a", Media::CONTROL_ONLY),
        LegVerdict::Granted { units: Units::ZERO, optimistic: false }
    );
    assert_eq!(
        update(&mut rig, "b", Media::AUDIO_VIDEO),
        LegVerdict::Granted { units: Units::ONE, optimistic: false }
    );
    assert_eq!(update(&mut rig, "nobody", Media::AUDIO_VIDEO), LegVerdict::Unknown);
    rig.check_rest();
}

#[test]
fn a_skype_leg_that_starts_presenting_costs_two() {
    let mut rig = Rig::new(2);
    let mut skype = call("c", &["a"]);
    skype.legs[0].protocol = Protocol::Skype;
    rig.admit(skype);
    let presenting = Media { presentation: Presentation::Standard, presenting: true, ..Media::AUDIO_VIDEO };
    let two = LegVerdict::Granted { units: Units(2), optimistic: false };
    assert_eq!(update(&mut rig, "a", presenting), two);
    rig.check_rest();
    assert_eq!(rig.pool.used(), 2);
}

#[test]
fn legs_survive_a_restart_and_one_never_answered_drops_unless_it_is_named() {
    let mut rig = Rig::new(5);
    rig.admit(call("c", &["a"]));
    for (ask, name) in [(201, "b"), (202, "x")] {
        rig.run(Command::Admit { ask: AskId(ask), call: call(name, &[name]) });
    }
    rig.settle();
    rig.restart();
    rig.settle();
    assert_eq!(status(&mut rig).legs, 3);
    assert_eq!(status(&mut rig).unconfirmed, 2);
    assert!(!optimistic(&rig.admit(call("b", &["b"]))));
    rig.tick(Millis::MINUTE);
    rig.settle();
    assert!(rig.bench.state.legs.contains_key(&leg_id("b")), "named again");
    assert!(!rig.bench.state.legs.contains_key(&leg_id("x")), "never named");
    rig.check_rest();
    rig.check_snapshot();
}

#[test]
fn grace_runs_out_only_for_what_is_new_and_contact_gives_it_back() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    rig.connected = false;
    rig.pass(Millis(13 * Millis::DAY.0));
    assert!(optimistic(&rig.admit(call("d", &["b"]))));
    assert!(status(&mut rig).alarms.contains(&"out_of_contact_13d".to_owned()));
    rig.pass(Millis::DAY);
    rig.restart();
    rig.settle();
    rig.run(Command::Alive { source: SourceId::default() });
    assert_eq!(rig.admit(call("e", &["x"])), Decision::Denied(DenialReason::GraceExpired));
    assert_eq!(status(&mut rig).contact, Contact::GraceExpired);
    assert_eq!(status(&mut rig).legs, 2, "no call is cut");
    let less = update(&mut rig, "a", Media::CONTROL_ONLY);
    assert_eq!(less, LegVerdict::Granted { units: Units::ZERO, optimistic: false });
    rig.connected = true;
    rig.pass(Millis(20_000));
    rig.settle();
    assert!(!optimistic(&rig.admit(call("e", &["x"]))));
    rig.check_rest();
}

#[test]
fn a_node_without_contact_or_one_that_was_removed_admits_nothing() {
    let mut rig = Rig::new(9);
    rig.connected = false;
    assert_eq!(rig.admit(call("c", &["a"])), Decision::Denied(DenialReason::NotEnrolled));
    rig.connected = true;
    rig.pass(Millis(20_000));
    rig.settle();
    assert!(!optimistic(&rig.admit(call("c", &["a"]))));
    rig.pass(Millis(20_000));
    let Reply::Uplink { next: Next::Send { id, .. }, .. } = rig.run(Command::Poll) else {
        panic!("a heartbeat is due");
    };
    rig.run(Command::Answered { request: id, outcome: Err(crate::Failure::Revoked), jitter: 999 });
    assert_eq!(rig.admit(call("d", &["b"])), Decision::Denied(DenialReason::NotEnrolled));
    assert_eq!(status(&mut rig).legs, 1);
}

#[test]
fn a_revoked_leg_is_told_leaves_the_books_and_its_end_is_still_reported() {
    let mut rig = Rig::new(2);
    rig.admit(call("c", &["a", "b"]));
    rig.pool.revoke(&leg_id("a"));
    rig.pass(Millis(20_000));
    rig.settle();
    assert!(rig.bench.state.legs[&leg_id("a")].revoked);
    rig.check_rest();
    rig.run(Command::Told { legs: vec![leg_id("a")] });
    let Reply::Uplink { next: Next::Send { request, .. }, .. } = rig.run(Command::Poll) else {
        panic!("a heartbeat is due");
    };
    assert!(matches!(&*request, crate::Request::Heartbeat { told, .. } if *told == [leg_id("a")]));
    rig.settle();
    rig.restart();
    rig.settle();
    rig.check_rest();
    rig.end(&["a"]);
    assert!(rig.pool.tombstones.is_empty());
    rig.check_rest();
}

#[test]
fn a_lapsed_session_is_opened_again_and_its_legs_are_reported() {
    let mut rig = Rig::new(2000);
    let names: Vec<_> = (0..1300).map(|n| format!("leg{n}")).collect();
    for chunk in names.chunks(500) {
        let names: Vec<_> = chunk.iter().map(String::as_str).collect();
        assert!(!optimistic(&rig.admit(call(names[0], &names))));
    }
    rig.pool.lapse();
    rig.pass(Millis(20_000));
    rig.settle();
    assert_eq!(rig.pool.used(), 1300);
    rig.check_rest();
    rig.check_snapshot();
    assert_eq!(rig.pool.drift, 0);
}

#[test]
fn an_unanswered_request_is_repeated_with_its_number_and_after_three_attempts_the_node_decides() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    rig.run(Command::Admit { ask: AskId(301), call: call("d", &["b"]) });
    let mut reply = rig.run(Command::Poll);
    let mut sent = Vec::new();
    for attempt in 1..=3 {
        let Reply::Uplink { next: Next::Send { id, request, .. }, .. } = reply else {
            panic!("attempt {attempt} is not sent");
        };
        assert!(rig.answers.is_empty(), "decided before attempt {attempt}");
        sent.push(request);
        let outcome = Err(crate::Failure::Undecided { retry_after: None });
        reply = rig.run(Command::Answered { request: id, outcome, jitter: 999 });
    }
    assert!(sent.iter().all(|request| *request == sent[0]), "the same request, the same number");
    assert!(matches!(reply, Reply::Uplink { next: Next::Wait { .. }, .. }), "probes pause");
    assert!(matches!(&rig.answers[..], [(AskId(301), Outcome::Call(Decision::Granted(g)))] if g.optimistic));
    // From now on nobody waits.
    let decided = rig.run(Command::Admit { ask: AskId(302), call: call("e", &["x"]) });
    assert!(matches!(decided, Reply::Decided(Decision::Granted(g)) if g.optimistic));
    rig.pass(Millis(20_000));
    rig.settle();
    rig.check_rest();
    assert_eq!(rig.pool.drift, 0);
}

#[test]
fn what_is_being_given_back_is_asked_for_again_when_it_is_needed() {
    let mut rig = Rig::new(1);
    rig.admit(call("c", &["a"]));
    let less = update_sent(&mut rig, Media::CONTROL_ONLY);
    // The pool may have given the unit to somebody else by now.
    let legs = vec![(AskId(402), leg_id("a"), Media::AUDIO_VIDEO)];
    let Reply::Legs(verdicts) = rig.run(Command::UpdateLegs { legs }) else { panic!("no verdicts") };
    assert!(matches!(verdicts[..], [LegVerdict::Waiting { .. }]), "{verdicts:?}");
    let outcome = rig.pool.serve(&less.1);
    rig.run(Command::Answered { request: less.0, outcome, jitter: 0 });
    rig.settle();
    let granted = LegVerdict::Granted { units: Units::ONE, optimistic: false };
    assert_eq!(rig.answers, [(AskId(402), Outcome::Leg(granted))]);
    rig.check_rest();
}

/// Changes the media of `a` and has the request on its way.
fn update_sent(rig: &mut Rig, media: Media) -> (crate::RequestId, std::sync::Arc<crate::Request>) {
    rig.run(Command::UpdateLegs { legs: vec![(AskId(401), leg_id("a"), media)] });
    match rig.run(Command::Poll) {
        Reply::Uplink { next: Next::Send { id, request, .. }, .. } => (id, request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_leg_that_another_node_runs_is_asked_for_and_not_run_here() {
    let mut rig = Rig::new(2);
    let mut gateway = call("g", &["in", "out"]);
    gateway.info.service = headroom_core::Service::Gateway;
    gateway.legs[1].owner = Some(headroom_core::NodeName::new("b").expect("a name"));
    let Decision::Granted(granted) = rig.admit(gateway) else { panic!("not granted") };
    assert!(granted.legs[0].owner.is_none() && granted.legs[1].owner.is_some());
    assert_eq!(rig.bench.state.legs.len(), 1);
}
