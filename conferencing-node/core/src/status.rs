//! How the node stands: contact, grace, counts, alarms.

use headroom_core::{Feature, Millis, NodeName, Now, SourceId};

use crate::admit::is_active;
use crate::feed;
use crate::machine::reading;
use crate::state::State;
use crate::tick::SILENT;
use crate::volatile::Volatile;

/// Alarms that mount while the pool does not answer: the highest step is on.
const LADDER: [(Millis, &str); 6] = [
    (Millis(5 * Millis::MINUTE.0), "out_of_contact_5m"),
    (Millis::HOUR, "out_of_contact_1h"),
    (Millis::DAY, "out_of_contact_24h"),
    (Millis(7 * Millis::DAY.0), "out_of_contact_7d"),
    (Millis(12 * Millis::DAY.0), "out_of_contact_12d"),
    (Millis(13 * Millis::DAY.0), "out_of_contact_13d"),
];

/// How the node stands to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// The pool answers.
    In,
    /// It does not; the node decides by itself.
    Out,
    /// It never did, or has removed this node.
    NotEnrolled,
    /// It has not for longer than the grace.
    GraceExpired,
}

impl Contact {
    /// The word used in JSON, on the command line and in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::NotEnrolled => "not_enrolled",
            Self::GraceExpired => "grace_expired",
        }
    }
}

/// What the pool last said of a feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureStatus {
    /// The feature.
    pub feature: Feature,
    /// Units of all valid licenses.
    pub capacity: u32,
    /// Units above them that the licenses permit.
    pub overdraft: u32,
    /// No unit is free.
    pub full: bool,
}

/// How far a feed was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedStatus {
    /// The machine that tells.
    pub source: SourceId,
    /// The number of the last event.
    pub seq: u64,
    /// Events that were never heard, or could not be read.
    pub missed: u64,
    /// Running legs whose end may have been among them.
    pub in_doubt: u64,
}

/// The node's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name, once known.
    pub node: Option<NodeName>,
    /// How it stands to the pool.
    pub contact: Contact,
    /// Time since the last contact; 0 before the first.
    pub out_of_contact: Millis,
    /// Time left in which the node may decide by itself.
    pub grace_left: Millis,
    /// Legs that run.
    pub legs: u64,
    /// Of those, granted by the node itself and not recorded by the pool.
    pub optimistic: u64,
    /// Ended legs whose lease the pool has not taken back yet.
    pub outbox: u64,
    /// Running legs that an administrator wants ended.
    pub revoked: u64,
    /// Running legs granted before a restart and not named since.
    pub unconfirmed: u64,
    /// Past events the pool has not recorded yet.
    pub past: u64,
    /// Past events that were dropped for want of room before the pool had recorded them.
    pub past_dropped: u64,
    /// Alarms that are on.
    pub alarms: Vec<String>,
    /// What the pool last said of each feature.
    pub features: Vec<FeatureStatus>,
    /// New calls are not taken.
    pub draining: bool,
    /// How far each feed was heard.
    pub feeds: Vec<FeedStatus>,
}

/// The node's status, now.
#[must_use]
pub fn status(state: &State, volatile: &Volatile, now: Now) -> Status {
    let grace = state.counters.grace.at(&reading(volatile, now));
    let contact = if is_active(volatile) && !volatile.circuit.open && grace.had_contact && !grace.refused {
        Contact::In
    } else if grace.refused || !grace.had_contact {
        Contact::NotEnrolled
    } else if grace.age >= volatile.options.grace {
        Contact::GraceExpired
    } else {
        Contact::Out
    };
    // Nothing has lasted since a contact that never was.
    let out_of_contact = if grace.had_contact { grace.age } else { Millis(0) };
    let optimistic = |leg: &&_| state.legs.get(*leg).is_some_and(|record| record.optimistic());
    Status {
        node: state.counters.node.clone(),
        contact,
        out_of_contact,
        grace_left: if grace.had_contact && !grace.refused {
            volatile.options.grace.since(grace.age)
        } else {
            Millis(0)
        },
        legs: state.legs.len() as u64,
        optimistic: state.unsettled.iter().filter(optimistic).count() as u64,
        outbox: state.ending.len() as u64,
        revoked: state.revoked.len() as u64,
        unconfirmed: state.unconfirmed.len() as u64,
        past: state.past.len() as u64,
        past_dropped: state.counters.past_dropped,
        alarms: alarms(state, volatile, now, out_of_contact),
        features: features(volatile),
        draining: state.counters.draining,
        feeds: feeds(state),
    }
}

fn feeds(state: &State) -> Vec<FeedStatus> {
    let in_doubt = feed::in_doubt(state);
    let feeds = state.feeds.iter().map(|(source, heard)| FeedStatus {
        source: source.clone(),
        seq: heard.seq,
        missed: heard.missed,
        in_doubt: in_doubt.get(source).copied().unwrap_or_default(),
    });
    feeds.collect()
}

fn features(volatile: &Volatile) -> Vec<FeatureStatus> {
    let full = |feature| volatile.full.get(feature).is_some_and(|(full, _)| *full);
    volatile
        .licenses
        .iter()
        .map(|(feature, capacity, overdraft)| FeatureStatus {
            feature: feature.clone(),
            capacity: *capacity,
            overdraft: *overdraft,
            full: full(feature),
        })
        .collect()
}

fn alarms(state: &State, volatile: &Volatile, now: Now, age: Millis) -> Vec<String> {
    let step = LADDER.iter().rfind(|(from, _)| age >= *from);
    let mut alarms: Vec<_> = step.map(|(_, name)| (*name).to_owned()).into_iter().collect();
    if state.counters.grace.refused {
        alarms.push("not_enrolled".into());
    }
    if state.counters.draining {
        alarms.push("draining".into());
    }
    if volatile.rollback {
        alarms.push("pool_rollback".into());
    }
    if !volatile.stuck.is_empty() {
        alarms.push("legs_refused_by_pool".into());
    }
    for (source, at) in &volatile.sources {
        // A platform may have nothing to tell for hours.
        let silent = if state.feeds.contains_key(source) { Millis(feed::QUIET.0 / 2) } else { SILENT };
        if state.sources.contains_key(source) && now.boot.since(*at) >= silent {
            alarms.push(format!("source_silent:{source}"));
        }
    }
    alarms.extend(volatile.gaps.keys().map(|source| format!("feed_gap:{source}")));
    alarms
}
