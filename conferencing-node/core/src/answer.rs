//! What the pool's answers mean.

use std::collections::BTreeMap;

use headroom_core::{Call, CallId, Charge, LegId, Millis, Now, Tx};

use crate::admit;
use crate::command::{AskId, Decision, LegVerdict, Outcome};
use crate::event::{Event, Which};
use crate::machine::{Node, reading};
use crate::uplink::{
    CallItem, Failure, Flight, LegItem, Link, Load, Phase, PoolLease, Pools, RequestId, Response, Verdict,
};
use crate::volatile::{Question, Volatile};
use crate::{asks, failure, reconcile};

/// Clocks and contact are saved at most so often.
const SAVE: Millis = Millis::SECOND;

pub(crate) type Outcomes = Vec<(AskId, Outcome)>;

/// Takes what became of a request.
pub(crate) fn answered(
    tx: &mut Tx<'_, Node>,
    now: Now,
    request: RequestId,
    outcome: Result<Response, Failure>,
    jitter: u32,
) -> Outcomes {
    // The answer of an attempt that was given up, or repeated and answered since.
    if tx.volatile().flight.as_ref().is_none_or(|flight| flight.id != request) {
        return Vec::new();
    }
    match outcome {
        Ok(response) => {
            let volatile = tx.volatile_mut();
            let Some(flight) = volatile.flight.take() else { return Vec::new() };
            decided(volatile);
            if !matches!(flight.load, Load::Open(_)) {
                volatile.stales = 0;
            }
            take_response(tx, now, flight, response, jitter)
        }
        Err(failure) => failure::take_failure(tx, now, failure, jitter),
    }
}

/// The pool has decided something: attempts are counted anew.
pub(crate) fn decided(volatile: &mut Volatile) {
    volatile.circuit.undecided = 0;
    volatile.circuit.since = None;
    volatile.circuit.not_before = Millis(0);
    volatile.circuit.ceiling = Millis(0);
}

fn take_response(
    tx: &mut Tx<'_, Node>,
    now: Now,
    flight: Flight,
    response: Response,
    jitter: u32,
) -> Outcomes {
    match (flight.load, response) {
        (
            Load::Open(snapshot),
            Response::Opened { session, node, heartbeat, report_required, licenses, pools },
        ) => {
            learn(tx, now, &pools);
            tx.volatile_mut().licenses = licenses;
            if tx.state().counters.node.as_ref() != Some(&node) {
                tx.emit(Event::Named { node });
            }
            let link = Link { session, sequence: 0, heartbeat, beat_at: now.boot, reports: 0 };
            if report_required {
                begin_report(tx, link);
            } else {
                reconcile::settle(tx, &snapshot, &[]);
                activate(tx.volatile_mut(), link);
            }
            Vec::new()
        }
        (Load::Report { last, end }, Response::Reported { complete, revoked, pools }) => {
            learn(tx, now, &pools);
            reported(tx, now, last && complete, end, revoked);
            Vec::new()
        }
        (Load::Release(legs), Response::Released { pools }) => {
            mutated(tx, now, &pools);
            tx.emit(Event::Released { legs });
            Vec::new()
        }
        (Load::Adopt(items), Response::Adopted { leases, revoked, pools }) => {
            mutated(tx, now, &pools);
            adopted(tx, items, leases, &revoked);
            Vec::new()
        }
        (Load::Update(items), Response::Updated { verdicts, pools }) => {
            mutated(tx, now, &pools);
            items.into_iter().zip(verdicts).filter_map(|(item, v)| updated(tx, now, item, v)).collect()
        }
        (Load::Allocate(items), Response::Allocated { verdicts, pools }) => {
            mutated(tx, now, &pools);
            items.into_iter().zip(verdicts).filter_map(|(item, v)| allocated(tx, now, item, v)).collect()
        }
        (
            Load::Heartbeat(told),
            Response::Beaten { revoked, report_required, past_recorded, licenses, pools },
        ) => {
            learn(tx, now, &pools);
            contact(tx, now);
            tx.volatile_mut().licenses = licenses;
            tx.volatile_mut().told.extend(told);
            if tx.state().past.get_min().is_some_and(|(first, _)| *first <= past_recorded) {
                tx.emit(Event::PastRecorded { number: past_recorded });
            }
            reconcile::revoke(tx, &revoked);
            beaten(tx, now, report_required, jitter);
            Vec::new()
        }
        // An answer of another kind than the question: nothing is known, so the session is over.
        _ => {
            failure::drop_session(tx.volatile_mut());
            Vec::new()
        }
    }
}

fn beaten(tx: &mut Tx<'_, Node>, now: Now, report_required: bool, jitter: u32) {
    let more = !tx.state().past.is_empty();
    let Phase::Active(link) = &mut tx.volatile_mut().phase else { return };
    // 80 to 120 % of the mean, sooner while past events wait to be told.
    let mean = if more { Millis::SECOND.0.min(link.heartbeat.0) } else { link.heartbeat.0 };
    link.beat_at = now.boot.plus(Millis(mean * (800 + i64::from(jitter) * 2 / 5) / 1000));
    let link = *link;
    if report_required {
        begin_report(tx, link);
    } else {
        // It is contact: nothing else may be due for a long time.
        tx.volatile_mut().circuit.open = false;
    }
}

