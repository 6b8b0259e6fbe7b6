//! The durable state of a pool.

use headroom_core::entitlement::EntitlementKey;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::license::{self, LicenseDocument, PublicKey, TrustedKeys};
use headroom_core::{
    Call, CallId, CallInfo, Charge, DenialReason, Feature, LeaseId, Leg, LegId, LicenseId, Millis, NodeName,
    Shared, Units,
};
use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};

use crate::activation::{LicenseRequest, Site};
use crate::alarms::{AlarmKey, AlarmRecord};
use crate::holder::{Holder, Node};
use crate::leases::{Leases, Packed};
use crate::license_clock::LicenseClock;
use crate::notes::Note;
use crate::test_mode::TestMode;

/// Denials kept in full; older ones only count.
pub const MAX_DENIALS: usize = 100_000;
/// Bytes of denials kept in full, as encoded: a denial can be of a call of hundreds of legs.
pub const MAX_DENIAL_BYTES: usize = 64 * 1024 * 1024;
/// Minutes for which denials are counted: one week.
pub const MAX_MINUTES: i64 = 7 * 24 * 60;
/// Ended leases kept for explanations.
pub const MAX_ENDED: usize = 10_000;
/// Superseded processes remembered per holder, to recognize a clone.
pub const MAX_SUPERSEDED: usize = 16;

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct CertificateHash(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 32],
);

impl std::fmt::Debug for CertificateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…")
    }
}

/// Random identity of one process of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Nonce(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

/// Who holds leases: a node, or a second machine that uses the node's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct HolderId(#[n(0)] pub u32);

/// A lease's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct LeaseKey {
    /// Who holds it.
    #[n(0)]
    pub holder: HolderId,
    /// For which leg.
    #[n(1)]
    pub leg: LegId,
}

impl LeaseKey {
    /// Not after any key of a holder.
    #[must_use]
    pub fn first_of(holder: HolderId) -> Self {
        Self { holder, leg: LegId::least() }
    }
}

/// The pool of one feature at the instant of a decision, before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct PoolInstant {
    /// Units in use.
    #[n(0)]
    pub in_use: Units,
    /// Units of all valid licenses.
    #[n(1)]
    pub capacity: Units,
    /// Units above capacity that the licenses permit.
    #[n(2)]
    pub overdraft: Units,
}

impl PoolInstant {
    /// The most units that may be in use.
    #[must_use]
    pub fn limit(&self) -> Units {
        self.capacity.plus(self.overdraft)
    }

    /// Units in use above the limit.
    #[must_use]
    pub fn over_commit(&self) -> Units {
        self.in_use.above(self.limit())
    }
}

/// How a lease came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Origin {
    /// The node asked and was granted it.
    #[n(0)]
    Asked,
    /// The node had decided by itself.
    #[n(1)]
    Adopted,
    /// Another node asked for it; not claimed yet.
    #[n(2)]
    Reserved,
    /// Another node asked for it, and this one claimed it.
    #[n(3)]
    Claimed,
}

/// Units held by a leg. What is counted stands first in its encoded form, where it is read most.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// Its id.
    #[n(0)]
    pub id: LeaseId,
    /// What it holds.
    #[n(1)]
    pub charge: Charge,
    /// How it came to be.
    #[n(2)]
    pub origin: Origin,
    /// The call.
    #[n(3)]
    pub info: Shared<CallInfo>,
    /// The leg, with its media as they are now.
    #[n(4)]
    pub leg: Leg,
    /// When the leg began, by its node's clock where it decided by itself.
    #[n(5)]
    pub admitted_at: Millis,
    /// When it was recorded here.
    #[n(6)]
    pub granted_at: Millis,
    /// The pool before the decision.
    #[n(7)]
    pub pool: PoolInstant,
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum EndedHow {
    /// Its node released it.
    #[n(0)]
    Released,
    /// Another leg took its unit over.
    #[n(1)]
    Replaced,
    /// Its node was silent for longer than the TTL.
    #[n(2)]
    Lapsed,
    /// An administrator took it back.
    #[n(3)]
    Forced,
    /// Its node no longer ran the leg when it reported.
    #[n(4)]
    NotReported,
    /// Its node was removed.
    #[n(5)]
    NodeRemoved,
    /// It was reserved and not claimed in time.
    #[n(6)]
    Unclaimed,
}

/// A lease that ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ended {
    /// The lease as it was, and who held it.
    #[n(0)]
    pub lease: Packed,
    /// How it ended.
    #[n(1)]
    pub how: EndedHow,
    /// When it ended.
    #[n(2)]
    pub at: Millis,
}

/// An installed license.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Installed {
    /// What it says.
    #[n(0)]
    pub document: LicenseDocument,
    /// The file as it was signed.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub signed: Vec<u8>,
    /// When it was installed.
    #[n(2)]
    pub at: Millis,
    /// The entitlement key it was activated with, if any.
    #[n(3)]
    pub key: Option<EntitlementKey>,
    /// The request that returns it. From then on it counts nothing.
    #[n(4)]
    pub returning: Option<license::Nonce>,
}

impl Installed {
    /// A license that came as a file.
    #[must_use]
    pub const fn from_file(document: LicenseDocument, signed: Vec<u8>, at: Millis) -> Self {
        Self { document, signed, at, key: None, returning: None }
    }

    /// Whether it came by an activation of this machine; else it was installed from a file.
    #[must_use]
    pub const fn activated(&self) -> bool {
        self.document.machine_sequence > 0
    }
}

