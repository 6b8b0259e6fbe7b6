//! A pool that answers otherwise than the node expects.

use headroom_core::{Media, Millis, Units};

use super::refusal::{answer, ask, poll, settle_with};
use super::story::{status, update};
use super::*;
use crate::{Contact, LegVerdict, Request, Response};

/// Lets the uplink run to rest with a pool that counts two units for `a`, and returns how many requests
/// that took.
fn settle_counting_two(rig: &mut Rig) -> usize {
    let mut reply = rig.run(Command::Poll);
    for sent in 0..100 {
        let Reply::Uplink { next: Next::Send { id, request, .. }, .. } = reply else { return sent };
        let mut outcome = rig.pool.serve(&request);
        if !matches!(*request, Request::Heartbeat { .. })
            && let Some((_, charge)) = rig.pool.held.get_mut(&leg_id("a"))
        {
            charge.units = Units(2);
        }
        match &mut outcome {
            Ok(Response::Adopted { leases, .. }) => {
                leases.iter_mut().for_each(|lease| lease.charge.units = Units(2));
            }
            Ok(Response::Updated { verdicts, .. }) => verdicts.iter_mut().for_each(|verdict| {
                if let crate::uplink::Verdict::Granted(lease) = verdict {
                    lease.charge.units = Units(2);
                }
            }),
            _ => {}
        }
        reply = answer(rig, id, outcome);
    }
    panic!("the uplink does not come to rest");
}

#[test]
fn an_answer_that_demands_a_report_is_no_contact_before_the_report_is_complete() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    // The pool loses a lease: books that differ.
    rig.pool.held.clear();
    rig.pass(Millis::HOUR);
    let (id, request) = poll(&mut rig);
    assert!(matches!(*request, Request::Heartbeat { .. }));
    let outcome = rig.pool.serve(&request);
    assert!(matches!(outcome, Ok(Response::Beaten { report_required: true, .. })));
    answer(&mut rig, id, outcome);
    assert_eq!(status(&mut rig).out_of_contact, Millis::HOUR);
    rig.settle();
    assert_eq!(status(&mut rig).out_of_contact, Millis(0));
    rig.check_rest();
}

#[test]
fn who_asked_for_what_the_pool_refuses_is_told_the_field_of_his_own_request() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    let mut control = call("d", &["b"]);
    control.legs[0].media = Media::CONTROL_ONLY;
    rig.admit(control);
    rig.run(Command::UpdateLegs { legs: vec![(AskId(501), leg_id("b"), Media::AUDIO_VIDEO)] });
    ask(&mut rig, 502, call("e", &["x", "y"]));
    settle_with(&mut rig, |request| match request {
        Request::Update { .. } => Some("legs[0].media.audio".to_owned()),
        Request::Allocate { .. } => Some("calls[0].legs[1].participant".to_owned()),
        _ => None,
    });
    let text = || "is at fault".to_owned();
    let leg = LegVerdict::Refused { field: "media.audio".into(), text: text() };
    let call = Decision::Refused { field: "legs[1].participant".into(), text: text() };
    let told = |ask, outcome| rig.answers.contains(&(AskId(ask), outcome));
    assert!(told(501, Outcome::Leg(leg)) && told(502, Outcome::Call(call)), "{:?}", rig.answers);
    rig.settle();
    rig.check_rest();
}

#[test]
fn a_change_of_a_leg_that_has_ended_is_told_so_and_one_of_a_stranger_is_not_known() {
    let mut rig = Rig::new(9);
    let mut control = call("c", &["a"]);
    control.legs[0].media = Media::CONTROL_ONLY;
    rig.admit(control);
    rig.run(Command::UpdateLegs { legs: vec![(AskId(501), leg_id("a"), Media::AUDIO_VIDEO)] });
    rig.connected = false;
    rig.end(&["a"]);
    assert_eq!(rig.answers, [(AskId(501), Outcome::Leg(LegVerdict::Released))], "while it was asked");
    assert_eq!(update(&mut rig, "a", Media::AUDIO_VIDEO), LegVerdict::Released);
    rig.pass(Millis(2 * Millis::MINUTE.0));
    assert_eq!(update(&mut rig, "a", Media::AUDIO_VIDEO), LegVerdict::Released, "still to be given back");
    rig.connected = true;
    rig.pass(Millis(20_000));
    rig.settle();
    assert_eq!(update(&mut rig, "a", Media::AUDIO_VIDEO), LegVerdict::Unknown);
    assert_eq!(update(&mut rig, "nobody", Media::AUDIO_VIDEO), LegVerdict::Unknown);
}

#[test]
fn before_the_first_contact_there_is_no_time_without_it_and_no_alarm_of_that() {
    let mut rig = Rig::new(9);
    rig.connected = false;
    rig.pass(Millis(20 * Millis::DAY.0));
    rig.run(Command::Tick { synchronized: true });
    let never = status(&mut rig);
    assert_eq!((never.contact, never.out_of_contact), (Contact::NotEnrolled, Millis(0)));
    assert!(never.alarms.is_empty(), "{:?}", never.alarms);
    rig.connected = true;
    rig.settle();
    rig.pass(Millis::HOUR);
    let since = status(&mut rig);
    assert_eq!(since.out_of_contact, Millis::HOUR);
    assert_eq!(since.alarms, ["out_of_contact_1h"], "the highest step alone");
}

#[test]
fn a_leg_that_the_pool_counts_otherwise_is_not_asked_for_over_and_over() {
    let mut rig = Rig::new(9);
    rig.settle();
    rig.connected = false;
    rig.admit(call("c", &["b"]));
    rig.admit(call("d", &["a"]));
    rig.pass(Millis(20_000));
    // A question, a heartbeat, the leg's adoption, and perhaps what it would count less.
    let sent = settle_counting_two(&mut rig);
    assert!(sent <= 5, "{sent} requests");
    assert!(status(&mut rig).alarms.contains(&"legs_refused_by_pool".to_owned()));
    // So is one whose media changed.
    rig.run(Command::UpdateLegs { legs: vec![(AskId(501), leg_id("b"), Media::CONTROL_ONLY)] });
    assert!(settle_counting_two(&mut rig) <= 2);
    // What ends is given back, and nothing is at odds any more.
    rig.connected = true;
    rig.end(&["a", "b"]);
    assert!(rig.bench.volatile.stuck.is_empty() && rig.pool.held.is_empty());
    assert!(status(&mut rig).alarms.is_empty());
    rig.check_rest();
}
