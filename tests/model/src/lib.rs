//! The lease contract as a model: a pool, two nodes with three legs in all, two licenses of one unit each,
//! and a network that loses, repeats, delays and reorders whatever is sent. Every state that can be
//! reached is looked at, without a limit of depth: what the contract promises holds in each, and from each a
//! state of rest stays reachable.
//!
//! The model follows the rules of `management-core` and `conferencing-core`; `pool.rs` and `node.rs` are to
//! be read beside `session.rs`, `settle.rs`, `allocate.rs`, and `answer.rs`, `reconcile.rs`, `verdict.rs`
//! there.
//!
//! # What is in it
//!
//! - Sessions: opening with a digest, fencing, reports in chunks of one leg, lapses, and sessions that a
//!   node gives up at any moment.
//! - Numbered mutations, one under way per session, each about all legs that wait for its kind.
//! - Questions that run out of time at any moment, so that the node decides; ends at any moment.
//! - A license that expires while calls run; a lease that is taken back by force, with its tombstone.
//! - One kill of the pool or of a node at any moment. What was decided and what is durable are told apart
//!   for as long as a kill can come; nothing is told to anybody before it is durable.
//!
//! # What is left out
//!
//! - Time: whatever a timer could do can happen at any moment, so the order of timers is not relied on.
//! - Updates of media, calls of several legs, gateway legs with another owner, transfers.
//! - A leg's id is used once: none begins again under the id of one that has ended.
//! - Restores from backup, clones of a node, turns in which nodes report, limits of grace.
//! - Reports within a session after drift: that there is no drift is one of the promises.
//! - A media server whose question was lost with a killed node asks again or gives up; a call it was told
//!   may run goes on.
//!
//! # What makes it small
//!
//! States that nobody can tell apart are one (`canonical.rs`). How many sessions end early is bounded in each
//! configuration; everything else ends by itself, because each leg lives once.

mod canonical;
pub mod case;
pub mod contract;
pub mod explore;
pub mod message;
mod node;
mod pool;
mod promises;
pub mod rule;
pub mod state;
pub mod story;

pub use case::Case;
pub use contract::Contract;
pub use rule::Rule;
