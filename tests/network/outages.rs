//! One kind of outage each, and what it must not do.

use std::time::Duration;

use headroom_core::{DenialReason, LegId};
use headroom_shared::committer::recover;
use management_core::{Origin, PoolMachine};

use crate::fault::Fault;
use crate::media::Fate;
use crate::pool::License;
use crate::world::{Shape, Traffic, World, secs};

fn world(nodes: usize, (capacity, overdraft): (u32, u32), ttl: Duration) -> World {
    let license = License { capacity, overdraft, ttl };
    World::new(Shape { seed: crate::random::given().unwrap_or(1), nodes, license })
}

/// A call of one leg.
fn call(world: &mut World, at: usize) -> LegId {
    world.call(at, 1).1.remove(0)
}

fn fate(world: &World, at: usize, leg: &LegId) -> Fate {
    world.nodes[at].media.fate(leg).expect("it was asked for")
}

fn runs(world: &World, at: usize, leg: &LegId) -> (bool, Duration) {
    match fate(world, at, leg) {
        Fate::Runs { optimistic, took } => (optimistic, took),
        other => panic!("{leg} at node {at}: {other:?}"),
    }
}

#[test]
fn calls_permitted_while_the_pool_is_cut_off_are_on_its_books_when_it_is_back_even_above_the_limit() {
    let mut world = world(2, (4, 1), secs(120));
    let before = call(&mut world, 0);
    world.run(secs(2));
    assert!(!runs(&world, 0, &before).0, "in contact the pool decides");

    (0..2).for_each(|at| world.strike(at, Fault::Cut));
    let mut alone = Vec::new();
    for _ in 0..5 {
        for at in 0..2 {
            let leg = call(&mut world, at);
            alone.push((at, leg));
        }
        world.run(secs(4));
    }
    for (at, leg) in &alone {
        assert!(runs(&world, *at, leg).0, "nobody else can have decided on {leg}");
        assert_eq!(world.ledger.origins(leg.as_str()), [], "the pool cannot know of {leg}");
    }
    let (at, last) = alone.last().expect("calls");
    assert!(runs(&world, *at, last).1 < Duration::from_millis(50), "nobody is waited for any more");
    let brief = call(&mut world, 1);
    world.run(secs(1));
    world.end(1, vec![brief.clone()]);
    world.run(secs(60));

    world.mend_all();
    world.agree("repair");
    for (at, leg) in &alone {
        let origins = world.ledger.origins(leg.as_str());
        assert_eq!(origins.len(), 1, "{leg} at node {at}: {origins:?}");
    }
    assert_eq!(world.ledger.origins(last.as_str()), [Origin::Adopted]);
    assert_eq!(world.ledger.origins(brief.as_str()), [], "it began and ended without the pool");
    assert_eq!(world.ledger.in_use(), 11);
    let more = call(&mut world, 0);
    world.run(secs(2));
    assert_eq!(fate(&world, 0, &more), Fate::Denied(DenialReason::InsufficientLicenses));
    world.nothing_leaks();
}

/// Shorter than a session can be silent, and longer.
fn one_way(fault: Fault) {
    for (length, lapses) in [(secs(20), false), (secs(100), true)] {
        let mut world = world(2, (20, 0), secs(30));
        let old = [call(&mut world, 0), call(&mut world, 0), call(&mut world, 1)];
        world.run(secs(2));
        assert!(!runs(&world, 0, &old[0]).0);
        world.strike(0, fault);
        let mut new = Vec::new();
        for _ in 0..4 {
            new.push(call(&mut world, 0));
            let other = call(&mut world, 1);
            world.run(length / 4);
            assert!(!runs(&world, 1, &other).0, "who is in contact does not notice");
        }
        world.end(0, vec![old[1].clone(), new[0].clone()]);
        world.run(secs(1));
        assert_eq!(world.ledger.lapsed() > 0, lapses, "of {length:?}");
        assert!(new[1..].iter().all(|leg| runs(&world, 0, leg).0), "nodes decide alone");

        world.mend(0);
        world.agree("repair");
        for leg in [&old[0], &new[1], &new[2], &new[3]] {
            runs(&world, 0, leg);
        }
        if !lapses {
            // As many leases as legs: none was granted and adopted as well.
            assert!(new.iter().all(|leg| world.ledger.origins(leg.as_str()).len() <= 1));
        }
        world.nothing_leaks();
    }
}

#[test]
fn requests_that_get_lost_on_the_way_to_the_pool_double_no_grant_and_cut_no_call() {
    one_way(Fault::RequestsLost);
}

#[test]
fn answers_that_get_lost_on_the_way_from_the_pool_double_no_grant_and_cut_no_call() {
    one_way(Fault::AnswersLost);
}

#[test]
fn a_request_whose_answer_was_lost_is_asked_again_and_answered_the_same_with_one_effect() {
    let mut world = world(1, (5, 0), secs(120));
    let sessions = world.ledger.sessions();

    world.strike(0, Fault::AnswersLost);
    let leg = call(&mut world, 0);
    world.run(secs(2));
    assert!(runs(&world, 0, &leg).0, "for the node it is undecided");
    assert_eq!(world.ledger.origins(leg.as_str()), [Origin::Asked], "the pool has decided");
    world.mend(0);
    world.agree("the lost grant");
    let known = world.nodes[0].view().expect("it runs").state.legs[&leg].lease;
    let pool = world.pool.view().expect("it runs");
    assert_eq!(known, pool.state.leases.iter().map(|(_, lease)| lease.id).next(), "the same answer");
    assert_eq!(world.ledger.origins(leg.as_str()), [Origin::Asked], "one effect");

    // The heartbeat that became due meanwhile would be the one request in flight.
    world.run(secs(2));
    world.strike(0, Fault::AnswersLost);
    world.end(0, vec![leg.clone()]);
    world.run(secs(2));
    assert_eq!(world.ledger.in_use(), 0, "the pool has taken the unit back");
    assert!(!world.nodes[0].view().expect("it runs").state.ending.is_empty(), "the node does not know");
    world.mend(0);
    world.agree("the lost release");
    assert_eq!(world.ledger.sessions(), sessions, "asked again in the same session, without a report");
    world.nothing_leaks();
}

