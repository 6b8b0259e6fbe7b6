//! What a restart forgets: the session, the request in flight, who waits.

use std::collections::{BTreeMap, BTreeSet};

use headroom_core::{Call, Feature, LegId, Media, Millis, Position, SourceId};

use crate::command::AskId;
use crate::turn::Turns;
use crate::uplink::{Flight, Phase};
use headroom_core::time::BootId;

/// Limits and intervals, from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long the node may run without contact.
    pub grace: Millis,
    /// How long a media server waits for a decision at most.
    pub budget: Millis,
    /// A source that was silent for so long has its legs released.
    pub orphan_after: Millis,
}

impl Options {
    /// The longest grace, and the default.
    pub const MAX_GRACE: Millis = Millis(14 * Millis::DAY.0);
    /// The default budget of a decision.
    pub const BUDGET: Millis = Millis(900);

    /// How long one attempt of a request may take: two fit into the budget with a little left.
    #[must_use]
    pub fn attempt(&self) -> Millis {
        Millis((self.budget.0 * 4 / 9).max(100))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { grace: Self::MAX_GRACE, budget: Self::BUDGET, orphan_after: Millis(2 * Millis::HOUR.0) }
    }
}

/// A question that waits for the pool.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What is asked.
    pub what: Question,
    /// Its request is under way.
    pub in_flight: bool,
    /// Something was given back since it was asked, or it was sent already. Before that it does not
    /// overtake what is to be given back: it could be denied for want of a unit that is free.
    pub ripe: bool,
    /// When the budget is over, since boot.
    pub until: Millis,
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Question {
    /// May a call's legs begin?
    Call {
        /// The call.
        call: Call,
        /// Legs of it that ended while it was asked.
        ended: BTreeSet<LegId>,
    },
    /// May a leg's media change?
    Leg {
        /// The leg.
        leg: LegId,
        /// What it would send or receive.
        media: Media,
    },
}

/// How well the pool answers.
#[derive(Debug, Default)]
pub struct Circuit {
    /// Attempts without a decision, in a row.
    pub undecided: u32,
    /// When the first of them was sent.
    pub since: Option<Millis>,
    /// Decisions are made here at once.
    pub open: bool,
    /// Ceiling of the pause between probes.
    pub ceiling: Millis,
    /// Nothing is sent before this time.
    pub not_before: Millis,
}

/// What a mutation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Gives leases back.
    Release,
    /// Records legs that run.
    Adopt,
    /// Re-rates legs.
    Update,
    /// Asks for leases.
    Allocate,
}

/// Items of a refused request, one of which is at fault: each is sent alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Singly {
    /// Requests of this kind.
    pub kind: Kind,
    /// How many are still to be sent alone.
    pub left: usize,
}

/// Everything a restart forgets.
#[derive(Debug, Default)]
pub struct Volatile {
    /// The machine's boot.
    pub boot_id: BootId,
    /// When the process began, since boot. Moved, like what was heard of others, by the time in which the
    /// machine stood still.
    pub started: Millis,
    /// When the last command was decided, since boot.
    pub looked: Millis,
    /// The kernel calls its clock synchronized.
    pub synchronized: bool,
    /// The wall clock at boot, by what both clocks showed when the kernel said so.
    pub booted_at: Millis,
    /// Limits and intervals.
    pub options: Options,
    /// The session.
    pub phase: Phase,
    /// The one request in flight.
    pub flight: Option<Flight>,
    /// Whose turn the next mutation is.
    pub turns: Turns,
    /// Number of the last request.
    pub requests: u64,
    /// How well the pool answers.
    pub circuit: Circuit,
    /// Sessions in a row that ended before anything was done in them.
    pub stales: u32,
    /// How far to raise the open number at the next opening.
    pub open_step: u64,
    /// Questions that wait.
    pub asks: BTreeMap<AskId, Ask>,
    /// Legs that waiting questions are about, with the questions.
    pub asked: BTreeMap<LegId, BTreeSet<AskId>>,
    /// What the pool last said of a feature: full, and when.
    pub full: BTreeMap<Feature, (bool, Millis)>,
    /// Licenses of the pool: feature, capacity, overdraft.
    pub licenses: Vec<(Feature, u32, u32)>,
    /// When a source last showed life.
    pub sources: BTreeMap<SourceId, Millis>,
    /// When something that a feed told was last not heard.
    pub gaps: BTreeMap<SourceId, Millis>,
    /// Since when legs of feeds have been in doubt, since boot.
    pub doubted: BTreeMap<LegId, Millis>,
    /// When legs were granted, or asked for again, whose answer is not known to have gone out, and when it went out
    /// for recent ones.
    pub granted_at: BTreeMap<LegId, Millis>,
    /// Legs that were asked for again while they ran: when, and the revision of the list then. Their media server may
    /// learn of them only now, and a list that was read up to then may leave them out.
    pub asked_again: BTreeMap<LegId, (Millis, u64)>,
    /// Revoked legs whose telling the pool has recorded.
    pub told: BTreeSet<LegId>,
    /// Legs that the pool refused to record, or counts otherwise than this node; asked again in the next
    /// session.
    pub stuck: BTreeSet<LegId>,
    /// Legs with which the pool found fault in a report; left out of reports until the next session.
    pub unreported: BTreeSet<LegId>,
    /// Ended legs of which the request in flight may yet tell the pool, with the number of the past
    /// event that says so: if the pool has held the leg, its end is recorded by the release.
    pub noted: BTreeMap<LegId, u64>,
    /// Legs that the pool wants ended and that do not run here: it waits to hear so.
    pub unknown: BTreeSet<LegId>,
    /// After a refused field requests carry one item each, so that it hits nobody else.
    pub singly: Option<Singly>,
    /// Highest position seen; the durable one lags by up to a second.
    pub seen: Position,
    /// The pool's history is shorter than what was seen.
    pub rollback: bool,
    /// Last contact, since boot.
    pub contact: Option<Millis>,
}
