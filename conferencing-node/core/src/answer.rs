//! What the pool's answers mean.

use headroom_core::{LegId, Millis, Now, Tx};

use crate::command::{AskId, Outcome};
use crate::event::Event;
use crate::machine::{Node, reading};
use crate::uplink::{Failure, Flight, Link, Load, Phase, Pools, RequestId, Response};
use crate::volatile::Volatile;
use crate::{failure, reconcile, verdict};

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
            Response::Opened { session, node, ttl, heartbeat, report_required, licenses, pools },
        ) => {
            learn(tx, now, &pools);
            tx.volatile_mut().licenses = licenses;
            if tx.state().counters.node.as_ref() != Some(&node) {
                tx.emit(Event::Named { node });
            }
            let link = Link { session, sequence: 0, ttl, heartbeat, beat_at: now.boot, reports: 0 };
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
            for which in &legs {
                tx.volatile_mut().unknown.remove(&which.leg);
            }
            tx.emit(Event::Released { legs });
            Vec::new()
        }
        (Load::Adopt(items), Response::Adopted { leases, revoked, pools }) => {
            mutated(tx, now, &pools);
            verdict::adopted(tx, items, leases, &revoked);
            Vec::new()
        }
        (Load::Update(items), Response::Updated { verdicts, pools }) if items.len() == verdicts.len() => {
            mutated(tx, now, &pools);
            let all = items.into_iter().zip(verdicts);
            all.filter_map(|(item, given)| verdict::updated(tx, now, item, given)).collect()
        }
        (Load::Allocate(items), Response::Allocated { verdicts, pools }) if items.len() == verdicts.len() => {
            mutated(tx, now, &pools);
            let all = items.into_iter().zip(verdicts);
            all.filter_map(|(item, given)| verdict::allocated(tx, now, item, given)).collect()
        }
        (
            Load::Heartbeat(told),
            Response::Beaten { revoked, report_required, past_recorded, licenses, pools },
        ) => {
            learn(tx, now, &pools);
            // An answer that asks for a report comes in a session that is not fully reported.
            if !report_required {
                contact(tx, now);
            }
            tx.volatile_mut().licenses = licenses;
            tx.volatile_mut().told.extend(told);
            if tx.state().past.get_min().is_some_and(|(first, _)| *first <= past_recorded) {
                tx.emit(Event::PastRecorded { number: past_recorded });
            }
            reconcile::revoke(tx, &revoked);
            beaten(tx, now, report_required, jitter);
            Vec::new()
        }
        // An answer of another kind than the question, or to fewer of its items: nothing is known.
        _ => failure::give_up(tx, now, jitter),
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
