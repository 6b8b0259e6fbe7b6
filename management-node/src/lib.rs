//! The management node: the pool's service.
//!
//! - [`deployment`]: the state folder — authority, certificates, vendor keys, log
//! - [`serve`]: the service — committer, listeners, the pool's clock
//! - [`lease_api`]: what conferencing nodes ask, over mutual TLS
//! - [`admin_api`], [`license_api`]: what administrators ask, over the Unix socket
//! - [`licensing`]: has requests answered by the licensing server
//! - [`cli`]: the command line; its administration commands speak to a running service

pub mod admin_api;
mod admin_convert;
mod check;
pub mod cli;
pub mod config;
pub mod deployment;
pub mod lease_api;
mod lease_convert;
pub mod license_api;
mod license_convert;
pub mod licensing;
mod observe;
mod output;
mod restore;
pub mod serve;
mod support;
mod webhook;
