//! What a license says, and whether it counts.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::call::words;
use crate::charge::{Feature, Units};
use crate::fingerprint::Fingerprint;
use crate::ids::{LicenseId, Text};
use crate::time::Millis;

/// Most features of a license.
pub const MAX_FEATURES: usize = 64;
/// Longest expiry grace, in days.
pub const MAX_GRACE_DAYS: u32 = 366;
/// Most attributes of a feature.
pub const MAX_ATTRIBUTES: usize = 32;

words!(
    /// How a feature is used.
    Metric {
        /// By legs at the same time.
        1 Concurrent = "concurrent",
        /// By users at the same time.
        2 Seat = "seat",
        /// By subjects it is assigned to.
        3 Named = "named",
        /// On or off for the whole site.
        4 Site = "site",
    }
);

/// A feature of a license.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LicensedFeature {
    /// What is licensed.
    #[n(0)]
    pub feature: Feature,
    /// How it is used.
    #[n(1)]
    pub metric: Metric,
    /// Units, at least 1.
    #[n(2)]
    pub quantity: Units,
    /// Units above the quantity that are permitted.
    #[n(3)]
    pub overdraft: Units,
    /// What else the product promises, by name.
    #[n(4)]
    pub attributes: BTreeMap<Text, Text>,
}

/// Random identity of the request a license answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Nonce(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

impl std::fmt::Debug for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What a license says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LicenseDocument {
    /// Its id.
    #[n(0)]
    pub license: LicenseId,
    /// Stock keeping unit of the product.
    #[n(1)]
    pub sku: Text,
    /// The license plan.
    #[n(2)]
    pub plan: Text,
    /// The customer.
    #[n(3)]
    pub customer: Text,
    /// What is licensed.
    #[n(4)]
    pub features: Vec<LicensedFeature>,
    /// The first moment it counts.
    #[n(5)]
    pub not_before: Millis,
    /// The first moment it no longer counts.
    #[n(6)]
    pub not_after: Option<Millis>,
    /// A trial.
    #[n(7)]
    pub trial: bool,
    /// The machine it is for.
    #[n(8)]
    pub fingerprint: Fingerprint,
    /// The machine's number of the request.
    #[n(9)]
    pub machine_sequence: u64,
    /// The request's identity.
    #[n(10)]
    pub nonce: Nonce,
    /// When it was signed.
    #[n(11)]
    pub issued_at: Millis,
    /// Days after its end for which it still counts, at most [`MAX_GRACE_DAYS`].
    #[n(12)]
    pub grace_days: Option<u32>,
}

impl LicenseDocument {
    /// The first moment it does not count any more, grace included.
    #[must_use]
    pub fn ends(&self) -> Option<Millis> {
        let grace = Millis::DAY.times(i64::from(self.grace_days.unwrap_or(0)));
        self.not_after.map(|end| end.plus(grace))
    }
}

/// Whether a license counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Validity {
    /// It counts.
    Active,
    /// Its time is over, and it still counts for its days of grace.
    Grace,
    /// It belongs to another machine, or this one changed.
    Corrupt,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
}

/// Whether a license counts at a time on a machine. A license of another machine is corrupt
/// whatever the time.
#[must_use]
pub fn validity(document: &LicenseDocument, now: Millis, current: &Fingerprint) -> Validity {
    if !document.fingerprint.matches(current) {
        Validity::Corrupt
    } else if now < document.not_before {
        Validity::NotYetValid
    } else if document.ends().is_some_and(|end| now >= end) {
        Validity::Expired
    } else if document.not_after.is_some_and(|end| now >= end) {
        Validity::Grace
    } else {
        Validity::Active
    }
}

/// What makes a document unacceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Another number of features than allowed.
    #[error("features: {count} features given, 1 to {MAX_FEATURES} are allowed")]
    FeatureCount {
        /// Features given.
        count: usize,
    },
    /// A feature twice.
    #[error("features[{index}].feature: {feature} is given twice")]
    DuplicateFeature {
        /// Index of the second one.
        index: usize,
        /// The feature.
        feature: Feature,
    },
    /// Nothing licensed.
    #[error("features[{index}].quantity: {feature} needs at least 1 unit")]
    NoUnits {
        /// Index of the feature.
        index: usize,
        /// The feature.
        feature: Feature,
    },
    /// More than can be counted.
    #[error("features[{index}].overdraft: quantity and overdraft of {feature} exceed {} together", u32::MAX)]
    TooManyUnits {
        /// Index of the feature.
        index: usize,
        /// The feature.
        feature: Feature,
    },
    /// Too many attributes.
    #[error("features[{index}].attributes: {count} attributes given, at most {MAX_ATTRIBUTES} are allowed")]
    AttributeCount {
        /// Index of the feature.
        index: usize,
        /// Attributes given.
        count: usize,
    },
    /// More grace than allowed.
    #[error("grace_days: {days} days given, at most {MAX_GRACE_DAYS} are allowed")]
    Grace {
        /// Days given.
        days: u32,
    },
    /// Ends before it begins.
    #[error("not_after: the license would end at {not_after}, which is not after its begin at {not_before}")]
    NeverValid {
        /// Begin.
        not_before: Millis,
        /// End.
        not_after: Millis,
    },
}

impl DocumentError {
    /// The field at fault, for rich error details.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::FeatureCount { .. } => "features".into(),
            Self::DuplicateFeature { index, .. } => format!("features[{index}].feature"),
            Self::NoUnits { index, .. } => format!("features[{index}].quantity"),
            Self::TooManyUnits { index, .. } => format!("features[{index}].overdraft"),
            Self::AttributeCount { index, .. } => format!("features[{index}].attributes"),
            Self::Grace { .. } => "grace_days".into(),
            Self::NeverValid { .. } => "not_after".into(),
        }
    }
}

impl LicenseDocument {
    /// Checks what no single field shows.
    ///
    /// # Errors
    /// [`DocumentError`] names the field.
    pub fn check(&self) -> Result<(), DocumentError> {
        let count = self.features.len();
        if !(1..=MAX_FEATURES).contains(&count) {
            return Err(DocumentError::FeatureCount { count });
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, licensed) in self.features.iter().enumerate() {
            let feature = licensed.feature.clone();
            if !seen.insert(&licensed.feature) {
                return Err(DocumentError::DuplicateFeature { index, feature });
            }
            if licensed.quantity.is_zero() {
                return Err(DocumentError::NoUnits { index, feature });
            }
            if licensed.quantity.0.checked_add(licensed.overdraft.0).is_none() {
                return Err(DocumentError::TooManyUnits { index, feature });
            }
            let count = licensed.attributes.len();
            if count > MAX_ATTRIBUTES {
                return Err(DocumentError::AttributeCount { index, count });
            }
        }
        if let Some(days) = self.grace_days.filter(|days| *days > MAX_GRACE_DAYS) {
            return Err(DocumentError::Grace { days });
        }
        match self.not_after {
            Some(not_after) if not_after <= self.not_before => {
                Err(DocumentError::NeverValid { not_before: self.not_before, not_after })
            }
            _ => Ok(()),
        }
    }
}
