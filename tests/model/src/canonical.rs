//! One state for all those that nobody can tell apart.
//!
//! Three things are left out of a state, none of which changes what can happen from it:
//! messages that nobody would take any more, because numbers only rise; how high the numbers are, because
//! only their order matters; and which of the first node's two legs is which.

use crate::contract::Contract;
use crate::message::{Answer, Message, Reply, Request, Wish};
use crate::node::answered_by;
use crate::rule::Rule;
use crate::state::{Holder, NODES, Phase, Session, State};

/// Brings a state into its shortest form.
pub(crate) fn canonical(contract: &Contract, state: &mut State) {
    forget(state, contract.without.is_some_and(Rule::revives_requests));
    if contract.without.is_none() {
        for node in 0..NODES {
            rename_sessions(state, node);
            renumber_mutations(state, node);
            forget_last(state, node);
        }
        state.network.sort_unstable();
    }
    let legs = contract.case.legs;
    if contract.case.symmetric && legs.has(0) && legs.has(1) {
        name_legs(state);
    }
}

/// Drops the messages that nobody would take any more.
fn forget(state: &mut State, keep_requests: bool) {
    let mut network = std::mem::take(&mut state.network);
    network.retain(|message| match message {
        Message::Reply(reply) => {
            state.nodes[usize::from(reply.node)].flight.is_some_and(|flight| answered_by(flight, *reply))
        }
        Message::Request(request) => keep_requests || matters(state, *request),
    });
    state.network = network;
    let unsent = std::mem::take(&mut state.pool.unsent);
    let waits = |reply: &Reply| {
        state.nodes[usize::from(reply.node)].flight.is_some_and(|flight| answered_by(flight, *reply))
    };
    state.pool.unsent = unsent.into_iter().filter(waits).collect();
}

/// Whether a request is repeated by its node, or would still change the books. What counts is what a
/// restart of the pool would find.
fn matters(state: &State, request: Request) -> bool {
    let node = usize::from(request.node);
    let holder = &state.pool.on_disk()[node];
    let kept = request.session == holder.open;
    state.nodes[node].flight == Some(request)
        || match (request.wish, holder.session) {
            (Wish::Open { .. }, _) => request.session > holder.open,
            (Wish::Report { chunk, .. }, Session::Reporting { next, .. }) => kept && chunk >= next,
            (Wish::Mutation { sequence, .. }, Session::Active) => kept && sequence > holder.sequence,
            _ => false,
        }
}

/// The parts of a state that name a node's session.
fn sessions(state: &mut State, node: usize, mut with: impl FnMut(&mut u8)) {
    with(&mut state.nodes[node].open);
    with(&mut state.pool.books[node].open);
    if let Some(books) = &mut state.pool.durable {
        with(&mut books[node].open);
    }
    if let Some(flight) = &mut state.nodes[node].flight {
        with(&mut flight.session);
    }
    for message in &mut state.network {
        match message {
            Message::Request(request) if usize::from(request.node) == node => with(&mut request.session),
            Message::Reply(reply) if usize::from(reply.node) == node => with(&mut reply.session),
            _ => {}
        }
    }
    for reply in state.pool.unsent.iter_mut().filter(|reply| usize::from(reply.node) == node) {
        with(&mut reply.session);
    }
}

/// The oldest session of a node that is named anywhere becomes the first one.
fn rename_sessions(state: &mut State, node: usize) {
    let mut oldest = u8::MAX;
    sessions(state, node, |session| oldest = oldest.min(*session));
    if oldest > 1 {
        sessions(state, node, |session| *session -= oldest - 1);
    }
}

