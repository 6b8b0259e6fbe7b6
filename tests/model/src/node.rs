//! What a node does: for its media server, towards the pool, with the pool's answers, and after a kill.

use crate::contract::Contract;
use crate::message::{Answer, Change, Message, Reply, Request, Verdict, Wish};
use crate::rule::Rule;
use crate::state::{Leg, Legs, Node, Phase, State, node_of};

impl Contract {
    /// Notes what a restart would find, before legs of a node change. Where no kill can come any more, the
    /// journal is durable at once: nobody could tell the difference.
    pub(crate) fn journal(state: &mut State, node: usize) {
        if state.chances.node_kills > 0 && state.nodes[node].journal.is_none() {
            let legs = state.legs;
            let own = std::array::from_fn(|leg| if node_of(leg) == node { legs[leg] } else { Leg::New });
            state.nodes[node].journal = Some(own);
        }
    }

    /// Lets a leg run. Its media server is told when that is durable.
    fn run(state: &mut State, leg: usize, held: bool) {
        state.legs[leg] = Leg::Running { held };
        if state.chances.node_kills == 0 {
            state.talking = state.talking.and(Legs::one(leg));
        }
    }

    /// A question's time is over: the node decides.
    pub(crate) fn decide(&self, state: &mut State, leg: usize) {
        Self::journal(state, node_of(leg));
        Self::run(state, leg, self.lacks(Rule::AdoptOwnDecisions));
    }

    /// A leg is no more, running or asked for.
    pub(crate) fn end(state: &mut State, leg: usize) {
        let node = node_of(leg);
        Self::journal(state, node);
        state.talking = state.talking.but(Legs::one(leg));
        state.legs[leg] = match state.legs[leg] {
            Leg::Running { held: true } => Leg::Ending { held: true },
            Leg::Revoked => Leg::Ending { held: false },
            // What is under way may yet give it a lease; else there is nothing to give back.
            _ => Leg::Ended,
        };
        close(state, node);
    }

    /// The legs that a mutation sent now would be about.
    pub(crate) fn due(state: &State, node: usize, change: Change) -> Legs {
        let unknown = state.nodes[node].unknown;
        match change {
            Change::Release => {
                let absent = |leg| !matches!(leg, Leg::Running { .. } | Leg::Revoked | Leg::Ending { .. });
                let ending = state.legs_of(node, |leg| matches!(leg, Leg::Ending { .. }));
                ending.and(unknown.among(state.legs_of(node, absent)))
            }
            Change::Adopt => state.legs_of(node, |leg| leg == Leg::Running { held: false }),
            // An earlier lease of the same leg is given back first.
            Change::Allocate => state.legs_of(node, |leg| leg == Leg::Asking).but(unknown),
        }
    }

    /// Sends the next mutation.
    pub(crate) fn mutation(&self, state: &mut State, node: usize, change: Change) {
        let Phase::Active { sequence } = state.nodes[node].phase else { return };
        let legs = Self::due(state, node, change);
        fly(state, node, Wish::Mutation { sequence: sequence + 1, change, legs });
        if change == Change::Release && self.lacks(Rule::OutboxUntilAcknowledged) {
            for leg in legs.each() {
                state.legs[leg] = Leg::Released;
            }
            state.nodes[node].flight = None;
            state.nodes[node].phase = Phase::Active { sequence: sequence + 1 };
        }
    }

    /// Sends a heartbeat. It has no number here, but an answer is that of one request: those to earlier
    /// heartbeats are of no use any more.
    pub(crate) fn beat(state: &mut State, node: usize) {
        fly(state, node, Wish::Heartbeat);
        let (flight, unsent) = (state.nodes[node].flight, &mut state.pool.unsent);
        let old = |reply: &Reply| flight.is_some_and(|flight| answered_by(flight, *reply));
        unsent.retain(|reply| !old(reply));
        state.network.retain(|message| !matches!(message, Message::Reply(reply) if old(reply)));
    }

    /// Gives the session up and asks for another one.
    pub(crate) fn reopen(state: &mut State, node: usize) {
        let n = &mut state.nodes[node];
        (n.open, n.phase) = (n.open + 1, Phase::Opening);
        let legs = state.legs_of(node, Leg::runs);
        fly(state, node, Wish::Open { legs });
    }

