//! What a machine and the licensing server tell each other about licenses.
//!
//! A machine makes a [`Request`], numbers it durably, signs it with a key of its own and has it
//! answered, over the network or by files that people carry. Every [`Answer`] lists the licenses that
//! are the machine's at that moment by the server's books, whatever was asked: who applies it agrees
//! with the server, also after one of the two was restored from a backup. An answer is bound to its
//! request by the nonce, and a machine applies only answers to requests that it has open.

mod xml;

use minicbor::{Decode, Encode};

use crate::call::words;
use crate::entitlement::EntitlementKey;
use crate::fingerprint::Fingerprint;
use crate::ids::{LicenseId, Text};
use crate::license::{KeyId, LicensedFeature, Nonce, PublicKey, SignedLicense, TrustedKeys};
use crate::signed::{Document, Kind, Signed, SignedError, Succession, Verified};
use crate::time::Millis;

pub use xml::{MAX_XML, XmlError};

/// Most licenses of one machine, so that a list of them fits into an answer.
pub const MAX_HOLDINGS: usize = 100;
/// Most licenses that are named as ended in an answer: the newest.
pub const MAX_ENDED: usize = 32;
/// Most products that an answer offers for trial.
pub const MAX_OFFERS: usize = 64;
/// Most successions of signing keys that come with an answer.
pub const MAX_SUCCESSIONS: usize = 32;

/// A machine, by its public key.
pub type MachineId = KeyId;

/// What a machine asks for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Wish {
    /// To bind the plan of an entitlement key to this machine.
    #[n(0)]
    Activate(#[n(0)] EntitlementKey),
    /// To unbind a license, so that its key can be activated elsewhere.
    #[n(1)]
    Return(#[n(0)] LicenseId),
    /// To bind this machine's licenses again, after it changed.
    #[n(2)]
    Repair,
    /// To hear what has changed.
    #[n(3)]
    Refresh,
    /// To get what is assigned to this machine and, when a product is named, its trial.
    #[n(4)]
    Fetch(#[n(0)] Option<Text>),
}

impl Wish {
    /// The word in XML, JSON and tables.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Activate(_) => "activate",
            Self::Return(_) => "return",
            Self::Repair => "repair",
            Self::Refresh => "refresh",
            Self::Fetch(_) => "fetch",
        }
    }
}

/// A machine's request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// What it asks for.
    #[n(0)]
    pub wish: Wish,
    /// The request's random identity: the same one gets the same answer.
    #[n(1)]
    pub nonce: Nonce,
    /// The machine's number of the request, from 1, raised durably before the request is shown to
    /// anybody. Numbers may be missing.
    #[n(2)]
    pub sequence: u64,
    /// Revision of the newest answer that the machine has applied.
    #[n(3)]
    pub revision: u64,
    /// The machine as it is now.
    #[n(4)]
    pub fingerprint: Fingerprint,
    /// The key it is signed with.
    #[n(5)]
    pub machine: PublicKey,
    /// The machine's certificate, once it has one.
    #[n(6)]
    pub certificate: Option<Signed<MachineCertificate>>,
    /// When it was made, by the machine's clock.
    #[n(7)]
    pub created_at: Millis,
    /// What made it.
    #[n(8)]
    pub software: Text,
}

impl Request {
    /// SHA-256 of everything in it, by which it is known again.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        use sha2::Digest as _;
        sha2::Sha256::digest(crate::signed::encode(self)).into()
    }
}

impl Document for Request {
    const KIND: Kind = Kind { what: "license request", domain: b"headroom license request\0", format: 1 };
    type Error = SignedError;
}

/// The vendor's word that a machine's key is known: what returns and repairs are signed with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MachineCertificate {
    /// The machine's key.
    #[n(0)]
    pub machine: PublicKey,
    /// The machine as it was when it was first heard.
    #[n(1)]
    pub fingerprint: Fingerprint,
    /// When that was.
    #[n(2)]
    pub issued_at: Millis,
}

impl Document for MachineCertificate {
    const KIND: Kind =
        Kind { what: "machine certificate", domain: b"headroom machine certificate\0", format: 1 };
    type Error = SignedError;
}

/// A license of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Holding {
    /// The license.
    #[n(0)]
    pub license: SignedLicense,
    /// The entitlement key it was activated with, if any.
    #[n(1)]
    pub key: Option<EntitlementKey>,
}

words!(
    /// Why a license is not a machine's any more.
    Ending {
        /// The machine returned it.
        1 Returned = "returned",
        /// The vendor revoked it.
        2 Revoked = "revoked",
        /// The vendor gave its key to another machine, this one being taken for lost.
        3 Replaced = "replaced",
    }
);

/// A license that is not the machine's any more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ended {
    /// The license.
    #[n(0)]
    pub license: LicenseId,
    /// Why.
    #[n(1)]
    pub how: Ending,
    /// When.
    #[n(2)]
    pub at: Millis,
}

/// A product that can be tried.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// Its stock keeping unit.
    #[n(0)]
    pub sku: Text,
    /// What the trial has.
    #[n(1)]
    pub features: Vec<LicensedFeature>,
}

