//! What happens to the register. Numbered fields: older and newer versions read each other's records.

use headroom_core::activation::{Ending, MachineId, Offer};
use headroom_core::entitlement::EntitlementKey;
use headroom_core::fingerprint::{Fingerprint, Part as FingerprintPart};
use headroom_core::license::{LicenseDocument, SignedLicense};
use headroom_core::{LicenseId, Millis, Shared, Text};
use minicbor::{Decode, Encode};

use crate::machines::{Answered, MachineRecord};
use crate::state::{Activation, AuditEntry, Counters, Customer, Entitlement, KnownKey, Terms};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// A signing key was taken into use.
    #[n(0)]
    KeyAdded(#[n(0)] KnownKey),
    /// A license was issued, as versions wrote it that knew no activations.
    #[n(1)]
    LicenseIssued(#[n(0)] Issued),
    /// A customer was added.
    #[n(14)]
    CustomerAdded(#[n(0)] Text, #[n(1)] Customer),
    /// An entitlement key was made.
    #[n(2)]
    EntitlementCreated(#[n(0)] EntitlementKey, #[n(1)] Shared<Entitlement>),
    /// What a key entitles to has changed; its license changes with it.
    #[n(3)]
    EntitlementChanged {
        /// The key.
        #[n(0)]
        key: EntitlementKey,
        /// What it entitles to now.
        #[n(1)]
        terms: Terms,
        /// When.
        #[n(2)]
        at: Millis,
    },
    /// A key was revoked. Its license ends with an event of its own.
    #[n(4)]
    EntitlementRevoked {
        /// The key.
        #[n(0)]
        key: EntitlementKey,
        /// When.
        #[n(1)]
        at: Millis,
        /// Why.
        #[n(2)]
        reason: Text,
    },
    /// A license was bound to a machine.
    #[n(5)]
    Activated(#[n(0)] Shared<Activation>),
    /// A license is not its machine's any more.
    #[n(6)]
    Ended {
        /// The license.
        #[n(0)]
        license: LicenseId,
        /// How.
        #[n(1)]
        how: Ending,
        /// When.
        #[n(2)]
        at: Millis,
        /// Why, where somebody gave a reason.
        #[n(3)]
        reason: Text,
    },
    /// A machine was heard for the first time.
    #[n(7)]
    MachineAdded(#[n(0)] MachineId, #[n(1)] Shared<MachineRecord>),
    /// A machine's licenses are bound to what it is now.
    #[n(8)]
    Repaired {
        /// The machine.
        #[n(0)]
        machine: MachineId,
        /// What it is now.
        #[n(1)]
        fingerprint: Fingerprint,
        /// When.
        #[n(2)]
        at: Millis,
    },
    /// A machine's request was answered.
    #[n(9)]
    Answered {
        /// The machine.
        #[n(0)]
        machine: MachineId,
        /// The request's number.
        #[n(1)]
        sequence: u64,
        /// The answer.
        #[n(2)]
        answered: Shared<Answered>,
    },
    /// A product can be tried, or what its trial has was changed.
    #[n(10)]
    TrialOffered(#[n(0)] Offer),
    /// A product can be tried no more.
    #[n(11)]
    TrialWithdrawn(#[n(0)] Text),
    /// Something was asked.
    #[n(12)]
    Audited(#[n(0)] Shared<AuditEntry>),
    /// A part of a snapshot.
    #[n(13)]
    Restored(#[n(0)] Part),
}

/// A license as versions wrote it that knew no activations.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Issued {
    /// What it says.
    #[n(0)]
    pub document: LicenseDocument,
    /// The bytes that were signed.
    #[n(1)]
    pub signed: SignedLicense,
}

/// A part of a snapshot that no event of service restores as it is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Part {
    /// A license.
    #[n(0)]
    Activation(#[n(0)] Shared<Activation>),
    /// An entry of the audit.
    #[n(1)]
    Audit(#[n(0)] u64, #[n(1)] Shared<AuditEntry>),
    /// A trial that a machine had, also before it changed.
    #[n(3)]
    Tried(#[n(0)] FingerprintPart, #[n(1)] Text, #[n(2)] LicenseId),
    /// What was handed out last.
    #[n(2)]
    Counters(#[n(0)] Counters),
}
