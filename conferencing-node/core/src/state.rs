//! The node's durable state. Only [`State::apply`] changes it, also when the journal is read back.

use std::sync::Arc;

use headroom_core::call::RunningLeg;
use headroom_core::{CallId, Charge, LeaseId, LegId, LegSet, Millis, NodeName, Position, SourceId};
use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};

use crate::dead::DeadIds;
use crate::event::{Event, PastEvent, Which};
use crate::feed::Heard;
use crate::grace::Grace;
use headroom_core::time::BootId;

/// Most past events kept for the pool; older ones are dropped, also once all take about 4 MiB.
pub const MAX_PAST: usize = 10_000;

/// Random identity of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Nonce(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

/// A leg that runs here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LegRecord {
    /// The leg, its call, and what it counts.
    #[n(0)]
    pub running: RunningLeg,
    /// What the pool is believed to hold for it.
    #[n(1)]
    pub held: Option<Charge>,
    /// Its lease, once named.
    #[n(2)]
    pub lease: Option<LeaseId>,
    /// An administrator wants it ended.
    #[n(3)]
    pub revoked: bool,
    /// The media server was told so.
    #[n(4)]
    pub told: bool,
    /// The revision at which it was admitted.
    #[n(5)]
    pub revision: u64,
    /// The pool holds it as it was described before.
    #[n(6)]
    #[cbor(default)]
    pub redescribed: bool,
}

impl LegRecord {
    /// The leg's id.
    #[must_use]
    pub fn id(&self) -> &LegId {
        &self.running.leg.leg
    }

    /// The call's id.
    #[must_use]
    pub fn call(&self) -> &CallId {
        &self.running.info.call
    }

    /// The media server that runs it.
    #[must_use]
    pub fn source(&self) -> &SourceId {
        &self.running.info.source
    }

    /// The pool has yet to learn what the leg counts, or where it is.
    #[must_use]
    pub fn unsettled(&self) -> bool {
        !self.revoked && (self.redescribed || self.held.as_ref() != Some(&self.running.charge))
    }

    /// The node decided by itself that the leg may count more than the pool holds for it.
    #[must_use]
    pub fn optimistic(&self) -> bool {
        !self.revoked
            && match &self.held {
                None => true,
                Some(held) => {
                    held.feature != self.running.charge.feature || held.units < self.running.charge.units
                }
            }
    }

    /// Which admission of this id it is.
    #[must_use]
    pub fn which(&self) -> Which {
        Which { leg: self.id().clone(), revision: self.revision }
    }
}

/// A leg that ended and that the pool may still hold.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ending {
    /// Its call.
    #[n(0)]
    pub call: CallId,
    /// What the pool holds; none for a revoked leg, whose end the pool only wants to hear of.
    #[n(1)]
    pub held: Option<Charge>,
    /// The revision at which it was admitted; 0 when it never ran.
    #[n(2)]
    pub revision: u64,
}

/// What there is one of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Counters {
    /// The node's name, once known.
    #[n(0)]
    pub node: Option<NodeName>,
    /// This process.
    #[n(1)]
    pub nonce: Option<Nonce>,
    /// The process before it on this journal.
    #[n(2)]
    pub predecessor: Option<Nonce>,
    /// Boot of the machine in which this process began.
    #[n(3)]
    pub boot_id: BootId,
    /// Number of the last session opening; never repeats.
    #[n(4)]
    pub open_number: u64,
    /// Age of the last contact.
    #[n(5)]
    pub grace: Grace,
    /// Highest position of the pool's history that was seen.
    #[n(6)]
    pub seen: Position,
    /// Rises with each admission.
    #[n(7)]
    pub revision: u64,
    /// Number of the last past event.
    #[n(8)]
    pub past: u64,
    /// No new calls are taken.
    #[n(9)]
    pub draining: bool,
    /// Past events that were dropped for want of room.
    #[n(10)]
    #[cbor(default)]
    pub past_dropped: u64,
}

/// Everything that survives a restart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// What there is one of.
    pub counters: Counters,
    /// The legs that run.
    pub legs: OrdMap<LegId, Arc<LegRecord>>,
    /// The running legs of each call.
    pub calls: OrdMap<CallId, OrdSet<LegId>>,
    /// How many legs each media server runs.
    pub sources: OrdMap<SourceId, u64>,
    /// Running legs of which the pool has yet to learn.
    pub unsettled: OrdSet<LegId>,
    /// Legs that ended and that the pool may still hold.
    pub ending: OrdMap<LegId, Arc<Ending>>,
    /// Granted, and the answer may not have reached the media server.
    pub undelivered: OrdSet<LegId>,
    /// Granted before a restart, perhaps never answered, and not named since.
    pub unconfirmed: OrdSet<LegId>,
    /// How far each feed was heard.
    pub feeds: OrdMap<SourceId, Heard>,
    /// Legs of feeds whose end may have been told and not heard.
    pub doubtful: OrdSet<LegId>,
    /// Legs that an administrator wants ended and that still run.
    pub revoked: OrdSet<LegId>,
    /// Ids that are refused for a while.
    pub dead: DeadIds,
    /// What happened while the node decided alone.
    pub past: OrdMap<u64, Arc<PastEvent>>,
    /// About how many bytes those take.
    pub past_weight: usize,
    /// The legs that run, without revoked ones.
    pub running_set: LegSet,
    /// The leases that the pool is believed to hold for this node.
    pub held_set: LegSet,
}

impl State {
    /// Whether a leg's id is still refused at this time since boot.
    #[must_use]
    pub fn is_dead(&self, leg: &LegId, boot: Millis) -> bool {
        self.dead.refuses(leg, boot)
    }

    /// Whether a leg's media server has said a short while ago that it ended.
    #[must_use]
    pub fn was_told_dead(&self, leg: &LegId, boot: Millis) -> bool {
        self.dead.told(leg, boot)
    }

    /// How far a feed was heard.
    #[must_use]
    pub fn heard(&self, source: &SourceId) -> Heard {
        self.feeds.get(source).copied().unwrap_or_default()
    }

    /// The events that rebuild the state.
    pub fn snapshot(&self) -> impl Iterator<Item = Event> + Send + '_ {
        let legs = self.legs.values().map(|record| Event::Leg {
            record: (**record).clone(),
            undelivered: self.undelivered.contains(record.id()),
            unconfirmed: self.unconfirmed.contains(record.id()),
            doubtful: self.doubtful.contains(record.id()),
        });
        let ending = self
            .ending
            .iter()
            .map(|(leg, ending)| Event::Ending { leg: leg.clone(), ending: (**ending).clone() });
        let dead = self.dead.iter().map(|(leg, dead)| Event::Dead {
            leg: leg.clone(),
            boot: dead.at,
            stranger: dead.stranger,
            supposed: dead.supposed,
        });
        let feeds =
            self.feeds.iter().map(|(source, heard)| Event::Heard { source: source.clone(), heard: *heard });
        let past = self.past.values().map(|event| Event::Past { event: (**event).clone() });
        std::iter::once(Event::Counters { counters: self.counters.clone() })
            .chain(legs)
            .chain(ending)
            .chain(dead)
            .chain(feeds)
            .chain(past)
    }
}
