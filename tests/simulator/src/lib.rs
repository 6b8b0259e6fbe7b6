//! The machines of all three services in one simulated world.
//!
//! A seed is a world: how large it is, who calls, what goes wrong when. Time is virtual, the network loses,
//! repeats and delays, disks stall and fail, processes die between any two steps of their committer, clocks
//! are set wrong, machines sleep, are copied and switched off. The machines are those that serve, and so
//! is the [`Sequencer`](headroom_core::commit::Sequencer) that decides when they may be believed; what
//! stands around them in a service (listeners, threads, files) is played here.
//!
//! After every step the promises of [`oracle`] are checked against what is known to be true. A seed that
//! breaks one replays exactly, and tells its story as text.

pub mod caller;
pub mod dice;
pub mod disk;
pub mod fault;
pub mod host;
pub mod licenses;
mod list;
pub mod media;
pub mod node;
pub mod oracle;
pub mod plan;
mod platform;
pub mod pool;
pub mod process;
pub mod run;
pub mod say;
pub mod scene;
pub mod story;
mod strike;
mod unheard;
mod unruly;
pub mod uplink;
pub mod vendor;
pub mod wire;
pub mod world;
