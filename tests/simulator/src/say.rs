//! Messages and decisions in a few words, for the story.

use conferencing_core::uplink::Verdict;
use conferencing_core::{Decision, Failure, Request, Response};
use headroom_core::{Call, LegId};

/// Names, with spaces between them; of many only the first.
pub fn legs<'a>(legs: impl IntoIterator<Item = &'a LegId>) -> String {
    let names: Vec<_> = legs.into_iter().map(ToString::to_string).collect();
    match names.len() {
        0 => "nothing".into(),
        1..=8 => names.join(" "),
        more => format!("{} … ({more})", names[..6].join(" ")),
    }
}

/// A call and its legs.
#[must_use]
pub fn call(call: &Call) -> String {
    let named = call.legs.iter().take(6).map(|leg| {
        let owner = leg.owner.as_ref().map(|owner| format!("@{owner}")).unwrap_or_default();
        let old = leg.replaces.as_ref().map(|old| format!(" for {old}")).unwrap_or_default();
        format!("{}{owner}{old}", leg.leg)
    });
    let more = if call.legs.len() > 6 { format!(" … ({})", call.legs.len()) } else { String::new() };
    format!("{} [{}{more}]", call.info.call, named.collect::<Vec<_>>().join(" "))
}

/// A node's request.
#[must_use]
pub fn request(request: &Request) -> String {
    match request {
        Request::Open { number, legs, .. } => format!("open #{number}, {} legs run", legs.count),
        Request::Report { session, report, chunk, legs: named, total } => format!(
            "report {report}.{chunk} in {}: {}{}",
            session.number,
            legs(named.iter().map(|running| &running.leg.leg)),
            if total.is_some() { ", complete" } else { "" }
        ),
        Request::Release { session, sequence, legs: named } => {
            format!("release {}/{sequence}: {}", session.number, legs(named))
        }
        Request::Adopt { session, sequence, legs: named } => {
            format!("adopt {}/{sequence}: {}", session.number, legs(named.iter().map(|r| &r.leg.leg)))
        }
        Request::Update { session, sequence, legs: named } => {
            format!("update {}/{sequence}: {}", session.number, legs(named.iter().map(|(leg, _)| leg)))
        }
        Request::Allocate { session, sequence, calls } => {
            let calls: Vec<_> = calls.iter().map(call).collect();
            format!("allocate {}/{sequence}: {}", session.number, calls.join(", "))
        }
        Request::Heartbeat { session, sequence, legs, .. } => {
            format!("heartbeat {}/{sequence}, {} held", session.number, legs.count)
        }
    }
}

fn verdict<T>(verdict: &Verdict<T>) -> String {
    match verdict {
        Verdict::Granted(_) => "granted".into(),
        Verdict::Denied(reason) => format!("denied ({})", reason.word()),
        Verdict::Refused { text, .. } => format!("refused ({text})"),
    }
}

fn verdicts<T>(all: &[Verdict<T>]) -> String {
    all.iter().map(verdict).collect::<Vec<_>>().join(", ")
}

/// The pool's answer.
#[must_use]
pub fn outcome(outcome: &Result<Response, Failure>) -> String {
    match outcome {
        Err(failure) => failure.to_string(),
        Ok(Response::Opened { session, report_required, .. }) => {
            let report = if *report_required { ", report" } else { "" };
            format!("session {}{report}", session.number)
        }
        Ok(Response::Reported { complete, .. }) => if *complete { "reported" } else { "chunk taken" }.into(),
        Ok(Response::Released { .. }) => "released".into(),
        Ok(Response::Adopted { leases, revoked, .. }) => {
            format!("adopted {}, to be ended: {}", legs(leases.iter().map(|l| &l.leg)), legs(revoked))
        }
        Ok(Response::Updated { verdicts: all, .. }) => verdicts(all),
        Ok(Response::Allocated { verdicts: all, .. }) => verdicts(all),
        Ok(Response::Beaten { revoked, report_required, .. }) => {
            let report = if *report_required { ", report" } else { "" };
            format!("beaten{report}, to be ended: {}", legs(revoked))
        }
    }
}

/// What a media server is answered.
#[must_use]
pub fn decision(asked: &Call, decision: &Decision) -> String {
    let about = call(asked);
    match decision {
        Decision::Granted(granted) if granted.optimistic => format!("{about} granted by the node alone"),
        Decision::Granted(_) => format!("{about} granted"),
        Decision::Denied(reason) => format!("{about} denied: {}", reason.word()),
        Decision::Conflict(conflict) => format!("{about}: {conflict}"),
        Decision::Refused { text, .. } => format!("{about}: {text}"),
    }
}
