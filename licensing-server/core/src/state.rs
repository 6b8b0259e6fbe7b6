//! What the register holds.

use crate::machines::MachineRecord;
use headroom_core::activation::{Ended, Ending, MachineId, Offer};
use headroom_core::entitlement::EntitlementKey;
use headroom_core::fingerprint::{Fingerprint, Part as FingerprintPart};
use headroom_core::license::{KeyId, LicenseDocument, LicensedFeature, Nonce, PublicKey, TrustedKeys};
use headroom_core::signed::{Signed, Succession};
use headroom_core::{LicenseId, Millis, Shared, Text};
use imbl::{OrdMap, OrdSet, Vector};
use minicbor::{Decode, Encode};

/// Answers of a machine that are kept to be given again.
pub const MAX_ANSWERS: usize = 8;
/// Requests, and what the vendor did, that are kept for the audit: so many of each.
pub const MAX_AUDIT: usize = 100_000;
/// The source of what the vendor did.
pub(crate) const BY_VENDOR: &str = "vendor";
/// Bytes of a machine's licenses together, as encoded: an answer of 256 KiB carries them in base 64, each
/// with a signature and a key.
pub const MAX_HOLDING_BYTES: usize = 120 * 1024;
/// Bytes of what can be tried, as encoded: it comes with the licenses.
pub const MAX_OFFER_BYTES: usize = 24 * 1024;
/// What a license takes beside what it says.
const HOLDING_OVERHEAD: usize = 160;
/// Numbers of a machine that may still come in, below its highest; older ones count as used.
pub(crate) const MAX_MISSING: usize = 256;

/// A key licenses are signed with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KnownKey {
    /// The public key.
    #[n(0)]
    pub key: PublicKey,
    /// When it was made.
    #[n(1)]
    pub added_at: Millis,
    /// The word of the key before it; the first key has none.
    #[n(2)]
    pub succession: Option<Signed<Succession>>,
}

/// Who buys.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Customer {
    /// The vendor's reference, for example a customer number.
    #[n(0)]
    pub reference: Text,
    /// When he was added.
    #[n(1)]
    pub added_at: Millis,
}

/// What a plan promises.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Terms {
    /// Stock keeping unit of the product.
    #[n(0)]
    pub sku: Text,
    /// The license plan.
    #[n(1)]
    pub plan: Text,
    /// The customer.
    #[n(2)]
    pub customer: Text,
    /// What is licensed.
    #[n(3)]
    pub features: Vec<LicensedFeature>,
    /// Begin of validity.
    #[n(4)]
    pub not_before: Millis,
    /// End of validity.
    #[n(5)]
    pub not_after: Option<Millis>,
    /// Days of expiry grace.
    #[n(6)]
    pub grace_days: Option<u32>,
    /// A trial.
    #[n(7)]
    pub trial: bool,
}

impl Terms {
    /// What a license promises.
    #[must_use]
    pub fn of(document: &LicenseDocument) -> Self {
        Self {
            sku: document.sku.clone(),
            plan: document.plan.clone(),
            customer: document.customer.clone(),
            features: document.features.clone(),
            not_before: document.not_before,
            not_after: document.not_after,
            grace_days: document.grace_days,
            trial: document.trial,
        }
    }

    /// Writes them into a license.
    pub(crate) fn write_to(&self, document: &mut LicenseDocument) {
        document.sku = self.sku.clone();
        document.plan = self.plan.clone();
        document.customer = self.customer.clone();
        document.features.clone_from(&self.features);
        document.not_before = self.not_before;
        document.not_after = self.not_after;
        document.grace_days = self.grace_days;
        document.trial = self.trial;
    }

    /// A license that promises them.
    pub(crate) fn license(
        &self,
        license: LicenseId,
        fingerprint: Fingerprint,
        request: (u64, Nonce),
        at: Millis,
    ) -> LicenseDocument {
        let mut document = LicenseDocument {
            license,
            sku: Text::default(),
            plan: Text::default(),
            customer: Text::default(),
            features: Vec::new(),
            not_before: at,
            not_after: None,
            trial: false,
            fingerprint,
            machine_sequence: request.0,
            nonce: request.1,
            issued_at: at,
            grace_days: None,
        };
        self.write_to(&mut document);
        document
    }
}

/// An entitlement key and what it entitles to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entitlement {
    /// What it entitles to.
    #[n(0)]
    pub terms: Terms,
    /// When it was made.
    #[n(1)]
    pub created_at: Millis,
    /// When and why the vendor revoked it.
    #[n(2)]
    pub revoked: Option<(Millis, Text)>,
    /// The machine that it is assigned to, which gets it without typing the key.
    #[n(3)]
    pub assigned: Option<Fingerprint>,
    /// The license that it is active with now.
    #[n(4)]
    pub active: Option<LicenseId>,
}

/// A license that was made, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Activation {
    /// What the license says.
    #[n(0)]
    pub document: LicenseDocument,
    /// The key it was activated with.
    #[n(1)]
    pub key: Option<EntitlementKey>,
    /// The machine; a license that was issued as a file knows its machine by the fingerprint only.
    #[n(2)]
    pub machine: Option<MachineId>,
    /// When it was activated or issued.
    #[n(3)]
    pub at: Millis,
    /// How, when and, where somebody gave a reason, why it ended.
    #[n(4)]
    pub ended: Option<(Ending, Millis, Text)>,
    /// How often it was bound again to a changed machine.
    #[n(5)]
    pub repairs: u32,
}

impl Activation {
    /// What is told of it once it has ended.
    #[must_use]
    pub fn ending(&self) -> Option<Ended> {
        let (how, at, _) = self.ended.as_ref()?;
        Some(Ended { license: self.document.license.clone(), how: *how, at: *at })
    }
}

