//! What nodes and the pool say to each other.

use crate::state::Legs;

/// What a numbered mutation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// Asks for leases.
    Allocate,
    /// Records legs that run.
    Adopt,
    /// Gives leases back.
    Release,
}

/// What a node wants of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wish {
    /// Begin a session.
    Open {
        /// The legs that run: what a digest tells.
        legs: Legs,
    },
    /// Say which legs run.
    Report {
        /// Number of the chunk, from 0.
        chunk: u8,
        /// Its legs.
        legs: Legs,
        /// It is the last one.
        last: bool,
    },
    /// Change the books.
    Mutation {
        /// Its number within the session, from 1.
        sequence: u8,
        /// What it does.
        change: Change,
        /// To which legs.
        legs: Legs,
    },
    /// Keep the session, and hear what an administrator wants.
    Heartbeat,
}

/// A request of a node in a session; a session is named by the number of its opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// The node.
    pub node: u8,
    /// The session.
    pub session: u8,
    /// What it wants.
    pub wish: Wish,
}

/// What the pool says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// A session began.
    Opened {
        /// The books differ.
        report: bool,
    },
    /// A chunk was taken.
    Reported {
        /// Number of the chunk.
        chunk: u8,
        /// Legs to be ended.
        revoked: Legs,
    },
    /// A mutation was carried out.
    Mutated {
        /// Its number.
        sequence: u8,
        /// What it was judged to be.
        verdict: Verdict,
    },
    /// The session goes on.
    Beaten {
        /// Legs to be ended.
        revoked: Legs,
    },
}

/// What became of a mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verdict {
    /// What it did.
    pub change: Change,
    /// The legs that hold a lease by it.
    pub granted: Legs,
    /// Legs to be ended.
    pub revoked: Legs,
}

/// An answer of the pool in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reply {
    /// The node that asked.
    pub node: u8,
    /// The session.
    pub session: u8,
    /// What is said.
    pub answer: Answer,
}

/// Something in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// To the pool.
    Request(Request),
    /// To a node.
    Reply(Reply),
}
