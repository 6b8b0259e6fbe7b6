//! What the model promises of the contract, and of itself.

use std::collections::BTreeSet;

use headroom_model::explore::{AT_REST, Explored, counterexample, each_state, every_promise, explore};
use headroom_model::message::Wish;
use headroom_model::state::{Chances, Leg, Legs, Session, State};
use headroom_model::{Case, Contract, Rule};

/// Explores a configuration in which every promise is kept, and a state of rest can be reached from every
/// state.
fn explored(case: Case) -> Explored {
    let found = explore(case, 1);
    assert!(found.broken.is_empty(), "{}: {:#?}", case.name, found.broken);
    assert!(found.rests > 0, "{}: nothing ever rests", case.name);
    assert_eq!(found.stuck, 0, "{}: states from which no rest can be reached", case.name);
    found
}

fn one_leg_a_node() -> Legs {
    Legs::one(0).and(Legs::one(2))
}

#[test]
fn with_one_leg_a_node_every_promise_is_kept_whatever_goes_wrong() {
    Case::small().into_iter().for_each(|case| drop(explored(case)));
}

#[test]
fn with_all_legs_every_promise_is_kept_while_sessions_end_and_a_license_expires() {
    let chances = Chances { sessions: 2, licenses: 1, ..Chances::default() };
    explored(Case { chances, ..Case::new("three legs") });
}

#[test]
fn with_all_legs_every_promise_is_kept_while_a_process_is_killed() {
    for (pool_kills, node_kills) in [(1, 0), (0, 1)] {
        let chances = Chances { licenses: 1, pool_kills, node_kills, ..Chances::default() };
        explored(Case { chances, ..Case::new("three legs") });
    }
}

#[test]
fn each_rule_left_out_breaks_a_promise() {
    for rule in Rule::ALL {
        let broken = counterexample(rule, &every_promise());
        assert!(broken.is_some_and(|broken| !broken.steps.is_empty()), "{} is not needed", rule.name());
    }
}

#[test]
fn without_numbers_fences_or_adoption_the_books_stay_wrong() {
    for rule in [Rule::NumberedMutations, Rule::Fencing, Rule::NumberedOpenings, Rule::AdoptOwnDecisions] {
        assert!(counterexample(rule, &[AT_REST]).is_some(), "{}: the books come right again", rule.name());
    }
}

#[test]
fn with_its_rule_a_configuration_that_breaks_without_it_keeps_every_promise() {
    let mut cases: Vec<Case> = Vec::new();
    for case in Rule::ALL.map(Rule::case) {
        let same =
            |one: &Case| (one.capacity, one.legs, one.chances) == (case.capacity, case.legs, case.chances);
        if !cases.iter().any(same) {
            cases.push(case);
        }
    }
    cases.into_iter().for_each(|case| drop(explored(case)));
}

/// What stands for the states that are reached when they are left as they come.
fn representatives(case: Case, plain: bool) -> BTreeSet<State> {
    let (short, mut found) = (Contract::whole(case), BTreeSet::new());
    each_state(&Contract { plain, ..short }, |state| {
        found.insert(short.representative(state));
    });
    found
}

#[test]
fn states_that_count_as_one_cannot_be_told_apart() {
    let one = Chances { sessions: 1, licenses: 1, ..Chances::default() };
    let two_on_a_node = Legs::one(0).and(Legs::one(1));
    for case in [
        Case { chances: one, legs: one_leg_a_node(), ..Case::new("one leg a node") },
        Case { chances: one, legs: two_on_a_node, capacity: 1, ..Case::new("two legs of one node") },
        Case { chances: Chances { force: 1, ..one }, legs: Legs::one(0), ..Case::new("one leg") },
        Case { chances: Chances { sessions: 2, ..one }, legs: two_on_a_node, ..Case::new("two sessions") },
        Case {
            chances: Chances { node_kills: 1, pool_kills: 1, ..one },
            legs: Legs::one(0),
            ..Case::new("one leg, two kills")
        },
    ] {
        let (short, long) = (representatives(case, false), representatives(case, true));
        assert!(short == long, "{}: {} and {} states", case.name, short.len(), long.len());
    }
}

#[test]
fn what_the_promises_are_about_happens() {
    let chances = Chances { sessions: 1, licenses: 1, force: 1, ..Chances::default() };
    let contract = Contract::whole(Case { chances, ..Case::new("three legs") });
    let mut seen = [false; 6];
    each_state(&contract, |state| {
        let now = [
            state.pool.in_use() > 2,
            state.pool.in_use() > u32::from(state.pool.capacity) && state.rests(),
            state.legs.contains(&Leg::Revoked),
            state
                .pool
                .books
                .iter()
                .any(|holder| matches!(holder.session, Session::Reporting { next: 1, .. })),
            state.pool.books[0].session == Session::Lapsed && !state.talking.none(),
            state.nodes.iter().any(|node| {
                let ended = |legs: Legs| legs.each().any(|leg| state.legs[leg] == Leg::Ended);
                node.flight
                    .is_some_and(|flight| matches!(flight.wish, Wish::Mutation { legs, .. } if ended(legs)))
            }),
        ];
        seen.iter_mut().zip(now).for_each(|(seen, now)| *seen |= now);
    });
    assert_eq!(seen, [true; 6]);
}