/// A heartbeat is due now.
pub(crate) fn beat_soon(volatile: &mut Volatile, now: Now) {
    if let Phase::Active(link) = &mut volatile.phase {
        link.beat_at = link.beat_at.min(now.boot);
    }
}

fn activate(volatile: &mut Volatile, link: Link) {
    volatile.phase = Phase::Active(link);
    volatile.circuit.open = false;
}

pub(crate) fn begin_report(tx: &mut Tx<'_, Node>, link: Link) {
    let mut snapshot = tx.state().legs.clone();
    for leg in tx.state().revoked.iter().chain(&tx.volatile().unreported) {
        snapshot.remove(leg);
    }
    let link = Link { reports: link.reports + 1, ..link };
    tx.volatile_mut().phase = Phase::Reporting { link, snapshot, chunk: 0, after: None, revoked: Vec::new() };
}

fn reported(tx: &mut Tx<'_, Node>, now: Now, complete: bool, end: Option<LegId>, more: Vec<LegId>) {
    match std::mem::take(&mut tx.volatile_mut().phase) {
        Phase::Reporting { link, snapshot, mut revoked, .. } if complete => {
            revoked.extend(more);
            reconcile::settle(tx, &snapshot, &revoked);
            activate(tx.volatile_mut(), Link { beat_at: now.boot, ..link });
            contact(tx, now);
        }
        Phase::Reporting { link, snapshot, chunk, after, mut revoked } => {
            revoked.extend(more);
            let after = end.or(after);
            tx.volatile_mut().phase = Phase::Reporting { link, snapshot, chunk: chunk + 1, after, revoked };
        }
        phase => tx.volatile_mut().phase = phase,
    }
}

fn mutated(tx: &mut Tx<'_, Node>, now: Now, pools: &Pools) {
    learn(tx, now, pools);
    if let Phase::Active(link) = &mut tx.volatile_mut().phase {
        link.sequence += 1;
    }
    tx.volatile_mut().circuit.open = false;
    contact(tx, now);
}

fn learn(tx: &mut Tx<'_, Node>, now: Now, pools: &Pools) {
    let durable = tx.state().counters.seen;
    let volatile = tx.volatile_mut();
    for (feature, full) in &pools.full {
        volatile.full.insert(feature.clone(), (*full, now.boot));
    }
    let (seen, found) = (volatile.seen, pools.position);
    if found == headroom_core::Position::default() {
        return;
    }
    volatile.rollback = found.generation == seen.generation && found.sequence < seen.sequence;
    if !volatile.rollback {
        volatile.seen = found;
        if found.generation != durable.generation {
            tx.emit(Event::Seen { position: found });
        }
    }
}

/// The pool has proved that it still knows this node.
fn contact(tx: &mut Tx<'_, Node>, now: Now) {
    let r = reading(tx.volatile(), now);
    tx.volatile_mut().contact = Some(now.boot);
    let grace = tx.state().counters.grace;
    if grace.refused || !grace.had_contact || grace.stale(&r, SAVE) || grace.age >= SAVE {
        tx.emit(Event::Clock { grace: grace.contact(&r) });
        let position = tx.volatile().seen;
        if position != tx.state().counters.seen {
            tx.emit(Event::Seen { position });
        }
    }
}

fn adopted(
    tx: &mut Tx<'_, Node>,
    items: Vec<(Which, CallId, Charge)>,
    leases: Vec<PoolLease>,
    revoked: &[LegId],
) {
    let leases: BTreeMap<_, _> = leases.into_iter().map(|lease| (lease.leg.clone(), lease)).collect();
    for (which, call, charge) in items {
        if revoked.contains(&which.leg) {
            continue;
        }
        let lease = leases.get(&which.leg);
        let charge = lease.map_or(charge, |lease| lease.charge.clone());
        hold(tx, which, call, Some(charge), lease.map(|lease| lease.lease));
    }
    reconcile::revoke(tx, revoked);
}

/// The pool holds so much for a leg that runs or has run.
fn hold(
    tx: &mut Tx<'_, Node>,
    which: Which,
    call: CallId,
    held: Option<Charge>,
    lease: Option<headroom_core::LeaseId>,
) {
    let running = tx.state().legs.get(&which.leg).filter(|r| r.revision == which.revision);
    if running.is_none_or(|record| !record.revoked) {
        // The lease is that of the leg that runs under this id; giving back the one before, which the
        // pool never told apart, would take it away.
        let before = tx.state().ending.get(&which.leg).filter(|_| running.is_some() && held.is_some());
        if let Some(revision) = before.map(|ending| ending.revision) {
            tx.emit(Event::Released { legs: vec![Which { leg: which.leg.clone(), revision }] });
        }
        tx.emit(Event::Held { which, call, held, lease });
    }
}

