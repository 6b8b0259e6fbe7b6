//! The pool as a pure machine.
//!
//! [`Pool`] is the whole durable state: licenses, nodes and their sessions, leases, denials.
//! [`PoolMachine`] decides commands and emits [`Event`]s; nothing here knows of gRPC, disks or
//! clocks. The contract with the nodes is written at `LeaseService` in `proto/headroom/lease/v1/lease.proto`.

mod activation;
mod admin;
mod alarms;
mod allocate;
mod apply;
mod book;
mod capacity;
mod command;
mod event;
mod explain;
mod holder;
mod leases;
mod license_clock;
mod liveness;
mod machine;
mod notes;
mod refusal;
mod session;
mod settle;
mod slots;
mod snapshot;
mod state;
mod test_mode;
mod tick;
mod tombstones;

pub use activation::{Left, LicenseRequest, MAX_REQUESTS, Mark, Site};
pub use alarms::{AlarmKey, AlarmNote, AlarmRecord};
pub use capacity::{Capacity, FeatureLicense, LicenseState};
pub use command::*;
pub use event::*;
pub use explain::{Explanation, LiveView, Outcome};
pub use headroom_core::time::BootId;
pub use holder::*;
pub use leases::{Leases, Packed};
pub use license_clock::{BELIEVED_AFTER, CORRECTION, LicenseClock};
pub use liveness::{Liveness, Settings};
pub use machine::PoolMachine;
pub use notes::{MAX_NOTES, Note};
pub use session::{records_lost, same_history};
pub use slots::MAX_REPORTS;
pub use state::*;
pub use test_mode::{TEST_MODE, TestMode};

#[cfg(test)]
mod tests;
