//! What the pool is told of the past: everything that its books do not have, once.

use headroom_core::Millis;

use super::refusal::{answer, ask, poll};
use super::*;
use crate::{Failure, PastKind, Request};

/// The legs of which the past says that they ended.
fn ended(rig: &Rig) -> Vec<String> {
    let past = rig.bench.state.past.values();
    past.filter_map(|event| match &event.what {
        PastKind::Ended { leg } => Some(leg.leg.leg.to_string()),
        PastKind::Denied { .. } => None,
    })
    .collect()
}

/// A node that decides alone, and asks for nothing: its one request is about another call.
fn alone() -> Rig {
    let mut rig = Rig::new(9);
    rig.settle();
    rig.connected = false;
    rig.admit(call("c", &["b"]));
    rig
}

/// A leg that was asked for, decided here, and has ended before its request was answered.
fn ended_meanwhile(rig: &mut Rig) -> (crate::RequestId, std::sync::Arc<Request>) {
    rig.settle();
    ask(rig, 501, call("c", &["a"]));
    let sent = poll(rig);
    rig.run(Command::Expire { asks: vec![AskId(501)] });
    rig.run(Command::EndLegs { legs: vec![leg_id("a")] });
    assert_eq!(ended(rig), ["a"]);
    sent
}

#[test]
fn a_leg_that_ended_while_its_request_was_under_way_is_told_unless_the_pool_had_it() {
    let mut rig = Rig::new(9);
    let (id, request) = ended_meanwhile(&mut rig);
    let outcome = rig.pool.serve(&request);
    answer(&mut rig, id, outcome);
    assert!(ended(&rig).is_empty(), "its lease is in the pool's books");
    rig.settle();
    rig.check_rest();

    let mut rig = Rig::new(9);
    let (id, request) = ended_meanwhile(&mut rig);
    rig.pool.capacity = 0;
    let outcome = rig.pool.serve(&request);
    answer(&mut rig, id, outcome);
    assert_eq!(ended(&rig), ["a"], "the pool denied it");

    let mut rig = Rig::new(9);
    let (id, _) = ended_meanwhile(&mut rig);
    answer(&mut rig, id, Err(Failure::Stale));
    rig.settle();
    rig.pass(Millis(20_000));
    rig.settle();
    assert_eq!(rig.pool.past, 1, "nobody knows whether the pool ever had it");
    rig.check_rest();
}

#[test]
fn a_leg_that_ended_while_it_was_adopted_or_reported_is_not_told_twice() {
    for report in [false, true] {
        let mut rig = alone();
        rig.admit(call("d", &["a"]));
        rig.connected = true;
        if report {
            rig.pool.lapse();
        }
        rig.pass(Millis(20_000));
        let (mut id, mut request) = poll(&mut rig);
        while !matches!(*request, Request::Adopt { .. } | Request::Report { .. }) {
            let outcome = rig.pool.serve(&request);
            answer(&mut rig, id, outcome);
            (id, request) = poll(&mut rig);
        }
        assert_eq!(matches!(*request, Request::Report { .. }), report);
        rig.run(Command::EndLegs { legs: vec![leg_id("a")] });
        assert_eq!(ended(&rig), ["a"]);
        let outcome = rig.pool.serve(&request);
        answer(&mut rig, id, outcome);
        assert!(ended(&rig).is_empty());
        rig.settle();
        rig.check_rest();
    }
}

#[test]
fn a_leg_that_another_took_over_before_the_pool_heard_of_it_is_told() {
    let mut rig = alone();
    rig.admit(call("c", &["a"]));
    let mut transfer = call("c", &["a2"]);
    transfer.legs[0].replaces = Some(leg_id("a"));
    rig.admit(transfer);
    assert_eq!(ended(&rig), ["a"]);
    rig.connected = true;
    for _ in 0..2 {
        rig.pass(Millis(20_000));
        rig.settle();
    }
    assert_eq!(rig.pool.past, 1);
    rig.check_rest();
    rig.check_snapshot();
}
