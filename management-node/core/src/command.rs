//! What a pool is asked, and what it answers.

use headroom_core::activation::{Offer, Outcome, VerifiedAnswer, Wish};
use headroom_core::call::RunningLeg;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::license::{Nonce as RequestNonce, PublicKey};
use headroom_core::time::BootId;
use headroom_core::{
    Call, CallId, Charge, DenialReason, Feature, LeaseId, LegId, LegSet, LicenseId, Media, Millis, NodeName,
    Shared, Text, Units,
};
use minicbor::{Decode, Encode};

use crate::activation::{LicenseRequest, Mark};
use crate::alarms::AlarmNote;
use crate::liveness::Settings;
pub use crate::refusal::Refusal;
use crate::state::{CertificateHash, Installed, Nonce};

/// A command.
#[derive(Debug)]
pub enum Command {
    /// The service started: intervals, and the machine it runs on.
    Start {
        /// Intervals.
        settings: Settings,
        /// The machine.
        fingerprint: Fingerprint,
        /// This boot of it.
        boot_id: BootId,
    },
    /// Time passed; answered by liveness as it is now.
    Tick {
        /// What is to be looked at around the books.
        around: Vec<AlarmNote>,
    },
    /// Something is wanted of the licensing server.
    Request(Wanted),
    /// A request is on its way, or was not.
    MarkRequest {
        /// The request.
        nonce: RequestNonce,
        /// What became of it.
        mark: Mark,
    },
    /// A request is to be withdrawn.
    CancelRequest(RequestNonce),
    /// The licensing server answered.
    ApplyAnswer {
        /// The answer, verified.
        answer: Box<VerifiedAnswer>,
        /// It came at once, over the network.
        just_now: bool,
        /// Identity of the request that asks again, should that be needed.
        again: RequestNonce,
    },
    /// A license that counts no more is to be deleted.
    DeleteLicense(LicenseId),
    /// Test mode is to go on or off.
    TestMode(bool),
    /// A license was verified and is to be installed.
    InstallLicense(Box<Installed>),
    /// A node is to be enrolled.
    AddNode {
        /// Its name.
        node: NodeName,
        /// Its certificate.
        certificate: CertificateHash,
    },
    /// A node is to be removed.
    RemoveNode(NodeName),
    /// A leg's lease is to be taken back.
    ForceRelease {
        /// The node that runs it.
        node: NodeName,
        /// The leg.
        leg: LegId,
    },
    /// A node wants a session.
    Open {
        /// Who speaks.
        caller: CertificateHash,
        /// What it says.
        request: OpenRequest,
    },
    /// A node has seen later records than this store holds.
    RolledBack {
        /// Who speaks.
        caller: CertificateHash,
        /// The last record it has seen.
        seen: u64,
        /// The last record of this store.
        here: u64,
        /// The new identity of the history, at random.
        generation: u64,
    },
    /// A node speaks within a session.
    Speak {
        /// Who speaks.
        caller: CertificateHash,
        /// The history in which its session was opened.
        generation: u64,
        /// In which session.
        session: u64,
        /// What it says.
        request: Request,
    },
}

/// A wish for the licensing server.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is wished.
    pub wish: Wish,
    /// The request's identity, at random.
    pub nonce: RequestNonce,
    /// An administrator carries it by hand.
    pub manual: bool,
    /// The key that this machine signs requests with.
    pub machine: PublicKey,
    /// What makes the request.
    pub software: Text,
}

/// An answer was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What had been asked.
    pub wish: Wish,
    /// What became of it.
    pub outcome: Outcome,
    /// Products that can be tried, if that was asked.
    pub offers: Vec<Offer>,
    /// The request that asks again, because the one before was not looked at.
    pub renewed: Option<Shared<LicenseRequest>>,
}

/// A wish for a session.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// The process.
    pub nonce: Nonce,
    /// The process before it, on the same journal.
    pub predecessor: Option<Nonce>,
    /// Number of the opening.
    pub open_number: u64,
    /// The legs the node runs.
    pub legs: LegSet,
}

/// What a node says within a session.
#[derive(Debug, Clone)]
pub enum Request {
    /// A chunk of a report.
    Report {
        /// Number of the report within the session, from 1.
        report: u32,
        /// Number of the chunk, from 0.
        chunk: u32,
        /// The legs.
        legs: Vec<RunningLeg>,
        /// Count and digest of the whole report, with its last chunk.
        total: Option<LegSet>,
    },
    /// A question: would these calls be granted?
    DryRun(Vec<Call>),
    /// A numbered change.
    Mutate {
        /// Its number.
        sequence: u64,
        /// The change.
        change: Change,
    },
    /// A sign of life.
    Heartbeat(Heartbeat),
}

/// A change of the books.
#[derive(Debug, Clone)]
pub enum Change {
    /// Asks for leases.
    Allocate(Vec<Call>),
    /// Re-rates legs.
    Update(Vec<(LegId, Media)>),
    /// Gives leases back.
    Release(Vec<LegId>),
    /// Records legs that run.
    Adopt(Vec<RunningLeg>),
}