    /// The process is killed, and the next one finds its journal. Questions are lost with who waited.
    pub(crate) fn kill_node(state: &mut State, node: usize) {
        let journal = state.nodes[node].journal.take();
        for leg in Legs::of(node).each() {
            let found = journal.map_or(state.legs[leg], |legs| legs[leg]);
            state.legs[leg] = if found == Leg::Asking { Leg::New } else { found };
        }
        state.chances.node_kills -= 1;
        state.nodes[node].unknown = Legs::default();
        Self::reopen(state, node);
    }

    /// Takes an answer, and says whether it is that of the request under way. With `turned`, a report
    /// begins with the other leg.
    pub(crate) fn hear(&self, state: &mut State, reply: Reply, turned: bool) -> bool {
        let node = usize::from(reply.node);
        let n = &state.nodes[node];
        let Some(flight) = n.flight.filter(|flight| answered_by(*flight, reply)) else { return false };
        Self::journal(state, node);
        state.nodes[node].flight = None;
        match (flight.wish, reply.answer) {
            (Wish::Open { legs }, Answer::Opened { report: false }) => {
                self.settle(state, node, legs, Legs::default());
                state.nodes[node].phase = Phase::Active { sequence: 0 };
            }
            (Wish::Open { .. }, Answer::Opened { report: true }) => {
                let snapshot = state.legs_of(node, Leg::runs);
                let phase = Phase::Reporting { snapshot, taken: Legs::default(), revoked: Legs::default() };
                state.nodes[node].phase = phase;
                report(state, node, 0, turned);
            }
            (Wish::Report { chunk, legs, last }, Answer::Reported { revoked, .. }) => {
                self.reported(state, node, (chunk, last), legs, revoked);
            }
            (Wish::Mutation { legs, .. }, Answer::Mutated { sequence, verdict }) => {
                state.nodes[node].phase = Phase::Active { sequence };
                self.mutated(state, node, legs, verdict);
            }
            (_, Answer::Beaten { revoked }) => revoke(state, node, revoked),
            _ => return false,
        }
        close(state, node);
        forget_unchanged(state, node);
        true
    }

    fn reported(&self, state: &mut State, node: usize, (chunk, last): (u8, bool), legs: Legs, more: Legs) {
        let Phase::Reporting { snapshot, taken, revoked } = state.nodes[node].phase else { return };
        let (taken, revoked) = (taken.and(legs), revoked.and(more));
        if last {
            self.settle(state, node, snapshot, revoked);
            state.nodes[node].phase = Phase::Active { sequence: 0 };
        } else {
            state.nodes[node].phase = Phase::Reporting { snapshot, taken, revoked };
            report(state, node, chunk + 1, false);
        }
    }

    /// The pool now holds exactly these legs, as they were, without the revoked ones.
    fn settle(&self, state: &mut State, node: usize, snapshot: Legs, revoked: Legs) {
        let runs = state.legs_of(node, Leg::runs);
        let told = if self.lacks(Rule::SettleWhatWasTold) { runs } else { snapshot };
        for leg in Legs::of(node).but(told).each() {
            if state.legs[leg] == (Leg::Ending { held: true }) {
                state.legs[leg] = Leg::Released;
            }
        }
        revoke(state, node, revoked);
        for leg in told.but(revoked).each() {
            hold(state, leg);
        }
        for leg in Legs::of(node).but(told).each() {
            if state.legs[leg] == (Leg::Running { held: true }) {
                state.legs[leg] = Leg::Running { held: false };
            }
        }
    }

