//! The management node: the pool's service.
//!
//! - [`deployment`]: the state folder — authority, certificates, vendor keys, log
//! - [`serve`]: the service — committer, listeners, the pool's clock
//! - [`lease_api`]: what conferencing nodes ask, over mutual TLS
//! - [`admin_api`]: what administrators ask, over the Unix socket
//! - [`cli`]: the command line; its administration commands speak to a running service

pub mod admin_api;
mod admin_convert;
pub mod cli;
pub mod config;
pub mod deployment;
pub mod lease_api;
mod lease_convert;
mod observe;
mod output;
pub mod serve;
mod support;
