//! The shell around the pure machines: what makes them durable, reachable, configured and observed.
//!
//! A service is a [`headroom_core::machine::Machine`] owned by a [`committer`] and made durable by a
//! [`log`]; the rest of this crate is what stands between that and the world.

pub mod clock;
pub mod committer;
pub mod config;
pub mod convert;
pub mod disk_log;
pub mod endpoints;
pub mod faulty_log;
pub mod fingerprint;
pub mod https;
pub mod json;
pub mod log;
pub mod memory_log;
pub mod metrics;
pub mod print;
pub mod rpc;
pub mod status;
pub mod telemetry;
pub mod tls;