/// One request, as it is kept for those who ask later.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditEntry {
    /// When.
    #[n(0)]
    pub at: Millis,
    /// From where: an address, a file, the vendor's own command line.
    #[n(1)]
    pub source: Text,
    /// What was asked.
    #[n(2)]
    pub asked: Text,
    /// The machine that asked.
    #[n(3)]
    pub machine: Option<MachineId>,
    /// The license or the first group of the key it was about.
    #[n(4)]
    pub subject: Text,
    /// What became of it.
    #[n(5)]
    pub outcome: Text,
}

/// Numbers that only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Counters {
    /// Entries of the audit.
    #[n(0)]
    pub audit: u64,
}

/// What survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Signing keys, oldest first.
    pub keys: Vector<KnownKey>,
    /// Customers by name.
    pub customers: OrdMap<Text, Customer>,
    /// Entitlement keys.
    pub entitlements: OrdMap<EntitlementKey, Shared<Entitlement>>,
    /// Licenses, ended ones too.
    pub activations: OrdMap<LicenseId, Shared<Activation>>,
    /// Machines.
    pub machines: OrdMap<MachineId, Shared<MachineRecord>>,
    /// Products that can be tried, by stock keeping unit.
    pub trials: OrdMap<Text, Offer>,
    /// The newest requests.
    pub audit: OrdMap<u64, Shared<AuditEntry>>,
    /// The newest of what the vendor did.
    pub vendor_audit: OrdMap<u64, Shared<AuditEntry>>,
    /// What was handed out last.
    pub counters: Counters,
    // What follows from the above, to find it.
    pub(crate) of_machine: OrdSet<(MachineId, LicenseId)>,
    pub(crate) issued: OrdSet<(FingerprintPart, LicenseId)>,
    pub(crate) assigned: OrdSet<(FingerprintPart, EntitlementKey)>,
    pub(crate) tried: OrdMap<(FingerprintPart, Text), LicenseId>,
}

impl State {
    /// Whether a signing key is known.
    #[must_use]
    pub fn knows(&self, id: KeyId) -> bool {
        self.keys.iter().any(|known| known.key.id() == id)
    }

    /// What was signed with any of the keys is this vendor's.
    #[must_use]
    pub fn trusted(&self) -> TrustedKeys {
        self.keys.iter().map(|known| known.key).collect()
    }

    /// The audit, newest first, below a number.
    pub fn audited(&self, before: u64) -> impl Iterator<Item = (u64, &Shared<AuditEntry>)> {
        let mut newest = self.audit.range(..before).rev().peekable();
        let mut vendors = self.vendor_audit.range(..before).rev().peekable();
        std::iter::from_fn(move || {
            let by_vendor = match (newest.peek(), vendors.peek()) {
                (Some((one, _)), Some((two, _))) => two > one,
                (one, _) => one.is_none(),
            };
            if by_vendor { vendors.next() } else { newest.next() }.map(|(number, entry)| (*number, entry))
        })
    }

    /// The bytes that a machine's licenses take in an answer.
    pub(crate) fn held_bytes(&self, machine: MachineId) -> usize {
        let held = self.of_machine(machine).filter(|activation| activation.ended.is_none());
        held.map(|activation| weight(&activation.document)).sum()
    }

    /// The licenses of a machine, ended ones too, ordered by id.
    pub fn of_machine(&self, machine: MachineId) -> impl Iterator<Item = &Shared<Activation>> {
        let from = (machine, LicenseId::least());
        let keys = self.of_machine.range(from..).take_while(move |(owner, _)| *owner == machine);
        keys.filter_map(|(_, license)| self.activations.get(license))
    }

    /// What is found by any part of a fingerprint.
    fn by_parts<'a, T: Ord + Clone + 'a>(
        index: &'a OrdSet<(FingerprintPart, T)>,
        fingerprint: &Fingerprint,
        least: &T,
    ) -> Vec<T> {
        let mut found: Vec<T> = Vec::new();
        for part in fingerprint.parts() {
            let keys = index.range((part, least.clone())..).take_while(|(its, _)| *its == part);
            found.extend(keys.map(|(_, key)| key.clone()));
        }
        found.sort();
        found.dedup();
        found
    }

    /// The licenses that were issued as files for a machine.
    #[must_use]
    pub fn issued_for(&self, fingerprint: &Fingerprint) -> Vec<&Shared<Activation>> {
        let ids = Self::by_parts(&self.issued, fingerprint, &LicenseId::least());
        let found = ids.iter().filter_map(|id| self.activations.get(id));
        found.filter(|activation| activation.document.fingerprint.matches(fingerprint)).collect()
    }

    /// The keys that are assigned to a machine.
    #[must_use]
    pub fn assigned_to(&self, fingerprint: &Fingerprint) -> Vec<EntitlementKey> {
        let keys = Self::by_parts(&self.assigned, fingerprint, &EntitlementKey::LEAST);
        let its = |key: &EntitlementKey| {
            let entitlement = self.entitlements.get(key);
            entitlement.and_then(|e| e.assigned.as_ref()).is_some_and(|a| a.matches(fingerprint))
        };
        keys.into_iter().filter(its).collect()
    }

    /// The trial that a machine had of a product. Anything in common makes it the same machine: one
    /// that was installed anew has its network cards still, and one with new cards its firmware.
    #[must_use]
    pub fn tried(&self, fingerprint: &Fingerprint, sku: &Text) -> Option<&Shared<Activation>> {
        let license = fingerprint.parts().find_map(|part| self.tried.get(&(part, sku.clone())))?;
        self.activations.get(license)
    }
}

/// The bytes that a license takes in an answer.
pub(crate) fn weight(document: &LicenseDocument) -> usize {
    headroom_core::signed::encode(document).len() + HOLDING_OVERHEAD
}
