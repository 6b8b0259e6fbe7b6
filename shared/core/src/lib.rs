//! Pure words and rules that every Headroom service shares.
//!
//! Nothing here reads a clock, draws a random number or touches a file or socket: time and
//! randomness are arguments. That is what lets one machine run in a service, in a test and in a
//! simulation alike.

pub mod activation;
pub mod call;
pub mod charge;
pub mod commit;
pub mod digest;
pub mod entitlement;
pub mod fingerprint;
pub mod ids;
pub mod license;
pub mod machine;
pub mod rating;
pub mod reason;
pub mod record;
pub mod shared;
pub mod signed;
pub mod time;

pub use call::{Call, CallInfo, Direction, Interop, Leg, Media, Presentation, Protocol, Service};
pub use charge::{Charge, Feature, Units};
pub use digest::LegSet;
pub use entitlement::EntitlementKey;
pub use ids::{CallId, IdError, LeaseId, LegId, LicenseId, NodeName, SourceId, Text};
pub use machine::{Answer, Class, Machine, Tx};
pub use reason::DenialReason;
pub use record::Position;
pub use shared::Shared;
pub use time::{Millis, Now};
