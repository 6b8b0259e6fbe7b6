//! Bodies of answers.

use conferencing_core::{Granted, LegRecord, LegVerdict, Status};
use headroom_core::{DenialReason, LegId};
use serde::Serialize;
use utoipa::ToSchema;

use super::schema;

/// A call was granted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Granted)]
pub(crate) struct GrantedBody {
    /// `granted`.
    #[schema(pattern = "^granted$")]
    decision: &'static str,
    /// The node decided by itself because the pool did not answer.
    optimistic: bool,
    /// The legs, in the order asked.
    legs: Vec<GrantedLegBody>,
}

/// A leg that was granted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GrantedLeg)]
pub(crate) struct GrantedLegBody {
    /// The leg.
    leg: String,
    /// Units it holds.
    units: u32,
    /// The feature that pays.
    feature: String,
    /// Its lease; null while the pool has not recorded it.
    lease: Option<u64>,
    /// The node that the lease is reserved for, when that is not this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

/// A call was denied.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Denied)]
pub(crate) struct DeniedBody {
    /// `denied`.
    #[schema(pattern = "^denied$")]
    decision: &'static str,
    /// Why.
    #[schema(schema_with = schema::reason)]
    reason: &'static str,
    /// The sentence to announce to the participant.
    text: &'static str,
}

/// How a change of media was decided.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "decision", rename_all = "snake_case")]
#[schema(as = LegDecision)]
pub(crate) enum LegDecisionBody {
    /// The change may happen.
    Granted {
        /// The leg.
        leg: String,
        /// The node decided by itself because the pool did not answer.
        optimistic: bool,
        /// Units the leg holds now.
        units: u32,
    },
    /// The leg keeps what it has.
    Denied {
        /// The leg.
        leg: String,
        /// Units the leg holds.
        units: u32,
        /// Why.
        #[schema(schema_with = schema::reason)]
        reason: &'static str,
        /// The sentence to announce to the participant.
        text: &'static str,
    },
    /// The change cannot be judged as it was put.
    Refused {
        /// The leg.
        leg: String,
        /// The field at fault.
        field: String,
        /// What is wrong with it.
        text: String,
    },
    /// The leg has ended within the last minute.
    Released {
        /// The leg.
        leg: String,
        /// The same as a sentence.
        text: &'static str,
    },
    /// No such leg runs here.
    Unknown {
        /// The leg.
        leg: String,
        /// The same as a sentence.
        text: &'static str,
    },
}

/// Decisions, in the order of the changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LegDecisions)]
pub(crate) struct LegDecisionsBody {
    /// One for each change.
    pub(crate) legs: Vec<LegDecisionBody>,
}

/// Legs ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ended)]
pub(crate) struct EndedBody {
    /// How many ran until now.
    pub(crate) ended: u64,
}

/// The legs that run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Legs)]
pub(crate) struct LegsBody {
    /// Revision of the list.
    pub(crate) as_of: u64,
    /// The legs, ordered by id.
    pub(crate) legs: Vec<RunningLegBody>,
}

/// A leg that runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActiveLeg)]
pub(crate) struct RunningLegBody {
    /// The leg.
    leg: String,
    /// Its call.
    call: String,
    /// Its media server.
    source: String,
    /// The participant's address.
    participant: String,
    /// Units it holds.
    units: u32,
    /// The feature that pays.
    feature: String,
    /// Its lease; null while the pool has not recorded it.
    lease: Option<u64>,
    /// The node decided by itself and the pool has not recorded the leg yet.
    optimistic: bool,
    /// Granted before a restart and perhaps never answered: name it, or it is dropped.
    unconfirmed: bool,
    /// An administrator wants it ended.
    revoked: bool,
    /// When it was admitted, in milliseconds since 1970.
    admitted_at_ms: i64,
}

/// A media server's legs are in line.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InLine)]
pub(crate) struct SyncedBody {
    /// Legs that ended because they were not listed.
    ended: Vec<String>,
    /// Legs that were listed and are not admitted here.
    unknown: Vec<String>,
}

/// An administrator wants a leg ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Revoked)]
pub(crate) struct RevokedBody {
    /// The leg.
    pub(crate) leg: String,
    /// Its call.
    pub(crate) call: String,
    /// Its media server.
    pub(crate) source: String,
}

/// Whether new calls are taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Draining)]
pub(crate) struct DrainingBody {
    /// They are not.
    pub(crate) draining: bool,
    /// Legs that run.
    pub(crate) legs: u64,
}

/// How the node stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Status)]
pub(crate) struct StatusBody {
    /// Its name; empty before it is known.
    node: String,
    /// How it stands to the pool: `in` contact, `out` of contact, `not_enrolled`, or `grace_expired`.
    #[schema(pattern = "^(in|out|not_enrolled|grace_expired)$")]
    contact: &'static str,
    /// Time since the last contact.
    out_of_contact_ms: i64,
    /// Time in which the node may still decide by itself.
    grace_left_ms: i64,
    /// Legs that run.
    legs: u64,
    /// Of these, granted by the node itself and not recorded by the pool yet.
    optimistic: u64,
    /// Ended legs that the pool has not taken back yet.
    outbox: u64,
    /// Of the legs that run, those an administrator wants ended.
    revoked: u64,
    /// Of the legs that run, those granted before a restart and not named since.
    unconfirmed: u64,
    /// Past events that the pool has not recorded yet.
    past_events: u64,
    /// Past events dropped before the pool had recorded them.
    past_events_dropped: u64,
    /// New calls are not taken.
    draining: bool,
    /// Alarms that are on.
    alarms: Vec<String>,
    /// What the pool last said of each feature.
    pools: Vec<FeatureBody>,
    /// How far the event feed of each machine of a platform was heard.
    feeds: Vec<FeedBody>,
    /// The program's version.
    version: &'static str,
}

/// What the pool last said of a feature.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Feature)]
pub(crate) struct FeatureBody {
    /// The feature.
    feature: String,
    /// Units of all valid licenses.
    capacity: u32,
    /// Units above them that the licenses permit.
    overdraft: u32,
    /// No unit is free.
    full: bool,
}

/// How far a feed was heard.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Feed)]
pub(crate) struct FeedBody {
    /// The machine that tells, as the source of its legs.
    source: String,
    /// Number of the last event.
    seq: u64,
    /// Events that were never heard, or could not be read.
    missed: u64,
    /// Running legs whose end may have been among them.
    in_doubt: u64,
}

/// Why a request was not carried out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// A word for programs: `malformed`, `invalid`, `released`, `revoked`, `conflict`, `unknown_leg`, `too_large`,
    /// `overloaded`, `unavailable`, `internal`, `forbidden`, `not_found` or `method_not_allowed`.
    pub(crate) error: &'static str,
    /// A sentence for people.
    pub(crate) text: String,
    /// The field at fault, with its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}

pub(crate) fn granted(granted: &Granted) -> GrantedBody {
    let leg = |leg: &conferencing_core::GrantedLeg| GrantedLegBody {
        leg: leg.leg.to_string(),
        units: leg.charge.units.0,
        feature: leg.charge.feature.to_string(),
        lease: leg.lease.map(|lease| lease.0),
        owner: leg.owner.as_ref().map(ToString::to_string),
    };
    GrantedBody {
        decision: "granted",
        optimistic: granted.optimistic,
        legs: granted.legs.iter().map(leg).collect(),
    }
}

pub(crate) fn denied(reason: DenialReason) -> DeniedBody {
    DeniedBody { decision: "denied", reason: reason.word(), text: reason.text() }
}

pub(crate) fn verdict(leg: &LegId, verdict: &LegVerdict) -> LegDecisionBody {
    let leg = leg.to_string();
    match verdict {
        LegVerdict::Granted { units, optimistic } => {
            LegDecisionBody::Granted { leg, optimistic: *optimistic, units: units.0 }
        }
        LegVerdict::Denied { reason, units } => {
            LegDecisionBody::Denied { leg, units: units.0, reason: reason.word(), text: reason.text() }
        }
        LegVerdict::Refused { field, text } => {
            LegDecisionBody::Refused { leg, field: field.clone(), text: text.clone() }
        }
        LegVerdict::Released => LegDecisionBody::Released { leg, text: "the leg has ended" },
        LegVerdict::Unknown | LegVerdict::Waiting { .. } => {
            LegDecisionBody::Unknown { leg, text: "no such leg runs here" }
        }
    }
}

pub(crate) fn running(record: &LegRecord, unconfirmed: bool) -> RunningLegBody {
    RunningLegBody {
        leg: record.id().to_string(),
        call: record.call().to_string(),
        source: record.source().to_string(),
        participant: record.running.leg.participant.to_string(),
        units: record.running.charge.units.0,
        feature: record.running.charge.feature.to_string(),
        lease: record.lease.map(|lease| lease.0),
        optimistic: record.optimistic(),
        unconfirmed,
        revoked: record.revoked,
        admitted_at_ms: record.running.admitted_at.0,
    }
}

pub(crate) fn synced(ended: &[LegId], unknown: &[LegId]) -> SyncedBody {
    let words = |legs: &[LegId]| legs.iter().map(ToString::to_string).collect();
    SyncedBody { ended: words(ended), unknown: words(unknown) }
}

pub(crate) fn status(status: &Status) -> StatusBody {
    let feature = |feature: &conferencing_core::status::FeatureStatus| FeatureBody {
        feature: feature.feature.to_string(),
        capacity: feature.capacity,
        overdraft: feature.overdraft,
        full: feature.full,
    };
    let feed = |feed: &conferencing_core::status::FeedStatus| FeedBody {
        source: feed.source.to_string(),
        seq: feed.seq,
        missed: feed.missed,
        in_doubt: feed.in_doubt,
    };
    StatusBody {
        node: status.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        contact: status.contact.word(),
        out_of_contact_ms: status.out_of_contact.0,
        grace_left_ms: status.grace_left.0,
        legs: status.legs,
        optimistic: status.optimistic,
        outbox: status.outbox,
        revoked: status.revoked,
        unconfirmed: status.unconfirmed,
        past_events: status.past,
        past_events_dropped: status.past_dropped,
        draining: status.draining,
        alarms: status.alarms.clone(),
        pools: status.features.iter().map(feature).collect(),
        feeds: status.feeds.iter().map(feed).collect(),
        version: env!("CARGO_PKG_VERSION"),
    }
}
