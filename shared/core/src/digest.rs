//! Count and digest of a set of legs, cheap to keep up to date.
//!
//! The digest is a sum of hashes modulo 2^128, so adding and removing a leg costs one hash and the
//! order does not matter. It finds drift between two honest sides; it is no defence against a
//! forger, who could only spoil the books of his own node.

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::charge::Charge;

/// A set of legs, as two numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct LegSet {
    /// How many legs.
    #[n(0)]
    pub count: u64,
    /// Sum of the legs' hashes.
    #[n(1)]
    #[cbor(with = "wide")]
    pub digest: u128,
}

fn hash(leg: &str, call: &str, charge: &Charge) -> u128 {
    let mut hasher = Sha256::new();
    for part in [leg, call, charge.feature.as_str()] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(charge.units.0.to_be_bytes());
    let hash = hasher.finalize();
    hash.iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

impl LegSet {
    /// Adds a leg of a call, by their ids.
    pub fn add(&mut self, leg: impl AsRef<str>, call: impl AsRef<str>, charge: &Charge) {
        self.count += 1;
        self.digest = self.digest.wrapping_add(hash(leg.as_ref(), call.as_ref(), charge));
    }

    /// Takes a leg away that was added with the same call and charge.
    pub fn remove(&mut self, leg: impl AsRef<str>, call: impl AsRef<str>, charge: &Charge) {
        self.count = self.count.saturating_sub(1);
        self.digest = self.digest.wrapping_sub(hash(leg.as_ref(), call.as_ref(), charge));
    }
}

mod wide {
    //! A `u128` as 16 bytes, big endian.
    use minicbor::{Decoder, Encoder, decode as de, encode as en};

    pub(super) fn encode<C, W: en::Write>(
        value: &u128,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), en::Error<W::Error>> {
        e.bytes(&value.to_be_bytes())?;
        Ok(())
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u128, de::Error> {
        let bytes = d.bytes()?;
        let bytes = bytes.try_into().map_err(|_| de::Error::message("a digest has 16 bytes"))?;
        Ok(u128::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{CallId, LegId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_digest_depends_on_the_legs_and_not_on_their_history(order in Just((0..20u32).collect::<Vec<_>>()).prop_shuffle(), removed in 0..20u32) {
            let id = |n: u32| (LegId::new(&format!("leg{n}")).expect("id"), CallId::new("c").expect("id"));
            let mut shuffled = LegSet::default();
            for n in &order { let (l, c) = id(*n); shuffled.add(&l, &c, &Charge::calls(1)); }
            let (l, c) = id(removed);
            shuffled.remove(&l, &c, &Charge::calls(1));
            let mut plain = LegSet::default();
            for n in (0..20).filter(|n| *n != removed) { let (l, c) = id(n); plain.add(&l, &c, &Charge::calls(1)); }
            prop_assert_eq!(shuffled, plain);
            plain.add(&l, &c, &Charge::calls(2));
            shuffled.add(&l, &c, &Charge::calls(1));
            prop_assert_ne!(shuffled, plain);
        }
    }
}
