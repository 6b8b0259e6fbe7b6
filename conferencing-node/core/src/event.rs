//! What the journal holds: every change of the node's durable state.

use headroom_core::call::RunningLeg;
use headroom_core::{
    Call, CallId, CallInfo, Charge, DenialReason, LeaseId, Leg, LegId, Media, Millis, NodeName, Position,
    SourceId,
};
use minicbor::{Decode, Encode};

use crate::feed::Heard;
use crate::grace::Grace;
use crate::state::{Counters, Ending, LegRecord, Nonce};
use headroom_core::time::BootId;

/// Why a leg ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Why {
    /// The media server said so.
    #[n(1)]
    Told,
    /// Its source listed its legs without it.
    #[n(2)]
    NotListed,
    /// Its source was silent for too long.
    #[n(3)]
    Orphaned,
    /// Granted before a restart and never named afterwards, or granted and never answered.
    #[n(4)]
    Unconfirmed,
    /// Another leg took its unit over.
    #[n(5)]
    Replaced,
    /// Its platform says that it is elsewhere now: it goes on, described anew.
    #[n(6)]
    Moved,
}

/// A leg as it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NewLeg {
    /// The leg.
    #[n(0)]
    pub leg: Leg,
    /// What it counts.
    #[n(1)]
    pub charge: Charge,
    /// What the pool holds for it; none when the node decided by itself.
    #[n(2)]
    pub held: Option<Charge>,
    /// Its lease.
    #[n(3)]
    pub lease: Option<LeaseId>,
}

/// A leg of one admission: an id may be used again later.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Which {
    /// The leg.
    #[n(0)]
    pub leg: LegId,
    /// The revision at which it was admitted.
    #[n(1)]
    pub revision: u64,
}

/// Something that happened while the node decided alone, kept until the pool has recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PastEvent {
    /// Its number, rising.
    #[n(0)]
    pub number: u64,
    /// When, by the wall clock.
    #[n(1)]
    pub at: Millis,
    /// What.
    #[n(2)]
    pub what: PastKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PastKind {
    /// The node refused a call by itself.
    #[n(1)]
    Denied {
        /// The call.
        #[n(0)]
        call: Call,
        /// Why.
        #[n(1)]
        reason: DenialReason,
    },
    /// A leg began and ended, and the pool never heard of it.
    #[n(2)]
    Ended {
        /// The leg.
        #[n(0)]
        leg: RunningLeg,
    },
}