    /// What the pool has done to these legs.
    fn mutated(&self, state: &mut State, node: usize, legs: Legs, verdict: Verdict) {
        for leg in legs.each() {
            let granted = verdict.granted.has(leg);
            match (verdict.change, state.legs[leg]) {
                (Change::Release, Leg::Ending { .. }) => state.legs[leg] = Leg::Released,
                (Change::Release, _) => {}
                (Change::Allocate, Leg::Asking) if granted => Self::run(state, leg, true),
                (Change::Allocate, Leg::Asking) => state.legs[leg] = Leg::Ended,
                // Nobody wants it any more: it is to be given back.
                (Change::Allocate, Leg::Ended) if granted && self.lacks(Rule::GiveBackLateGrants) => {}
                (_, _) if granted => hold(state, leg),
                (Change::Allocate, Leg::Running { .. }) if self.lacks(Rule::LateDenialCutsNothing) => {
                    state.legs[leg] = Leg::Ended;
                }
                (Change::Allocate, Leg::Running { .. }) if self.lacks(Rule::AdoptAfterLateDenial) => {
                    hold(state, leg);
                }
                // It runs, and is adopted.
                (_, _) => {}
            }
        }
        if verdict.change == Change::Release {
            state.nodes[node].unknown = state.nodes[node].unknown.but(legs);
        }
        revoke(state, node, verdict.revoked);
    }
}

/// The pool holds a lease for a leg that runs or has run.
fn hold(state: &mut State, leg: usize) {
    state.legs[leg] = match state.legs[leg] {
        Leg::Revoked => Leg::Revoked,
        Leg::Running { .. } => Leg::Running { held: true },
        _ => Leg::Ending { held: true },
    };
}

/// The pool has taken the leases of these legs back.
fn revoke(state: &mut State, node: usize, revoked: Legs) {
    for leg in revoked.each() {
        match state.legs[leg] {
            Leg::Running { .. } | Leg::Revoked => state.legs[leg] = Leg::Revoked,
            Leg::Ending { .. } => state.legs[leg] = Leg::Ending { held: false },
            // The pool waits to hear that it ended, and nothing here would ever say so.
            _ => {
                let unknown = &mut state.nodes[node].unknown;
                *unknown = unknown.and(Legs::one(leg));
            }
        }
    }
}

/// Legs that are over, with nothing under way about them, are so for ever: all that was sent in earlier
/// sessions is fenced.
fn close(state: &mut State, node: usize) {
    let n = &state.nodes[node];
    if !matches!(n.phase, Phase::Active { .. }) {
        return;
    }
    let under_way = match n.flight.map(|flight| flight.wish) {
        Some(Wish::Mutation { legs, .. }) => legs,
        _ => Legs::default(),
    };
    for leg in Legs::of(node).but(under_way).each() {
        if state.legs[leg] == Leg::Ended {
            state.legs[leg] = Leg::Released;
        }
    }
}

/// An answer that changed no leg leaves the journal as it is.
fn forget_unchanged(state: &mut State, node: usize) {
    let legs = state.legs;
    let journal = &mut state.nodes[node].journal;
    if journal.is_some_and(|kept| Legs::of(node).each().all(|leg| kept[leg] == legs[leg])) {
        *journal = None;
    }
}

/// Sends the next chunk of a report: one leg each.
fn report(state: &mut State, node: usize, chunk: u8, turned: bool) {
    let Phase::Reporting { snapshot, taken, .. } = state.nodes[node].phase else { return };
    let left = snapshot.but(taken);
    let next = if turned { left.each().last() } else { left.each().next() };
    let legs = next.map_or(Legs::default(), Legs::one);
    fly(state, node, Wish::Report { chunk, legs, last: left.but(legs).none() });
}

/// Sends a request, which is under way until it is answered.
pub(crate) fn fly(state: &mut State, node: usize, wish: Wish) {
    let n: &mut Node = &mut state.nodes[node];
    let number = u8::from(node > 0);
    let request = Request { node: number, session: n.open, wish };
    n.flight = Some(request);
    state.send(Message::Request(request));
}

/// Whether a reply answers a request.
pub(crate) fn answered_by(request: Request, reply: Reply) -> bool {
    let fits = match (request.wish, reply.answer) {
        (Wish::Open { .. }, Answer::Opened { .. }) | (Wish::Heartbeat, Answer::Beaten { .. }) => true,
        (Wish::Report { chunk, .. }, Answer::Reported { chunk: taken, .. }) => chunk == taken,
        (Wish::Mutation { sequence, .. }, Answer::Mutated { sequence: done, .. }) => sequence == done,
        _ => false,
    };
    fits && (request.node, request.session) == (reply.node, reply.session)
}
