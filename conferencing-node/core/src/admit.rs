//! Decisions: who waits for the pool, and what the node decides by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headroom_core::rating::{rate, rate_leg};
use headroom_core::{Call, Charge, DenialReason, Feature, Leg, LegId, Media, Millis, Now, Tx, Units};

use crate::command::{AskId, Conflict, Decision, Granted, GrantedLeg, LegVerdict, Reply};
use crate::event::{Event, NewLeg, Why};
use crate::machine::{Node, reading};
use crate::state::{LegRecord, State};
use crate::uplink::{Phase, PoolLease};
use crate::volatile::{Ask, Question, Volatile};
use crate::weight::{self, Weigh};

/// How long the pool's word that a feature is full holds back a decision made here.
const FULL_FOR: Millis = Millis(15_000);

/// Whether another node runs the leg.
pub(crate) fn is_foreign(state: &State, leg: &Leg) -> bool {
    leg.owner.as_ref().is_some_and(|owner| state.counters.node.as_ref() != Some(owner))
}

/// What stands against a call before anybody is asked. Its source shows life.
fn stands_against(tx: &mut Tx<'_, Node>, now: Now, call: &Call) -> Option<Decision> {
    if let Err(error) = call.check() {
        return Some(Decision::Refused { field: error.field(), text: error.to_string() });
    }
    let weight = call.weight();
    if weight > weight::CALL {
        let text = format!(
            "the call takes about {weight} bytes, at most {} are allowed: give fewer legs or shorter texts",
            weight::CALL
        );
        return Some(Decision::Refused { field: "legs".into(), text });
    }
    tx.volatile_mut().sources.insert(call.info.source.clone(), now.boot);
    conflict(tx, now, call).or_else(|| revoked(tx.state(), call)).map(Decision::Conflict)
}

/// Records legs that run already by their media server's own decision. The pool is not asked but told, as of every
/// leg that was not granted by it.
pub(crate) fn adopt(tx: &mut Tx<'_, Node>, now: Now, call: &Call) -> Decision {
    if let Some(decision) = stands_against(tx, now, call) {
        return decision;
    }
    if let Some(index) = call.legs.iter().position(|leg| is_foreign(tx.state(), leg)) {
        let text = "another node runs it: that node's media server has to say so".to_owned();
        return Decision::Refused { field: format!("legs[{index}].owner"), text };
    }
    if all_run(tx.state(), call) {
        return Decision::Granted(repeat(tx, now, call));
    }
    let granted = grant(tx, now, call, None);
    // They run, whether or not the answer arrives.
    confirm(tx, call.legs.iter().map(|leg| &leg.leg));
    Decision::Granted(granted)
}

pub(crate) fn admit(tx: &mut Tx<'_, Node>, now: Now, ask: AskId, call: Call) -> Reply {
    if let Some(decision) = stands_against(tx, now, &call) {
        return Reply::Decided(decision);
    }
    let state = tx.state();
    if all_run(state, &call) {
        return Reply::Decided(Decision::Granted(repeat(tx, now, &call)));
    }
    if state.counters.draining && !carries_on(state, &call) {
        return Reply::Decided(deny(tx, now, call, DenialReason::Draining));
    }
    if decides_alone(tx.volatile()) {
        return Reply::Decided(decide_call(tx, now, &call));
    }
    let until = now.boot.plus(tx.volatile().options.budget);
    let volatile = tx.volatile_mut();
    for leg in &call.legs {
        volatile.asked.entry(leg.leg.clone()).or_default().insert(ask);
    }
    let what = Question::Call { call, ended: BTreeSet::new() };
    volatile.asks.insert(ask, Ask { what, in_flight: false, ripe: false, until });
    Reply::Waiting { ask, until }
}

