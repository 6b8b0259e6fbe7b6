//! Messages and decisions in a few words, for the story.

use conferencing_core::uplink::Verdict;
use conferencing_core::{Decision, Failure, LegVerdict, Request, Response};
use headroom_core::{Call, LegId, Millis};

use crate::fault::{Fault, Over, Who, Year};

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

/// What a node wants of the pool.
#[must_use]
pub fn wish(request: &Request) -> String {
    match request {
        Request::Open { legs, .. } => format!("open, {} legs run", legs.count),
        Request::Report { legs: named, total, .. } => {
            let complete = if total.is_some() { ", complete" } else { "" };
            format!("report {}{complete}", legs(named.iter().map(|running| &running.leg.leg)))
        }
        Request::Release { legs: named, .. } => format!("release {}", legs(named)),
        Request::Adopt { legs: named, .. } => format!("adopt {}", legs(named.iter().map(|r| &r.leg.leg))),
        Request::Update { legs: named, .. } => {
            format!("update {}", legs(named.iter().map(|(leg, _)| leg)))
        }
        Request::Allocate { calls, .. } => {
            format!("allocate {}", calls.iter().map(call).collect::<Vec<_>>().join(", "))
        }
        Request::Heartbeat { legs, .. } => format!("heartbeat, {} held", legs.count),
    }
}

/// A node's request: what it wants, and the numbers by which the pool knows it.
#[must_use]
pub fn request(request: &Request) -> String {
    let numbers = match request {
        Request::Open { number, .. } => format!("#{number}"),
        Request::Report { session, report, chunk, .. } => format!("{report}.{chunk} in {}", session.number),
        Request::Release { session, sequence, .. }
        | Request::Adopt { session, sequence, .. }
        | Request::Update { session, sequence, .. }
        | Request::Allocate { session, sequence, .. }
        | Request::Heartbeat { session, sequence, .. } => format!("{}/{sequence}", session.number),
    };
    format!("{} ({numbers})", wish(request))
}

/// Whether an answer tells anybody anything: most heartbeats do not.
#[must_use]
pub fn is_news(request: &Request, outcome: &Result<Response, Failure>) -> bool {
    let routine = match outcome {
        Ok(Response::Beaten { revoked, report_required, .. }) => revoked.is_empty() && !report_required,
        // Tried again with a higher number, or later.
        Err(Failure::OpenNumberOld | Failure::Undecided { .. }) => true,
        _ => false,
    };
    !routine || matches!(request, Request::Allocate { .. })
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
        Ok(Response::Reported { complete, revoked, .. }) => {
            let taken = if *complete { "reported" } else { "chunk taken" };
            if revoked.is_empty() { taken.into() } else { format!("{taken}, to be ended: {}", legs(revoked)) }
        }
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

/// What a media server is answered about a leg.
#[must_use]
pub fn verdict_on_leg(verdict: &LegVerdict) -> String {
    match verdict {
        LegVerdict::Granted { units, optimistic: false } => format!("granted, {units} units"),
        LegVerdict::Granted { units, optimistic: true } => {
            format!("granted by the node alone, {units} units")
        }
        LegVerdict::Denied { reason, units } => format!("denied ({}), {units} units stay", reason.word()),
        other => format!("{other:?}"),
    }
}

/// A span in days, hours and so on.
#[must_use]
pub fn span(span: Millis) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    let mut left = span.0;
    let mut parts = Vec::new();
    for (unit, name) in units {
        if left >= unit {
            parts.push(format!("{} {name}", left / unit));
            left %= unit;
        }
    }
    if parts.is_empty() { "no time".into() } else { parts.join(" ") }
}

