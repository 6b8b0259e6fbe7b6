//! Legs that an administrator has released by force: the media server has to drop them.

use headroom_core::{DenialReason, Millis};

use super::refusal::ask;
use super::story::optimistic;
use super::*;
use crate::Conflict;

#[test]
fn the_pool_hears_that_a_leg_it_wants_ended_does_not_run_here() {
    let mut rig = Rig::new(2);
    rig.admit(call("c", &["a"]));
    // Its media server ends it just before, or the pool has a leg of which this journal knows nothing.
    rig.pool.tombstones.insert(leg_id("stranger"), false);
    rig.pool.revoke(&leg_id("a"));
    rig.run(Command::EndLegs { legs: vec![leg_id("a")] });
    rig.pool.lapse();
    rig.pass(Millis(20_000));
    rig.settle();
    assert!(rig.pool.tombstones.is_empty(), "{:?}", rig.pool.tombstones);
    assert!(rig.bench.volatile.unknown.is_empty());
    rig.check_rest();
}

#[test]
fn a_revoked_leg_that_is_asked_for_again_is_a_conflict_alone_or_with_others() {
    let mut rig = Rig::new(9);
    rig.admit(call("c", &["a", "b"]));
    let revoked = |index| Decision::Conflict(Conflict::Revoked { index, leg: leg_id("b") });
    // One that waits is judged by what has become of its legs.
    ask(&mut rig, 501, call("c", &["a", "b", "late"]));
    rig.pool.revoke(&leg_id("b"));
    rig.pass(Millis(20_000));
    rig.settle();
    assert_eq!(rig.answers, [(AskId(501), Outcome::Call(revoked(1)))]);
    for connected in [true, false] {
        rig.connected = connected;
        rig.pass(Millis(20_000));
        rig.settle();
        assert_eq!(rig.admit(call("c", &["b"])), revoked(0));
        assert_eq!(rig.admit(call("c", &["a", "b"])), revoked(1));
        assert_eq!(rig.admit(call("c", &["x", "y", "b"])), revoked(2));
        assert!(!optimistic(&rig.admit(call("c", &["a"]))), "the others run on");
    }
    assert_eq!(rig.bench.state.legs.len(), 2);
}

#[test]
fn a_call_that_runs_here_in_part_is_judged_for_its_leg_on_another_node() {
    let mut rig = Rig::new(9);
    rig.admit(call("g", &["in"]));
    rig.connected = false;
    rig.pass(Millis(14 * Millis::DAY.0));
    rig.settle();
    let mut gateway = call("g", &["in", "out"]);
    gateway.legs[1].owner = Some(headroom_core::NodeName::new("b").expect("a name"));
    assert_eq!(rig.admit(gateway), Decision::Denied(DenialReason::GraceExpired));
}
