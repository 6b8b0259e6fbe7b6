//! Why a request is refused: one list for protobuf, JSON, tables and announcements.

use minicbor::{Decode, Encode};

use crate::call::words;

words!(
    /// Why a request was denied.
    DenialReason {
        /// A valid license exists, but all of its units are in use.
        1 InsufficientLicenses = "insufficient_licenses",
        /// The license no longer matches its machine.
        2 LicenseCorrupt = "license_corrupt",
        /// The license has expired.
        3 LicenseExpired = "license_expired",
        /// The license has not been activated, or its time has not begun.
        4 LicenseNotActivated = "license_not_activated",
        /// No license for the feature is installed.
        5 NoLicense = "no_license",
        /// A quota is used up.
        6 QuotaExceeded = "quota_exceeded",
        /// A named feature is not assigned.
        7 FeatureNotAssigned = "feature_not_assigned",
        /// Out of contact for longer than the grace period.
        8 GraceExpired = "grace_expired",
        /// The node never had contact or was removed.
        9 NotEnrolled = "not_enrolled",
        /// The node is being taken out of service.
        10 Draining = "draining",
    }
);

impl DenialReason {
    /// The sentence to announce to the participant.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::InsufficientLicenses => {
                "You cannot join now: all of the system's call licenses are in use. Please try again later."
            }
            Self::LicenseCorrupt => "You cannot join: the system's license does not match its machine.",
            Self::LicenseExpired => "You cannot join: the system's license has expired.",
            Self::LicenseNotActivated => "You cannot join: the system's license has not been activated.",
            Self::NoLicense => "You cannot join: the system has no license for this kind of call.",
            Self::QuotaExceeded => "You cannot join now: your group's share of the call licenses is in use.",
            Self::FeatureNotAssigned => "You cannot join: a feature this call needs is not assigned to you.",
            Self::GraceExpired => {
                "You cannot join: this server has been out of contact with its license pool for too long."
            }
            Self::NotEnrolled => "You cannot join: this server does not belong to a licensed deployment.",
            Self::Draining => "You cannot join here: this server is being taken out of service.",
        }
    }
}
