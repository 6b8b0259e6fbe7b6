//! The vendor's side of Headroom: signs licenses for machines and keeps a register of them.
//!
//! [`office`] is the service itself, [`folder`] its state on disk, [`desk`] how the command line
//! reaches an office: the running service's, or its own when none runs.

pub mod cli;
pub mod desk;
pub mod folder;
pub mod office;
mod output;
pub mod run;
pub mod serve;