/// The parts of a state that number a mutation of a node in the session that the pool keeps.
fn numbers(state: &mut State, node: usize, mut with: impl FnMut(&mut u8)) {
    let kept = state.pool.on_disk()[node].open;
    let own = state.nodes[node].open == kept;
    if let (true, Phase::Active { sequence }) = (own, &mut state.nodes[node].phase) {
        with(sequence);
    }
    let of = |wish: &mut Wish, session: u8, with: &mut dyn FnMut(&mut u8)| {
        if let (true, Wish::Mutation { sequence, .. }) = (session == kept, wish) {
            with(sequence);
        }
    };
    let by = |reply: &mut Reply, with: &mut dyn FnMut(&mut u8)| {
        let named = usize::from(reply.node) == node && reply.session == kept;
        if let (true, Answer::Mutated { sequence, .. }) = (named, &mut reply.answer) {
            with(sequence);
        }
    };
    if let Some(flight) = &mut state.nodes[node].flight {
        of(&mut flight.wish, flight.session, &mut with);
    }
    for message in &mut state.network {
        match message {
            Message::Request(request) if usize::from(request.node) == node => {
                of(&mut request.wish, request.session, &mut with);
            }
            Message::Request(_) => {}
            Message::Reply(reply) => by(reply, &mut with),
        }
    }
    state.pool.unsent.iter_mut().for_each(|reply| by(reply, &mut with));
    let mut of_holder = |holder: &mut Holder| {
        if holder.open == kept {
            with(&mut holder.sequence);
        }
    };
    of_holder(&mut state.pool.books[node]);
    if let Some(books) = &mut state.pool.durable {
        of_holder(&mut books[node]);
    }
}

/// The lowest number that is named anywhere becomes 0.
fn renumber_mutations(state: &mut State, node: usize) {
    let mut lowest = u8::MAX;
    numbers(state, node, |number| lowest = lowest.min(*number));
    if lowest > 0 {
        numbers(state, node, |number| *number -= lowest);
    }
}

/// The last answer of a session is only kept for as long as somebody could ask for it again.
fn forget_last(state: &mut State, node: usize) {
    let asked = |holder: &Holder| {
        state.network.iter().any(|message| match message {
            Message::Request(Request { node: from, session, wish: Wish::Mutation { sequence, .. } }) => {
                (usize::from(*from), *session, *sequence) == (node, holder.open, holder.sequence)
            }
            _ => false,
        })
    };
    let now = asked(&state.pool.books[node]);
    let durable = state.pool.durable.as_ref().is_some_and(|books| asked(&books[node]));
    if !now {
        state.pool.books[node].last = None;
    }
    if let (false, Some(books)) = (durable, &mut state.pool.durable) {
        books[node].last = None;
    }
}

/// Of the two names that the first node's legs can have, those which come first are taken.
fn name_legs(state: &mut State) {
    if state.legs[0] < state.legs[1] {
        return;
    }
    let exchanged = exchanged(state);
    if exchanged < *state {
        *state = exchanged;
    }
}

/// The same state with the first node's two legs exchanged.
fn exchanged(state: &State) -> State {
    let mut other = state.clone();
    other.legs.swap(0, 1);
    other.talking = other.talking.exchanged();
    let wish = |wish: &mut Wish| match wish {
        Wish::Open { legs } | Wish::Report { legs, .. } | Wish::Mutation { legs, .. } => {
            *legs = legs.exchanged();
        }
        Wish::Heartbeat => {}
    };
    let said = |answer: &mut Answer| match answer {
        Answer::Opened { .. } => {}
        Answer::Reported { revoked, .. } | Answer::Beaten { revoked } => *revoked = revoked.exchanged(),
        Answer::Mutated { verdict, .. } => {
            verdict.granted = verdict.granted.exchanged();
            verdict.revoked = verdict.revoked.exchanged();
        }
    };
    let node = &mut other.nodes[0];
    node.unknown = node.unknown.exchanged();
    if let Some(legs) = &mut node.journal {
        legs.swap(0, 1);
    }
    if let Phase::Reporting { snapshot, taken, revoked } = &mut node.phase {
        for legs in [snapshot, taken, revoked] {
            *legs = legs.exchanged();
        }
    }
    if let Some(flight) = &mut node.flight {
        wish(&mut flight.wish);
    }
    exchange_books(&mut other.pool.books[0]);
    if let Some(books) = &mut other.pool.durable {
        exchange_books(&mut books[0]);
    }
    for message in &mut other.network {
        match message {
            Message::Request(request) => wish(&mut request.wish),
            Message::Reply(reply) => said(&mut reply.answer),
        }
    }
    other.network.sort_unstable();
    other.pool.unsent.iter_mut().for_each(|reply| said(&mut reply.answer));
    other.pool.unsent.sort_unstable();
    other
}

fn exchange_books(holder: &mut Holder) {
    holder.held = holder.held.exchanged();
    holder.buried = holder.buried.exchanged();
    if let Session::Reporting { legs, .. } = &mut holder.session {
        *legs = legs.exchanged();
    }
    if let Some(last) = &mut holder.last {
        last.granted = last.granted.exchanged();
        last.revoked = last.revoked.exchanged();
    }
}
