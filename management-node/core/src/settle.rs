//! What follows a grant: changed media, release, and legs that run by a node's own decision.

use headroom_core::call::RunningLeg;
use headroom_core::rating::{rate, rate_leg};
use headroom_core::{Call, Charge, LeaseId, LegId, Media, Millis, Shared};

use crate::allocate::{admit, told};
use crate::command::{Leased, LegAnswer, Mutation, Verdict};
use crate::event::Event;
use crate::leases::Packed;
use crate::machine::PoolTx;
use crate::state::{Denial, EndedHow, HolderId, Lease, LeaseKey, Origin};

/// Re-rates legs, each decided alone. A leg that is denied more keeps what it has.
pub(crate) fn update(tx: &mut PoolTx<'_>, at: Millis, holder: HolderId, legs: &[(LegId, Media)]) -> Mutation {
    let answers = legs
        .iter()
        .enumerate()
        .map(|(index, (leg, media))| LegAnswer {
            leg: leg.clone(),
            verdict: update_leg(tx, at, &LeaseKey { holder, leg: leg.clone() }, index, *media),
        })
        .collect();
    Mutation::Updated(answers)
}

fn update_leg(
    tx: &mut PoolTx<'_>,
    at: Millis,
    key: &LeaseKey,
    index: usize,
    media: Media,
) -> Verdict<Leased> {
    let Some(lease) = tx.state().leases.get(key) else {
        let description = format!("{} holds no lease", key.leg);
        return Verdict::Refused { field: format!("legs[{index}].leg"), description };
    };
    let charge = rate(&lease.info, lease.leg.protocol, media);
    let more = charge.units.above(lease.charge.units);
    // Only needing more can be denied; the rest always passes.
    if !more.is_zero()
        && let Err(reason) = admit(tx.state(), &charge.feature, more, at)
    {
        let mut leg = lease.leg.clone();
        leg.media = media;
        let pool = tx.state().instant(&charge.feature, at);
        let call = Shared::new(Call { info: lease.info.as_ref().clone(), legs: vec![leg] });
        let charge = Charge { feature: charge.feature, units: more };
        let holder = key.holder;
        let denial = Denial { at, holder, call, reason, charge, pool, by_node: false, update: true };
        tx.emit(Event::Denied(Shared::new(denial)));
        return Verdict::Denied(reason);
    }
    if media != lease.leg.media || charge != lease.charge {
        tx.emit(Event::LeaseChanged { key: key.clone(), media, charge, at });
    }
    match tx.state().leases.get(key) {
        Some(lease) => Verdict::Granted(told(&key.leg, &lease)),
        None => unreachable!("a lease that was just changed is in the books"),
    }
}

/// Gives leases back; what is not held is no error.
pub(crate) fn release(tx: &mut PoolTx<'_>, at: Millis, holder: HolderId, legs: &[LegId]) -> Mutation {
    for leg in legs {
        let key = LeaseKey { holder, leg: leg.clone() };
        if tx.state().leases.contains(&key) {
            tx.emit(Event::LeaseEnded { key: key.clone(), how: EndedHow::Released, at });
        }
        if tx.state().tombstones.contains_key(&key) {
            tx.emit(Event::RevocationDone { key: key.clone() });
        }
    }
    Mutation::Released
}

/// Records legs that run, even above the limit. Answers the leases, and the legs that were
/// released by force and are not recorded.
pub(crate) fn adopt(
    tx: &mut PoolTx<'_>,
    at: Millis,
    holder: HolderId,
    legs: Vec<RunningLeg>,
) -> (Vec<Leased>, Vec<LegId>) {
    let (mut leases, mut revoked) = (Vec::with_capacity(legs.len()), Vec::new());
    for running in legs {
        let key = LeaseKey { holder, leg: running.leg.leg.clone() };
        if tx.state().is_buried(holder, &running) {
            revoked.push(key.leg);
            continue;
        }
        if tx.state().tombstones.contains_key(&key) {
            // Another leg has its id: that one has ended, and this store has not heard so, or not any more.
            tx.emit(Event::RevocationDone { key: key.clone() });
        }
        adopt_leg(tx, at, &key, running);
        if let Some(lease) = tx.state().leases.get(&key) {
            leases.push(told(&key.leg, &lease));
        }
    }
    (leases, revoked)
}

fn adopt_leg(tx: &mut PoolTx<'_>, at: Millis, key: &LeaseKey, running: RunningLeg) {
    let charge = rate_leg(&running.info, &running.leg);
    match tx.state().leases.get(key) {
        Some(lease)
            if *lease.info == running.info
                && lease.leg.protocol == running.leg.protocol
                && lease.origin != Origin::Reserved =>
        {
            if lease.leg.media != running.leg.media || lease.charge != charge {
                let media = running.leg.media;
                tx.emit(Event::LeaseChanged { key: key.clone(), media, charge, at });
            }
            return;
        }
        // The node knows what its leg is doing now: the lease of what it did before, or the one that was
        // reserved for it, ends.
        Some(_) => {
            tx.emit(Event::LeaseEnded { key: key.clone(), how: EndedHow::Replaced, at });
        }
        None => {}
    }
    let pool = tx.state().instant(&charge.feature, at);
    let lease = Lease {
        id: LeaseId(tx.state().counters.lease + 1),
        info: Shared::new(running.info),
        leg: running.leg,
        charge,
        origin: Origin::Adopted,
        // A node's clock may run ahead; the books do not follow it into the future.
        admitted_at: running.admitted_at.min(at),
        granted_at: at,
        pool,
    };
    tx.emit(Event::LeaseGranted(Packed::new(key.holder, &lease)));
}
