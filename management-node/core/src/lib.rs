//! The pool as a pure machine.
//!
//! [`Pool`] is the whole durable state: licenses, nodes and their sessions, leases, denials.
//! [`PoolMachine`] decides commands and emits [`Event`]s; nothing here knows of gRPC, disks or
//! clocks. The contract with the nodes is section "lease contract" of the wire documentation in
//! `proto/headroom/lease/v1`.

mod admin;
mod allocate;
mod apply;
mod book;
mod capacity;
mod command;
mod event;
mod explain;
mod holder;
mod leases;
mod machine;
mod session;
mod settle;
mod slots;
mod snapshot;
mod state;
mod tick;
mod tombstones;

pub use capacity::{Capacity, FeatureLicense, LicenseState};
pub use command::*;
pub use event::*;
pub use explain::{AlarmNote, Explanation, LiveView, Outcome};
pub use holder::*;
pub use leases::{Leases, Packed};
pub use machine::PoolMachine;
pub use slots::MAX_REPORTS;
pub use state::*;

#[cfg(test)]
mod tests;
