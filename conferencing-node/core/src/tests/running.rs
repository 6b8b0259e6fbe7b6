//! Legs that run by their media server's own decision, and a node that takes no new calls.

use headroom_core::{DenialReason, NodeName};

use super::story::{optimistic, status};
use super::*;
use crate::{Conflict, Contact};

fn adopt(rig: &mut Rig, call: Call) -> Decision {
    let Reply::Decided(decision) = rig.run(Command::Adopt { call }) else { panic!("decided at once") };
    rig.settle();
    decision
}

#[test]
fn legs_that_run_already_are_recorded_above_the_limit_and_the_books_agree() {
    let mut rig = Rig::new(1);
    rig.settle();
    rig.admit(call("c", &["a"]));
    assert!(matches!(rig.admit(call("d", &["b"])), Decision::Denied(DenialReason::InsufficientLicenses)));
    assert!(optimistic(&adopt(&mut rig, call("e", &["x", "y"]))));
    rig.check_rest();
    assert_eq!(rig.pool.held.len(), 3);
    // Told again, it is the same.
    assert!(matches!(adopt(&mut rig, call("e", &["x", "y"])), Decision::Granted(_)));
    rig.check_rest();
    rig.end(&["a", "x", "y"]);
    rig.check_rest();
    assert_eq!(rig.pool.held.len(), 0);
    rig.check_snapshot();
}

#[test]
fn a_leg_that_runs_takes_over_from_the_one_it_replaces_and_a_full_pool_never_counts_both() {
    // Whatever was said to the pool last.
    for turn in 0..6 {
        let mut rig = Rig::new(2);
        rig.settle();
        rig.admit(call("c", &["a", "b"]));
        for n in 0..turn {
            let other = format!("other{n}");
            rig.run(Command::Adopt { call: call(&other, &[&other]) });
            let (id, request) = super::refusal::poll(&mut rig);
            let outcome = rig.pool.serve(&request);
            super::refusal::answer(&mut rig, id, outcome);
            rig.end(&[&other]);
        }
        rig.pool.most = 0;
        let mut after = call("d", &["x"]);
        after.legs[0].replaces = Some(leg_id("a"));
        assert!(matches!(adopt(&mut rig, after), Decision::Granted(_)));
        rig.check_rest();
        assert_eq!(rig.pool.held.keys().map(LegId::as_str).collect::<Vec<_>>(), ["b", "x"]);
        assert_eq!(rig.pool.most, 2, "turn {turn}");
    }
}

#[test]
fn legs_that_run_already_are_never_denied_without_contact_after_grace_or_while_draining() {
    let mut rig = Rig::new(1);
    assert!(matches!(adopt(&mut rig, call("c", &["a"])), Decision::Granted(_)), "never enrolled");
    rig.settle();
    rig.connected = false;
    rig.tick(Millis::DAY.times(15));
    for _ in 0..5 {
        rig.tick(Millis::MINUTE);
        rig.settle();
    }
    assert_eq!(status(&mut rig).contact, Contact::GraceExpired);
    // Its media server is silent, and its leg orphaned; it says now that it runs.
    assert!(matches!(adopt(&mut rig, call("c", &["z"])), Decision::Granted(_)));
    rig.run(Command::Drain { on: true });
    assert!(matches!(adopt(&mut rig, call("d", &["b"])), Decision::Granted(_)));
    assert!(matches!(rig.admit(call("e", &["x"])), Decision::Denied(DenialReason::Draining)));
    rig.connected = true;
    rig.tick(Millis::MINUTE);
    rig.settle();
    rig.check_rest();
    assert_eq!(rig.pool.held.len(), 2);
}

#[test]
fn a_leg_that_ended_or_runs_in_another_call_or_on_another_node_is_not_recorded() {
    let mut rig = Rig::new(9);
    rig.settle();
    rig.admit(call("c", &["a", "b"]));
    rig.end(&["a"]);
    let conflict = |decision| match decision {
        Decision::Conflict(conflict) => conflict.word(),
        other => panic!("{other:?}"),
    };
    assert_eq!(conflict(adopt(&mut rig, call("c", &["a"]))), "released");
    assert_eq!(conflict(adopt(&mut rig, call("d", &["b"]))), "conflict");
    let mut elsewhere = call("d", &["x"]);
    elsewhere.legs[0].owner = Some(NodeName::new("other").expect("a name"));
    let Decision::Refused { field, .. } = adopt(&mut rig, elsewhere) else { panic!("refused") };
    assert_eq!(field, "legs[0].owner");
    rig.check_rest();
}

#[test]
fn a_question_under_way_for_a_leg_that_is_said_to_run_ends_in_one_lease() {
    let mut rig = Rig::new(9);
    rig.settle();
    super::refusal::ask(&mut rig, 77, call("c", &["a"]));
    let (id, request) = super::refusal::poll(&mut rig);
    assert!(matches!(
        rig.run(Command::Adopt { call: call("c", &["a"]) }),
        Reply::Decided(Decision::Granted(_))
    ));
    let outcome = rig.pool.serve(&request);
    super::refusal::answer(&mut rig, id, outcome);
    rig.settle();
    rig.check_rest();
    assert_eq!(rig.pool.held.len(), 1);
    let mut answers = rig.answers.iter();
    assert!(answers.any(|(ask, o)| *ask == AskId(77) && matches!(o, Outcome::Call(Decision::Granted(_)))));
}

#[test]
fn a_draining_node_refuses_new_calls_over_a_restart_says_so_and_keeps_what_runs() {
    let mut rig = Rig::new(9);
    rig.settle();
    rig.admit(call("c", &["a"]));
    rig.run(Command::Drain { on: true });
    rig.restart();
    rig.settle();
    assert!(matches!(rig.admit(call("d", &["b"])), Decision::Denied(DenialReason::Draining)));
    let shown = status(&mut rig);
    assert!(shown.draining && shown.alarms.contains(&"draining".to_owned()), "{shown:?}");
    assert_eq!(shown.legs, 1);
    let mut moved = call("e", &["x"]);
    moved.legs[0].replaces = Some(leg_id("a"));
    assert!(matches!(rig.admit(moved), Decision::Granted(_)), "a transfer is no new call");
    rig.run(Command::Drain { on: false });
    assert!(matches!(rig.admit(call("f", &["b"])), Decision::Granted(_)));
    assert!(!status(&mut rig).alarms.contains(&"draining".to_owned()));
    rig.check_rest();
}

#[test]
fn a_leg_an_administrator_released_by_force_is_not_recorded_as_running() {
    let mut rig = Rig::new(9);
    rig.settle();
    rig.admit(call("c", &["a"]));
    rig.pool.revoke(&leg_id("a"));
    rig.tick(Millis(20_000));
    rig.settle();
    let Decision::Conflict(conflict) = adopt(&mut rig, call("c", &["a"])) else { panic!("a conflict") };
    assert!(matches!(conflict, Conflict::Revoked { .. }));
}
