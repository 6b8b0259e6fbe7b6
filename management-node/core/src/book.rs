//! The books: every way a lease enters, changes or leaves, with all that is derived from it.
//! Only [`crate::apply`] calls what changes them.

use headroom_core::{Charge, Feature, LegId, Media, Millis, NodeName, Shared, Units};

use crate::holder::Holder;
use crate::leases::{Counted, Packed};
use crate::state::{
    Denial, Ended, EndedHow, HolderId, Lease, LeaseKey, MAX_DENIAL_BYTES, MAX_DENIALS, MAX_ENDED,
    MAX_MINUTES, Origin, Pool,
};

impl Pool {
    /// A node's own holder.
    #[must_use]
    pub fn holder_of(&self, node: &NodeName) -> Option<HolderId> {
        self.holder_ids.get(&(node.clone(), 0)).copied()
    }

    /// A lease.
    #[must_use]
    pub fn lease(&self, holder: HolderId, leg: &LegId) -> Option<Lease> {
        self.leases.get(&LeaseKey { holder, leg: leg.clone() })
    }

    /// Whether a leg of the call already carries a charge that is counted once per call.
    #[must_use]
    pub fn call_holds(&self, call: &str, feature: &Feature) -> bool {
        self.leases.charges_of_call(call).any(|charge| charge.feature == *feature)
    }

    pub(crate) fn holder_mut(&mut self, holder: HolderId) -> Option<&mut Holder> {
        self.holders.get_mut(&holder).map(Shared::make_mut)
    }

    /// Counts a charge; with a per-call feature only for the first leg of the call.
    fn count(&mut self, call: &str, charge: &Charge) {
        if charge.units.is_zero() || (charge.feature.per_call() && self.call_holds(call, &charge.feature)) {
            return;
        }
        let usage = self.usage.entry(charge.feature.clone()).or_default();
        usage.in_use = usage.in_use.plus(charge.units);
    }

    /// Uncounts a charge whose lease is already out of the books.
    fn uncount(&mut self, call: &str, charge: &Charge) {
        if charge.units.is_zero() || (charge.feature.per_call() && self.call_holds(call, &charge.feature)) {
            return;
        }
        if let Some(usage) = self.usage.get_mut(&charge.feature) {
            usage.in_use = usage.in_use.above(charge.units);
        }
    }

    fn tally(holder: &mut Holder, lease: &Counted<'_>, add: bool) {
        let (leg, call, charge) = (lease.leg, lease.call, &lease.charge);
        if charge.feature == Feature::Call {
            holder.units =
                if add { holder.units.plus(charge.units) } else { holder.units.above(charge.units) };
        }
        match (lease.origin == Origin::Reserved, add) {
            (true, true) => holder.reserved += 1,
            (true, false) => holder.reserved = holder.reserved.saturating_sub(1),
            (false, true) => holder.set.add(leg, call, charge),
            (false, false) => holder.set.remove(leg, call, charge),
        }
    }

    pub(crate) fn put_lease(&mut self, packed: &Packed) {
        let lease = packed.counted();
        if !self.leases.has_call(lease.call) {
            self.counters.calls += 1;
        }
        self.count(lease.call, &lease.charge);
        if let Some(holder) = self.holder_mut(packed.holder()) {
            Self::tally(holder, &lease, true);
        }
        if self.test_mode.took(lease.id) {
            self.test_mode.held += 1;
        }
        self.counters.lease = self.counters.lease.max(lease.id.0);
        self.leases.insert(packed.clone());
        if lease.origin == Origin::Reserved {
            self.reserved.insert(packed.key());
        }
    }

    fn take_lease(&mut self, key: &LeaseKey) -> Option<Packed> {
        let packed = self.leases.remove(key)?;
        let lease = packed.counted();
        self.reserved.remove(key);
        self.reported.remove(key);
        if let Some(holder) = self.holder_mut(key.holder) {
            Self::tally(holder, &lease, false);
        }
        self.uncount(lease.call, &lease.charge);
        if self.test_mode.took(lease.id) {
            self.test_mode.held = self.test_mode.held.saturating_sub(1);
        }
        if !self.leases.has_call(lease.call) {
            self.counters.calls = self.counters.calls.saturating_sub(1);
        }
        Some(packed)
    }

    /// Changes a lease in place: out of the tallies and in again.
    pub(crate) fn change_lease(&mut self, key: &LeaseKey, media: Media, charge: &Charge) {
        // Out of the books while counting, so that a per-call charge sees the other legs only.
        let Some(before) = self.leases.remove(key) else { return };
        let mut after = before.lease();
        after.leg.media = media;
        after.charge = charge.clone();
        let (before, after) = (&before.counted(), Packed::new(key.holder, &after));
        if let Some(holder) = self.holder_mut(key.holder) {
            Self::tally(holder, before, false);
            Self::tally(holder, &after.counted(), true);
        }
        if before.charge != *charge {
            self.uncount(before.call, &before.charge);
            self.count(before.call, charge);
        }
        self.leases.insert(after);
    }

    pub(crate) fn remember_ended(&mut self, ended: Ended) {
        self.counters.ended += 1;
        self.ended.insert(self.counters.ended, ended);
        if self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.get_min().map(|(number, _)| *number)
        {
            self.ended.remove(&oldest);
        }
    }

    pub(crate) fn end_lease(&mut self, key: &LeaseKey, how: EndedHow, at: Millis) {
        if let Some(lease) = self.take_lease(key) {
            self.remember_ended(Ended { lease, how, at });
        }
    }

    pub(crate) fn remember_denial(&mut self, denial: &Shared<Denial>) {
        self.counters.denial += 1;
        self.put_denial(self.counters.denial, denial);
        while (self.denials.len() > MAX_DENIALS || self.denial_bytes > MAX_DENIAL_BYTES)
            && let Some(oldest) = self.denials.get_min().map(|(number, _)| *number)
        {
            if let Some(oldest) = self.denials.remove(&oldest) {
                self.denial_bytes = self.denial_bytes.saturating_sub(weight(&oldest));
            }
        }
        *self.minutes.entry((denial.at.0.div_euclid(60_000), denial.reason)).or_default() += 1;
        let newest = self.minutes.get_max().map_or(0, |((minute, _), _)| *minute);
        while let Some(key) = self.minutes.get_min().map(|(key, _)| *key)
            && key.0 + MAX_MINUTES < newest
        {
            self.minutes.remove(&key);
        }
        if denial.reason == headroom_core::DenialReason::InsufficientLicenses && !denial.by_node {
            self.usage.entry(denial.charge.feature.clone()).or_default().last_full_at = Some(denial.at);
        }
    }

    /// Keeps a denial under its number.
    pub(crate) fn put_denial(&mut self, number: u64, denial: &Shared<Denial>) {
        self.denial_bytes += weight(denial);
        self.denials.insert(number, Shared::clone(denial));
    }

    /// Units in use of a feature.
    #[must_use]
    pub fn in_use(&self, feature: &Feature) -> Units {
        self.usage.get(feature).map_or(Units::ZERO, |usage| usage.in_use)
    }
}

/// The encoded size of a denial, in bytes.
fn weight(denial: &Denial) -> usize {
    let mut bytes = Count(0);
    // Counting has no errors, and derived encoders have none of their own.
    let _ = minicbor::encode(denial, &mut bytes);
    bytes.0
}

/// Counts what is written.
struct Count(usize);

impl minicbor::encode::Write for Count {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0 += bytes.len();
        Ok(())
    }
}