fn conflict(tx: &Tx<'_, Node>, now: Now, call: &Call) -> Option<Conflict> {
    let state = tx.state();
    call.legs.iter().enumerate().filter(|(_, leg)| !is_foreign(state, leg)).find_map(|(index, leg)| {
        let leg = leg.leg.clone();
        if let Some(record) = state.legs.get(&leg) {
            let other = record.call() != &call.info.call;
            return other.then(|| Conflict::OtherCall { index, leg, call: record.call().clone() });
        }
        if state.is_dead(&leg, now.boot) {
            return Some(Conflict::Released { index, leg });
        }
        tx.volatile().asked.get(&leg)?.iter().find_map(|ask| match &tx.volatile().asks.get(ask)?.what {
            Question::Call { call: asked, .. } if asked.info.call != call.info.call => {
                Some(Conflict::OtherCall { index, leg: leg.clone(), call: asked.info.call.clone() })
            }
            _ => None,
        })
    })
}

/// The leg of a call that runs here although an administrator has released it by force.
pub(crate) fn revoked(state: &State, call: &Call) -> Option<Conflict> {
    let revoked = |leg: &Leg| {
        !is_foreign(state, leg)
            && state.legs.get(&leg.leg).is_some_and(|r| r.revoked && r.call() == &call.info.call)
    };
    let index = call.legs.iter().position(revoked)?;
    Some(Conflict::Revoked { index, leg: call.legs[index].leg.clone() })
}

/// Whether every leg of a call runs here and may go on.
pub(crate) fn all_run(state: &State, call: &Call) -> bool {
    let runs =
        |leg: &Leg| state.legs.get(&leg.leg).is_some_and(|r| !r.revoked && r.call() == &call.info.call);
    call.legs.iter().all(|leg| !is_foreign(state, leg) && runs(leg))
}

/// The same grant again: every leg runs already.
pub(crate) fn repeat(tx: &mut Tx<'_, Node>, now: Now, call: &Call) -> Granted {
    asked_again(tx, now, call.legs.iter().map(|leg| &leg.leg));
    let state = tx.state();
    let records = call.legs.iter().filter_map(|leg| state.legs.get(&leg.leg));
    let legs: Vec<_> = records
        .clone()
        .map(|r| GrantedLeg {
            leg: r.id().clone(),
            charge: r.running.charge.clone(),
            lease: r.lease,
            owner: None,
        })
        .collect();
    Granted { legs, optimistic: records.into_iter().any(|r| r.optimistic()) }
}

/// A media server asks again for legs that run. It does not know of the first answer, and may list its legs before
/// this one arrives.
fn asked_again<'a>(tx: &mut Tx<'_, Node>, now: Now, legs: impl Iterator<Item = &'a LegId> + Clone) {
    let revision = tx.state().counters.revision;
    let volatile = tx.volatile_mut();
    volatile.granted_at.extend(legs.clone().map(|leg| (leg.clone(), now.boot)));
    volatile.asked_again.extend(legs.clone().map(|leg| (leg.clone(), (now.boot, revision))));
    confirm(tx, legs);
}

/// The media server knows of these legs, because it named them or was answered: they are no longer
/// in doubt.
pub(crate) fn confirm<'a>(tx: &mut Tx<'_, Node>, legs: impl Iterator<Item = &'a LegId>) {
    let state = tx.state();
    let doubts = [&state.undelivered, &state.unconfirmed, &state.doubtful];
    let in_doubt = |leg: &LegId| doubts.iter().any(|legs| legs.contains(leg));
    let legs: Vec<_> = legs.filter(|leg| in_doubt(leg)).cloned().collect();
    if !legs.is_empty() {
        tx.emit(Event::Confirmed { legs });
    }
}

/// The answer that grants these legs went out. What their media server lists may still be from before it.
pub(crate) fn delivered(tx: &mut Tx<'_, Node>, now: Now, legs: &[LegId]) {
    let running = tx.state().legs.clone();
    let went_out = legs.iter().filter(|leg| running.contains_key(*leg));
    tx.volatile_mut().granted_at.extend(went_out.map(|leg| (leg.clone(), now.boot)));
    confirm(tx, legs.iter());
}

/// Whether waiting for the pool is pointless now.
fn decides_alone(volatile: &Volatile) -> bool {
    volatile.circuit.open
}

