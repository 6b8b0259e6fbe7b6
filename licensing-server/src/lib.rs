//! The vendor's side of Headroom: signs licenses for machines and keeps a register of them.
//!
//! [`office`] has the register decide and signs what is durable, [`http`] and [`serve`] bring machines'
//! requests to it, [`folder`] is its state on disk, [`desk`] how the command line reaches an office: the
//! running service's, or its own when none runs.

mod api;
pub mod cli;
mod convert;
pub mod desk;
pub mod folder;
pub mod http;
pub mod office;
mod output;
pub mod run;
pub mod serve;