#[test]
fn messages_that_were_held_back_are_without_effect_once_the_session_has_moved_on() {
    for (length, ttl) in [(secs(8), secs(120)), (secs(25), secs(120)), (secs(60), secs(20))] {
        let mut world = world(2, (10, 0), ttl);
        let old = call(&mut world, 0);
        world.run(secs(2));
        for _ in 0..3 {
            world.strike(0, Fault::Held);
            let new = call(&mut world, 0);
            let brief = call(&mut world, 0);
            world.run(length / 2);
            world.end(0, vec![brief]);
            world.run(length / 2);
            assert!(runs(&world, 0, &new).0);
            world.mend(0);
            world.agree("what was held is delivered");
            runs(&world, 0, &new);
            world.end(0, vec![new]);
        }
        runs(&world, 0, &old);
        world.nothing_leaks();
    }
}

#[test]
fn a_pool_that_dies_and_comes_back_holds_what_it_acknowledged_and_meets_no_storm() {
    let mut world = world(3, (60, 0), secs(120));
    let (every, length) = (Duration::from_millis(400), secs(15));
    world.traffic(Some(Traffic { every, length, legs: 2 }));
    world.run(secs(15));
    let sessions = world.ledger.sessions();
    for (down, power) in [(secs(1), false), (secs(20), true), (secs(90), false)] {
        let began = world.now();
        let acknowledged: Vec<Vec<LegId>> = (0..world.nodes.len())
            .map(|at| {
                let mut legs = world.nodes[at].media.running();
                legs.retain(|leg| !runs(&world, at, leg).0);
                legs
            })
            .collect();
        assert!(acknowledged.iter().all(|legs| !legs.is_empty()));
        if power {
            world.cut_power()
        } else {
            world.kill_pool()
        }
        let kept = recover::<PoolMachine>(&*world.pool.log).expect("a log that was kept").state;
        for (node, legs) in world.nodes.iter().zip(&acknowledged) {
            let holder = kept.holder_of(&node.name).expect("it had contact");
            let held = |leg: &&LegId| kept.lease(holder, leg).is_none();
            let lost: Vec<_> = legs.iter().filter(held).collect();
            // What had ended and was given back is not held, and does not run; all these run.
            assert!(lost.is_empty(), "{} was granted {lost:?}, and the log does not say so", node.name);
        }
        world.run(down);
        world.mend_all();
        world.run(secs(20));
        let outage = (world.now() - began).as_secs();
        for node in &world.nodes {
            let dials = world.dials(node, began);
            // Three attempts, then pauses that grow to 5 s with full jitter: 2.5 s on average.
            let most = 12 + usize::try_from(outage).expect("seconds") / 2;
            assert!(dials <= most, "{} dialled {dials} times in {outage} s", node.name);
        }
    }
    let opened = world.ledger.sessions() - sessions;
    assert!(opened <= world.nodes.len(), "sessions outlive the process: {opened} were opened");
    world.traffic(None);
    world.agree("the last restart");
    world.nothing_leaks();
}

#[test]
fn a_node_that_dies_out_of_contact_takes_its_calls_up_again_and_brings_them_to_the_pool() {
    let mut world = world(2, (10, 0), secs(30));
    let before = call(&mut world, 0);
    world.run(secs(2));
    world.strike(0, Fault::Cut);
    let alone = call(&mut world, 0);
    world.run(secs(2));
    let over = call(&mut world, 0);
    world.run(secs(2));
    world.end(0, vec![over]);
    world.restart_node(0);
    world.run(secs(2));
    let after = call(&mut world, 0);
    world.run(secs(50));
    world.mend(0);
    world.agree("repair");
    for leg in [before, alone, after] {
        runs(&world, 0, &leg);
    }
    assert_eq!(world.ledger.in_use(), 3);
    world.nothing_leaks();
}

#[test]
fn links_that_flap_for_minutes_never_have_the_pool_grant_above_its_licenses() {
    let mut world = world(4, (6, 2), secs(30));
    world.traffic(Some(Traffic { every: secs(4), length: secs(15), legs: 2 }));
    let mut flips = [Duration::ZERO; 4];
    let mut up = [true; 4];
    let until = world.now() + secs(240);
    while world.now() < until {
        for at in 0..4 {
            if flips[at] > world.now() {
                continue;
            }
            up[at] = !up[at];
            if up[at] {
                world.mend(at)
            } else {
                world.strike(at, Fault::Cut)
            }
            flips[at] = world.now() + Duration::from_millis(300 + world.dice.below(9_000));
        }
        world.run(Duration::from_millis(100));
    }
    let count = |like: fn(&Fate) -> bool| world.nodes.iter().map(|n| n.media.count(like)).sum::<usize>();
    let full = count(|fate| *fate == Fate::Denied(DenialReason::InsufficientLicenses));
    let ran = count(|fate| matches!(fate, Fate::Over));
    assert!(full > 0 && ran > 0 && world.ledger.peak() >= 8, "{full} denied, {ran} ran");
    world.mend_all();
    world.traffic(None);
    world.agree("flapping");
    world.nothing_leaks();
}
