//! Between the lease contract's messages and the machine's types.

use conferencing_core::uplink::{PoolLease, Pools, Verdict};
use conferencing_core::{Failure, PastEvent, PastKind, Request, Response, Session};
use headroom_core::{DenialReason, Feature, LeaseId, LegId, Media, Millis, Position};
use headroom_proto::{common, lease as pb};
use headroom_shared::convert::{FieldError, decode, encode};
use headroom_shared::status;
use tonic::{Code, Status};

/// Milliseconds that a session lives without a heartbeat, when the pool does not say.
const TTL: u32 = 120_000;

type Result<T> = std::result::Result<T, FieldError>;

pub(crate) fn session(session: Session) -> Option<pb::Session> {
    Some(pb::Session { generation: session.generation, number: session.number })
}

fn position(position: Position) -> Option<common::Position> {
    (position != Position::default()).then(|| encode::position(position))
}

pub(crate) fn ids(legs: &[LegId]) -> Vec<String> {
    legs.iter().map(ToString::to_string).collect()
}

pub(crate) fn open(request: &Request) -> Option<pb::OpenSessionRequest> {
    let Request::Open { nonce, predecessor, number, legs, seen } = request else { return None };
    Some(pb::OpenSessionRequest {
        nonce: nonce.0.to_vec(),
        predecessor: predecessor.map(|nonce| nonce.0.to_vec()).unwrap_or_default(),
        open_number: *number,
        legs: Some(encode::leg_set(legs)),
        seen: position(*seen),
    })
}

pub(crate) fn updates(legs: &[(LegId, Media)]) -> Vec<pb::LegUpdate> {
    let update = |(leg, media): &(LegId, Media)| pb::LegUpdate {
        leg: leg.to_string(),
        media: Some(encode::media(*media)),
    };
    legs.iter().map(update).collect()
}

pub(crate) fn past(event: &PastEvent) -> pb::PastEvent {
    let what = match &event.what {
        PastKind::Denied { call, reason } => pb::past_event::Event::Denial(pb::PastDenial {
            call: Some(encode::call(call)),
            reason: encode::denial_reason(*reason).into(),
        }),
        PastKind::Ended { leg } => {
            pb::past_event::Event::Ended(pb::PastLeg { leg: Some(encode::running_leg(leg)) })
        }
    };
    pb::PastEvent { number: event.number, at_ms: event.at.0, event: Some(what) }
}

fn pools(states: &[pb::PoolState], position: Option<common::Position>) -> Result<Pools> {
    let one = |state: &pb::PoolState| Ok((decode::id::<Feature>(&state.feature, "feature")?, state.full));
    Ok(Pools {
        full: decode::items(states, "pools", one)?,
        position: position.map(decode::position).unwrap_or_default(),
    })
}

fn licenses(summaries: &[pb::LicenseSummary]) -> Result<Vec<(Feature, u32, u32)>> {
    decode::items(summaries, "licenses", |license| {
        Ok((decode::id(&license.feature, "feature")?, license.capacity, license.overdraft))
    })
}

fn lease(lease: &pb::Lease) -> Result<PoolLease> {
    Ok(PoolLease {
        leg: decode::id(&lease.leg, "leg")?,
        lease: LeaseId(lease.lease),
        charge: decode::charge(decode::required(lease.charge.as_ref(), "charge")?)?,
        owner: decode::optional_id(&lease.owner, "owner")?,
    })
}

fn leg_ids(legs: &[String], field: &str) -> Result<Vec<LegId>> {
    decode::items(legs, field, |leg| decode::id(leg, ""))
}

pub(crate) fn opened(answer: &pb::OpenSessionResponse) -> Result<Response> {
    let session = decode::required(answer.session, "session")?;
    Ok(Response::Opened {
        session: Session { generation: session.generation, number: session.number },
        node: decode::id(&answer.node, "node")?,
        ttl: Millis(i64::from(if answer.ttl_ms == 0 { TTL } else { answer.ttl_ms.clamp(1_000, 3_600_000) })),
        heartbeat: Millis(i64::from(answer.heartbeat_ms.clamp(100, 600_000))),
        report_required: answer.report_required,
        licenses: licenses(&answer.licenses)?,
        pools: pools(&answer.pools, answer.position)?,
    })
}

pub(crate) fn reported(answer: &pb::ReportResponse) -> Result<Response> {
    let revoked = leg_ids(&answer.revoked, "revoked")?;
    Ok(Response::Reported { complete: answer.complete, revoked, pools: pools(&[], answer.position)? })
}

pub(crate) fn released(answer: &pb::ReleaseResponse) -> Result<Response> {
    Ok(Response::Released { pools: pools(&answer.pools, answer.position)? })
}

pub(crate) fn adopted(answer: &pb::AdoptResponse) -> Result<Response> {
    Ok(Response::Adopted {
        leases: decode::items(&answer.leases, "leases", lease)?,
        revoked: leg_ids(&answer.revoked, "revoked")?,
        pools: pools(&answer.pools, answer.position)?,
    })
}

