//! What a conferencing node decides, without a clock, a network or a disk.
//!
//! A media server asks before each call leg. The machine asks the pool through one numbered request
//! at a time, decides by itself when the pool does not answer within the budget, and afterwards
//! brings the pool's books in line with the legs that run.
//!
//! What the pool still has to be told is never stored as a queue. It is derived from what runs and
//! what the pool is believed to hold: a leg that runs and is not held is adopted, one that is held
//! otherwise than it runs is updated or adopted, one that ended and is held is released. So a
//! crash, a lost answer or a new session cannot leave the queue and the facts apart.

mod admit;
mod answer;
mod apply;
mod asks;
pub mod command;
pub mod dead;
pub mod event;
mod failure;
pub mod feed;
pub mod grace;
pub mod machine;
mod mutation;
mod prepare;
mod reconcile;
pub mod state;
pub mod status;
mod tick;
pub mod turn;
pub mod uplink;
mod verdict;
pub mod volatile;
mod weight;

#[cfg(test)]
mod tests;

pub use command::{AskId, Command, Conflict, Decision, Granted, GrantedLeg, LegVerdict, Outcome, Reply};
pub use event::{Event, PastEvent, PastKind, Why};
pub use feed::{FeedEvent, Happened, Heard, Place};
pub use grace::{Grace, Reading};
pub use headroom_core::time::BootId;
pub use machine::Node;
pub use state::{LegRecord, Nonce, State};
pub use status::{Contact, Status};
pub use uplink::{Failure, Next, Request, RequestId, Response, Session};
pub use volatile::{Options, Volatile};
