//! Machines in the register, and the answers they were given.

use headroom_core::activation::{Answer, Ended, Holding, MachineCertificate, MachineId, Offer, Outcome};
use headroom_core::entitlement::EntitlementKey;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::license::{LicenseDocument, LicenseError, Nonce, SigningKey};
use headroom_core::signed::{Verified, sign};
use headroom_core::{Millis, Shared};
use minicbor::{Decode, Encode};

/// An answer before it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AnswerDraft {
    /// The request it answers.
    #[n(0)]
    pub nonce: Nonce,
    /// The machine it answers.
    #[n(1)]
    pub machine: MachineId,
    /// The machine's highest number seen.
    #[n(2)]
    pub sequence: u64,
    /// Number of the machine's state.
    #[n(3)]
    pub revision: u64,
    /// When it was given.
    #[n(4)]
    pub at: Millis,
    /// What became of the request.
    #[n(5)]
    pub outcome: Outcome,
    /// The machine's certificate.
    #[n(6)]
    pub certificate: Option<MachineCertificate>,
    /// Every license that is the machine's, and its key.
    #[n(7)]
    pub holdings: Vec<(LicenseDocument, Option<EntitlementKey>)>,
    /// Licenses that are not the machine's any more.
    #[n(8)]
    pub ended: Vec<Ended>,
    /// Products that can be tried.
    #[n(9)]
    pub offers: Vec<Offer>,
}

impl AnswerDraft {
    /// The answer, signed, and every license and the certificate in it. The same draft and key always
    /// give the same bytes.
    ///
    /// # Errors
    /// When a license is too large, which its limits exclude.
    pub fn sign(self, key: &SigningKey) -> Result<Verified<Answer>, LicenseError> {
        let holding = |(document, entitlement)| {
            let license = sign::<LicenseDocument>(document, key)?.into_parts().1;
            Ok(Holding { license, key: entitlement })
        };
        let holdings = self.holdings.into_iter().map(holding).collect::<Result<_, LicenseError>>()?;
        let certificate = self.certificate.map(|certificate| sign(certificate, key)).transpose()?;
        let answer = Answer {
            nonce: self.nonce,
            machine: self.machine,
            sequence: self.sequence,
            revision: self.revision,
            at: self.at,
            outcome: self.outcome,
            certificate: certificate.map(|certificate| certificate.into_parts().1),
            holdings,
            ended: self.ended,
            offers: self.offers,
        };
        Ok(sign(answer, key)?)
    }
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Answered {
    /// SHA-256 of the request, so that its identity cannot be used for another one.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub request: [u8; 32],
    /// The answer.
    #[n(1)]
    pub draft: AnswerDraft,
}

/// A machine that has had licenses.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MachineRecord {
    /// Its certificate: its key, and what it was when it was first heard.
    #[n(0)]
    pub certificate: MachineCertificate,
    /// What its licenses are bound to.
    #[n(1)]
    pub fingerprint: Fingerprint,
    /// The highest number of its requests.
    #[n(2)]
    pub sequence: u64,
    /// Numbers below it that were not used yet, the newest.
    #[n(3)]
    pub missing: Vec<u64>,
    /// Number of the state of its licenses here, rising.
    #[n(4)]
    pub revision: u64,
    /// How often its books were found older than these.
    #[n(5)]
    pub resynchronized: u32,
    /// When it was last heard.
    #[n(6)]
    pub heard_at: Millis,
    /// The newest answers, oldest first.
    #[n(7)]
    pub answers: Vec<Shared<Answered>>,
}

impl MachineRecord {
    /// Whether a number may come with a request that was not answered before.
    #[must_use]
    pub fn unused(&self, sequence: u64) -> bool {
        sequence > self.sequence || self.missing.contains(&sequence)
    }
}
