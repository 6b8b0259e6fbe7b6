//! Questions that wait for the pool: hung up, expired, answered.

use std::collections::BTreeSet;

use headroom_core::{Call, LegId, Now, Tx};

use crate::admit::{decide_call, decide_leg, end, is_foreign};
use crate::command::{AskId, Conflict, Decision, LegVerdict, Outcome, Reply};
use crate::event::Why;
use crate::machine::Node;
use crate::state::State;
use crate::uplink::Load;
use crate::volatile::{Ask, Question, Volatile};

/// Ends legs that the media server says have ended, running or asked for.
pub(crate) fn end_legs(tx: &mut Tx<'_, Node>, now: Now, legs: Vec<LegId>) -> Reply {
    let legs: BTreeSet<_> = legs.into_iter().collect();
    let sources: Vec<_> =
        legs.iter().filter_map(|l| tx.state().legs.get(l).map(|r| r.source().clone())).collect();
    for source in sources {
        tx.volatile_mut().sources.insert(source, now.boot);
    }
    let count = legs.iter().filter(|leg| tx.state().legs.contains_key(*leg)).count() as u64;
    let known = |leg: &LegId| tx.state().legs.contains_key(leg) || tx.volatile().asked.contains_key(leg);
    // Also one that is not known here: its end overtook the question, or it was denied just now. One that is
    // said to have ended again is dead for no longer.
    let new = |leg: &LegId| known(leg) || !tx.state().is_dead(leg, now.boot);
    let ending: Vec<_> = legs.iter().filter(|leg| new(leg)).cloned().collect();
    let outcomes = hang_up(tx, &legs);
    end(tx, now, ending, Why::Told);
    Reply::Ended { count, outcomes }
}

/// Takes ended legs out of the questions that name them. A question with no leg left is over; if its
/// request is under way, a late grant is given back.
fn hang_up(tx: &mut Tx<'_, Node>, legs: &BTreeSet<LegId>) -> Vec<(AskId, Outcome)> {
    let mut outcomes = Vec::new();
    let asked = &tx.volatile().asked;
    let asks: BTreeSet<_> = legs.iter().filter_map(|leg| asked.get(leg)).flatten().copied().collect();
    for ask in asks {
        let Some(waiting) = tx.volatile_mut().asks.get_mut(&ask) else { continue };
        let outcome = match &mut waiting.what {
            Question::Call { call, ended } => {
                ended.extend(call.legs.iter().map(|l| &l.leg).filter(|l| legs.contains(*l)).cloned());
                match call.legs.iter().position(|leg| ended.contains(&leg.leg)) {
                    Some(index) if call.legs.iter().all(|leg| ended.contains(&leg.leg)) => {
                        let leg = call.legs[index].leg.clone();
                        Outcome::Call(Decision::Conflict(Conflict::Released { index, leg }))
                    }
                    _ => continue,
                }
            }
            Question::Leg { leg, .. } if legs.contains(leg) => Outcome::Leg(LegVerdict::Released),
            Question::Leg { .. } => continue,
        };
        take(tx.volatile_mut(), ask);
        outcomes.push((ask, outcome));
    }
    outcomes
}

/// A question is over.
pub(crate) fn take(volatile: &mut Volatile, ask: AskId) -> Option<Ask> {
    let taken = volatile.asks.remove(&ask)?;
    let legs: Vec<&LegId> = match &taken.what {
        Question::Call { call, .. } => call.legs.iter().map(|leg| &leg.leg).collect(),
        Question::Leg { leg, .. } => vec![leg],
    };
    for leg in legs {
        if let Some(asks) = volatile.asked.get_mut(leg) {
            asks.remove(&ask);
            if asks.is_empty() {
                volatile.asked.remove(leg);
            }
        }
    }
    Some(taken)
}

/// Decides questions here: their budget is over, or the pool does not answer.
pub(crate) fn expire(tx: &mut Tx<'_, Node>, now: Now, asks: Vec<AskId>) -> Vec<(AskId, Outcome)> {
    asks.into_iter().filter_map(|ask| Some((ask, expire_one(tx, now, ask)?))).collect()
}

fn expire_one(tx: &mut Tx<'_, Node>, now: Now, ask: AskId) -> Option<Outcome> {
    let taken = take(tx.volatile_mut(), ask)?;
    Some(match taken.what {
        Question::Leg { leg, media } => {
            let before = tx.state().counters.past;
            let verdict = decide_leg(tx, now, &leg, media);
            let past = tx.state().counters.past;
            if taken.in_flight && past > before {
                note_denial(tx.volatile_mut(), ask, past);
            }
            Outcome::Leg(verdict)
        }
        Question::Call { mut call, ended } => {
            let gone = gone(tx.state(), now, &call);
            if let Some(released) = without(&mut call, &ended.into_iter().chain(gone).collect()) {
                return Some(Outcome::Call(Decision::Conflict(released)));
            }
            let (before, noted) = (tx.state().counters.revision, tx.state().counters.past);
            let decision = decide_call(tx, now, &call);
            let (revision, past) = (tx.state().counters.revision, tx.state().counters.past);
            if taken.in_flight && revision > before {
                note_admission(tx.volatile_mut(), ask, revision);
            }
            // An admission notes past events too, for legs that it replaces.
            if taken.in_flight && past > noted && matches!(decision, Decision::Denied(_)) {
                note_denial(tx.volatile_mut(), ask, past);
            }
            Outcome::Call(decision)
        }
    })
}

/// Legs of a call that ended since they were asked for: a transfer took one over, a list left it out.
pub(crate) fn gone(state: &State, now: Now, call: &Call) -> BTreeSet<LegId> {
    let own = call.legs.iter().filter(|leg| !is_foreign(state, leg)).map(|leg| &leg.leg);
    own.filter(|leg| !state.legs.contains_key(*leg) && state.is_dead(leg, now.boot)).cloned().collect()
}

/// Takes ended legs out of a call, unless none would be left.
pub(crate) fn without(call: &mut Call, ended: &BTreeSet<LegId>) -> Option<Conflict> {
    if let Some(first) = call.legs.first()
        && call.legs.iter().all(|leg| ended.contains(&leg.leg))
    {
        return Some(Conflict::Released { index: 0, leg: first.leg.clone() });
    }
    call.legs.retain(|leg| !ended.contains(&leg.leg));
    None
}

/// Remembers in the request under way that its question was decided here.
fn note_admission(volatile: &mut Volatile, ask: AskId, revision: u64) {
    if let Some(flight) = &mut volatile.flight
        && let Load::Allocate(items) = &mut flight.load
    {
        for item in items.iter_mut().filter(|item| item.ask == ask) {
            item.admitted = Some(revision);
        }
    }
}

/// Remembers in the request under way that its question was denied here, and which past event says
/// so: if the pool denies it too, that is recorded once.
fn note_denial(volatile: &mut Volatile, ask: AskId, past: u64) {
    let Some(flight) = &mut volatile.flight else { return };
    match &mut flight.load {
        Load::Allocate(items) => {
            items.iter_mut().filter(|item| item.ask == ask).for_each(|item| item.denied = Some(past));
        }
        Load::Update(items) => {
            let named = items.iter_mut().filter(|item| item.ask == Some(ask));
            named.for_each(|item| item.denied = Some(past));
        }
        Load::Open(_) | Load::Report { .. } | Load::Release(_) | Load::Adopt(_) | Load::Heartbeat(_) => {}
    }
}

/// Every question that waits.
pub(crate) fn waiting(volatile: &Volatile) -> Vec<AskId> {
    volatile.asks.keys().copied().collect()
}
