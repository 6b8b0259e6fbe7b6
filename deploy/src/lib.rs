//! Headroom on one machine: starts the real services, keeps a link to each node that can be cut,
//! shows what happens, and plays the story. The tests stand on the same parts.

pub mod agent;
pub mod calls;
pub mod control;
pub mod error;
pub mod fleet;
pub mod layout;
pub mod link;
pub mod picture;
pub mod plain;
pub mod pool;
pub mod ports;
pub mod process;
pub mod record;
pub mod say;
pub mod screen;
pub mod story;
pub mod supervisor;
pub mod wait;

pub use error::{Error, Result};