/// Whether the node may decide by itself at all.
fn standing(tx: &Tx<'_, Node>, now: Now) -> Result<(), DenialReason> {
    let volatile = tx.volatile();
    let grace = tx.state().counters.grace.at(&reading(volatile, now));
    if grace.refused || !grace.had_contact {
        Err(DenialReason::NotEnrolled)
    } else if grace.age >= volatile.options.grace {
        Err(DenialReason::GraceExpired)
    } else {
        Ok(())
    }
}

fn known_full(volatile: &Volatile, now: Now, feature: &Feature) -> bool {
    volatile.full.get(feature).is_some_and(|(full, at)| *full && now.boot.since(*at) <= FULL_FOR)
}

/// A leg that may go on.
fn goes_on<'a>(state: &'a State, leg: &LegId) -> Option<&'a Arc<LegRecord>> {
    state.legs.get(leg).filter(|record| !record.revoked)
}

/// Units that a call adds, by feature: each replaced leg moves its own once, one that was revoked has
/// none to move, and a feature that counts per call counts once.
fn added(state: &State, call: &Call) -> BTreeMap<Feature, Units> {
    let (mut needs, mut moved) = (BTreeMap::<Feature, Units>::new(), BTreeMap::<Feature, Units>::new());
    let replaced: BTreeSet<_> = call.legs.iter().filter_map(|leg| leg.replaces.as_ref()).collect();
    for old in replaced.into_iter().filter_map(|old| goes_on(state, old)) {
        let units = moved.entry(old.running.charge.feature.clone()).or_default();
        *units = units.plus(old.running.charge.units);
    }
    for leg in &call.legs {
        if !is_foreign(state, leg) && state.legs.contains_key(&leg.leg) {
            continue;
        }
        let Charge { feature, units } = rate_leg(&call.info, leg);
        let runs = state.calls.contains_key(&call.info.call);
        if feature.per_call() && (runs || needs.contains_key(&feature)) {
            continue;
        }
        let sum = needs.entry(feature).or_default();
        *sum = sum.plus(units);
    }
    for (feature, units) in &mut needs {
        *units = units.above(moved.get(feature).copied().unwrap_or_default());
    }
    needs
}

/// Whether a call is no new one: each new leg takes over from a leg that runs here, or joins a call
/// that is paid for as a whole.
fn carries_on(state: &State, call: &Call) -> bool {
    let mut replaced = BTreeSet::new();
    let mut takes_over = |leg: &Leg| {
        leg.replaces.as_ref().is_some_and(|old| goes_on(state, old).is_some() && replaced.insert(old.clone()))
    };
    let joins = |leg: &Leg| {
        let feature = rate_leg(&call.info, leg).feature;
        let legs = state.calls.get(&call.info.call).into_iter().flatten();
        let mut legs = legs.filter_map(|leg| goes_on(state, leg));
        feature.per_call() && legs.any(|record| record.running.charge.feature == feature)
    };
    let mut new = call.legs.iter().filter(|leg| is_foreign(state, leg) || !state.legs.contains_key(&leg.leg));
    new.all(|leg| takes_over(leg) || joins(leg))
}

/// The node's own decision about a call.
pub(crate) fn decide_call(tx: &mut Tx<'_, Node>, now: Now, call: &Call) -> Decision {
    if let Some(revoked) = revoked(tx.state(), call) {
        return Decision::Conflict(revoked);
    }
    if all_run(tx.state(), call) {
        return Decision::Granted(repeat(tx, now, call));
    }
    let needs: Vec<_> = added(tx.state(), call).into_iter().filter(|(_, units)| !units.is_zero()).collect();
    // What moves units and adds none is no new call; one that needs more is judged like any increase.
    let old = needs.is_empty() && carries_on(tx.state(), call);
    let reason = standing(tx, now).err().filter(|_| !old).or_else(|| {
        let full = needs.iter().any(|(feature, _)| known_full(tx.volatile(), now, feature));
        full.then_some(DenialReason::InsufficientLicenses)
    });
    match reason {
        Some(reason) => deny(tx, now, call.clone(), reason),
        None => Decision::Granted(grant(tx, now, call, None)),
    }
}