/// A change of the node's state.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Event {
    /// A process began to work on this journal.
    #[n(0)]
    Started {
        /// Its random identity.
        #[n(0)]
        nonce: Nonce,
        /// The machine's boot.
        #[n(1)]
        boot_id: BootId,
    },
    /// The node's name became known or changed.
    #[n(1)]
    Named {
        /// The name.
        #[n(0)]
        node: NodeName,
    },
    /// A session is about to be opened with this number.
    #[n(2)]
    Opening {
        /// The number.
        #[n(0)]
        number: u64,
    },
    /// The clocks and the age of the last contact.
    #[n(3)]
    Clock {
        /// All of it.
        #[n(0)]
        grace: Grace,
    },
    /// A higher position of the pool's history was seen.
    #[n(4)]
    Seen {
        /// The position.
        #[n(0)]
        position: Position,
    },
    /// Legs of a call may run.
    #[n(5)]
    Granted {
        /// The call.
        #[n(0)]
        info: CallInfo,
        /// The legs that this node runs.
        #[n(1)]
        legs: Vec<NewLeg>,
        /// When, by the wall clock.
        #[n(2)]
        at: Millis,
    },
    /// The media server knows of these legs.
    #[n(6)]
    Confirmed {
        /// The legs.
        #[n(0)]
        legs: Vec<LegId>,
    },
    /// A leg's media changed.
    #[n(7)]
    Changed {
        /// The leg.
        #[n(0)]
        leg: LegId,
        /// What it sends or receives.
        #[n(1)]
        media: Media,
        /// What it counts now.
        #[n(2)]
        charge: Charge,
    },
    /// The pool holds so much for a leg.
    #[n(8)]
    Held {
        /// The leg.
        #[n(0)]
        which: Which,
        /// Its call: the leg may have ended.
        #[n(1)]
        call: CallId,
        /// What is held; none when the pool took it back or never had it.
        #[n(2)]
        held: Option<Charge>,
        /// The lease, if it was named.
        #[n(3)]
        lease: Option<LeaseId>,
    },
    /// Legs ended.
    #[n(9)]
    Ended {
        /// The legs; those that do not run only become dead for a while.
        #[n(0)]
        legs: Vec<LegId>,
        /// Why.
        #[n(1)]
        why: Why,
        /// When, by the wall clock.
        #[n(2)]
        at: Millis,
        /// When, since boot.
        #[n(3)]
        boot: Millis,
        /// Whether the end of those that the pool is not known to hold is noted for its history.
        #[n(4)]
        unheard: bool,
    },
    /// The pool no longer holds anything for legs that ended.
    #[n(10)]
    Released {
        /// The legs.
        #[n(0)]
        legs: Vec<Which>,
    },
    /// An administrator wants legs ended; the pool has taken their units back.
    #[n(11)]
    Revoked {
        /// The legs.
        #[n(0)]
        legs: Vec<LegId>,
    },
    /// The media server was told of revoked legs.
    #[n(12)]
    Told {
        /// The legs.
        #[n(0)]
        legs: Vec<LegId>,
    },
    /// The node refused a call by itself.
    #[n(13)]
    Denied {
        /// The call.
        #[n(0)]
        call: Call,
        /// Why.
        #[n(1)]
        reason: DenialReason,
        /// When, by the wall clock.
        #[n(2)]
        at: Millis,
    },
    /// The pool has recorded past events up to this number.
    #[n(14)]
    PastRecorded {
        /// The number.
        #[n(0)]
        number: u64,
    },
    /// New calls are no longer, or again, taken.
    #[n(15)]
    Draining {
        /// No longer.
        #[n(0)]
        on: bool,
    },
    /// In a snapshot: everything that is one of a kind.
    #[n(16)]
    Counters {
        /// All of it.
        #[n(0)]
        counters: Counters,
    },
    /// In a snapshot: a leg that runs.
    #[n(17)]
    Leg {
        /// The leg.
        #[n(0)]
        record: LegRecord,
        /// Its answer may not have reached the media server.
        #[n(1)]
        undelivered: bool,
        /// It was granted before a restart and not named since.
        #[n(2)]
        unconfirmed: bool,
        /// Its end may have been told and not heard.
        #[n(3)]
        #[cbor(default)]
        doubtful: bool,
    },
    /// In a snapshot: a leg that ended and may be held.
    #[n(18)]
    Ending {
        /// The leg.
        #[n(0)]
        leg: LegId,
        /// What is known of it.
        #[n(1)]
        ending: Ending,
    },
    /// In a snapshot: an id that is dead for a while.
    #[n(19)]
    Dead {
        /// The id.
        #[n(0)]
        leg: LegId,
        /// When it ended, since boot.
        #[n(1)]
        boot: Millis,
        /// Nothing ran under it.
        #[n(2)]
        #[cbor(default)]
        stranger: bool,
        /// Nobody said that it ended.
        #[n(3)]
        #[cbor(default)]
        supposed: bool,
    },
    /// The pool has taken back what it held for a leg that ended; it still wants to hear of the end.
    #[n(21)]
    Unheld {
        /// The leg.
        #[n(0)]
        which: Which,
    },
    /// A past event is not for the pool: it has recorded that denial itself, or cannot read it.
    #[n(22)]
    PastWithdrawn {
        /// Its number.
        #[n(0)]
        number: u64,
    },
    /// A feed was heard up to here.
    #[n(23)]
    Heard {
        /// The machine that tells.
        #[n(0)]
        source: SourceId,
        /// How far.
        #[n(1)]
        heard: Heard,
    },
    /// Something a source told was not heard: of none of its legs it is certain that they still run.
    #[n(24)]
    Doubted {
        /// The source.
        #[n(0)]
        source: SourceId,
    },
    /// A leg's platform describes it otherwise than before.
    #[n(25)]
    Redescribed {
        /// Its call, which is the same.
        #[n(0)]
        info: CallInfo,
        /// The leg.
        #[n(1)]
        leg: Leg,
        /// What it counts now.
        #[n(2)]
        charge: Charge,
    },
    /// In a snapshot: a past event.
    #[n(20)]
    Past {
        /// The event.
        #[n(0)]
        event: PastEvent,
    },
}
