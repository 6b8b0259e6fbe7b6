//! What the command line prints: tables for people, JSON for machines.

use std::io;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use headroom_proto::admin as pb;
use headroom_proto::common;
use headroom_shared::print::{line, word};

fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    line(table.to_string())
}

/// A time as people read it; nothing for 0.
fn time(ms: i64) -> String {
    if ms == 0 {
        return "-".into();
    }
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| format!("{ms} ms"), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn span(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn reason(reason: i32) -> String {
    common::DenialReason::try_from(reason)
        .map_or_else(|_| reason.to_string(), |reason| word(reason.as_str_name(), "DENIAL_REASON_"))
}

fn charge(charge: Option<&common::Charge>) -> String {
    charge.map_or_else(|| "0".into(), |charge| format!("{} {}", charge.units, charge.feature))
}

pub(crate) fn pools(status: &pb::GetPoolStatusResponse) -> io::Result<()> {
    table(
        ["feature", "in use", "capacity", "overdraft", "over-commit", "peak", "peak at", "last full"],
        status.pools.iter().map(|pool| {
            [
                pool.feature.clone(),
                pool.in_use.to_string(),
                pool.capacity.to_string(),
                pool.overdraft.to_string(),
                pool.over_commit.to_string(),
                pool.peak.to_string(),
                time(pool.peak_at_ms),
                time(pool.last_full_at_ms),
            ]
        }),
    )?;
    line(format!("{} leases in {} calls, {} denials so far", status.leases, status.calls, status.denials))?;
    for alarm in &status.alarms {
        line(format!("alarm {} {}: {}", alarm.name, alarm.subject, alarm.text))?;
    }
    Ok(())
}

pub(crate) fn licenses(licenses: &[pb::License]) -> io::Result<()> {
    table(
        ["license", "state", "features", "valid from", "valid until", "sku", "customer"],
        licenses.iter().map(|license| {
            let features = license.features.iter().map(|feature| {
                let overdraft =
                    if feature.overdraft == 0 { String::new() } else { format!("+{}", feature.overdraft) };
                format!("{}={}{overdraft}", feature.feature, feature.quantity)
            });
            [
                license.license.clone(),
                word(license.state().as_str_name(), "LICENSE_STATE_"),
                features.collect::<Vec<_>>().join(", "),
                time(license.not_before_ms),
                time(license.not_after_ms),
                license.sku.clone(),
                license.customer.clone(),
            ]
        }),
    )
}

pub(crate) fn nodes(nodes: &[pb::Node]) -> io::Result<()> {
    table(
        ["node", "session", "leases", "units", "optimistic", "last heard", "lapsed", "enrolled"],
        nodes.iter().map(|node| {
            let name = if node.instance == 0 {
                node.node.clone()
            } else {
                format!("{} (machine {})", node.node, node.instance + 1)
            };
            let session = match node.session() {
                pb::SessionState::Unspecified => "never seen".into(),
                state => word(state.as_str_name(), "SESSION_STATE_"),
            };
            [
                name,
                session,
                node.leases.to_string(),
                node.units.to_string(),
                node.optimistic.to_string(),
                node.silent_ms.map_or_else(|| "-".into(), |ms| format!("{} ago", span(ms))),
                node.lapsed.to_string(),
                time(node.enrolled_at_ms),
            ]
        }),
    )
}

pub(crate) fn calls(calls: &[pb::ActiveCall]) -> io::Result<()> {
    let rows = calls.iter().flat_map(|call| {
        call.legs.iter().map(|leg| {
            let how = match (leg.reserved, leg.adopted) {
                (true, _) => "reserved",
                (_, true) => "adopted",
                _ => "granted",
            };
            [
                call.call.clone(),
                word(call.service().as_str_name(), "SERVICE_"),
                leg.leg.clone(),
                leg.node.clone(),
                charge(leg.charge.as_ref()),
                how.into(),
                leg.participant.clone(),
                time(leg.admitted_at_ms),
            ]
        })
    });
    table(["call", "service", "leg", "node", "holds", "how", "participant", "since"], rows)
}

pub(crate) fn denials(denials: &[pb::DenialRecord]) -> io::Result<()> {
    table(
        ["#", "at", "node", "call", "reason", "needed", "in use", "by"],
        denials.iter().map(|denial| {
            let pool = denial.pool.unwrap_or_default();
            [
                denial.number.to_string(),
                time(denial.at_ms),
                denial.node.clone(),
                denial.call.as_ref().map(|call| call.call.clone()).unwrap_or_default(),
                reason(denial.reason),
                format!("{} {}", denial.units, denial.feature),
                format!("{} of {}", pool.in_use, pool.capacity + pool.overdraft),
                if denial.by_node { "node" } else { "pool" }.into(),
            ]
        }),
    )
}

pub(crate) fn explanations(explanations: &[pb::Explanation]) -> io::Result<()> {
    for (index, explained) in explanations.iter().enumerate() {
        if index > 0 {
            line("")?;
        }
        let call = explained.call.clone().unwrap_or_default();
        let pool = explained.pool.unwrap_or_default();
        let legs: Vec<_> = call.legs.iter().map(|leg| leg.leg.as_str()).collect();
        line(format!("{}  {}", time(explained.at_ms), explained.answer))?;
        line(format!(
            "  request   call {} ({}), {}, from node {}",
            call.call,
            word(call.service().as_str_name(), "SERVICE_"),
            if legs.len() == 1 { format!("leg {}", legs[0]) } else { format!("legs {}", legs.join(", ")) },
            explained.node
        ))?;
        for rating in &explained.rating {
            line(format!("  rating    {rating}"))?;
        }
        line(format!("  needed    {}", charge(explained.charge.as_ref())))?;
        line(format!(
            "  pool      {} in use of {} (capacity {}, overdraft {})",
            pool.in_use,
            pool.capacity + pool.overdraft,
            pool.capacity,
            pool.overdraft
        ))?;
        line(format!("  contact   {}", explained.contact))?;
        for license in &explained.licenses {
            line(format!("  license   {license}"))?;
        }
        if explained.licenses.is_empty() {
            line("  license   none of this feature")?;
        }
        if let Some(denial) = &explained.denial {
            line(format!("  reason    {}: {}", reason(denial.reason), denial.text))?;
        }
        line(format!("  outcome   {}", explained.outcome))?;
    }
    Ok(())
}
