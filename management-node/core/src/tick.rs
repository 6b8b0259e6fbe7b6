//! The passing of time: sessions lapse, reserved leases are freed, revocations become alarms.

use headroom_core::{Millis, Now};

use crate::event::Event;
use crate::machine::PoolTx;
use crate::state::{EndedHow, HolderId, Origin};
use crate::tombstones;

/// The pool's own clock moves at most this far in one tick, so that a stalled process does not
/// take the nodes' silence for theirs.
const MOST_PER_TICK: Millis = Millis::SECOND.times(2);
pub(crate) fn tick(tx: &mut PoolTx<'_>, now: Now) {
    let live = tx.volatile_mut();
    let passed = live.ticked.map_or(Millis(0), |last| now.boot.since(last)).min(MOST_PER_TICK);
    live.ticked = Some(now.boot);
    live.clock = live.clock.plus(passed);
    lapse_sessions(tx, now.wall);
    free_unclaimed(tx, now.wall);
    tombstones::watch(tx);
}

/// Holders whose session was silent for the TTL. One that was not heard since the service started
/// is counted from now: a restart gives a full TTL.
fn silent(tx: &mut PoolTx<'_>) -> Vec<HolderId> {
    let open: Vec<_> =
        tx.state().holders.iter().filter(|(_, h)| h.session.is_some()).map(|(id, _)| *id).collect();
    let live = tx.volatile_mut();
    let (clock, ttl) = (live.clock, live.settings.session_ttl);
    open.into_iter().filter(|id| clock.since(*live.heard.entry(*id).or_insert(clock)) >= ttl).collect()
}

fn lapse_sessions(tx: &mut PoolTx<'_>, at: Millis) {
    for holder in silent(tx) {
        // What another node reserved for this one has a time of its own.
        let own = tx.state().leases.of_holder(holder).filter(|(_, lease)| lease.origin != Origin::Reserved);
        let keys: Vec<_> = own.map(|(key, _)| key).collect();
        let leases = keys.len() as u64;
        for key in keys {
            tx.emit(Event::LeaseEnded { key, how: EndedHow::Lapsed, at });
        }
        tx.emit(Event::SessionLapsed { holder, leases, at: Some(at) });
        let live = tx.volatile_mut();
        live.optimistic.remove(&holder);
        live.slots.free(holder);
    }
}

fn free_unclaimed(tx: &mut PoolTx<'_>, at: Millis) {
    let reserved = tx.state().reserved.clone();
    tx.volatile_mut().unclaimed.retain(|key, _| reserved.contains(key));
    let keys: Vec<_> = reserved.into_iter().collect();
    for key in keys {
        let live = tx.volatile_mut();
        let fresh = live.clock.plus(live.settings.claim_within);
        let due = *live.unclaimed.entry(key.clone()).or_insert(fresh);
        if live.clock >= due {
            live.unclaimed.remove(&key);
            tx.emit(Event::LeaseEnded { key, how: EndedHow::Unclaimed, at });
        }
    }
}
