//! A pool that takes its time, and a node that has much to say: everything gets its turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use headroom_core::{Media, Millis};

use super::refusal::{answer, ask, poll};
use super::*;
use crate::{Failure, Request, RequestId, Response};

const STEP: Millis = Millis(10);

/// A node whose pool answers after a while, with everything it was ever sent.
struct Slow {
    rig: Rig,
    latency: Millis,
    flight: Option<(RequestId, Result<Response, Failure>, Millis)>,
    sent: Vec<(Millis, Arc<Request>)>,
}

impl Slow {
    /// A node that runs so many legs, `leg0` and on.
    fn new(legs: u32, latency: Millis) -> Self {
        let mut rig = Rig::new(1_000_000);
        let names: Vec<_> = (0..legs).map(|n| format!("leg{n}")).collect();
        for chunk in names.chunks(500) {
            let names: Vec<_> = chunk.iter().map(String::as_str).collect();
            assert!(matches!(rig.admit(call(names[0], &names)), Decision::Granted(_)));
        }
        Self { rig, latency, flight: None, sent: Vec::new() }
    }

    /// Lets a little time pass, in which an answer may arrive and the next request goes out.
    fn step(&mut self) {
        self.rig.pass(STEP);
        let due = |(_, _, at): &(_, _, Millis)| *at <= self.rig.now.boot;
        let reply = match self.flight.take_if(|flight| due(flight)) {
            Some((id, outcome, _)) => answer(&mut self.rig, id, outcome),
            None if self.flight.is_none() => self.rig.run(Command::Poll),
            None => return,
        };
        if let Reply::Uplink { next: Next::Send { id, request, .. }, .. } = reply {
            let outcome = self.rig.pool.serve(&request);
            self.flight = Some((id, outcome, self.rig.now.boot.plus(self.latency)));
            self.sent.push((self.rig.now.boot, request));
        }
    }

    /// Longest time between two heartbeats.
    fn silence(&self) -> Millis {
        let beats = self.sent.iter().filter(|(_, r)| matches!(**r, Request::Heartbeat { .. }));
        let at: Vec<_> = beats.map(|(at, _)| *at).chain([self.rig.now.boot]).collect();
        at.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or(Millis(i64::MAX))
    }
}

#[test]
fn steady_ends_and_changes_keep_neither_calls_nor_heartbeats_waiting_beyond_the_budget() {
    let mut slow = Slow::new(6_000, Millis(150));
    let mut asked = BTreeMap::new();
    for n in 0..3_000_u32 {
        // A hundred ends and a hundred changes a second, ten calls.
        slow.rig.run(Command::EndLegs { legs: vec![leg_id(&format!("leg{n}"))] });
        let less =
            (AskId(1_000_000 + u64::from(n)), leg_id(&format!("leg{}", n + 3_000)), Media::CONTROL_ONLY);
        slow.rig.run(Command::UpdateLegs { legs: vec![less] });
        if n % 10 == 0 {
            let number = 10_000 + u64::from(n);
            let name = format!("new{n}");
            ask(&mut slow.rig, number, call(&name, &[&name]));
            asked.insert(AskId(number), slow.rig.now.boot);
        }
        slow.step();
        for (ask, outcome) in std::mem::take(&mut slow.rig.answers) {
            let Outcome::Call(Decision::Granted(granted)) = outcome else { panic!("{outcome:?}") };
            assert!(!granted.optimistic);
            slow.rig.run(Command::Delivered { legs: vec![granted.legs[0].leg.clone()] });
            asked.remove(&ask);
        }
        let now = slow.rig.now.boot;
        let late = asked.iter().find(|(_, at)| now.since(**at) >= crate::Options::BUDGET);
        assert!(late.is_none(), "step {n}: {late:?} waits");
        assert!(slow.rig.bench.state.ending.len() < 100, "step {n}: releases starve");
    }
    assert!(slow.silence() <= Millis(12_500), "{}", slow.silence());
    while slow.flight.is_some() {
        slow.step();
    }
    slow.rig.settle();
    slow.rig.check_rest();
    assert_eq!(slow.rig.pool.drift, 0);
}

#[test]
fn what_ended_before_a_call_was_asked_for_is_given_back_before_the_pool_is_asked() {
    let mut rig = Rig::new(2);
    rig.admit(call("c", &["a", "b"]));
    rig.run(Command::EndLegs { legs: vec![leg_id("a")] });
    let (id, request) = poll(&mut rig);
    rig.run(Command::EndLegs { legs: vec![leg_id("b")] });
    ask(&mut rig, 501, call("d", &["x", "y"]));
    let outcome = rig.pool.serve(&request);
    answer(&mut rig, id, outcome);
    rig.settle();
    assert!(
        matches!(&rig.answers[..], [(AskId(501), Outcome::Call(Decision::Granted(g)))] if !g.optimistic),
        "{:?}",
        rig.answers
    );
    rig.check_rest();
}

#[test]
fn the_books_agree_right_after_a_late_grant_that_moved_a_unit() {
    let mut rig = Rig::new(2);
    rig.admit(call("c", &["a"]));
    let mut transfer = call("c", &["b"]);
    transfer.legs[0].replaces = Some(leg_id("a"));
    ask(&mut rig, 501, transfer);
    let (id, request) = poll(&mut rig);
    rig.run(Command::Expire { asks: vec![AskId(501)] });
    rig.pass(Millis(20_000));
    let outcome = rig.pool.serve(&request);
    let reply = answer(&mut rig, id, outcome);
    let beat = |reply: &Reply| match reply {
        Reply::Uplink { next: Next::Send { request, .. }, .. } => {
            matches!(**request, Request::Heartbeat { .. })
        }
        _ => false,
    };
    assert!(beat(&reply), "an overdue heartbeat goes first of all: {reply:?}");
    assert_eq!(rig.bench.state.held_set, rig.pool.set());
    rig.settle();
    rig.check_rest();
    assert_eq!(rig.pool.drift, 0);
}