/// Why a call that has yet to begin may not. It is asked for again, or told, once it begins.
pub(crate) fn foresee(tx: &mut Tx<'_, Node>, now: Now, call: Call) -> Option<DenialReason> {
    let (state, volatile) = (tx.state(), tx.volatile());
    let draining = state.counters.draining.then_some(DenialReason::Draining);
    let full = |(feature, units): (Feature, Units)| !units.is_zero() && known_full(volatile, now, &feature);
    let full = added(state, &call).into_iter().any(full).then_some(DenialReason::InsufficientLicenses);
    let reason = draining.or_else(|| standing(tx, now).err()).or(full)?;
    deny(tx, now, call, reason);
    Some(reason)
}

fn deny(tx: &mut Tx<'_, Node>, now: Now, call: Call, reason: DenialReason) -> Decision {
    tx.emit(Event::Denied { call, reason, at: now.wall });
    Decision::Denied(reason)
}

/// Lets a call's legs run. `leases` is what the pool granted, none for the node's own decision.
pub(crate) fn grant(
    tx: &mut Tx<'_, Node>,
    now: Now,
    call: &Call,
    leases: Option<&BTreeMap<LegId, PoolLease>>,
) -> Granted {
    let (mut legs, mut answer) = (Vec::new(), Vec::new());
    let state = tx.state();
    let runs = |leg: &Leg| {
        let record = state.legs.get(&leg.leg).filter(|_| !is_foreign(state, leg));
        record.is_some_and(|record| record.call() == &call.info.call)
    };
    let named: Vec<_> = call.legs.iter().filter(|leg| runs(leg)).map(|leg| leg.leg.clone()).collect();
    asked_again(tx, now, named.iter());
    for leg in &call.legs {
        let lease = leases.and_then(|leases| leases.get(&leg.leg));
        let charge = lease.map_or_else(|| rate_leg(&call.info, leg), |lease| lease.charge.clone());
        let foreign = is_foreign(tx.state(), leg);
        let running = tx.state().legs.get(&leg.leg).filter(|_| !foreign);
        let (charge, lease) = match running {
            Some(record) => (record.running.charge.clone(), record.lease),
            None => (charge, lease.map(|lease| lease.lease)),
        };
        answer.push(GrantedLeg {
            leg: leg.leg.clone(),
            charge: charge.clone(),
            lease,
            owner: leg.owner.clone().filter(|_| foreign),
        });
        if !foreign && running.is_none() {
            // What the pool holds can be rated differently, for example when a leg was asked for twice
            // with other media: then it is brought in line like every other difference.
            let held = leases.map(|_| charge);
            legs.push(NewLeg { leg: leg.clone(), charge: rate_leg(&call.info, leg), held, lease });
        }
    }
    for old in call.legs.iter().filter_map(|leg| leg.replaces.as_ref()) {
        if tx.state().legs.contains_key(old) {
            end(tx, now, vec![old.clone()], Why::Replaced);
        }
    }
    for leg in &legs {
        tx.volatile_mut().granted_at.insert(leg.leg.leg.clone(), now.boot);
        tx.volatile_mut().unknown.remove(&leg.leg.leg);
    }
    if !legs.is_empty() {
        tx.emit(Event::Granted { info: call.info.clone(), legs, at: now.wall });
    }
    Granted { legs: answer, optimistic: leases.is_none() }
}

/// Ends legs; those that do not run only become dead for a while.
pub(crate) fn end(tx: &mut Tx<'_, Node>, now: Now, legs: Vec<LegId>, why: Why) {
    for leg in &legs {
        let volatile = tx.volatile_mut();
        volatile.granted_at.remove(leg);
        volatile.asked_again.remove(leg);
        volatile.told.remove(leg);
        volatile.stuck.remove(leg);
    }
    let (busy, legs): (Vec<_>, Vec<_>) = legs.into_iter().partition(|leg| tx.volatile().busy(leg));
    let ended = |legs| Event::Ended { legs, why, at: now.wall, boot: now.boot, unheard: true };
    for leg in busy {
        let before = tx.state().counters.past;
        tx.emit(ended(vec![leg.clone()]));
        let past = tx.state().counters.past;
        if past > before {
            tx.volatile_mut().noted.insert(leg, past);
        }
    }
    if !legs.is_empty() {
        tx.emit(ended(legs));
    }
}

