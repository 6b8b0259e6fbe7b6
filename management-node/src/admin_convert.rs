//! Between the administration on the wire and the pool's own types.

use headroom_core::{CallId, Feature, Millis, Shared};
use headroom_proto::admin as pb;
use headroom_shared::convert::encode;
use management_core::{
    AlarmKey, AlarmRecord, Denial, EndedHow, Explanation, FeatureLicense, Holder, HolderId, Lease, LiveView,
    Origin, Outcome, OverCommitCause, Phase, Pool, PoolInstant,
};

pub(crate) fn pool(state: &Pool, feature: &Feature, at: Millis) -> pb::Pool {
    let instant = state.instant(feature, at);
    let usage = state.usage.get(feature).copied().unwrap_or_default();
    let cause = match usage.over_commit {
        None => pb::OverCommitCause::Unspecified,
        Some((OverCommitCause::AdoptedLegs, _)) => pb::OverCommitCause::AdoptedLegs,
        Some((OverCommitCause::CapacityShrank, _)) => pb::OverCommitCause::CapacityShrank,
    };
    pb::Pool {
        feature: feature.to_string(),
        capacity: instant.capacity.0,
        overdraft: instant.overdraft.0,
        in_use: instant.in_use.0,
        over_commit: instant.over_commit().0,
        cause: cause.into(),
        over_commit_since_ms: usage.over_commit.map_or(0, |(_, since)| since.0),
        peak: usage.peak.0,
        peak_at_ms: usage.peak_at.0,
        last_full_at_ms: usage.last_full_at.map_or(0, |at| at.0),
    }
}

pub(crate) fn node(state: &Pool, id: HolderId, holder: &Holder, live: &LiveView) -> pb::Node {
    let record = state.nodes.get(&holder.node);
    let removed = record.is_none_or(|record| record.removed_at.is_some());
    let session = match &holder.session {
        _ if removed => pb::SessionState::Removed,
        Some(session) if session.phase == Phase::Active => pb::SessionState::Active,
        Some(_) => pb::SessionState::Reporting,
        None if holder.lapsed.is_some() => pb::SessionState::Lapsed,
        None => pb::SessionState::Unspecified,
    };
    pb::Node {
        node: holder.node.to_string(),
        session: session.into(),
        leases: holder.set.count + holder.reserved,
        units: u64::from(holder.units.0),
        optimistic: live.optimistic.get(&id).copied().unwrap_or(0),
        silent_ms: live.silent.get(&id).map(|silent| silent.0.unsigned_abs()),
        enrolled_at_ms: record.map_or(0, |record| record.enrolled_at.0),
        open_number: holder.open_number,
        lapsed: holder.lapsed.unwrap_or(0),
        instance: holder.instance,
        sequence: holder.session.as_ref().map_or(0, |session| session.sequence),
    }
}

pub(crate) fn leased_leg(state: &Pool, holder: HolderId, lease: &Lease) -> pb::LeasedLeg {
    pb::LeasedLeg {
        leg: lease.leg.leg.to_string(),
        node: state.node_of(holder).map(|node| node.to_string()).unwrap_or_default(),
        lease: lease.id.0,
        charge: Some(encode::charge(&lease.charge)),
        participant: lease.leg.participant.to_string(),
        admitted_at_ms: lease.admitted_at.0,
        adopted: lease.origin == Origin::Adopted,
        reserved: lease.origin == Origin::Reserved,
    }
}

const fn instant(pool: &PoolInstant) -> pb::PoolInstant {
    pb::PoolInstant { in_use: pool.in_use.0, capacity: pool.capacity.0, overdraft: pool.overdraft.0 }
}

pub(crate) fn denial(state: &Pool, number: u64, denial: &Denial) -> pb::DenialRecord {
    pb::DenialRecord {
        number,
        at_ms: denial.at.0,
        node: state.node_of(denial.holder).map(|node| node.to_string()).unwrap_or_default(),
        call: Some(encode::call(&denial.call)),
        reason: encode::denial(denial.reason).reason,
        feature: denial.charge.feature.to_string(),
        units: denial.charge.units.0,
        pool: Some(instant(&denial.pool)),
        by_node: denial.by_node,
        update: denial.update,
    }
}

