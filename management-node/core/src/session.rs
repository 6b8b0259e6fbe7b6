//! Sessions: opening and fencing, reports, heartbeats.

use headroom_core::call::RunningLeg;
use headroom_core::rating::rate_leg;
use headroom_core::{Call, LegSet, Millis, NodeName, Position, Shared};

use crate::command::{Beat, Heartbeat, OpenRequest, Opened, Past, PastEvent, Refusal, Reported};
use crate::event::Event;
use crate::holder::{Phase, Session};
use crate::leases::Packed;
use crate::machine::PoolTx;
use crate::state::{
    CertificateHash, Denial, Ended, EndedHow, HolderId, Lease, Origin, Pool, PoolInstant, Rollback,
};
use crate::{settle, tombstones};

/// A holder is asked to report because of drift at most once in this time.
const DRIFT_PAUSE: Millis = Millis::SECOND.times(10);

/// Whether a session may speak to the history that stands here, durably: one of another generation is stale,
/// whatever its number. What is decided meanwhile is looked at again with the request.
///
/// # Errors
/// [`Refusal::SessionStale`].
pub const fn same_history(here: Position, generation: u64, session: u64) -> Result<(), Refusal> {
    if generation == here.generation { Ok(()) } else { Err(Refusal::SessionStale { given: session }) }
}

/// Whether a node that has seen so much proves that the history that stands here has lost records.
#[must_use]
pub const fn records_lost(here: Position, seen: Position) -> bool {
    seen.generation == here.generation && seen.sequence > here.sequence
}

/// The node whose certificate this is.
fn caller_node(pool: &Pool, caller: CertificateHash) -> Result<NodeName, Refusal> {
    let name = pool.certificates.get(&caller).ok_or(Refusal::Unknown)?;
    let node = pool.nodes.get(name).ok_or(Refusal::Revoked)?;
    if node.certificate != caller || node.removed_at.is_some() {
        return Err(Refusal::Revoked);
    }
    Ok(name.clone())
}

/// The holder that speaks in its current session. Sessions of a history that was found to be lost while the request
/// was under way had the numbers that are given again.
pub(crate) fn current(
    tx: &PoolTx<'_>,
    caller: CertificateHash,
    (generation, number): (u64, u64),
) -> Result<HolderId, Refusal> {
    if tx.volatile().renewed.is_some_and(|renewed| renewed != generation) {
        return Err(Refusal::SessionStale { given: number });
    }
    let node = caller_node(tx.state(), caller)?;
    holders_of(tx.state(), &node)
        .find(|(_, holder)| holder.session.as_ref().is_some_and(|session| session.number == number))
        .map(|(id, _)| id)
        .ok_or(Refusal::SessionStale { given: number })
}

pub(crate) fn holders_of<'a>(
    pool: &'a Pool,
    node: &NodeName,
) -> impl Iterator<Item = (HolderId, &'a crate::Holder)> + use<'a> {
    pool.holder_ids
        .range((node.clone(), 0)..=(node.clone(), u32::MAX))
        .filter_map(|(_, id)| pool.holders.get(id).map(|holder| (*id, &**holder)))
}

/// Which of a node's holders a process speaks for, and whether it was superseded there.
///
/// A process is known by its nonce, or by the nonce of the process before it on the same journal. One
/// that is not known at all, as after a lost journal, takes over the node's own holder.
fn lineage(pool: &Pool, node: &NodeName, request: &OpenRequest) -> Result<(HolderId, Kin), Refusal> {
    let speaks = |nonce| holders_of(pool, node).find(|(_, holder)| holder.nonce == Some(nonce));
    let spoke = |nonce| holders_of(pool, node).find(|(_, holder)| holder.superseded.contains(&nonce));
    let (mine, before) = (request.nonce, request.predecessor);
    if let Some((id, _)) = speaks(mine) {
        return Ok((id, Kin::Same));
    }
    // Also when the process before it speaks again: then that one was copied.
    if let Some((id, _)) = spoke(mine) {
        return Ok((id, Kin::Clone));
    }
    if let Some((id, _)) = before.and_then(speaks) {
        return Ok((id, Kin::Same));
    }
    let known = before.and_then(spoke).map(|(id, _)| id);
    let holder = known.or_else(|| pool.holder_of(node)).ok_or(Refusal::Revoked)?;
    Ok((holder, Kin::Unknown))
}

/// How a process relates to the one that spoke last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kin {
    /// It is that process, or the next one on the same journal.
    Same,
    /// It was superseded and speaks again.
    Clone,
    /// Its journal is new here, or was restored.
    Unknown,
}

