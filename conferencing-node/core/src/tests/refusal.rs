//! What the pool refuses, and what the node denies by itself.

use std::sync::Arc;

use headroom_core::{DenialReason, Interop, Units};

use super::story::{optimistic, status, update};
use super::*;
use crate::{Conflict, Contact, Failure, LegVerdict, PastKind, Request, RequestId, Response};

const FULL: DenialReason = DenialReason::InsufficientLicenses;

fn sent(reply: Reply) -> (RequestId, Arc<Request>) {
    match reply {
        Reply::Uplink { next: Next::Send { id, request, .. }, .. } => (id, request),
        other => panic!("nothing is sent: {other:?}"),
    }
}

pub(super) fn poll(rig: &mut Rig) -> (RequestId, Arc<Request>) {
    sent(rig.run(Command::Poll))
}

pub(super) fn answer(rig: &mut Rig, request: RequestId, outcome: Result<Response, Failure>) -> Reply {
    rig.run(Command::Answered { request, outcome, jitter: 999 })
}

fn invalid(field: &str) -> Result<Response, Failure> {
    Err(Failure::Invalid { field: field.to_owned(), text: "is at fault".to_owned() })
}

pub(super) fn ask(rig: &mut Rig, ask: u64, call: Call) {
    let reply = rig.run(Command::Admit { ask: AskId(ask), call });
    assert!(matches!(reply, Reply::Waiting { .. }), "{reply:?}");
}

/// Lets the uplink run to rest with a pool that finds fault with some requests, and returns all sent.
pub(super) fn settle_with(rig: &mut Rig, fault: impl Fn(&Request) -> Option<String>) -> Vec<Arc<Request>> {
    let mut all = Vec::new();
    let mut reply = rig.run(Command::Poll);
    for _ in 0..100 {
        let Reply::Uplink { next: Next::Send { id, request, .. }, .. } = reply else { return all };
        let outcome = fault(&request).map_or_else(|| rig.pool.serve(&request), |field| invalid(&field));
        all.push(request);
        reply = answer(rig, id, outcome);
    }
    panic!("the uplink does not come to rest");
}

#[test]
fn a_refused_opening_or_report_is_followed_by_a_pause() {
    let paused = |rig: &Rig, reply: &Reply| {
        let Reply::Uplink { next: Next::Wait { until }, .. } = reply else { return false };
        until.since(rig.now.boot) > Millis(10_000)
    };
    let mut rig = Rig::new(9);
    let (id, _) = poll(&mut rig);
    let reply = answer(&mut rig, id, invalid("nonce"));
    assert!(paused(&rig, &reply), "{reply:?}");
    rig.pass(Millis(20_000));
    rig.settle();
    rig.admit(call("c", &["a"]));
    rig.pool.lapse();
    rig.pass(Millis(20_000));
    // Every session begins well and ends with its report: no reason to hurry either.
    for _ in 0..3 {
        let fault = |request: &Request| matches!(request, Request::Report { .. }).then(|| "total".to_owned());
        let all = settle_with(&mut rig, fault);
        assert!(all.len() <= 3, "{all:?}");
        let reply = rig.run(Command::Poll);
        assert!(paused(&rig, &reply), "{reply:?}");
        rig.pass(Millis(20_000));
    }
    rig.settle();
    rig.check_rest();
    assert_eq!(status(&mut rig).contact, Contact::In);
}

#[test]
fn a_gateway_call_is_over_with_either_of_its_legs_and_the_other_is_not_asked_for_alone() {
    let mut rig = Rig::new(9);
    rig.settle();
    let mut gateway = call("c", &["in", "out"]);
    gateway.info.service = Service::Gateway;
    // One waits, one is under way.
    for (number, under_way) in [(501, false), (502, true)] {
        ask(&mut rig, number, gateway.clone());
        let sent = under_way.then(|| poll(&mut rig));
        rig.run(Command::EndLegs { legs: vec![leg_id("in")] });
        let released = Conflict::Released { index: 0, leg: leg_id("in") };
        assert_eq!(rig.answers.pop(), Some((AskId(number), Outcome::Call(Decision::Conflict(released)))));
        if let Some((id, request)) = sent {
            let outcome = rig.pool.serve(&request);
            answer(&mut rig, id, outcome);
        }
        rig.settle();
        rig.check_rest();
        assert_eq!(rig.pool.used(), 0);
        rig.tick(Millis::MINUTE);
    }
}