fn denied<T>(denial: &common::Denial) -> Verdict<T> {
    // A newer pool may have reasons that this node does not know, and a denial is one whatever its
    // reason: an answer that could not be read would permit the call. The pool has written down the
    // true reason; here the caller is told that it may work later, which is wrong least often.
    let reason = decode::denial_reason(denial.reason, "reason");
    Verdict::Denied(reason.unwrap_or(DenialReason::InsufficientLicenses))
}

fn refused<T>(refused: &pb::Refused) -> Verdict<T> {
    // The path begins at the node's request; whoever asked only knows his own call or leg.
    let field = match refused.field.split_once("].") {
        Some((first, rest)) if first.starts_with("calls[") => rest.to_owned(),
        _ => refused.field.clone(),
    };
    Verdict::Refused { field, text: refused.description.clone() }
}

pub(crate) fn updated(answer: &pb::UpdateResponse) -> Result<Response> {
    let verdict = |answer: &pb::LegAnswer| match decode::required(answer.answer.as_ref(), "answer")? {
        pb::leg_answer::Answer::Granted(granted) => lease(granted).map(Verdict::Granted),
        pb::leg_answer::Answer::Denied(denial) => Ok(denied(denial)),
        pb::leg_answer::Answer::Refused(refusal) => Ok(refused(refusal)),
    };
    Ok(Response::Updated {
        verdicts: decode::items(&answer.answers, "answers", verdict)?,
        pools: pools(&answer.pools, answer.position)?,
    })
}

pub(crate) fn allocated(answer: &pb::AllocateResponse) -> Result<Response> {
    let verdict = |answer: &pb::CallAnswer| match decode::required(answer.answer.as_ref(), "answer")? {
        pb::call_answer::Answer::Granted(granted) => {
            decode::items(&granted.leases, "leases", lease).map(Verdict::Granted)
        }
        pb::call_answer::Answer::Denied(denial) => Ok(denied(denial)),
        pb::call_answer::Answer::Refused(refusal) => Ok(refused(refusal)),
    };
    Ok(Response::Allocated {
        verdicts: decode::items(&answer.answers, "answers", verdict)?,
        pools: pools(&answer.pools, answer.position)?,
    })
}

pub(crate) fn beaten(answer: &pb::HeartbeatResponse) -> Result<Response> {
    Ok(Response::Beaten {
        revoked: leg_ids(&answer.revoked, "revoked")?,
        report_required: answer.report_required,
        past_recorded: answer.past_recorded,
        licenses: licenses(&answer.licenses)?,
        pools: pools(&answer.pools, answer.position)?,
    })
}

/// What a refusal means for the uplink.
pub(crate) fn failure(error: &Status) -> Failure {
    let reason = status::reason(error).unwrap_or_default();
    match error.code() {
        Code::FailedPrecondition => match reason.as_str() {
            "OPEN_NUMBER_OLD" => Failure::OpenNumberOld,
            // A report that did not add up, or one that is due: it begins again.
            "REPORT_REQUIRED" | "REPORT_MISMATCH" | "CHUNK_ORDER" => Failure::ReportRequired,
            // A new session settles everything else.
            _ => Failure::Stale,
        },
        Code::PermissionDenied if reason == status::REVOKED => Failure::Revoked,
        Code::InvalidArgument => {
            let field = status::field(error).unwrap_or_else(|| FieldError {
                field: "request".into(),
                description: error.message().into(),
            });
            Failure::Invalid { field: field.field, text: field.description }
        }
        _ => {
            let after = status::retry_after(error);
            let millis = |d: std::time::Duration| Millis(i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
            Failure::Undecided { retry_after: after.map(millis) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_for_a_reason_that_is_not_known_here_is_a_denial() {
        for reason in [0, 1, 999] {
            let denial = common::Denial { reason, text: String::new() };
            let call = pb::CallAnswer {
                call: "c".into(),
                answer: Some(pb::call_answer::Answer::Denied(denial.clone())),
            };
            let leg = pb::LegAnswer { leg: "a".into(), answer: Some(pb::leg_answer::Answer::Denied(denial)) };
            let calls = pb::AllocateResponse { answers: vec![call], ..Default::default() };
            let legs = pb::UpdateResponse { answers: vec![leg], ..Default::default() };
            let full = DenialReason::InsufficientLicenses;
            let Ok(Response::Allocated { verdicts, .. }) = allocated(&calls) else { panic!("unreadable") };
            assert_eq!(verdicts, [Verdict::Denied(full)]);
            let Ok(Response::Updated { verdicts, .. }) = updated(&legs) else { panic!("unreadable") };
            assert_eq!(verdicts, [Verdict::Denied(full)]);
        }
    }

    #[test]
    fn the_life_of_a_session_is_read_and_has_a_default() {
        for (given, read) in [(0, 120_000), (2_000, 2_000), (1, 1_000)] {
            let answer = pb::OpenSessionResponse {
                session: Some(pb::Session::default()),
                node: "a".into(),
                ttl_ms: given,
                ..Default::default()
            };
            let Ok(Response::Opened { ttl, .. }) = opened(&answer) else { panic!("unreadable") };
            assert_eq!(ttl, Millis(read));
        }
    }
}
