//! Legs that an administrator released by force. A tombstone keeps such a leg from being recorded again
//! until its node says that it has ended. It goes by that alone: a node leaves these legs out of what it
//! reports, so not to be named does not mean not to run. One that is ordered to end a leg it does not run
//! answers with a release.

use headroom_core::call::RunningLeg;
use headroom_core::{LegId, LegSet, Millis};

use crate::event::Event;
use crate::machine::PoolTx;
use crate::state::{HolderId, LeaseKey, Pool, Tombstone};

/// A leg still running so long after its release by force is an alarm.
const ALARM_AFTER: Millis = Millis::SECOND.times(30);
/// Most legs released by force whose node may or may not have heard of it, when books are compared.
const MAX_COMPARED: usize = 8;

impl Pool {
    /// Whether a leg was released by force and has not ended.
    #[must_use]
    pub fn is_tombstoned(&self, holder: HolderId, leg: &LegId) -> bool {
        self.tombstones.contains_key(&LeaseKey { holder, leg: leg.clone() })
    }

    /// Whether this leg is the one that was released by force: its id can be that of a later one, in another
    /// call.
    #[must_use]
    pub fn is_buried(&self, holder: HolderId, running: &RunningLeg) -> bool {
        let key = LeaseKey { holder, leg: running.leg.leg.clone() };
        self.tombstones.get(&key).is_some_and(|tombstone| tombstone.call == running.info.call)
    }

    /// The legs of a holder that were released by force and have not ended.
    pub fn tombstones_of(&self, holder: HolderId) -> impl Iterator<Item = (&LeaseKey, &Tombstone)> {
        self.tombstones.range(LeaseKey::first_of(holder)..).take_while(move |(key, _)| key.holder == holder)
    }

    fn untold(&self, holder: HolderId) -> impl Iterator<Item = (&LeaseKey, &Tombstone)> {
        self.tombstones_of(holder).filter(|(_, tombstone)| !tombstone.told)
    }

    /// A session begins: its node may have lost what it was told, or this store what the node answered.
    /// Where the leg is gone the order is answered with a release, else with having told the media server.
    pub(crate) fn tell_again(&mut self, holder: HolderId) {
        let told: Vec<_> = self.tombstones_of(holder).map(|(key, _)| key.clone()).collect();
        for key in told {
            if let Some(tombstone) = self.tombstones.get_mut(&key) {
                tombstone.told = false;
            }
        }
    }
}

/// Notes that the media server was told of these legs.
pub(crate) fn told(tx: &mut PoolTx<'_>, holder: HolderId, legs: Vec<LegId>) {
    for leg in legs {
        let key = LeaseKey { holder, leg };
        if tx.state().tombstones.get(&key).is_some_and(|tombstone| !tombstone.told) {
            tx.emit(Event::RevocationTold { key });
        }
    }
}

/// The legs a node is to be told to end.
pub(crate) fn to_end(pool: &Pool, holder: HolderId) -> Vec<LegId> {
    pool.untold(holder).map(|(key, _)| key.leg.clone()).collect()
}

/// Whether a node's legs are the holder's leases, and perhaps some that were taken back by force: it may
/// have heard of each of those or not, or had not when it said this, if that was long on the way. With very many
/// of them nothing can be said.
pub(crate) fn agrees(pool: &Pool, holder: HolderId, set: LegSet, legs: LegSet) -> bool {
    let buried: Vec<_> = pool.tombstones_of(holder).take(MAX_COMPARED + 1).collect();
    if buried.len() > MAX_COMPARED {
        return true;
    }
    let mut possible = vec![set];
    for (key, tombstone) in buried {
        for at in 0..possible.len() {
            let mut with = possible[at];
            with.add(&key.leg, &tombstone.call, &tombstone.charge);
            possible.push(with);
        }
    }
    possible.contains(&legs)
}

/// A leg whose release by force is not done after a while is an alarm, told or not.
pub(crate) fn watch(tx: &mut PoolTx<'_>) {
    let buried: Vec<_> = tx.state().tombstones.keys().cloned().collect();
    let live = tx.volatile_mut();
    live.overdue.retain(|key, _| buried.binary_search(key).is_ok());
    let due = live.clock.plus(ALARM_AFTER);
    for key in buried {
        live.overdue.entry(key).or_insert(due);
    }
}