pub(crate) fn update_legs(tx: &mut Tx<'_, Node>, now: Now, legs: Vec<(AskId, LegId, Media)>) -> Reply {
    confirm(tx, legs.iter().map(|(_, leg, _)| leg));
    Reply::Legs(legs.into_iter().map(|(ask, leg, media)| update_leg(tx, now, ask, leg, media)).collect())
}

/// About a leg that does not run here.
fn absent(state: &State, now: Now, leg: &LegId) -> LegVerdict {
    let ended = state.is_dead(leg, now.boot) || state.ending.contains_key(leg);
    if ended { LegVerdict::Released } else { LegVerdict::Unknown }
}

fn update_leg(tx: &mut Tx<'_, Node>, now: Now, ask: AskId, leg: LegId, media: Media) -> LegVerdict {
    let Some(record) = tx.state().legs.get(&leg).cloned() else { return absent(tx.state(), now, &leg) };
    tx.volatile_mut().sources.insert(record.source().clone(), now.boot);
    let charge = rate(&record.running.info, record.running.leg.protocol, media);
    let within = |limit: &Charge| limit.feature == charge.feature && charge.units <= limit.units;
    // Within what the leg counts, or what the pool still holds for it, there is nothing to ask.
    let held = record.held.as_ref().filter(|_| !tx.volatile().busy(&leg));
    let asked = tx.volatile().asked.contains_key(&leg);
    if !asked && (within(&record.running.charge) || held.is_some_and(within)) {
        return change(tx, &leg, media, charge, false);
    }
    if record.revoked {
        return deny_leg(tx, now, &record, media, DenialReason::InsufficientLicenses);
    }
    if decides_alone(tx.volatile()) {
        return decide_leg(tx, now, &leg, media);
    }
    let until = now.boot.plus(tx.volatile().options.budget);
    tx.volatile_mut().asked.entry(leg.clone()).or_default().insert(ask);
    let what = Question::Leg { leg, media };
    tx.volatile_mut().asks.insert(ask, Ask { what, in_flight: false, ripe: false, until });
    LegVerdict::Waiting { ask, until }
}

pub(crate) fn change(
    tx: &mut Tx<'_, Node>,
    leg: &LegId,
    media: Media,
    charge: Charge,
    optimistic: bool,
) -> LegVerdict {
    let units = charge.units;
    let same =
        tx.state().legs.get(leg).is_some_and(|r| r.running.leg.media == media && r.running.charge == charge);
    if !same {
        tx.emit(Event::Changed { leg: leg.clone(), media, charge });
    }
    LegVerdict::Granted { units, optimistic }
}

/// The node's own decision about a leg's media.
pub(crate) fn decide_leg(tx: &mut Tx<'_, Node>, now: Now, leg: &LegId, media: Media) -> LegVerdict {
    let Some(record) = tx.state().legs.get(leg).cloned() else { return absent(tx.state(), now, leg) };
    let counted = &record.running.charge;
    let charge = rate(&record.running.info, record.running.leg.protocol, media);
    let more = charge.feature != counted.feature || charge.units > counted.units;
    if more {
        let reason = standing(tx, now).err().or_else(|| {
            let full = record.revoked || known_full(tx.volatile(), now, &charge.feature);
            full.then_some(DenialReason::InsufficientLicenses)
        });
        if let Some(reason) = reason {
            return deny_leg(tx, now, &record, media, reason);
        }
    }
    change(tx, leg, media, charge, more)
}

/// Denies a leg's media by the node's own decision, and notes it for the pool's list.
fn deny_leg(
    tx: &mut Tx<'_, Node>,
    now: Now,
    record: &LegRecord,
    media: Media,
    reason: DenialReason,
) -> LegVerdict {
    let leg = Leg { media, ..record.running.leg.clone() };
    deny(tx, now, Call { info: record.running.info.clone(), legs: vec![leg] }, reason);
    LegVerdict::Denied { reason, units: record.running.charge.units }
}

/// Whether the pool takes mutations now.
pub(crate) const fn is_active(volatile: &Volatile) -> bool {
    matches!(volatile.phase, Phase::Active(_))
}
