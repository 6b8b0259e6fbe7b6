//! What a restart forgets: intervals, who was heard when, who waits.

use std::collections::BTreeMap;

use headroom_core::{Feature, Millis};

use crate::slots::Slots;
use crate::state::{HolderId, LeaseKey, PoolInstant};

/// Intervals that an operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A session lapses after this silence.
    pub session_ttl: Millis,
    /// Mean interval between heartbeats.
    pub heartbeat: Millis,
    /// A reserved lease is freed after this time.
    pub claim_within: Millis,
    /// An alarm that comes again within this time is listed, and told only if it is still on when the time is over.
    pub alarm_repeat: Millis,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_ttl: Millis::SECOND.times(120),
            heartbeat: Millis::SECOND.times(10),
            claim_within: Millis::SECOND.times(30),
            alarm_repeat: Millis::MINUTE.times(15),
        }
    }
}

/// What a restart forgets. Times here are the pool's own clock, which a stall of the process
/// cannot push forward by more than two seconds a tick.
#[derive(Debug, Default)]
pub struct Liveness {
    /// Intervals.
    pub settings: Settings,
    /// The pool's own clock.
    pub clock: Millis,
    /// Boot time at the last tick.
    pub ticked: Option<Millis>,
    /// The history's identity since it got another one here: what was under way to the one before is stale.
    pub renewed: Option<u64>,
    /// When each holder was last heard.
    pub heard: BTreeMap<HolderId, Millis>,
    /// Legs each holder has granted by itself and not settled.
    pub optimistic: BTreeMap<HolderId, u32>,
    /// When each reserved lease is freed.
    pub unclaimed: BTreeMap<LeaseKey, Millis>,
    /// When each leg released by force becomes an alarm.
    pub overdue: BTreeMap<LeaseKey, Millis>,
    /// Who brings its books in line.
    pub slots: Slots,
    /// When a holder last was asked to report because of drift.
    pub drift: BTreeMap<HolderId, Millis>,
    /// How full each pool was since alarms were last looked at, where it was full enough to be one.
    pub crests: BTreeMap<Feature, PoolInstant>,
}