#[test]
fn a_leg_that_ended_while_more_was_asked_for_its_call_is_not_asked_for_again() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    rig.settle();
    ask(&mut rig, 501, call("c", &["a", "b"]));
    rig.run(Command::EndLegs { legs: vec![leg_id("a")] });
    let sent = settle_with(&mut rig, |_| None);
    let asked: Vec<_> = sent
        .iter()
        .filter_map(|request| match &**request {
            Request::Allocate { calls, .. } => Some(calls.iter().flat_map(|call| &call.legs)),
            _ => None,
        })
        .flatten()
        .map(|leg| leg.leg.clone())
        .collect();
    assert_eq!(asked, [leg_id("b")], "what was released is final");
    rig.check_rest();
    assert_eq!(rig.pool.used(), 1);
}

#[test]
fn a_leg_that_cannot_be_reported_runs_on_and_keeps_nothing_else_out_of_the_books() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a", "b", "x"]));
    rig.pool.lapse();
    rig.pass(Millis(20_000));
    let all = settle_with(&mut rig, |request| {
        let Request::Report { legs, .. } = request else { return None };
        let index = legs.iter().position(|running| running.leg.leg == leg_id("b"))?;
        Some(format!("legs[{index}].call.legs[0].participant"))
    });
    let reports: Vec<_> = all
        .iter()
        .filter_map(|request| match &**request {
            Request::Report { session, report, .. } => Some((session.number, *report)),
            _ => None,
        })
        .collect();
    assert!(matches!(reports[..], [(first, 1), (second, 2)] if first == second), "{reports:?}");
    let status = status(&mut rig);
    assert_eq!((status.contact, status.legs), (Contact::In, 3));
    assert!(status.alarms.contains(&"legs_refused_by_pool".to_owned()));
    assert!(rig.pool.held.keys().eq([&leg_id("a"), &leg_id("x")]));
    // The next session tries again.
    rig.restart();
    rig.settle();
    rig.check_rest();
    assert_eq!(rig.pool.drift, 0);
}

#[test]
fn a_past_event_that_the_pool_cannot_read_does_not_end_contact() {
    let mut rig = Rig::new(1);
    rig.admit(call("c", &["a"]));
    rig.connected = false;
    for name in ["d", "e"] {
        assert_eq!(rig.admit(call(name, &[name])), Decision::Denied(FULL));
    }
    rig.connected = true;
    rig.pass(Millis(20_000));
    settle_with(&mut rig, |request| match request {
        Request::Heartbeat { past, .. } => {
            let first = past.iter().position(|event| event.number == 1)?;
            Some(format!("past[{first}].denial"))
        }
        _ => None,
    });
    assert_eq!((rig.pool.past, rig.bench.state.past.len()), (2, 0));
    assert_eq!(status(&mut rig).contact, Contact::In);
}

#[test]
fn an_answered_heartbeat_ends_deciding_alone() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    rig.pass(Millis(20_000));
    rig.connected = false;
    rig.settle();
    assert_eq!(status(&mut rig).contact, Contact::Out);
    rig.connected = true;
    rig.pass(Millis(20_000));
    rig.settle();
    assert_eq!(status(&mut rig).contact, Contact::In);
    ask(&mut rig, 501, call("d", &["b"]));
}