words!(
    /// Why a request is refused. A refusal is final: the request is answered.
    RefusalReason {
        /// No such entitlement key was issued.
        1 UnknownKey = "unknown_key",
        /// The key is active on another machine.
        2 KeyInUse = "key_in_use",
        /// The vendor revoked the key.
        3 KeyRevoked = "key_revoked",
        /// The plan's time is over.
        4 KeyExpired = "key_expired",
        /// The key is assigned to another machine.
        5 KeyAssigned = "key_assigned",
        /// The machine holds no such license.
        6 UnknownLicense = "unknown_license",
        /// The machine is not the one its licenses are bound to.
        7 MachineChanged = "machine_changed",
        /// Returns and repairs need the machine's certificate.
        8 NoCertificate = "no_certificate",
        /// The machine had its trial of the product.
        9 TrialUsed = "trial_used",
        /// No such product can be tried.
        10 UnknownProduct = "unknown_product",
        /// The machine holds as many licenses as it can.
        11 TooManyLicenses = "too_many_licenses",
        /// The request's identity was used for another request.
        12 NonceReused = "nonce_reused",
        /// The machine has applied a later answer than this server ever gave it: the server was restored
        /// from an older copy.
        13 ServerBehind = "server_behind",
    }
);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It was fulfilled.
    #[n(0)]
    Done,
    /// It was refused, with a sentence.
    #[n(1)]
    Refused(#[n(0)] RefusalReason, #[n(1)] Text),
    /// It was not looked at: its number was used before, so the machine's books are older than the
    /// server's, as after a restore from a backup. The answer brings them in line.
    #[n(2)]
    Resynchronized,
}

/// The licensing server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Answer {
    /// The request it answers.
    #[n(0)]
    pub nonce: Nonce,
    /// The machine it answers.
    #[n(1)]
    pub machine: MachineId,
    /// The machine's highest number that the server has seen.
    #[n(2)]
    pub sequence: u64,
    /// Number of the machine's state in the server's books, rising.
    #[n(3)]
    pub revision: u64,
    /// When it was given, by the server's clock.
    #[n(4)]
    pub at: Millis,
    /// What became of the request.
    #[n(5)]
    pub outcome: Outcome,
    /// The machine's certificate.
    #[n(6)]
    pub certificate: Option<Signed<MachineCertificate>>,
    /// Every license that is the machine's now.
    #[n(7)]
    pub holdings: Vec<Holding>,
    /// Licenses that are not the machine's any more, the newest.
    #[n(8)]
    pub ended: Vec<Ended>,
    /// Products that the machine can try; only when it fetches.
    #[n(9)]
    pub offers: Vec<Offer>,
}

impl Document for Answer {
    const KIND: Kind = Kind { what: "license answer", domain: b"headroom license answer\0", format: 1 };
    type Error = SignedError;
}

/// Why an answer is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not the XML of an answer.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// Not what the vendor signed.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// A license in it is not acceptable.
    #[error(transparent)]
    License(#[from] crate::license::LicenseError),
}

/// An answer with everything in it verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAnswer {
    /// What it says.
    pub answer: Answer,
    /// Its licenses, verified, in the order of its holdings.
    pub licenses: Vec<crate::license::VerifiedLicense>,
    /// The keys that are trusted with it: those before, and those they vouch for.
    pub trusted: TrustedKeys,
}

/// Reads and verifies an answer's XML.
///
/// # Errors
/// [`AnswerError`] says what is wrong with it.
pub fn read_answer(xml: &[u8], trusted: &TrustedKeys) -> Result<VerifiedAnswer, AnswerError> {
    let (signed, successions) = xml::parse_answer(xml)?;
    let trusted = trusted.follow(&successions);
    let (answer, _) = signed.verify(&trusted)?.into_parts();
    if let Some(certificate) = &answer.certificate {
        certificate.verify(&trusted)?;
    }
    let licenses =
        answer.holdings.iter().map(|holding| holding.license.verify(&trusted)).collect::<Result<_, _>>()?;
    Ok(VerifiedAnswer { answer, licenses, trusted })
}

/// Writes an answer as XML, with what a machine needs to trust its key.
#[must_use]
pub fn write_answer(answer: &Verified<Answer>, successions: &[Signed<Succession>]) -> String {
    xml::write_answer(answer, successions)
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not the XML of a request.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// Not what the machine signed.
    #[error(transparent)]
    Signed(#[from] SignedError),
}

/// Reads a request's XML and verifies that the machine it names has signed it.
///
/// # Errors
/// [`RequestError`] says what is wrong with it.
pub fn read_request(xml: &[u8]) -> Result<Request, RequestError> {
    let (request, signature) = xml::parse_request(xml)?;
    let machine = request.machine;
    let verified = Signed::from_parts(&request, machine.id(), signature).verify(&machine.into())?;
    Ok(verified.into_parts().0)
}

/// Writes a signed request as XML.
#[must_use]
pub fn write_request(request: &Verified<Request>) -> String {
    xml::write_request(request)
}

#[cfg(test)]
mod tests;
