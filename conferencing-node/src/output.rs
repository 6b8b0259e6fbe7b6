//! What the command line prints: tables for people, JSON for machines.

use std::io;

use comfy_table::{Cell, ContentArrangement, Table, presets};
use headroom_proto::admission as pb;
use headroom_proto::common;
use headroom_shared::json;
use headroom_shared::print::{line, word};

fn pretty(value: &serde_json::Value) -> io::Result<()> {
    line(format!("{value:#}"))
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head.iter().map(Cell::new));
    table
}

pub(crate) fn admitted(answer: &pb::AdmitResponse, as_json: bool) -> io::Result<()> {
    if as_json {
        return pretty(&json::of("headroom.admission.v1.AdmitResponse", answer));
    }
    if let Some(denial) = &answer.denial {
        return denied(denial);
    }
    line(if answer.optimistic { "granted by this node alone (the pool did not answer)" } else { "granted" })?;
    let mut legs = table(&["leg", "units", "feature", "lease", "owner"]);
    for leg in &answer.legs {
        let lease = if leg.lease == 0 { "-".to_owned() } else { leg.lease.to_string() };
        legs.add_row([leg.leg.clone(), leg.units.to_string(), leg.feature.clone(), lease, leg.owner.clone()]);
    }
    line(legs.to_string())
}

fn denied(denial: &common::Denial) -> io::Result<()> {
    line(format!("denied: {}", word(denial.reason().as_str_name(), "DENIAL_REASON_")))?;
    line(format!("  the caller is told: {}", denial.text))
}

pub(crate) fn updated(answer: &pb::UpdateLegsResponse, as_json: bool) -> io::Result<()> {
    if as_json {
        return pretty(&json::of("headroom.admission.v1.UpdateLegsResponse", answer));
    }
    for leg in &answer.legs {
        if let Some(fault) = &leg.fault {
            line(format!("{}: {}: {}", leg.leg, fault.field, fault.text))?;
            continue;
        }
        match &leg.denial {
            _ if leg.unknown => line(format!("{}: no such leg runs here", leg.leg))?,
            _ if leg.released => line(format!("{}: has ended", leg.leg))?,
            Some(denial) => denied(denial)?,
            None => {
                let alone = if leg.optimistic { " by this node alone" } else { "" };
                line(format!("{}: granted{alone}, {} units now", leg.leg, leg.units))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn ended(ended: u32, as_json: bool) -> io::Result<()> {
    if as_json {
        return pretty(&serde_json::json!({ "ended": ended }));
    }
    line(format!("ended {ended} {}", if ended == 1 { "leg" } else { "legs" }))
}

pub(crate) fn legs(answer: &pb::ListLegsResponse, as_json: bool) -> io::Result<()> {
    if as_json {
        return pretty(&json::of("headroom.admission.v1.ListLegsResponse", answer));
    }
    let mut legs = table(&["leg", "call", "units", "feature", "source", "participant", "state"]);
    for leg in &answer.legs {
        let states =
            [("optimistic", leg.optimistic), ("unconfirmed", leg.unconfirmed), ("revoked", leg.revoked)];
        let on: Vec<_> = states.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        legs.add_row([
            leg.leg.clone(),
            leg.call.clone(),
            leg.units.to_string(),
            leg.feature.clone(),
            leg.source.clone(),
            leg.participant.clone(),
            if on.is_empty() { "running".into() } else { on.join(", ") },
        ]);
    }
    line(legs.to_string())?;
    line(format!("{} legs as of revision {}", answer.legs.len(), answer.as_of))
}

pub(crate) fn status(answer: &pb::GetStatusResponse, as_json: bool) -> io::Result<()> {
    if as_json {
        return pretty(&json::of("headroom.admission.v1.GetStatusResponse", answer));
    }
    let contact = match answer.contact() {
        pb::Contact::In => "in contact with the pool".to_owned(),
        pb::Contact::Out => format!("out of contact for {}", span(answer.out_of_contact_ms)),
        pb::Contact::NotEnrolled => "not enrolled: no call is admitted".to_owned(),
        pb::Contact::GraceExpired => "grace expired: no new call is admitted".to_owned(),
        pb::Contact::Unspecified => "unknown".to_owned(),
    };
    let mut rows = table(&["", ""]);
    let alarms = if answer.alarms.is_empty() { "none".to_owned() } else { answer.alarms.join(", ") };
    let feed = |feed: &pb::FeedStatus| {
        let pb::FeedStatus { source, seq, missed, in_doubt } = feed;
        format!("{source}: heard up to {seq}, {missed} missed, {in_doubt} legs in doubt")
    };
    let feeds = answer.feeds.iter().map(feed).collect::<Vec<_>>();
    let feeds = if feeds.is_empty() { "none".to_owned() } else { feeds.join("\n") };
    for (name, value) in [
        ("node", answer.node.clone()),
        ("contact", contact),
        ("grace left", span(answer.grace_left_ms)),
        ("legs", answer.legs.to_string()),
        ("optimistic", answer.optimistic.to_string()),
        ("outbox", answer.outbox.to_string()),
        ("revoked", answer.revoked.to_string()),
        ("unconfirmed", answer.unconfirmed.to_string()),
        ("new calls", if answer.draining { "refused: draining" } else { "taken" }.to_owned()),
        ("past events not recorded", answer.past_events.to_string()),
        ("past events dropped", answer.past_events_dropped.to_string()),
        ("feeds", feeds),
        ("alarms", alarms),
        ("version", answer.version.clone()),
    ] {
        rows.add_row([name.to_owned(), value]);
    }
    line(rows.to_string())
}

/// What a drain has come to.
pub(crate) fn drained(draining: bool, legs: u64, as_json: bool) -> io::Result<()> {
    if as_json {
        return pretty(&serde_json::json!({ "draining": draining, "legs": legs }));
    }
    let run = if legs == 1 { "1 leg runs".to_owned() } else { format!("{legs} legs run") };
    line(if draining {
        format!("draining: new calls are refused, {run}")
    } else {
        format!("new calls are taken, {run}")
    })
}

fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
