//! What the licenses permit at an instant.

use headroom_core::activation::Wish;
use headroom_core::license::{Metric, Validity, validity};
use headroom_core::{DenialReason, Feature, LicenseId, Millis, Units};

use crate::activation::LicenseRequest;
use crate::command::PoolState;
use crate::state::{Installed, Pool, PoolInstant};

/// State of an installed license.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LicenseState {
    /// Counts.
    Active,
    /// Its time is over, and it still counts for its days of grace.
    Grace,
    /// Being returned: counts nothing.
    ReturnPending,
    /// Its time has not begun.
    NotYetValid,
    /// Its time is over.
    Expired,
    /// It does not match the machine.
    Corrupt,
}

impl LicenseState {
    /// The word in tables and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Grace => "grace",
            Self::ReturnPending => "return_pending",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Corrupt => "corrupt",
        }
    }
}

/// What the licenses of one feature permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Units of all valid licenses.
    pub capacity: Units,
    /// Units above capacity that they permit.
    pub overdraft: Units,
    /// Why nothing is permitted, when no license is valid.
    pub invalid: Option<DenialReason>,
}

/// A license of a feature, for explanations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureLicense {
    /// The license.
    pub license: LicenseId,
    /// Its units.
    pub quantity: Units,
    /// Its overdraft.
    pub overdraft: Units,
    /// Its state.
    pub state: LicenseState,
}

impl Pool {
    /// The state of a license.
    #[must_use]
    pub fn license_state(&self, installed: &Installed, at: Millis) -> LicenseState {
        let Some(here) = &self.fingerprint else { return LicenseState::Corrupt };
        if installed.returning.is_some() {
            return LicenseState::ReturnPending;
        }
        match validity(&installed.document, self.license_time(at), here) {
            Validity::Active => LicenseState::Active,
            Validity::Grace => LicenseState::Grace,
            Validity::NotYetValid => LicenseState::NotYetValid,
            Validity::Expired => LicenseState::Expired,
            Validity::Corrupt => LicenseState::Corrupt,
        }
    }

    /// The licenses that count a feature.
    pub fn licenses_of(&self, feature: &Feature, at: Millis) -> impl Iterator<Item = FeatureLicense> {
        self.licenses.iter().flat_map(move |(id, installed)| {
            let state = self.license_state(installed, at);
            installed
                .document
                .features
                .iter()
                .filter(move |licensed| licensed.feature == *feature && licensed.metric == Metric::Concurrent)
                .map(move |licensed| FeatureLicense {
                    license: id.clone(),
                    quantity: licensed.quantity,
                    overdraft: licensed.overdraft,
                    state,
                })
        })
    }

    /// What is permitted of a feature.
    #[must_use]
    pub fn capacity(&self, feature: &Feature, at: Millis) -> Capacity {
        let mut sum = Capacity { capacity: Units::ZERO, overdraft: Units::ZERO, invalid: None };
        if self.test_mode.on() {
            return Capacity { capacity: Units::UNLIMITED, ..sum };
        }
        let (mut active, mut worst) = (false, self.none_installed());
        for license in self.licenses_of(feature, at) {
            // The reasons are ordered as they are told: the first that holds.
            worst = worst.min(match license.state {
                LicenseState::ReturnPending => continue,
                LicenseState::Active | LicenseState::Grace => {
                    active = true;
                    sum.capacity = sum.capacity.plus(license.quantity);
                    sum.overdraft = sum.overdraft.plus(license.overdraft);
                    continue;
                }
                LicenseState::Corrupt => DenialReason::LicenseCorrupt,
                LicenseState::Expired => DenialReason::LicenseExpired,
                LicenseState::NotYetValid => DenialReason::LicenseNotActivated,
            });
        }
        if !active {
            sum.invalid = Some(worst);
        }
        sum
    }

    /// Why a feature without any license is denied: it may be on its way.
    fn none_installed(&self) -> DenialReason {
        let activates = |open: &LicenseRequest| matches!(open.request.wish, Wish::Activate(_));
        if self.requests.values().any(|open| activates(open)) {
            DenialReason::LicenseNotActivated
        } else {
            DenialReason::NoLicense
        }
    }

    /// The pool of a feature as it stands.
    #[must_use]
    pub fn instant(&self, feature: &Feature, at: Millis) -> PoolInstant {
        let Capacity { capacity, overdraft, .. } = self.capacity(feature, at);
        PoolInstant { in_use: self.in_use(feature), capacity, overdraft }
    }

    /// The features that are licensed or in use, in order.
    #[must_use]
    pub fn features(&self) -> Vec<Feature> {
        let licensed = self.licenses.values().flat_map(|installed| &installed.document.features);
        let mut features: Vec<_> = licensed
            .filter(|licensed| licensed.metric == Metric::Concurrent)
            .map(|licensed| licensed.feature.clone())
            .chain(self.usage.keys().cloned())
            .collect();
        features.sort();
        features.dedup();
        features
    }

    /// Which pools have room.
    #[must_use]
    pub fn pool_states(&self, at: Millis) -> Vec<PoolState> {
        self.features()
            .into_iter()
            .map(|feature| {
                let pool = self.instant(&feature, at);
                PoolState {
                    full: pool.in_use >= pool.limit(),
                    capacity: pool.capacity,
                    overdraft: pool.overdraft,
                    feature,
                }
            })
            .collect()
    }
}