/// Why a pool is over-committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum OverCommitCause {
    /// Legs that ran by a node's own decision were recorded.
    #[n(0)]
    AdoptedLegs,
    /// Capacity shrank under running calls.
    #[n(1)]
    CapacityShrank,
}

/// Use of one feature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Usage {
    /// Units in use.
    #[n(0)]
    pub in_use: Units,
    /// The most ever in use.
    #[n(1)]
    pub peak: Units,
    /// When that was.
    #[n(2)]
    pub peak_at: Millis,
    /// Cause and begin of an over-commit.
    #[n(3)]
    pub over_commit: Option<(OverCommitCause, Millis)>,
    /// When a request was last denied because the pool was full.
    #[n(4)]
    pub last_full_at: Option<Millis>,
}

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Denial {
    /// When.
    #[n(0)]
    pub at: Millis,
    /// Who asked.
    #[n(1)]
    pub holder: HolderId,
    /// What was asked.
    #[n(2)]
    pub call: Shared<Call>,
    /// Why it was refused.
    #[n(3)]
    pub reason: DenialReason,
    /// What was short or needed.
    #[n(4)]
    pub charge: Charge,
    /// The pool at that instant.
    #[n(5)]
    pub pool: PoolInstant,
    /// The node refused by itself.
    #[n(6)]
    pub by_node: bool,
    /// A running leg asked for more.
    #[n(7)]
    pub update: bool,
}

/// A leg an administrator has released.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Tombstone {
    /// When.
    #[n(0)]
    pub at: Millis,
    /// The media server was told.
    #[n(1)]
    pub told: bool,
    /// The leg's call.
    #[n(2)]
    pub call: CallId,
    /// What it held.
    #[n(3)]
    pub charge: Charge,
}

/// The store was found older than what a node has seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Rollback {
    /// When it was found.
    #[n(0)]
    pub at: Millis,
    /// The node, when this store knows it.
    #[n(1)]
    pub node: Option<NodeName>,
    /// The last record that the node has seen.
    #[n(2)]
    pub seen: u64,
    /// The last record of this store.
    #[n(3)]
    pub here: u64,
}

/// The durable state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pool {
    /// The machine this pool runs on.
    pub fingerprint: Option<Fingerprint>,
    /// Installed licenses.
    pub licenses: OrdMap<LicenseId, Shared<Installed>>,
    /// Enrolled and removed nodes.
    pub nodes: OrdMap<NodeName, Shared<Node>>,
    /// Whose certificate is whose; removed nodes' stay, to be told so.
    pub certificates: OrdMap<CertificateHash, NodeName>,
    /// Holders of leases.
    pub holders: OrdMap<HolderId, Shared<Holder>>,
    /// Holders by name; a node's own comes first.
    pub holder_ids: OrdMap<(NodeName, u32), HolderId>,
    /// Leases.
    pub leases: Leases,
    /// Leases that are reserved and not claimed.
    pub reserved: OrdSet<LeaseKey>,
    /// Use by feature.
    pub usage: OrdMap<Feature, Usage>,
    /// Legs a report in progress has named.
    pub reported: OrdSet<LeaseKey>,
    /// Legs released by force.
    pub tombstones: OrdMap<LeaseKey, Tombstone>,
    /// The newest denials.
    pub denials: OrdMap<u64, Shared<Denial>>,
    /// Their encoded size.
    pub denial_bytes: usize,
    /// Denials by minute since 1970.
    pub minutes: OrdMap<(i64, DenialReason), u64>,
    /// The newest ended leases.
    pub ended: OrdMap<u64, Ended>,
    /// When this store was last found older than what a node has seen.
    pub rollback: Option<Rollback>,
    /// This machine in the licensing server's books.
    pub site: Site,
    /// Requests that await an answer.
    pub requests: OrdMap<license::Nonce, Shared<LicenseRequest>>,
    /// License time.
    pub clock: Option<LicenseClock>,
    /// Test mode.
    pub test_mode: TestMode,
    /// When each alarm was raised and cleared.
    pub alarm_book: OrdMap<AlarmKey, AlarmRecord>,
    /// The support log beside denials and alarms.
    pub notes: OrdMap<u64, Shared<Note>>,
    /// The support log of alarms.
    pub alarm_notes: OrdMap<u64, Shared<Note>>,
    /// What was handed out last.
    pub counters: Counters,
}

impl Pool {
    /// License time when the wall clock shows `wall`.
    #[must_use]
    pub fn license_time(&self, wall: Millis) -> Millis {
        self.clock.map_or(wall, |clock| clock.time(wall))
    }

    /// The vendor's keys: those this deployment was made with, and those they vouch for.
    #[must_use]
    pub fn trusted(&self, vendors: &TrustedKeys) -> TrustedKeys {
        let learned: &[PublicKey] = &self.site.learned;
        vendors.iter().chain(learned).copied().collect()
    }
}

/// Numbers that only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Counters {
    /// Leases.
    #[n(0)]
    pub lease: u64,
    /// Sessions.
    #[n(1)]
    pub session: u64,
    /// Holders.
    #[n(2)]
    pub holder: u32,
    /// Denials.
    #[n(3)]
    pub denial: u64,
    /// Ended leases.
    #[n(4)]
    pub ended: u64,
    /// Calls with at least one leg, now.
    #[n(5)]
    pub calls: u64,
    /// Lines of the support log.
    #[n(6)]
    #[cbor(default)]
    pub note: u64,
}
