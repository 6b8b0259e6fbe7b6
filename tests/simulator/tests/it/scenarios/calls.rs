//! Calls, and how much they need.

use headroom_core::Media;
use headroom_simulator::fault::Fault;
use headroom_simulator::scene::{Scenario, Scene, leg};

use super::{A, B, min, s, tells};

#[test]
fn a_full_pool_refuses_a_call_and_takes_one_as_soon_as_another_ends() {
    let scenario = Scenario::default()
        .with(|plan| plan.capacity = 2)
        .call(s(10), A, "c1", &[leg("l1"), leg("l2")])
        .look(s(20))
        .call(s(30), B, "c2", &[leg("l3")])
        .end(s(40), A, "l1")
        .call(s(50), B, "c3", &[leg("l4")])
        .look(min(2));
    tells(
        "full-pool",
        "Two units are licensed: a third leg is refused until one of the others has ended.",
        scenario,
    );
}

#[test]
fn calls_within_the_overdraft_are_admitted_and_shown() {
    let scenario = Scenario::default()
        .with(|plan| (plan.capacity, plan.overdraft) = (2, 1))
        .call(s(10), A, "c1", &[leg("l1"), leg("l2")])
        .call(s(20), B, "c2", &[leg("l3")])
        .look(s(40))
        .call(s(50), B, "c3", &[leg("l4")]);
    tells(
        "overdraft",
        "Above the capacity there is an overdraft: it is used, shown, and has an end.",
        scenario,
    );
}

#[test]
fn a_transfer_passes_although_the_pool_is_full() {
    let scenario = Scenario::default()
        .with(|plan| plan.capacity = 1)
        .call(s(10), A, "c1", &[leg("l1")])
        .call(s(20), A, "c2", &[leg("l2")])
        .call(s(30), A, "c3", &[leg("l3").instead_of("l1")])
        .look(s(40));
    tells(
        "transfer",
        "With a full pool a new call is refused, one that takes over the unit of another is not.",
        scenario,
    );
}

#[test]
fn a_gateway_call_reserves_for_the_other_node_what_that_node_then_claims() {
    let scenario =
        Scenario::default().call(s(10), A, "c1", &[leg("in"), leg("out").on("b")]).look(s(11)).look(min(2));
    tells(
        "gateway",
        "A gateway call has a leg on each of two nodes: one asks for both, the other claims its own.",
        scenario,
    );
}

#[test]
fn what_is_reserved_and_not_claimed_is_free_again() {
    let scenario = Scenario::default()
        .fault(s(5), Fault::MuteServer { node: B, server: 0, span: min(2) })
        .call(s(10), A, "c1", &[leg("in"), leg("out").on("b")])
        .look(s(20))
        .look(min(1));
    tells(
        "reserved-in-vain",
        "The other node's media server never asks for the leg that was reserved for it.",
        scenario,
    );
}

#[test]
fn a_leg_that_needs_more_than_there_is_keeps_what_it_has() {
    let change = |leg| Scene::Change { node: A, leg, media: Media::AUDIO_VIDEO };
    let scenario = Scenario::default()
        .with(|plan| plan.capacity = 1)
        .call(s(10), A, "c1", &[leg("l1").control_only(), leg("l2").control_only()])
        .scene(s(20), change("l1"))
        .scene(s(30), change("l2"))
        .end(s(40), A, "l1")
        .scene(s(50), change("l2"))
        .look(min(1));
    tells(
        "more-media",
        "Legs without media need no unit. With media they do: the second waits until one is free.",
        scenario,
    );
}
