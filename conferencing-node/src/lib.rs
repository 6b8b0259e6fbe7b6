//! The conferencing node: beside media servers on one host, it admits call legs.
//!
//! The rules live in `conferencing-core`; this crate makes them reachable. [`agent`] submits
//! commands and lets people wait for the pool, [`revocations`] tells what has to end, [`uplink`]
//! speaks with the pool, [`running`] is both on a journal, [`http`] and [`grpc`] are the two forms of
//! the local interface, [`serve`] puts it all together, and [`cli`] is the command line.

pub mod agent;
pub mod cli;
pub mod config;
mod feed;
pub mod grpc;
pub mod http;
pub mod revocations;
pub mod running;
pub mod serve;
pub mod uplink;

mod json;
mod observe;
mod output;
mod wire;
