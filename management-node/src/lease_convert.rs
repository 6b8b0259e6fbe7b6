//! Between the lease contract on the wire and the pool's own types.

use std::time::Duration;

use headroom_core::Position;
use headroom_proto::lease as pb;
use headroom_shared::convert::{FieldError, decode, encode};
use headroom_shared::status;
use management_core::{
    CallAnswer, Heartbeat, Leased, LegAnswer, Nonce, OpenRequest, Opened, Past, PastEvent, PoolState,
    Refusal, Verdict,
};
use tonic::{Code, Status};

/// Most told legs, and most past events, of one heartbeat.
const MAX_TOLD: usize = 512;
const MAX_PAST: usize = 64;

pub(crate) fn open_request(message: &pb::OpenSessionRequest) -> Result<OpenRequest, FieldError> {
    let predecessor = if message.predecessor.is_empty() {
        None
    } else {
        Some(Nonce(decode::bytes(&message.predecessor, "predecessor")?))
    };
    if message.open_number == 0 {
        return Err(FieldError::new("open_number", "openings are numbered from 1"));
    }
    let legs = decode::required(message.legs.as_ref(), "legs")?;
    Ok(OpenRequest {
        nonce: Nonce(decode::bytes(&message.nonce, "nonce")?),
        predecessor,
        open_number: message.open_number,
        legs: decode::leg_set(legs).map_err(|error| error.within("legs"))?,
    })
}

pub(crate) fn heartbeat(message: &pb::HeartbeatRequest) -> Result<Heartbeat, FieldError> {
    decode::at_most(message.told.len(), MAX_TOLD, "told")?;
    decode::at_most(message.past.len(), MAX_PAST, "past")?;
    let legs = decode::required(message.legs.as_ref(), "legs")?;
    Ok(Heartbeat {
        sequence: message.sequence,
        legs: decode::leg_set(legs).map_err(|error| error.within("legs"))?,
        told: message
            .told
            .iter()
            .enumerate()
            .map(|(index, leg)| decode::id(leg, &format!("told[{index}]")))
            .collect::<Result<_, _>>()?,
        past: message.past.iter().map(past).collect(),
        optimistic: message.optimistic,
    })
}

/// A past event that cannot be read, as from a newer node, must not keep the others from being heard.
fn past(message: &pb::PastEvent) -> Past {
    let what = past_event(message).unwrap_or_else(|error| {
        tracing::warn!(number = message.number, %error, "a past event cannot be read");
        PastEvent::Unreadable
    });
    Past { number: message.number, at: headroom_core::Millis(message.at_ms), what }
}

fn past_event(message: &pb::PastEvent) -> Result<PastEvent, FieldError> {
    Ok(match decode::required(message.event.as_ref(), "event")? {
        pb::past_event::Event::Denial(denial) => {
            let call = decode::required(denial.call.as_ref(), "denial.call")?;
            PastEvent::Denied {
                call: decode::call(call).map_err(|error| error.within("denial.call"))?,
                reason: decode::denial_reason(denial.reason, "denial.reason")?,
            }
        }
        pb::past_event::Event::Ended(ended) => {
            let leg = decode::required(ended.leg.as_ref(), "ended.leg")?;
            PastEvent::Ended(decode::running_leg(leg).map_err(|error| error.within("ended.leg"))?)
        }
    })
}

/// When a node that must wait to report may come back: uniformly 1 to 10 s, longer the more wait.
fn come_back(waiting: usize, limit: usize) -> Duration {
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(10));
    let mut random = [0; 4];
    // Without randomness everybody waits longest.
    let share = match getrandom::fill(&mut random) {
        Ok(()) => f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    let crowd = u32::try_from(waiting.div_ceil(limit.max(1)).max(1)).unwrap_or(u32::MAX);
    (least + (most - least).mul_f64(share)).saturating_mul(crowd)
}

pub(crate) fn opened(opened: Opened, position: Position) -> pb::OpenSessionResponse {
    let millis = |span: headroom_core::Millis| u32::try_from(span.0).unwrap_or(u32::MAX);
    pb::OpenSessionResponse {
        session: Some(pb::Session { generation: position.generation, number: opened.session }),
        node: opened.node.to_string(),
        ttl_ms: millis(opened.settings.session_ttl),
        heartbeat_ms: millis(opened.settings.heartbeat),
        report_required: opened.report_required,
        licenses: licenses(&opened.pools),
        pools: pools(&opened.pools),
        position: Some(encode::position(position)),
    }
}