#[test]
fn a_leg_that_the_media_server_names_is_no_longer_in_doubt() {
    for restart in [false, true] {
        let mut rig = Rig::new(9);
        rig.settle();
        for (number, name) in [(501, "post"), (502, "more"), (503, "patch"), (504, "put"), (505, "told")] {
            ask(&mut rig, number, call(name, &[name]));
        }
        ask(&mut rig, 506, call("silent", &["silent"]));
        rig.settle();
        if restart {
            rig.restart();
            rig.settle();
        }
        rig.admit(call("post", &["post"]));
        rig.admit(call("more", &["more", "more2"]));
        update(&mut rig, "patch", Media::AUDIO_VIDEO);
        rig.run(Command::Delivered { legs: vec![leg_id("told")] });
        rig.run(Command::Sync { source: SourceId::default(), as_of: 0, legs: vec![leg_id("put")] });
        let mut doubted = rig.bench.state.undelivered.clone();
        doubted.extend(rig.bench.state.unconfirmed.clone());
        assert!(doubted.iter().eq([&leg_id("silent")]), "{doubted:?}");
        rig.tick(Millis::MINUTE);
        rig.settle();
        assert_eq!(rig.bench.state.legs.len(), 6, "only what nobody named is dropped");
        rig.check_rest();
    }
}

#[test]
fn a_denial_that_the_pool_gives_too_is_recorded_once() {
    let mut rig = Rig::new(1);
    rig.admit(call("c", &["a"]));
    let mut control = call("d", &["b"]);
    control.legs[0].media = Media::CONTROL_ONLY;
    rig.admit(control);
    ask(&mut rig, 501, call("e", &["x"]));
    rig.run(Command::UpdateLegs { legs: vec![(AskId(502), leg_id("b"), Media::AUDIO_VIDEO)] });
    for asked in [502, 501] {
        let (id, request) = poll(&mut rig);
        rig.run(Command::Expire { asks: vec![AskId(asked)] });
        assert_eq!(rig.bench.state.past.len(), 1);
        let outcome = rig.pool.serve(&request);
        answer(&mut rig, id, outcome);
        assert!(rig.bench.state.past.is_empty(), "the pool has recorded it");
    }
    let denied = |outcome: &Outcome| {
        matches!(outcome, Outcome::Call(Decision::Denied(_)) | Outcome::Leg(LegVerdict::Denied { .. }))
    };
    assert!(rig.answers.len() == 2 && rig.answers.iter().all(|(_, outcome)| denied(outcome)));
    // One that only the node gave stays.
    ask(&mut rig, 503, call("e", &["y"]));
    let (id, request) = poll(&mut rig);
    rig.run(Command::Expire { asks: vec![AskId(503)] });
    rig.pool.capacity = 2;
    let outcome = rig.pool.serve(&request);
    answer(&mut rig, id, outcome);
    assert_eq!(rig.bench.state.past.len(), 1);
    rig.check_snapshot();
    rig.settle();
    rig.check_rest();
}

#[test]
fn items_are_sent_alone_only_until_the_faulty_one_is_found() {
    let calls = |request: &Request| match request {
        Request::Allocate { calls, .. } => calls.iter().map(|c| c.info.call.to_string()).collect(),
        _ => Vec::new(),
    };
    let bad = |request: &Request| calls(request).contains(&"bad".to_owned()).then(|| "calls[0]".to_owned());
    let mut rig = Rig::new(99);
    rig.settle();
    for (number, name) in [(501, "a"), (502, "bad"), (503, "b"), (504, "d")] {
        ask(&mut rig, number, call(name, &[name]));
    }
    let all: Vec<Vec<String>> = settle_with(&mut rig, bad).iter().map(|r| calls(r)).collect();
    let all: Vec<_> = all.iter().filter(|calls| !calls.is_empty()).map(|calls| calls.join(" ")).collect();
    assert_eq!(all, ["a bad b d", "a", "bad", "b d"]);
    let refused = Outcome::Call(Decision::Refused { field: "calls[0]".into(), text: "is at fault".into() });
    assert!(rig.answers.contains(&(AskId(502), refused)));
    assert_eq!(rig.pool.used(), 3);
    // The faulty one goes away by itself: what comes later is sent together all the same.
    for (number, name) in [(505, "e"), (506, "bad")] {
        ask(&mut rig, number, call(name, &[name]));
    }
    let (id, _) = poll(&mut rig);
    rig.run(Command::EndLegs { legs: vec![leg_id("bad")] });
    answer(&mut rig, id, invalid("calls[1]"));
    rig.settle();
    for (number, name) in [(507, "f"), (508, "g")] {
        ask(&mut rig, number, call(name, &[name]));
    }
    let (_, request) = poll(&mut rig);
    assert_eq!(calls(&request), ["f", "g"]);
}