/// A sign of life.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Number of the last mutation the node has an answer for.
    pub sequence: u64,
    /// The leases it believes to hold at that number.
    pub legs: LegSet,
    /// Legs released by force whose media server has been told.
    pub told: Vec<LegId>,
    /// What happened while it decided alone, oldest first.
    pub past: Vec<Past>,
    /// Legs it granted by itself that are not settled.
    pub optimistic: u32,
}

/// Something that happened while a node decided alone.
#[derive(Debug, Clone)]
pub struct Past {
    /// Its number, rising.
    pub number: u64,
    /// When, by the node's clock.
    pub at: Millis,
    /// What.
    pub what: PastEvent,
}

/// What happened while a node decided alone.
#[derive(Debug, Clone)]
pub enum PastEvent {
    /// It denied a request.
    Denied {
        /// The request.
        call: Call,
        /// Why.
        reason: DenialReason,
    },
    /// A leg began and ended.
    Ended(RunningLeg),
    /// Something this version does not know; it is passed over, so that what follows is heard.
    Unreadable,
}

/// An answer.
#[derive(Debug)]
pub enum Reply {
    /// Done.
    Done,
    /// Liveness.
    Live(crate::LiveView),
    /// The loss is noted and every session fenced, or why not.
    RolledBack(Result<(), Refusal>),
    /// A session, or why not.
    Opened(Result<Opened, Refusal>),
    /// A chunk was taken.
    Reported(Result<Reported, Refusal>),
    /// Would be granted or not.
    DryRun(Result<(Vec<CallAnswer>, Vec<PoolState>), Refusal>),
    /// A mutation's answer.
    Mutated(Result<(Shared<Mutation>, Vec<PoolState>), Refusal>),
    /// A heartbeat's answer.
    Beat(Result<Beat, Refusal>),
    /// A license was installed, or why not.
    Installed(Result<(), Refusal>),
    /// A node was enrolled, or why not.
    NodeAdded(Result<(), Refusal>),
    /// A node was removed, with the leases released.
    NodeRemoved(Result<u64, Refusal>),
    /// A lease was taken back.
    Forced(Result<Charge, Refusal>),
    /// A request of the licensing server, as it is now.
    Requested(Result<Shared<LicenseRequest>, Refusal>),
    /// An answer was applied, or why not.
    Applied(Box<Result<Applied, Refusal>>),
    /// What was wanted of licenses or test mode was done, or why not.
    Changed(Result<(), Refusal>),
}

/// Whether a feature's pool has room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolState {
    /// The feature.
    pub feature: Feature,
    /// No unit is free.
    pub full: bool,
    /// Units of all valid licenses.
    pub capacity: Units,
    /// Units above capacity that the licenses permit.
    pub overdraft: Units,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub session: u64,
    /// The node's name.
    pub node: NodeName,
    /// Intervals.
    pub settings: Settings,
    /// The node must report.
    pub report_required: bool,
    /// Which pools have room.
    pub pools: Vec<PoolState>,
}

/// A chunk was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// The chunk.
    pub chunk: u32,
    /// The session is open for mutations.
    pub complete: bool,
    /// Legs of the chunk that were released by force.
    pub revoked: Vec<LegId>,
}

/// A heartbeat's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Which pools have room.
    pub pools: Vec<PoolState>,
    /// Legs an administrator wants ended.
    pub revoked: Vec<LegId>,
    /// The node must report.
    pub report_required: bool,
    /// The books were found apart just now, which is a defect: count and digest of the leases here.
    pub drift: Option<LegSet>,
    /// Number of the last past event recorded.
    pub past_recorded: u64,
}

/// A mutation's answer, durable so that a retry gets the same.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Mutation {
    /// One answer per call.
    #[n(0)]
    Allocated(#[n(0)] Vec<CallAnswer>),
    /// One answer per leg.
    #[n(1)]
    Updated(#[n(0)] Vec<LegAnswer>),
    /// Given back.
    #[n(2)]
    Released,
    /// Recorded, except the legs released by force.
    #[n(3)]
    Adopted(#[n(0)] Vec<Leased>, #[n(1)] Vec<LegId>),
}

/// A lease as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Leased {
    /// The leg.
    #[n(0)]
    pub leg: LegId,
    /// The lease.
    #[n(1)]
    pub lease: LeaseId,
    /// What it holds.
    #[n(2)]
    pub charge: Charge,
    /// The node it is reserved for, when that is not the asker.
    #[n(3)]
    pub owner: Option<NodeName>,
}

/// The answer for a call.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CallAnswer {
    /// The call.
    #[n(0)]
    pub call: CallId,
    /// The verdict.
    #[n(1)]
    pub verdict: Verdict<Vec<Leased>>,
}

/// The answer for a leg.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LegAnswer {
    /// The leg.
    #[n(0)]
    pub leg: LegId,
    /// The verdict.
    #[n(1)]
    pub verdict: Verdict<Leased>,
}

/// How a request was judged.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Verdict<T> {
    /// Granted.
    #[n(0)]
    Granted(#[n(0)] T),
    /// Denied; nothing was taken.
    #[n(1)]
    Denied(#[n(0)] DenialReason),
    /// Not judged: the request cannot be meant so.
    #[n(2)]
    Refused {
        /// The field at fault.
        #[n(0)]
        field: String,
        /// What is wrong.
        #[n(1)]
        description: String,
    },
}
