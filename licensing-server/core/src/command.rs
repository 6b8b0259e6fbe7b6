//! What the register is asked, and what it answers.

use headroom_core::activation::{Offer, Request};
use headroom_core::entitlement::EntitlementKey;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::license::{DocumentError, KeyId, LicensedFeature};
use headroom_core::signed::SignedError;
use headroom_core::{LicenseId, Millis, Shared, Text};

use crate::machines::AnswerDraft;
use crate::state::{Activation, Entitlement, KnownKey, Terms};

/// What a decision needs and cannot have of itself.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// How ids of new licenses begin.
    pub prefix: String,
    /// Random bytes, new for every command.
    pub random: [u8; 16],
    /// When a trial ends that begins now.
    pub trial_end: Millis,
}

/// Where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Over the network, from an address: failures are counted.
    Network(Text),
    /// By the vendor's own hand.
    Vendor(Text),
}

impl Source {
    /// For the audit.
    #[must_use]
    pub const fn text(&self) -> &Text {
        match self {
            Self::Network(text) | Self::Vendor(text) => text,
        }
    }
}

/// What changes of a key's terms; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// The features.
    pub features: Option<Vec<LicensedFeature>>,
    /// End of validity; `Some(None)` for no end.
    pub not_after: Option<Option<Millis>>,
    /// Days of expiry grace.
    pub grace_days: Option<u32>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Command {
    /// Takes a signing key into use. A known key is no error.
    AddKey(KnownKey),
    /// Adds a customer, or changes his reference.
    AddCustomer {
        /// His name.
        name: Text,
        /// The vendor's reference.
        reference: Text,
    },
    /// Makes an entitlement key.
    CreateKey {
        /// The key.
        key: EntitlementKey,
        /// What it entitles to.
        terms: Terms,
        /// The machine that gets it without typing it.
        assigned: Option<Fingerprint>,
    },
    /// Changes what a key entitles to; its machine hears of it when it refreshes.
    ChangeKey {
        /// The key.
        key: EntitlementKey,
        /// What changes.
        change: Change,
    },
    /// Revokes a key; its machine loses the license when it refreshes.
    RevokeKey {
        /// The key.
        key: EntitlementKey,
        /// Why.
        reason: Text,
    },
    /// Frees a key from a machine that cannot return it any more.
    Replace {
        /// The key.
        key: EntitlementKey,
        /// Why.
        reason: Text,
    },
    /// Offers a product for trial.
    OfferTrial(Offer),
    /// Withdraws a product from trial.
    WithdrawTrial(Text),
    /// Makes a license for a machine known by its fingerprint.
    Issue {
        /// What it promises.
        terms: Terms,
        /// The machine.
        fingerprint: Fingerprint,
        /// For its id.
        fresh: Fresh,
    },
    /// Answers a machine's request, whose signature was verified.
    Answer {
        /// The request.
        request: Box<Request>,
        /// Its SHA-256.
        digest: [u8; 32],
        /// From where it comes.
        source: Source,
        /// For ids, and trials.
        fresh: Fresh,
    },
    /// Notes a request that nobody has to answer: it is no request, or its signature is wrong.
    Reject {
        /// From where it came.
        source: Source,
        /// What was wrong with it.
        why: Text,
    },
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such customer.
    #[error("customer: there is no customer {0}; add him with `customer add`")]
    NoSuchCustomer(Text),
    /// No such key.
    #[error("key: no such entitlement key was issued")]
    NoSuchKey,
    /// The key exists already, which takes a coincidence of 110 random bits.
    #[error("key: it exists already")]
    KeyTaken,
    /// The key was revoked before.
    #[error("key: it was revoked before")]
    KeyRevoked,
    /// The key is active nowhere.
    #[error("key: it is active on no machine, so it can be activated anywhere")]
    NotActive,
    /// No such trial.
    #[error("product: {0} is not offered for trial")]
    NoSuchTrial(Text),
    /// The terms contradict themselves.
    #[error(transparent)]
    Terms(#[from] DocumentError),
    /// The key's predecessor does not vouch for it.
    #[error(transparent)]
    Succession(#[from] SignedError),
    /// Not the key that is to be succeeded.
    #[error("the new key's predecessor {0} is not the newest key")]
    NotSuccessor(KeyId),
    /// Too many failures from one source.
    #[error("too many requests failed from {source_address}: come back in {} s", (retry_after.0 + 999) / 1000)]
    Limited {
        /// From where.
        source_address: Text,
        /// When to come back.
        retry_after: Millis,
    },
    /// Too large to be told to a machine.
    #[error("{what}: they would take {bytes} bytes of an answer, at most {limit} fit")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Bytes.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Too many of something.
    #[error("{what}: there are {limit} already, which is the limit")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// A key as it is now.
    Key(Shared<Entitlement>),
    /// A license was made.
    Issued(Shared<Activation>),
    /// A license is not its machine's any more.
    Ended(LicenseId),
    /// The answer to a machine.
    Answered(Box<AnswerDraft>),
    /// Nothing was changed.
    Refused(Refusal),
}
