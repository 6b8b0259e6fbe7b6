//! What is said to the pool: one request at a time, numbered, repeated until it is answered.

use std::sync::Arc;

use headroom_core::call::RunningLeg;
use headroom_core::{
    Call, CallId, Charge, DenialReason, Feature, LeaseId, LegId, LegSet, Media, Millis, NodeName, Position,
};
use imbl::OrdMap;

use crate::command::AskId;
use crate::event::{PastEvent, Which};
use crate::state::{LegRecord, Nonce};

/// Names a session with the pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Session {
    /// Generation of the pool's history.
    pub generation: u64,
    /// The session's number.
    pub number: u64,
}

/// Names a request to the pool within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A request to the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Begin a session.
    Open {
        /// This process.
        nonce: Nonce,
        /// The process before.
        predecessor: Option<Nonce>,
        /// Number of this opening.
        number: u64,
        /// The legs that run.
        legs: LegSet,
        /// Highest position seen.
        seen: Position,
    },
    /// Say which legs run.
    Report {
        /// The session.
        session: Session,
        /// Number of the report within the session, from 1.
        report: u32,
        /// Number of the chunk, from 0.
        chunk: u32,
        /// Its legs.
        legs: Vec<RunningLeg>,
        /// With the last chunk: the whole report.
        total: Option<LegSet>,
    },
    /// Give leases back.
    Release {
        /// The session.
        session: Session,
        /// Number of the mutation.
        sequence: u64,
        /// The legs.
        legs: Vec<LegId>,
    },
    /// Record legs that run.
    Adopt {
        /// The session.
        session: Session,
        /// Number of the mutation.
        sequence: u64,
        /// The legs.
        legs: Vec<RunningLeg>,
    },
    /// Re-rate legs.
    Update {
        /// The session.
        session: Session,
        /// Number of the mutation.
        sequence: u64,
        /// The legs and their media.
        legs: Vec<(LegId, Media)>,
    },
    /// Ask for leases.
    Allocate {
        /// The session.
        session: Session,
        /// Number of the mutation.
        sequence: u64,
        /// The calls.
        calls: Vec<Call>,
    },
    /// Keep the session.
    Heartbeat {
        /// The session.
        session: Session,
        /// Number of the last mutation that was answered.
        sequence: u64,
        /// The leases held at that number.
        legs: LegSet,
        /// Revoked legs whose media server has been told.
        told: Vec<LegId>,
        /// What happened while the node decided alone.
        past: Vec<PastEvent>,
        /// Legs granted by the node itself and not recorded yet.
        optimistic: u64,
    },
}

impl Request {
    /// A short name, for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open_session",
            Self::Report { .. } => "report",
            Self::Release { .. } => "release",
            Self::Adopt { .. } => "adopt",
            Self::Update { .. } => "update",
            Self::Allocate { .. } => "allocate",
            Self::Heartbeat { .. } => "heartbeat",
        }
    }
}

/// A lease, as the pool names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLease {
    /// The leg.
    pub leg: LegId,
    /// The lease.
    pub lease: LeaseId,
    /// What it holds.
    pub charge: Charge,
    /// The node it is reserved for, when that is not this one.
    pub owner: Option<NodeName>,
}

/// The pool's judgement of one call or leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T> {
    /// Granted.
    Granted(T),
    /// Denied.
    Denied(DenialReason),
    /// Not judged.
    Refused {
        /// The field at fault.
        field: String,
        /// What is wrong with it.
        text: String,
    },
}

/// What every answer says of the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pools {
    /// Per feature: no unit is free.
    pub full: Vec<(Feature, bool)>,
    /// The pool's history.
    pub position: Position,
}