fn updated(
    tx: &mut Tx<'_, Node>,
    now: Now,
    item: LegItem,
    verdict: Verdict<PoolLease>,
) -> Option<(AskId, Outcome)> {
    let waiting = item.ask.and_then(|ask| Some((ask, asks::take(tx.volatile_mut(), ask)?)));
    let leg = item.which.leg.clone();
    let question = waiting.and_then(|(ask, taken)| match taken.what {
        Question::Leg { media, .. } => Some((ask, media)),
        Question::Call { .. } => None,
    });
    match verdict {
        Verdict::Granted(lease) => {
            let charge = lease.charge.clone();
            hold(tx, item.which, item.call, Some(lease.charge), Some(lease.lease));
            let (ask, media) = question?;
            Some((ask, Outcome::Leg(admit::change(tx, &leg, media, charge, false))))
        }
        Verdict::Denied(reason) => {
            withdraw(tx, item.denied);
            let units = tx.state().legs.get(&leg).map(|r| r.running.charge.units).unwrap_or_default();
            Some((question?.0, Outcome::Leg(LegVerdict::Denied { reason, units })))
        }
        Verdict::Refused { .. } => {
            // The pool does not know the leg: it is adopted as it runs.
            hold(tx, item.which, item.call, None, None);
            let (ask, media) = question?;
            Some((ask, Outcome::Leg(admit::decide_leg(tx, now, &leg, media))))
        }
    }
}

fn allocated(
    tx: &mut Tx<'_, Node>,
    now: Now,
    item: CallItem,
    verdict: Verdict<Vec<PoolLease>>,
) -> Option<(AskId, Outcome)> {
    let waiting = asks::take(tx.volatile_mut(), item.ask);
    if matches!(verdict, Verdict::Denied(_)) {
        withdraw(tx, item.denied);
    }
    let decision = match verdict {
        Verdict::Granted(leases) => {
            let leases: BTreeMap<_, _> = leases.into_iter().map(|l| (l.leg.clone(), l)).collect();
            granted(tx, now, &item, waiting.is_some(), &leases, waiting.as_ref().map(|w| &w.what))?
        }
        // Another question had the same legs granted meanwhile.
        _ if admit::all_run(tx.state(), &item.call) => Decision::Granted(admit::repeat(tx, &item.call)),
        Verdict::Denied(reason) => Decision::Denied(reason),
        Verdict::Refused { field, text } => Decision::Refused { field, text },
    };
    waiting.map(|_| (item.ask, Outcome::Call(decision)))
}

/// The pool has recorded a denial that was noted here too.
fn withdraw(tx: &mut Tx<'_, Node>, denied: Option<u64>) {
    if let Some(number) = denied.filter(|number| tx.state().past.contains_key(number)) {
        tx.emit(Event::PastWithdrawn { number });
    }
}

/// The pool granted a call: to who waits, or to legs decided here meanwhile, or to nobody any more.
fn granted(
    tx: &mut Tx<'_, Node>,
    now: Now,
    item: &CallItem,
    waits: bool,
    leases: &BTreeMap<LegId, PoolLease>,
    question: Option<&Question>,
) -> Option<Decision> {
    let mut ended = asks::gone(tx.state(), now, &item.call);
    if let Some(Question::Call { ended: told, .. }) = question {
        ended.extend(told.iter().cloned());
    }
    let own: Vec<_> =
        item.call.legs.iter().filter(|leg| !admit::is_foreign(tx.state(), leg)).cloned().collect();
    for leg in own {
        let Some(lease) = leases.get(&leg.leg) else { continue };
        let state = tx.state();
        let running = state.legs.get(&leg.leg).filter(|r| r.call() == &item.call.info.call);
        let revision = match running {
            // The leg runs: by another question, or decided here meanwhile. The pool knows a leg by
            // its id and call, so it is this leg that it holds.
            Some(record) => record.revision,
            None if waits && !ended.contains(&leg.leg) => continue,
            // Nobody wants it any more: it is to be given back.
            None => item.admitted.unwrap_or(0),
        };
        let which = Which { leg: leg.leg.clone(), revision };
        let call = item.call.info.call.clone();
        hold(tx, which, call, Some(lease.charge.clone()), Some(lease.lease));
    }
    moved(tx, &item.call);
    if !waits {
        return None;
    }
    let mut call = item.call.clone();
    if let Some(released) = asks::without(&mut call, &ended) {
        return Some(Decision::Conflict(released));
    }
    Some(Decision::Granted(admit::grant(tx, now, &call, Some(leases))))
}

/// The pool has moved the units of replaced legs, so that it holds nothing for them any more. One
/// that still runs, because the leg that was to take over is gone already, is adopted again.
fn moved(tx: &mut Tx<'_, Node>, call: &Call) {
    for old in call.legs.iter().filter_map(|leg| leg.replaces.as_ref()) {
        if let Some(revision) = tx.state().ending.get(old).filter(|e| e.held.is_some()).map(|e| e.revision) {
            tx.emit(Event::Unheld { which: Which { leg: old.clone(), revision } });
        }
        let Some(record) = tx.state().legs.get(old).cloned() else { continue };
        hold(tx, record.which(), record.call().clone(), None, None);
    }
}