#[test]
fn a_transfer_or_a_further_leg_of_a_paid_call_is_no_new_call() {
    let transfer = |old: &str, new: &str| {
        let mut call = call("c", &[new]);
        call.legs[0].replaces = Some(leg_id(old));
        call
    };
    let teams = |legs: &[&str]| {
        let mut call = call("t", legs);
        call.info.service = Service::Gateway;
        call.info.interop = Some(Interop::Teams);
        call
    };
    let mut control = call("c", &["slides"]);
    control.legs[0].media = Media::CONTROL_ONLY;
    let denied = |rig: &mut Rig, reason| {
        assert_eq!(rig.admit(control.clone()), Decision::Denied(reason), "units do not matter");
        assert_eq!(rig.admit(call("c", &["new"])), Decision::Denied(reason));
        let mut twice = call("c", &["new", "new2"]);
        for leg in &mut twice.legs {
            leg.replaces = Some(leg_id("a2"));
        }
        assert_eq!(rig.admit(twice), Decision::Denied(reason), "a leg is taken over once");
    };
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    rig.admit(teams(&["in"]));
    rig.run(Command::Drain { on: true });
    assert!(!optimistic(&rig.admit(transfer("a", "a2"))));
    denied(&mut rig, DenialReason::Draining);
    rig.run(Command::Drain { on: false });
    rig.connected = false;
    rig.pass(Millis(14 * Millis::DAY.0));
    rig.settle();
    denied(&mut rig, DenialReason::GraceExpired);
    assert!(optimistic(&rig.admit(teams(&["out"]))));
    assert!(optimistic(&rig.admit(transfer("a2", "a3"))));
    rig.run(Command::Drain { on: true });
    assert!(optimistic(&rig.admit(transfer("a3", "a4"))));
    // One whose leg is to be ended is not carried on.
    rig.connected = true;
    rig.pass(Millis(20_000));
    rig.settle();
    rig.pool.revoke(&leg_id("a4"));
    rig.pass(Millis(20_000));
    rig.settle();
    assert_eq!(rig.admit(transfer("a4", "a5")), Decision::Denied(DenialReason::Draining));
}

#[test]
fn a_change_that_the_node_denies_by_itself_is_told_to_the_pool() {
    let mut rig = Rig::new(1);
    rig.admit(call("c", &["a"]));
    let mut control = call("d", &["b", "b2"]);
    for leg in &mut control.legs {
        leg.media = Media::CONTROL_ONLY;
    }
    rig.admit(control);
    rig.connected = false;
    // No heartbeat is answered, so that nothing is asked of the pool any more.
    rig.pass(Millis(13_000));
    rig.settle();
    let denied = LegVerdict::Denied { reason: FULL, units: Units::ZERO };
    assert_eq!(update(&mut rig, "b", Media::AUDIO_VIDEO), denied);
    let noted: Vec<_> = rig.bench.state.past.values().map(|event| event.what.clone()).collect();
    let mut expected = call("d", &["b"]);
    expected.legs[0].media = Media::AUDIO_VIDEO;
    assert_eq!(noted, [PastKind::Denied { call: expected, reason: FULL }]);
    rig.connected = true;
    for _ in 0..2 {
        rig.pass(Millis(20_000));
        rig.settle();
    }
    assert_eq!(rig.pool.past, 1);
    // So is one for a leg that is to be ended.
    rig.pool.revoke(&leg_id("b"));
    rig.pass(Millis(20_000));
    rig.settle();
    assert_eq!(update(&mut rig, "b", Media::AUDIO_VIDEO), denied);
    assert_eq!(rig.bench.state.counters.past, 2);
}

