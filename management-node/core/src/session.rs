//! Sessions: opening and fencing, reports, heartbeats.

use headroom_core::call::RunningLeg;
use headroom_core::rating::rate_leg;
use headroom_core::{Call, LegId, LegSet, Millis, NodeName, Shared};

use crate::command::{Beat, Heartbeat, OpenRequest, Opened, Past, PastEvent, Refusal, Reported};
use crate::event::Event;
use crate::machine::PoolTx;
use crate::settle;
use crate::state::{
    CertificateHash, Denial, Ended, EndedHow, HolderId, Lease, LeaseKey, Origin, Phase, Pool, PoolInstant,
};

/// A holder is asked to report because of drift at most once in this time.
const DRIFT_PAUSE: Millis = Millis::SECOND.times(10);

/// The node whose certificate this is.
fn caller_node(pool: &Pool, caller: CertificateHash) -> Result<NodeName, Refusal> {
    let name = pool.certificates.get(&caller).ok_or(Refusal::Revoked)?;
    let node = pool.nodes.get(name).ok_or(Refusal::Revoked)?;
    if node.certificate != caller || node.removed_at.is_some() {
        return Err(Refusal::Revoked);
    }
    Ok(name.clone())
}

/// The holder that speaks in its current session.
pub(crate) fn current(tx: &PoolTx<'_>, caller: CertificateHash, number: u64) -> Result<HolderId, Refusal> {
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

/// Which of a node's holders a process speaks for.
enum Lineage {
    /// The holder; later openings than this number are accepted.
    Of(HolderId, u64),
    /// A process that was superseded speaks again: two machines use one identity.
    Clone,
}

fn lineage(pool: &Pool, node: &NodeName, request: &OpenRequest) -> Result<Lineage, Refusal> {
    let by = |wanted: Option<crate::Nonce>| {
        wanted.and_then(|nonce| holders_of(pool, node).find(|(_, holder)| holder.nonce == Some(nonce)))
    };
    if let Some((id, holder)) = by(Some(request.nonce)).or_else(|| by(request.predecessor)) {
        return Ok(Lineage::Of(id, holder.open_number));
    }
    let superseded = |nonce: crate::Nonce| {
        holders_of(pool, node).find_map(|(id, holder)| {
            let entry = holder.superseded.iter().find(|entry| entry.nonce == nonce)?;
            Some((id, *entry))
        })
    };
    if let Some((_, entry)) = superseded(request.nonce) {
        if request.open_number <= entry.open_number {
            // A late message of a process that is gone proves nothing.
            return Err(Refusal::OpenNumberOld { given: request.open_number, last: entry.open_number });
        }
        return Ok(Lineage::Clone);
    }
    let restored = request.predecessor.and_then(superseded).map(|(id, _)| id);
    let own = pool.holder_of(node).ok_or(Refusal::Revoked)?;
    // A journal that was lost or restored numbers its openings anew.
    Ok(Lineage::Of(restored.unwrap_or(own), 0))
}

/// Opens a session and fences the holder's earlier one at once.
pub(crate) fn open(
    tx: &mut PoolTx<'_>,
    at: Millis,
    caller: CertificateHash,
    request: &OpenRequest,
) -> Result<Opened, Refusal> {
    let node = caller_node(tx.state(), caller)?;
    let holder = match lineage(tx.state(), &node, request)? {
        Lineage::Of(_, last) if request.open_number <= last => {
            return Err(Refusal::OpenNumberOld { given: request.open_number, last });
        }
        Lineage::Of(holder, _) => holder,
        Lineage::Clone => {
            let instance = holders_of(tx.state(), &node).map(|(_, h)| h.instance).max().unwrap_or(0) + 1;
            tx.emit(Event::CloneFound { node: node.clone(), instance });
            tx.state().holder_ids.get(&(node.clone(), instance)).copied().ok_or(Refusal::Revoked)?
        }
    };
    let held = tx.state().holders.get(&holder).map(|holder| holder.set).unwrap_or_default();
    let active = held == request.legs;
    let number = tx.state().counters.session + 1;
    tx.emit(Event::SessionOpened {
        holder,
        number,
        nonce: request.nonce,
        open_number: request.open_number,
        active,
        at,
    });
    let live = tx.volatile_mut();
    live.heard.insert(holder, live.clock);
    Ok(Opened {
        session: number,
        node,
        settings: tx.volatile().settings,
        report_required: !active,
        pools: tx.state().pool_states(at),
    })
}

/// Takes a chunk of a report. Legs are adopted as they come; nothing is released before the last
/// chunk, which proves by count and digest that none was lost.
pub(crate) fn report(
    tx: &mut PoolTx<'_>,
    at: Millis,
    id: HolderId,
    chunk: u32,
    legs: Vec<RunningLeg>,
    total: Option<LegSet>,
) -> Result<Reported, Refusal> {
    let phase = tx.state().holders.get(&id).and_then(|holder| holder.session.as_ref()).map(|s| &s.phase);
    let (due, before) = match phase {
        Some(Phase::Reporting { next, taken }) => (*next, *taken),
        Some(Phase::Active) => (0, LegSet::default()),
        None => return Err(Refusal::SessionStale { given: 0 }),
    };
    let (revoked, names): (Vec<_>, Vec<_>) = legs
        .iter()
        .map(|running| running.leg.leg.clone())
        .partition(|leg| is_tombstoned(tx.state(), id, leg));
    if chunk + 1 == due && chunk > 0 {
        // The answer was lost: the chunk is in the books already.
        return Ok(Reported { chunk, complete: false, revoked });
    }
    if chunk != due && chunk != 0 {
        return Err(Refusal::ChunkOrder { given: chunk, due });
    }
    let mut taken = if chunk == 0 { LegSet::default() } else { before };
    for running in &legs {
        taken.add(&running.leg.leg, &running.info.call, &rate_leg(&running.info, &running.leg));
    }
    settle::adopt(tx, at, id, legs);
    tx.emit(Event::ReportTaken { holder: id, chunk, legs: names, taken, complete: false });
    let Some(total) = total else { return Ok(Reported { chunk, complete: false, revoked }) };
    if taken != total {
        tx.emit(Event::ReportRestarted { holder: id });
        return Err(Refusal::ReportMismatch { stated: total.count, taken: taken.count });
    }
    let gone: Vec<_> = tx
        .state()
        .leases_of_holder(id)
        .filter(|(key, lease)| lease.origin != Origin::Reserved && !tx.state().reported.contains(*key))
        .map(|(key, _)| key.clone())
        .collect();
    for key in gone {
        tx.emit(Event::LeaseEnded { key, how: EndedHow::NotReported, at });
    }
    tx.emit(Event::ReportTaken { holder: id, chunk, legs: Vec::new(), taken, complete: true });
    Ok(Reported { chunk, complete: true, revoked })
}

pub(crate) fn is_tombstoned(pool: &Pool, holder: HolderId, leg: &LegId) -> bool {
    pool.tombstones.contains_key(&LeaseKey { holder, leg: leg.clone() })
}

fn tombstones_of(pool: &Pool, holder: HolderId) -> impl Iterator<Item = (&LeaseKey, &crate::Tombstone)> {
    let first = LeaseKey { holder, leg: LegId::least() };
    pool.tombstones.range(first..).take_while(move |(key, _)| key.holder == holder)
}

/// Keeps the session, records what the node did alone, and tells what an administrator wants.
pub(crate) fn heartbeat(tx: &mut PoolTx<'_>, at: Millis, id: HolderId, beat: Heartbeat) -> Beat {
    tx.volatile_mut().optimistic.insert(id, beat.optimistic);
    for leg in beat.told {
        let key = LeaseKey { holder: id, leg };
        if tx.state().tombstones.get(&key).is_some_and(|tombstone| !tombstone.told) {
            tx.emit(Event::RevocationTold { key });
        }
    }
    record_past(tx, id, beat.past);
    let (phase, sequence, set, past_recorded) = match tx.state().holders.get(&id) {
        Some(holder) => {
            let session = holder.session.as_ref();
            let phase = session.map(|session| session.phase.clone());
            (phase, session.map_or(0, |session| session.sequence), holder.set, holder.past_recorded)
        }
        None => (None, 0, LegSet::default(), 0),
    };
    let report_required = match phase {
        Some(Phase::Active) if sequence == beat.sequence && set != beat.legs => drift_is_due(tx, id),
        Some(Phase::Active) | None => false,
        Some(Phase::Reporting { .. }) => true,
    };
    let revoked =
        tombstones_of(tx.state(), id).filter(|(_, t)| !t.told).map(|(key, _)| key.leg.clone()).collect();
    Beat { pools: tx.state().pool_states(at), revoked, report_required, past_recorded }
}

fn drift_is_due(tx: &mut PoolTx<'_>, id: HolderId) -> bool {
    let live = tx.volatile_mut();
    let due = live.drift.get(&id).is_none_or(|last| live.clock.since(*last) >= DRIFT_PAUSE);
    if due {
        live.drift.insert(id, live.clock);
    }
    due
}

fn record_past(tx: &mut PoolTx<'_>, id: HolderId, past: Vec<Past>) {
    let recorded = tx.state().holders.get(&id).map_or(0, |holder| holder.past_recorded);
    let mut last = recorded;
    for Past { number, at, what } in past {
        if number <= last {
            continue;
        }
        last = number;
        match what {
            PastEvent::Denied { call, reason } => {
                tx.emit(Event::Denied(Shared::new(denied_by_node(id, at, call, reason))));
            }
            PastEvent::Ended(running) => {
                let lease = Shared::new(past_lease(&running));
                let ended = Ended { holder: id, lease, how: EndedHow::Released, at };
                tx.emit(Event::PastLeg(Shared::new(ended)));
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

fn past_lease(running: &RunningLeg) -> Lease {
    Lease {
        id: headroom_core::LeaseId(0),
        info: Shared::new(running.info.clone()),
        leg: running.leg.clone(),
        charge: rate_leg(&running.info, &running.leg),
        origin: Origin::Adopted,
        admitted_at: running.admitted_at,
        granted_at: running.admitted_at,
        pool: PoolInstant::default(),
    }
}