/// Opens a session and fences the holder's earlier one at once.
pub(crate) fn open(
    tx: &mut PoolTx<'_>,
    at: Millis,
    caller: CertificateHash,
    request: &OpenRequest,
) -> Result<Opened, Refusal> {
    let node = caller_node(tx.state(), caller)?;
    let (known, kin) = lineage(tx.state(), &node, request)?;
    // Numbers rise over the life of a journal, so one that is not higher comes late, or from a journal
    // that was lost or restored: such a node raises its number until it is heard.
    let last = tx.state().holders.get(&known).map_or(0, |holder| holder.open_number);
    if request.open_number <= last {
        return Err(Refusal::OpenNumberOld { given: request.open_number, last });
    }
    // A clone begins with books of its own, which are empty.
    let books = tx.state().holders.get(&known).filter(|_| kin != Kin::Clone);
    let active = books.map(|holder| holder.set).unwrap_or_default() == request.legs;
    let live = tx.volatile_mut();
    if !active {
        // Before anything changes: a node that must wait keeps the session it has.
        live.slots.room(known, live.clock)?;
    }
    let holder = if kin == Kin::Clone {
        // Another process took over and yet this one lives: two machines use one identity.
        let instance = holders_of(tx.state(), &node).map(|(_, h)| h.instance).max().unwrap_or(0) + 1;
        tx.emit(Event::CloneFound { node: node.clone(), instance });
        tx.state().holder_ids.get(&(node.clone(), instance)).copied().ok_or(Refusal::Revoked)?
    } else {
        known
    };
    let number = tx.state().counters.session + 1;
    tx.emit(Event::SessionOpened {
        holder,
        number,
        nonce: request.nonce,
        open_number: request.open_number,
        active,
        new_journal: kin == Kin::Unknown,
        at,
    });
    let live = tx.volatile_mut();
    live.heard.insert(holder, live.clock);
    if active {
        live.slots.free(holder);
    } else {
        live.slots.occupy(holder, live.clock);
    }
    Ok(Opened {
        session: number,
        node,
        settings: tx.volatile().settings,
        report_required: !active,
        pools: tx.state().pool_states(at),
    })
}

/// What a chunk of a report is to the books.
enum Place {
    /// It is due; the chunks before it held so much.
    Due(LegSet),
    /// It is in the books already: its answer was lost, or it comes late. Taking it again would bring
    /// back what has been released since.
    Taken,
}

fn place(session: &Session, report: u32, chunk: u32) -> Result<Place, Refusal> {
    if report > session.report && chunk == 0 {
        return Ok(Place::Due(LegSet::default()));
    }
    match &session.phase {
        _ if report != session.report => Err(Refusal::ChunkOrder { report, chunk }),
        Phase::Active => Ok(Place::Taken),
        Phase::Reporting { next, .. } if chunk < *next => Ok(Place::Taken),
        Phase::Reporting { next, taken } if chunk == *next && chunk > 0 => Ok(Place::Due(*taken)),
        Phase::Reporting { .. } => Err(Refusal::ChunkOrder { report, chunk }),
    }
}

/// Takes a chunk of a report. Legs are adopted as they come; nothing is released before the last
/// chunk, which proves by count and digest that none was lost.
pub(crate) fn report(
    tx: &mut PoolTx<'_>,
    at: Millis,
    id: HolderId,
    (report, chunk): (u32, u32),
    legs: Vec<RunningLeg>,
    total: Option<LegSet>,
) -> Result<Reported, Refusal> {
    let session = tx.state().holders.get(&id).and_then(|holder| holder.session.as_ref());
    let session = session.ok_or(Refusal::SessionStale { given: 0 })?;
    let place = place(session, report, chunk)?;
    let open = session.phase == Phase::Active;
    let names: Vec<_> = legs.iter().map(|running| running.leg.leg.clone()).collect();
    let buried = legs.iter().filter(|running| tx.state().is_buried(id, running));
    let revoked = buried.map(|running| running.leg.leg.clone()).collect();
    let Place::Due(mut taken) = place else {
        return Ok(Reported { chunk, complete: open, revoked });
    };
    let live = tx.volatile_mut();
    live.slots.take(id, live.clock)?;
    for running in &legs {
        // As the node counts them: this only proves that nothing was lost on the way.
        taken.add(&running.leg.leg, &running.info.call, &running.charge);
    }
    settle::adopt(tx, at, id, legs);
    tx.emit(Event::ReportTaken { holder: id, report, chunk, legs: names, taken, complete: false });
    let Some(total) = total else { return Ok(Reported { chunk, complete: false, revoked }) };
    if taken != total {
        tx.emit(Event::ReportRestarted { holder: id });
        return Err(Refusal::ReportMismatch { stated: total.count, taken: taken.count });
    }
    let gone: Vec<_> = tx
        .state()
        .leases
        .of_holder(id)
        .filter(|(key, lease)| lease.origin != Origin::Reserved && !tx.state().reported.contains(key))
        .map(|(key, _)| key)
        .collect();
    for key in gone {
        tx.emit(Event::LeaseEnded { key, how: EndedHow::NotReported, at });
    }
    tx.emit(Event::ReportTaken { holder: id, report, chunk, legs: Vec::new(), taken, complete: true });
    tx.volatile_mut().slots.free(id);
    Ok(Reported { chunk, complete: true, revoked })
}

