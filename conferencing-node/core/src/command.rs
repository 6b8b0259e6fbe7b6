//! What the node is asked, and what it answers.

use headroom_core::{Call, CallId, DenialReason, LeaseId, LegId, Media, Millis, NodeName, SourceId, Units};

use crate::feed::FeedEvent;
use crate::state::Nonce;
use crate::status::Status;
use crate::uplink::{Failure, Next, RequestId, Response};
use crate::volatile::Options;
use headroom_core::time::BootId;

/// Names a question that waits for the pool; chosen by the asker, rising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What the node is asked to do.
#[derive(Debug, Clone)]
pub enum Command {
    /// A process begins. First of all commands.
    Started {
        /// Its random identity.
        nonce: Nonce,
        /// The machine's boot.
        boot_id: BootId,
        /// The node's name, as enrolled.
        node: Option<NodeName>,
        /// The kernel calls its clock synchronized.
        synchronized: bool,
        /// Limits and intervals.
        options: Options,
    },
    /// May these legs begin?
    Admit {
        /// Names the question.
        ask: AskId,
        /// The call and its legs.
        call: Call,
    },
    /// These legs run already, by their media server's own decision.
    Adopt {
        /// The call and its legs.
        call: Call,
    },
    /// A platform tells what happened.
    Feed {
        /// The event.
        event: FeedEvent,
    },
    /// May a call begin, as far as is known here? The pool is not asked, and nothing is counted.
    Foresee {
        /// The call.
        call: Call,
    },
    /// May these legs change their media? Each is decided alone.
    UpdateLegs {
        /// The changes, each with a name for its question.
        legs: Vec<(AskId, LegId, Media)>,
    },
    /// These legs ended.
    EndLegs {
        /// The legs.
        legs: Vec<LegId>,
    },
    /// Every leg of a call ended.
    EndCall {
        /// The call.
        call: CallId,
    },
    /// These legs of a source run; its others, admitted up to `as_of`, have ended.
    Sync {
        /// The source.
        source: SourceId,
        /// The revision that the source read before it listed its legs.
        as_of: u64,
        /// The legs.
        legs: Vec<LegId>,
    },
    /// The budget of questions is over.
    Expire {
        /// The questions.
        asks: Vec<AskId>,
    },
    /// The media server has been answered.
    Delivered {
        /// The legs it now knows of.
        legs: Vec<LegId>,
    },
    /// The media server has been told of revoked legs.
    Told {
        /// The legs.
        legs: Vec<LegId>,
    },
    /// A source has shown life.
    Alive {
        /// The source.
        source: SourceId,
    },
    /// Stop, or begin again, to take new calls.
    Drain {
        /// Stop.
        on: bool,
    },
    /// What is to be sent to the pool?
    Poll,
    /// What became of a request to the pool.
    Answered {
        /// The request.
        request: RequestId,
        /// Its answer.
        outcome: Result<Response, Failure>,
        /// A random number from 0 to 999.
        jitter: u32,
    },
    /// A second has passed.
    Tick {
        /// The kernel calls its clock synchronized.
        synchronized: bool,
    },
    /// How does the node stand?
    Status,
}

/// A leg that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedLeg {
    /// The leg.
    pub leg: LegId,
    /// What it holds.
    pub charge: headroom_core::Charge,
    /// Its lease; none while the pool has not recorded the leg.
    pub lease: Option<LeaseId>,
    /// The node that will run it, when that is another one.
    pub owner: Option<NodeName>,
}

/// A call was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The legs, in the order asked.
    pub legs: Vec<GrantedLeg>,
    /// The node decided by itself.
    pub optimistic: bool,
}

/// Why a request contradicts what is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The leg ended a short while ago.
    #[error("{leg} has ended; its id can be used again a minute after its end")]
    Released {
        /// Its index in the request.
        index: usize,
        /// The leg.
        leg: LegId,
    },
    /// An administrator has released the leg by force; its media server has to drop it.
    #[error("{leg} was released by an administrator and has to end")]
    Revoked {
        /// Its index in the request.
        index: usize,
        /// The leg.
        leg: LegId,
    },
    /// The leg belongs to another call.
    #[error("{leg} already belongs to the call {call}")]
    OtherCall {
        /// Its index in the request.
        index: usize,
        /// The leg.
        leg: LegId,
        /// The other call.
        call: CallId,
    },
}

impl Conflict {
    /// The field at fault.
    #[must_use]
    pub fn field(&self) -> String {
        let (Self::Released { index, .. } | Self::Revoked { index, .. } | Self::OtherCall { index, .. }) =
            self;
        format!("legs[{index}].leg")
    }

    /// The word for it in interfaces.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Released { .. } => "released",
            Self::Revoked { .. } => "revoked",
            Self::OtherCall { .. } => "conflict",
        }
    }
}

/// How a call was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The legs may begin.
    Granted(Granted),
    /// They may not.
    Denied(DenialReason),
    /// The question contradicts what is known.
    Conflict(Conflict),
    /// The question cannot be judged as it was put.
    Refused {
        /// The field at fault.
        field: String,
        /// What is wrong with it.
        text: String,
    },
}

/// How a leg's change was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegVerdict {
    /// The change may happen.
    Granted {
        /// What the leg counts now.
        units: Units,
        /// The node decided by itself.
        optimistic: bool,
    },
    /// The leg keeps what it has.
    Denied {
        /// Why.
        reason: DenialReason,
        /// What the leg counts.
        units: Units,
    },
    /// The leg has ended.
    Released,
    /// The change cannot be judged as it was put.
    Refused {
        /// The field at fault.
        field: String,
        /// What is wrong with it.
        text: String,
    },
    /// No such leg runs here.
    Unknown,
    /// The pool decides; the answer follows.
    Waiting {
        /// The question.
        ask: AskId,
        /// Until when, since boot.
        until: Millis,
    },
}

/// The answer to a question that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// About a call.
    Call(Decision),
    /// About a leg's media.
    Leg(LegVerdict),
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// A call is decided.
    Decided(Decision),
    /// The pool decides; the answer follows.
    Waiting {
        /// The question.
        ask: AskId,
        /// Until when, since boot; then the question is to be expired.
        until: Millis,
    },
    /// Why a call may not begin, if it may not.
    Foreseen(Option<DenialReason>),
    /// Verdicts, in the order of the changes.
    Legs(Vec<LegVerdict>),
    /// Legs ended.
    Ended {
        /// How many ran until now.
        count: u64,
        /// Questions that ended along with them.
        outcomes: Vec<(AskId, Outcome)>,
    },
    /// A source is in line.
    Synced {
        /// Legs that ended because they were not listed.
        ended: Vec<LegId>,
        /// Legs that were listed and do not run here.
        unknown: Vec<LegId>,
    },
    /// A field contradicts the state.
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        text: String,
    },
    /// Questions that were answered, and what is to be sent to the pool.
    Uplink {
        /// The answers.
        outcomes: Vec<(AskId, Outcome)>,
        /// What to do next.
        next: Next,
    },
    /// Questions that were answered.
    Outcomes(Vec<(AskId, Outcome)>),
    /// How the node stands.
    Status(Box<Status>),
}