#[test]
fn a_late_grant_for_an_id_that_runs_again_is_not_given_back_for_its_earlier_leg() {
    let mut rig = Rig::new(9);
    rig.settle();
    ask(&mut rig, 501, call("c", &["a"]));
    let (id, request) = poll(&mut rig);
    rig.run(Command::Expire { asks: vec![AskId(501)] });
    let mut transfer = call("c", &["b"]);
    transfer.legs[0].replaces = Some(leg_id("a"));
    ask(&mut rig, 502, transfer);
    rig.run(Command::Expire { asks: vec![AskId(502)] });
    rig.pass(Millis(61_000));
    ask(&mut rig, 503, call("c", &["a"]));
    rig.run(Command::Expire { asks: vec![AskId(503)] });
    let outcome = rig.pool.serve(&request);
    answer(&mut rig, id, outcome);
    rig.settle();
    rig.check_rest();
    assert_eq!((rig.pool.used(), rig.pool.drift), (2, 0));
}

#[test]
fn a_request_over_which_the_pool_fails_is_given_up_after_the_life_of_a_session() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a"]));
    ask(&mut rig, 501, call("poison", &["x"]));
    let sessions = rig.bench.state.counters.open_number;
    let since = rig.now.boot;
    // Whatever is tried again and again, the pool fails over this call only.
    let poison = |request: &Request| matches!(request, Request::Allocate { calls, .. } if calls.iter().any(|c| c.info.call == call_id("poison")));
    while rig.bench.state.counters.open_number == sessions {
        rig.pass(Millis::SECOND);
        let Reply::Uplink { next: Next::Send { id, request, .. }, .. } = rig.run(Command::Poll) else {
            continue;
        };
        let outcome = if poison(&request) {
            Err(Failure::Undecided { retry_after: None })
        } else {
            rig.pool.serve(&request)
        };
        answer(&mut rig, id, outcome);
        assert!(rig.now.boot.since(since) < Millis(150_000), "it is never given up");
    }
    assert!(rig.now.boot.since(since) >= Millis(120_000), "an unknown outcome is asked for in its session");
    rig.settle();
    rig.check_rest();
    assert_eq!((status(&mut rig).contact, rig.pool.used()), (Contact::In, 2));
    assert!(!optimistic(&rig.admit(call("d", &["b"]))));
}

#[test]
fn an_answer_to_fewer_items_than_were_asked_grants_nothing_and_ends_the_session() {
    let mut rig = Rig::new(9);
    rig.settle();
    for (number, name) in [(501, "a"), (502, "b")] {
        ask(&mut rig, number, call(name, &[name]));
    }
    let (id, request) = poll(&mut rig);
    let Ok(Response::Allocated { mut verdicts, pools }) = rig.pool.serve(&request) else {
        panic!("not allocated")
    };
    verdicts.pop();
    let reply = answer(&mut rig, id, Ok(Response::Allocated { verdicts, pools }));
    assert!(matches!(reply, Reply::Uplink { next: Next::Wait { .. }, .. }), "{reply:?}");
    let alone = |outcome: &Outcome| matches!(outcome, Outcome::Call(Decision::Granted(g)) if g.optimistic);
    assert!(rig.answers.len() == 2 && rig.answers.iter().all(|(_, outcome)| alone(outcome)));
    rig.pass(Millis(20_000));
    rig.settle();
    rig.check_rest();
}