/// Keeps the session, records what the node did alone, and tells what an administrator wants.
pub(crate) fn heartbeat(
    tx: &mut PoolTx<'_>,
    at: Millis,
    id: HolderId,
    beat: Heartbeat,
) -> Result<Beat, Refusal> {
    let session = tx.state().holders.get(&id).and_then(|holder| holder.session.as_ref());
    let session = session.ok_or(Refusal::SessionStale { given: 0 })?;
    let (sequence, open) = (session.sequence, session.phase == Phase::Active);
    if beat.sequence > sequence {
        // The node has an answer this store does not hold: records were lost. Begin anew.
        return Err(Refusal::SequenceUnknown { given: beat.sequence, last: sequence });
    }
    tx.volatile_mut().optimistic.insert(id, beat.optimistic);
    tombstones::told(tx, id, beat.told);
    record_past(tx, at, id, beat.past);
    let holder = tx.state().holders.get(&id);
    let (set, past_recorded) =
        holder.map_or_else(Default::default, |holder| (holder.set, holder.past_recorded));
    let comparable = open && sequence == beat.sequence;
    let drifted = comparable && !tombstones::agrees(tx.state(), id, set, beat.legs);
    let drift = (drifted && drift_is_due(tx, id)).then_some(set);
    if drift.is_some() {
        // The session takes no more changes until the report is complete.
        tx.emit(Event::ReportRestarted { holder: id });
    }
    let report_required = drift.is_some() || !open;
    let revoked = tombstones::to_end(tx.state(), id);
    Ok(Beat { pools: tx.state().pool_states(at), revoked, report_required, drift, past_recorded })
}

/// The store is older than what a node has seen of it: records were lost, as by a restore from a backup.
/// Every session ends, so that each node says anew what it runs, and the history gets another identity.
pub(crate) fn rolled_back(
    tx: &mut PoolTx<'_>,
    at: Millis,
    caller: CertificateHash,
    (seen, here): (u64, u64),
) -> Result<(), Refusal> {
    let node = match caller_node(tx.state(), caller) {
        Ok(node) => Some(node),
        // It may have been enrolled after the copy was made.
        Err(Refusal::Unknown) => None,
        Err(refusal) => return Err(refusal),
    };
    tx.emit(Event::RolledBack(Rollback { at, node, seen, here }));
    Ok(())
}

fn drift_is_due(tx: &mut PoolTx<'_>, id: HolderId) -> bool {
    let live = tx.volatile_mut();
    let due = live.drift.get(&id).is_none_or(|last| live.clock.since(*last) >= DRIFT_PAUSE);
    let due = due && live.slots.take(id, live.clock).is_ok();
    if due {
        live.drift.insert(id, live.clock);
    }
    due
}

fn record_past(tx: &mut PoolTx<'_>, now: Millis, id: HolderId, past: Vec<Past>) {
    let recorded = tx.state().holders.get(&id).map_or(0, |holder| holder.past_recorded);
    let mut last = recorded;
    for Past { number, at, what } in past {
        if number <= last {
            continue;
        }
        last = number;
        // A node's clock may run ahead; the books do not follow it into the future.
        let at = at.min(now);
        match what {
            PastEvent::Unreadable => {}
            PastEvent::Denied { call, reason } => {
                tx.emit(Event::Denied(Shared::new(denied_by_node(id, at, call, reason))));
            }
            PastEvent::Ended(running) => {
                let lease = Packed::new(id, &past_lease(&running, now));
                tx.emit(Event::PastLeg(Ended { lease, how: EndedHow::Released, at }));
            }
        }
    }
    if last > recorded {
        tx.emit(Event::PastRecorded { holder: id, number: last });
    }
}

fn denied_by_node(holder: HolderId, at: Millis, call: Call, reason: headroom_core::DenialReason) -> Denial {
    let charge = crate::allocate::total_charge(&call);
    let pool = PoolInstant::default();
    Denial { at, holder, call: Shared::new(call), reason, charge, pool, by_node: true, update: false }
}

fn past_lease(running: &RunningLeg, now: Millis) -> Lease {
    let began = running.admitted_at.min(now);
    Lease {
        id: headroom_core::LeaseId(0),
        info: Shared::new(running.info.clone()),
        leg: running.leg.clone(),
        charge: rate_leg(&running.info, &running.leg),
        origin: Origin::Adopted,
        admitted_at: began,
        granted_at: began,
        pool: PoolInstant::default(),
    }
}