pub(crate) fn licenses(pools: &[PoolState]) -> Vec<pb::LicenseSummary> {
    pools
        .iter()
        .map(|pool| pb::LicenseSummary {
            feature: pool.feature.to_string(),
            capacity: pool.capacity.0,
            overdraft: pool.overdraft.0,
        })
        .collect()
}

pub(crate) fn pools(pools: &[PoolState]) -> Vec<pb::PoolState> {
    pools.iter().map(|pool| pb::PoolState { feature: pool.feature.to_string(), full: pool.full }).collect()
}

pub(crate) fn lease(leased: &Leased) -> pb::Lease {
    pb::Lease {
        leg: leased.leg.to_string(),
        lease: leased.lease.0,
        charge: Some(encode::charge(&leased.charge)),
        owner: leased.owner.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn refused(field: &str, description: &str) -> pb::Refused {
    pb::Refused { field: field.to_owned(), description: description.to_owned() }
}

pub(crate) fn call_answer(answer: &CallAnswer) -> pb::CallAnswer {
    use pb::call_answer::Answer;
    let verdict = match &answer.verdict {
        Verdict::Granted(leases) => {
            Answer::Granted(pb::Granted { leases: leases.iter().map(lease).collect() })
        }
        Verdict::Denied(reason) => Answer::Denied(encode::denial(*reason)),
        Verdict::Refused { field, description } => Answer::Refused(refused(field, description)),
    };
    pb::CallAnswer { call: answer.call.to_string(), answer: Some(verdict) }
}

pub(crate) fn leg_answer(answer: &LegAnswer) -> pb::LegAnswer {
    use pb::leg_answer::Answer;
    let verdict = match &answer.verdict {
        Verdict::Granted(leased) => Answer::Granted(lease(leased)),
        Verdict::Denied(reason) => Answer::Denied(encode::denial(*reason)),
        Verdict::Refused { field, description } => Answer::Refused(refused(field, description)),
    };
    pb::LegAnswer { leg: answer.leg.to_string(), answer: Some(verdict) }
}

pub(crate) fn leg_names(legs: &[headroom_core::LegId]) -> Vec<String> {
    legs.iter().map(ToString::to_string).collect()
}

/// An answer of another kind than was asked for: a defect, told as such.
pub(crate) fn unexpected(answer: &impl std::fmt::Debug) -> Status {
    Status::internal(format!("an answer of another kind was given: {answer:?}"))
}

/// A refusal as a status whose reason a node acts upon.
pub(crate) fn refusal(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Revoked => status::revoked(),
        Refusal::Unknown => status::reasoned(Code::Unavailable, "UNKNOWN_NODE", text),
        Refusal::SessionStale { .. } | Refusal::SequenceUnknown { .. } => {
            status::precondition(status::SESSION_STALE, text)
        }
        Refusal::Busy { waiting, limit, .. } => status::overloaded(come_back(*waiting, *limit)),
        Refusal::OpenNumberOld { .. } => status::precondition("OPEN_NUMBER_OLD", text),
        Refusal::ReportRequired { .. } | Refusal::ChunkOrder { .. } | Refusal::ReportMismatch { .. } => {
            status::precondition("REPORT_REQUIRED", text)
        }
        Refusal::SequenceOrder { .. } | Refusal::SequenceReused { .. } => {
            status::precondition("SEQUENCE_OLD", text)
        }
        Refusal::NoSuchNode(_) | Refusal::NoSuchLease { .. } => {
            status::reasoned(Code::NotFound, "NOT_FOUND", text)
        }
        Refusal::NodeExists(_) | Refusal::CertificateTaken(_) | Refusal::LicenseExists(_) => {
            status::reasoned(Code::AlreadyExists, "ALREADY_EXISTS", text)
        }
        Refusal::OtherMachine { .. } => status::precondition("OTHER_MACHINE", text),
        Refusal::NoSuchLicense(_) | Refusal::NoSuchRequest => {
            status::reasoned(Code::NotFound, "NOT_FOUND", text)
        }
        Refusal::KeyInstalled(_) => status::reasoned(Code::AlreadyExists, "ALREADY_EXISTS", text),
        Refusal::AnswersNoRequest | Refusal::AnswersOtherMachine => {
            status::precondition("ANSWERS_NO_REQUEST", text)
        }
        Refusal::NotActivated(_)
        | Refusal::NeedsItsAnswer(_)
        | Refusal::MustBeReturned(_)
        | Refusal::TooManyRequests { .. }
        | Refusal::ReturnIsOut(_)
        | Refusal::TestModeOn { .. }
        | Refusal::TestModeHeld { .. } => status::precondition("REFUSED", text),
    }
}