fn license_line(license: &FeatureLicense) -> String {
    let overdraft = if license.overdraft.is_zero() {
        String::new()
    } else {
        format!(" + {} overdraft", license.overdraft)
    };
    format!("{}: {}{overdraft}, {}", license.license, license.quantity, license.state.word())
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "running",
        Outcome::Refused => "refused",
        Outcome::Ended(EndedHow::Released) => "ended",
        Outcome::Ended(EndedHow::Replaced) => "moved to another leg",
        Outcome::Ended(EndedHow::Lapsed) => "lapsed",
        Outcome::Ended(EndedHow::Forced) => "released by force",
        Outcome::Ended(EndedHow::NotReported) => "ended out of contact",
        Outcome::Ended(EndedHow::NodeRemoved) => "node removed",
        Outcome::Ended(EndedHow::Unclaimed) => "not claimed in time",
    }
}

pub(crate) fn explanation(explained: &Explanation) -> pb::Explanation {
    pb::Explanation {
        at_ms: explained.at.0,
        node: explained.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        call: Some(encode::call(&explained.call)),
        rating: explained.rating.clone(),
        charge: Some(encode::charge(&explained.charge)),
        pool: Some(instant(&explained.pool)),
        contact: explained.contact.to_owned(),
        licenses: explained.licenses.iter().map(license_line).collect(),
        answer: explained.answer.to_owned(),
        denial: explained.reason.map(encode::denial),
        outcome: outcome(explained.outcome).to_owned(),
    }
}

pub(crate) fn minute(minute: i64, reason: headroom_core::DenialReason, count: u64) -> pb::DenialMinute {
    let reason: i32 = encode::denial(reason).reason;
    pb::DenialMinute { minute_ms: minute.saturating_mul(60_000), reason, count }
}

pub(crate) fn service(service: headroom_core::Service) -> i32 {
    encode::service(service).into()
}

pub(crate) fn alarm(key: &AlarmKey, record: &AlarmRecord) -> pb::AlarmRecord {
    pb::AlarmRecord {
        name: key.name.to_string(),
        subject: key.subject.to_string(),
        text: record.text.to_string(),
        raised_at_ms: record.raised_at.0,
        cleared_at_ms: record.cleared_at.map_or(0, |at| at.0),
    }
}

fn denied(state: &Pool, denial: &Denial) -> pb::SupportLine {
    let call = &denial.call;
    let node = state.node_of(denial.holder).map(|node| node.to_string()).unwrap_or_default();
    let who = call.legs.first().map(|leg| leg.participant.to_string()).filter(|who| !who.is_empty());
    let pool = if denial.by_node {
        "by the node alone".into()
    } else {
        format!("{} of {} in use", denial.pool.in_use, denial.pool.limit())
    };
    let text = format!(
        "{}: call {} of {} on {node}, needing {}, {pool}: {}",
        denial.reason,
        call.info.call,
        who.unwrap_or_else(|| "an unnamed participant".into()),
        denial.charge,
        denial.reason.text()
    );
    pb::SupportLine { at_ms: denial.at.0, about: "denial".into(), text }
}

/// The newest lines of the support log, oldest first. With a call, only what is about it.
pub(crate) fn support(
    state: &Pool,
    since: Millis,
    call: Option<&CallId>,
    limit: usize,
) -> Vec<pb::SupportLine> {
    let wanted = |denial: &&Shared<Denial>| {
        denial.at >= since && call.is_none_or(|call| denial.call.info.call == *call)
    };
    let denials = state.denials.values().filter(wanted).map(|denial| denied(state, denial));
    let notes = state.all_notes().filter(|(_, note)| call.is_none() && note.at >= since).map(|(_, note)| {
        pb::SupportLine { at_ms: note.at.0, about: note.about.to_string(), text: note.text.to_string() }
    });
    let mut lines: Vec<_> = denials.chain(notes).collect();
    lines.sort_by_key(|line| line.at_ms);
    lines.split_off(lines.len().saturating_sub(limit))
}