/// An answer of the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// A session began.
    Opened {
        /// The session.
        session: Session,
        /// The node's name.
        node: NodeName,
        /// Without a heartbeat for so long the session lapses.
        ttl: Millis,
        /// Mean time between heartbeats.
        heartbeat: Millis,
        /// The books differ.
        report_required: bool,
        /// Licenses: feature, capacity, overdraft.
        licenses: Vec<(Feature, u32, u32)>,
        /// The pool.
        pools: Pools,
    },
    /// A chunk was taken.
    Reported {
        /// The report is complete.
        complete: bool,
        /// Legs to be ended.
        revoked: Vec<LegId>,
        /// The pool.
        pools: Pools,
    },
    /// Leases are given back.
    Released {
        /// The pool.
        pools: Pools,
    },
    /// Legs are recorded.
    Adopted {
        /// Their leases.
        leases: Vec<PoolLease>,
        /// Legs to be ended.
        revoked: Vec<LegId>,
        /// The pool.
        pools: Pools,
    },
    /// Legs were judged, in the order asked.
    Updated {
        /// One verdict each.
        verdicts: Vec<Verdict<PoolLease>>,
        /// The pool.
        pools: Pools,
    },
    /// Calls were judged, in the order asked.
    Allocated {
        /// One verdict each.
        verdicts: Vec<Verdict<Vec<PoolLease>>>,
        /// The pool.
        pools: Pools,
    },
    /// The session goes on.
    Beaten {
        /// Legs to be ended.
        revoked: Vec<LegId>,
        /// The books differ.
        report_required: bool,
        /// Past events are recorded up to this number.
        past_recorded: u64,
        /// Licenses: feature, capacity, overdraft.
        licenses: Vec<(Feature, u32, u32)>,
        /// The pool.
        pools: Pools,
    },
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Not known whether it was carried out.
    #[error("no decision")]
    Undecided {
        /// The pool asked to come back after this time.
        retry_after: Option<Millis>,
    },
    /// The session is no longer the current one.
    #[error("the session is stale")]
    Stale,
    /// The pool needs a report first.
    #[error("a report is required")]
    ReportRequired,
    /// A higher opening was seen before.
    #[error("the open number is too low")]
    OpenNumberOld,
    /// The node no longer belongs to the pool.
    #[error("the node is not enrolled")]
    Revoked,
    /// A field of the request is at fault.
    #[error("{field}: {text}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        text: String,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send this, and say what became of it.
    Send {
        /// Its name.
        id: RequestId,
        /// The request.
        request: Arc<Request>,
        /// How long the attempt may take.
        timeout: Millis,
    },
    /// Nothing until this time since boot, unless something happens.
    Wait {
        /// The time.
        until: Millis,
    },
}

/// The request in flight.
#[derive(Debug)]
pub struct Flight {
    /// Its name.
    pub id: RequestId,
    /// The request, repeated as it is.
    pub request: Arc<Request>,
    /// What its answer is about.
    pub load: Load,
    /// When it was first sent, since boot.
    pub since: Millis,
}

/// A call that is being asked for.
#[derive(Debug, Clone)]
pub struct CallItem {
    /// The question; it may be over.
    pub ask: AskId,
    /// The call.
    pub call: Call,
    /// When it was decided here meanwhile: the revision of that admission.
    pub admitted: Option<u64>,
    /// When it was denied here meanwhile: the number of the past event that says so.
    pub denied: Option<u64>,
}

/// A leg that is being re-rated.
#[derive(Debug, Clone)]
pub struct LegItem {
    /// The question, if somebody waits; it may be over.
    pub ask: Option<AskId>,
    /// The leg.
    pub which: Which,
    /// Its call.
    pub call: CallId,
    /// What it would count.
    pub charge: Charge,
    /// When it was denied here meanwhile: the number of the past event that says so.
    pub denied: Option<u64>,
}

/// What the answer of a request is about.
#[derive(Debug)]
pub enum Load {
    /// A session; with the legs that ran when it was asked for.
    Open(OrdMap<LegId, Arc<LegRecord>>),
    /// A chunk.
    Report {
        /// It is the last.
        last: bool,
        /// Its last leg, if it has any.
        end: Option<LegId>,
    },
    /// Legs given back.
    Release(Vec<Which>),
    /// Legs recorded.
    Adopt(Vec<(Which, CallId, Charge)>),
    /// Legs re-rated.
    Update(Vec<LegItem>),
    /// Calls asked for.
    Allocate(Vec<CallItem>),
    /// Legs of which the pool was told.
    Heartbeat(Vec<LegId>),
}

/// The session's state.
#[derive(Debug, Default)]
pub enum Phase {
    /// None.
    #[default]
    Down,
    /// The pool is being told which legs run.
    Reporting {
        /// The session.
        link: Link,
        /// The legs that ran when the report began, without revoked ones.
        snapshot: OrdMap<LegId, Arc<LegRecord>>,
        /// The next chunk.
        chunk: u32,
        /// The last leg of the chunk before.
        after: Option<LegId>,
        /// Legs that the pool wants ended.
        revoked: Vec<LegId>,
    },
    /// Mutations are taken.
    Active(Link),
}

/// A session as the node knows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// The session.
    pub session: Session,
    /// Number of the last mutation that was answered.
    pub sequence: u64,
    /// Without a heartbeat for so long it lapses.
    pub ttl: Millis,
    /// Mean time between heartbeats.
    pub heartbeat: Millis,
    /// When the next heartbeat is due, since boot.
    pub beat_at: Millis,
    /// Reports begun in this session.
    pub reports: u32,
}
