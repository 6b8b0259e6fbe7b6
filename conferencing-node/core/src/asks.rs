//! Questions that wait for the pool: hung up, expired, answered.

use std::collections::BTreeSet;

use headroom_core::call::Leg;
use headroom_core::{Call, LegId, Now, Service, Tx};

use crate::admit::{decide_call, decide_leg, end, is_foreign};
use crate::command::{AskId, Conflict, Decision, LegVerdict, Outcome, Reply};
use crate::event::Why;
use crate::machine::Node;
use crate::state::State;
use crate::uplink::Load;
use crate::volatile::{Ask, Question, Volatile};

/// Ends legs that the media server says have ended: running, asked for, or not known here.
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
    let ends = |leg: &LegId| known(leg) || !tx.state().is_dead(leg, now.boot);
    let ending: Vec<_> = legs.iter().filter(|leg| ends(leg)).cloned().collect();
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
                let is_over = |leg: &Leg| ended.contains(&leg.leg);
                let all = is_gateway(call) || call.legs.iter().all(is_over);
                match call.legs.iter().position(is_over).filter(|_| all) {
                    Some(index) => {
                        let leg = call.legs[index].leg.clone();
                        Outcome::Call(Decision::Conflict(Conflict::Released { index, leg }))
                    }
                    None => continue,
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
        Question::Call { call, ended } => {
            let call = match left(&call, &over(tx.state(), now, &call, &ended)) {
                Ok(call) => call,
                Err(released) => return Some(Outcome::Call(Decision::Conflict(released))),
            };
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

/// Legs of a call that nobody wants any more: their media server said so, or they ended since they were asked for
/// because a transfer took one over or a list left it out. A gateway call is over with either of its legs.
pub(crate) fn over(state: &State, now: Now, call: &Call, told: &BTreeSet<LegId>) -> BTreeSet<LegId> {
    let gone = |leg: &&Leg| {
        let own = !is_foreign(state, leg);
        told.contains(&leg.leg)
            || (own && !state.legs.contains_key(&leg.leg) && state.is_dead(&leg.leg, now.boot))
    };
    let id = |leg: &Leg| leg.leg.clone();
    if is_gateway(call) && call.legs.iter().any(|leg| gone(&leg)) {
        return call.legs.iter().map(id).collect();
    }
    call.legs.iter().filter(gone).map(id).collect()
}

fn is_gateway(call: &Call) -> bool {
    call.info.service == Service::Gateway
}

/// What is left of a call without the legs that are over.
///
/// # Errors
/// Nothing is left.
pub(crate) fn left(call: &Call, over: &BTreeSet<LegId>) -> Result<Call, Conflict> {
    let legs: Vec<_> = call.legs.iter().filter(|leg| !over.contains(&leg.leg)).cloned().collect();
    match call.legs.first() {
        Some(first) if legs.is_empty() => Err(Conflict::Released { index: 0, leg: first.leg.clone() }),
        _ => Ok(Call { info: call.info.clone(), legs }),
    }
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
