//! Nodes, the holders of leases that speak for them, and their sessions.

use headroom_core::{LegSet, Millis, NodeName, Shared, Units};
use minicbor::{Decode, Encode};

use crate::command::Mutation;
use crate::state::{CertificateHash, Nonce};

/// A node of the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Node {
    /// When it was enrolled.
    #[n(0)]
    pub enrolled_at: Millis,
    /// Its certificate.
    #[n(1)]
    pub certificate: CertificateHash,
    /// When it was removed.
    #[n(2)]
    pub removed_at: Option<Millis>,
}

/// How far a session is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Phase {
    /// The books are being brought in line.
    #[n(0)]
    Reporting {
        /// The chunk that is due.
        #[n(0)]
        next: u32,
        /// The legs of the chunks so far, as the node sent them.
        #[n(1)]
        taken: LegSet,
    },
    /// Open for mutations.
    #[n(1)]
    Active,
}

/// A node's current, fenced connection.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Session {
    /// Its number, rising within a generation.
    #[n(0)]
    pub number: u64,
    /// When it was opened.
    #[n(1)]
    pub opened_at: Millis,
    /// How far it is.
    #[n(2)]
    pub phase: Phase,
    /// Number of the last mutation.
    #[n(3)]
    pub sequence: u64,
    /// Number of the last report begun in it.
    #[n(5)]
    pub report: u32,
    /// Its answer, for a retry.
    #[n(4)]
    pub last: Option<Shared<Mutation>>,
}

/// A holder of leases.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Holder {
    /// The node whose identity it uses.
    #[n(0)]
    pub node: NodeName,
    /// 0, or a higher number for a clone.
    #[n(1)]
    pub instance: u32,
    /// The process that speaks.
    #[n(2)]
    pub nonce: Option<Nonce>,
    /// Number of the last session opening.
    #[n(3)]
    pub open_number: u64,
    /// Processes before.
    #[n(4)]
    pub superseded: Vec<Nonce>,
    /// Its session.
    #[n(5)]
    pub session: Option<Session>,
    /// Leases returned when its last session lapsed.
    #[n(6)]
    pub lapsed: Option<u64>,
    /// Since when nothing was heard, once its session has lapsed.
    #[n(11)]
    pub silent_since: Option<Millis>,
    /// Number of the last past event recorded.
    #[n(7)]
    pub past_recorded: u64,
    /// Count and digest of its leases, reserved ones excluded.
    #[n(8)]
    pub set: LegSet,
    /// Units of `call` it holds, reserved ones included.
    #[n(9)]
    pub units: Units,
    /// Reserved leases.
    #[n(10)]
    pub reserved: u64,
}
