//! The promises of logs and committers, kept on a toy machine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod committer;
mod disk_log;
mod faults;
mod placement;
mod records;
mod recovery;
mod toy;
mod witness;
