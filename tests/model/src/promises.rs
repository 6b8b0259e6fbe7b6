//! What the contract promises, in every state.

use stateright::Property;

use crate::contract::Contract;
use crate::state::{Breach, Leg, Legs, NODES, Session, State};

/// The promise that matters in the end: that the books come right.
pub const AT_REST: &str = "at rest the legs that run are exactly the leases held";

/// What is promised of every state; that a state of rest stays reachable is looked at afterwards.
pub(crate) fn promises() -> Vec<Property<Contract>> {
    vec![
        Property::always(AT_REST, |_, state: &State| {
            let held = state.pool.books.iter().fold(Legs::default(), |all, holder| all.and(holder.held));
            !state.rests() || held == state.talking
        }),
        Property::always("no grant commits above the limit", |_, state: &State| {
            kept(state, Breach::AboveLimit)
        }),
        Property::always("a leg that is over is never held again", |_, state: &State| {
            let over = Legs::which(|leg| state.legs[leg] == Leg::Released);
            state.pool.books.iter().all(|holder| holder.held.among(over).none())
        }),
        Property::always("a session that is over changes nothing", |_, state: &State| {
            kept(state, Breach::Fence)
        }),
        Property::always("a mutation is carried out at most once", |_, state: &State| {
            kept(state, Breach::CarriedOutTwice)
        }),
        Property::always("a retry gets the same answer", |_, state: &State| {
            kept(state, Breach::AnsweredOtherwise)
        }),
        Property::always(
            "in contact a leg that runs is held, or its node has yet to tell of it",
            |_, state: &State| {
                (0..NODES).filter(|node| state.shared(*node).is_some()).all(|node| {
                    let running = state.legs_of(node, |leg| leg == Leg::Running { held: true });
                    let holder = &state.pool.books[node];
                    running.but(holder.held).but(holder.buried).none()
                })
            },
        ),
        Property::always("at the same number both books say the same", |_, state: &State| {
            (0..NODES).all(|node| books_agree(state, node))
        }),
        Property::always("a call that goes on is never cut", |_, state: &State| {
            let runs = |leg| matches!(leg, Leg::Running { .. } | Leg::Revoked);
            let known = Legs::which(|leg| runs(state.legs[leg]));
            kept(state, Breach::Cut) && state.talking.but(known).none()
        }),
        Property::always(
            "a lease taken back by force stays so until its leg has ended",
            |_, state: &State| state.pool.books.iter().all(|holder| holder.held.among(holder.buried).none()),
        ),
    ]
}

fn kept(state: &State, breach: Breach) -> bool {
    state.breach != Some(breach)
}

/// What a heartbeat compares: it never finds a difference, but for leases taken back by force, of which
/// the node may have heard or not.
fn books_agree(state: &State, node: usize) -> bool {
    let holder = &state.pool.books[node];
    if state.shared(node) != Some(holder.sequence) || holder.session != Session::Active {
        return true;
    }
    let believed = state.legs_of(node, Leg::held);
    holder.held.but(believed).none() && believed.but(holder.held).but(holder.buried).none()
}