/// What goes wrong, or is done by an administrator.
#[must_use]
pub fn fault(fault: &Fault, labels: &[String]) -> String {
    let node = |node: &usize| labels.get(*node).cloned().unwrap_or_default();
    let whose = |who: &Who| match who {
        Who::Pool => "the pool".to_owned(),
        Who::Node(at) => node(at),
        Who::Vendor => "the licensing server".to_owned(),
    };
    match fault {
        Fault::Partition { node: at, to_pool, to_node, span: time } => {
            let which = at.as_ref().map_or_else(|| "every node".to_owned(), node);
            let lost = match (to_pool, to_node) {
                (true, true) => "nothing passes between them",
                (true, false) => "requests are lost",
                _ => "answers are lost",
            };
            format!("the way from {which} to the pool is cut for {}: {lost}", span(*time))
        }
        Fault::Flap { node: at, times, each } => {
            format!(
                "the way from {} to the pool comes and goes {times} times, {} each",
                node(at),
                span(*each)
            )
        }
        Fault::Crash { who, down } => format!("{} crashes, and is started after {}", whose(who), span(*down)),
        Fault::Restarts { node: at, times, each } => {
            format!("{} crashes {times} times, every {}", node(at), span(*each))
        }
        Fault::Stall { who, span: time } => {
            format!("the disk of {} finishes nothing for {}", whose(who), span(*time))
        }
        Fault::FailWrite { who } => format!("the next write of {} fails", whose(who)),
        Fault::Backup => "the pool's store is copied".into(),
        Fault::Restore => "the pool goes on from the copy".into(),
        Fault::JumpClock { who, by } => {
            let (word, by) = if *by < 0 { ("back", -by) } else { ("ahead", *by) };
            format!("the wall clock of {} is set {word} by {}", whose(who), span(Millis(by)))
        }
        Fault::PowerOff { who, off, year, .. } => {
            let shows = match year {
                Year::Right => "",
                Year::Y1970 => "; its wall clock will show 1970",
                Year::Y2036 => "; its wall clock will show 2036",
            };
            format!("the machine of {} is off for {}{shows}", whose(who), span(*off))
        }
        Fault::Suspend { node: at, span: time } => {
            format!("the machine of {} sleeps for {}", node(at), span(*time))
        }
        Fault::Pause { node: at, span: time } => {
            format!("the machine of {} is paused for {}, its clocks too", node(at), span(*time))
        }
        Fault::Clone { node: at, span: time } => {
            format!("a copy of the machine of {} runs too for {}", node(at), span(*time))
        }
        Fault::Remove { node: at } => {
            format!("an administrator removes {}, to enrol it anew", node(at))
        }
        Fault::ForceRelease { node: at } => {
            format!("an administrator takes back a lease of {}", node(at))
        }
        Fault::CrashServer { node: at, server } => format!("media server {}.{server} crashes", node(at)),
        Fault::MuteServer { node: at, server, span: time } => {
            format!("media server {0}.{server} cannot reach {0} for {1}", node(at), span(*time))
        }
        Fault::SilentServer { node: at, server } => {
            format!("media server {}.{server} dies and stays away", node(at))
        }
        Fault::Ask { what } => {
            let wish = match what {
                0 | 1 => "a key is activated",
                2 => "a license is returned",
                _ => "the licenses are refreshed",
            };
            wish.to_owned()
        }
        Fault::TestMode { on } => format!("test mode goes {}", if *on { "on" } else { "off" }),
        Fault::Drain { node: at, span: time } => {
            format!("{} is drained for {}", node(at), span(*time))
        }
        Fault::LoseJournal { node: at } => format!("the journal of {} is lost", node(at)),
        Fault::Over(over) => match over {
            Over::PowerOn { who, .. } => format!("the machine of {} is switched on", whose(who)),
            Over::Synchronized(who) => format!("the wall clock of {} is right", whose(who)),
            Over::CloneGone(at) => format!("the machine of {} is switched off for good", node(at)),
            Over::Enrol(at) => format!("{} is to be enrolled", node(at)),
            Over::Undrain(at) => format!("{} takes new calls again", node(at)),
        },
    }
}
