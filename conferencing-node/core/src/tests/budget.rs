//! How much goes into one request, and how much is kept of the past.

use std::sync::Arc;

use headroom_core::Text;

use super::refusal::{ask, settle_with};
use super::story::{optimistic, status};
use super::*;
use crate::Request;
use crate::weight::{CALL, PAST, REQUEST, Weigh};

/// A call whose legs carry as much text as they may.
fn heavy(name: &str, legs: usize) -> Call {
    let names: Vec<_> = (0..legs).map(|n| format!("{name}{n}")).collect();
    let mut call = call(name, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let text = Text::new(&"x".repeat(200)).expect("a text");
    for leg in &mut call.legs {
        leg.subjects = vec![text.clone(); 16];
        leg.needs = vec![text.clone(); 16];
    }
    call
}

#[test]
fn requests_are_filled_up_to_about_a_mebibyte_and_nothing_is_left_out() {
    let mut rig = Rig::new(2_000);
    rig.settle();
    let one = heavy("a", 100);
    assert!(one.weight() > REQUEST / 2 && one.weight() < REQUEST);
    for (number, name) in [(501, "a"), (502, "b"), (503, "c"), (504, "d")] {
        ask(&mut rig, number, heavy(name, 100));
    }
    // A single call is sent whatever it weighs.
    ask(&mut rig, 505, heavy("e", 400));
    let asked = settle_with(&mut rig, |_| None);
    let allocations = asked.iter().filter(|request| matches!(***request, Request::Allocate { .. }));
    assert_eq!(allocations.count(), 5);
    assert_eq!(rig.pool.used(), 800);
    rig.run(Command::Delivered { legs: rig.bench.state.legs.keys().cloned().collect() });
    let within = |all: &[Arc<Request>]| {
        let mut count = 0;
        for request in all {
            let (Request::Report { legs, .. } | Request::Adopt { legs, .. }) = &**request else { continue };
            assert!(legs.iter().map(Weigh::weight).sum::<usize>() <= REQUEST);
            count += legs.len();
        }
        count
    };
    rig.pool.lapse();
    rig.pass(Millis(20_000));
    assert_eq!(within(&settle_with(&mut rig, |_| None)), 800);
    rig.check_rest();
    rig.pass(Millis(20_000));
    rig.connected = false;
    rig.settle();
    for name in ["f", "g"] {
        assert!(optimistic(&rig.admit(heavy(name, 200))));
    }
    rig.connected = true;
    rig.pass(Millis(20_000));
    assert_eq!(within(&settle_with(&mut rig, |_| None)), 400);
    rig.check_rest();
    assert_eq!(rig.pool.drift, 0);
}

#[test]
fn past_events_are_kept_and_told_within_bounds_of_bytes() {
    let mut rig = Rig::new(9);
    // Without any contact yet every call is denied here.
    rig.connected = false;
    rig.settle();
    for n in 0..10 {
        rig.admit(heavy(&format!("c{n}"), 100));
    }
    let state = &rig.bench.state;
    let weight: usize = state.past.values().map(|event| event.weight()).sum();
    assert_eq!(state.past_weight, weight);
    assert!(weight <= PAST && weight > PAST / 2);
    assert!(state.past.contains_key(&10) && !state.past.contains_key(&1), "the oldest are dropped");
    rig.check_snapshot();
    rig.connected = true;
    rig.pass(Millis(20_000));
    for _ in 0..20 {
        for request in settle_with(&mut rig, |_| None) {
            let Request::Heartbeat { past, .. } = &*request else { continue };
            assert!(past.iter().map(Weigh::weight).sum::<usize>() <= REQUEST);
        }
        rig.pass(Millis(2_000));
    }
    assert_eq!((rig.pool.past, rig.bench.state.past_weight), (10, 0));
}

#[test]
fn past_events_that_find_no_room_are_counted_and_the_count_outlives_a_restart() {
    let mut rig = Rig::new(9);
    rig.connected = false;
    rig.settle();
    rig.admit(call("c", &["a"]));
    assert_eq!(status(&mut rig).past_dropped, 0);
    for n in 0..10 {
        rig.admit(heavy(&format!("c{n}"), 100));
    }
    let kept = status(&mut rig);
    assert!(kept.past < 11 && kept.past + kept.past_dropped == 11, "{kept:?}");
    rig.check_snapshot();
    rig.restart();
    assert_eq!(status(&mut rig).past_dropped, kept.past_dropped);
    // What is told is not dropped.
    rig.connected = true;
    rig.pass(Millis(20_000));
    for _ in 0..20 {
        rig.settle();
        rig.pass(Millis(2_000));
    }
    let told = status(&mut rig);
    assert_eq!((told.past, told.past_dropped), (0, kept.past_dropped));
}

#[test]
fn counters_of_a_journal_that_did_not_count_what_was_dropped_are_read() {
    let counters = crate::state::Counters::default();
    let mut bytes = minicbor::to_vec(&counters).expect("counters encode");
    // The last field of the array, a zero, is not there.
    assert_eq!((bytes[0], bytes.pop()), (0x8b, Some(0)));
    bytes[0] = 0x8a;
    assert_eq!(minicbor::decode(&bytes).ok(), Some(counters));
}

#[test]
fn a_call_too_heavy_for_one_request_is_refused_naming_its_legs() {
    let mut rig = Rig::new(2_000);
    rig.settle();
    let heaviest = heavy("a", 512);
    assert!(heaviest.weight() > CALL);
    let Decision::Refused { field, text } = rig.admit(heaviest) else { panic!("not refused") };
    assert_eq!(field, "legs");
    assert!(text.contains(&CALL.to_string()), "{text}");
    assert!(matches!(rig.admit(heavy("b", 400)), Decision::Granted(_)));
    // Plain calls may have as many legs as ever.
    let names: Vec<_> = (0..512).map(|n| format!("c{n}")).collect();
    let plain = call("c", &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(matches!(rig.admit(plain), Decision::Granted(_)));
}
