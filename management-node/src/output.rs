//! What the command line prints: tables for people, JSON for machines.

use std::io;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use headroom_core::Units;
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
pub(crate) fn time(ms: i64) -> String {
    if ms == 0 {
        return "-".into();
    }
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| format!("{ms} ms"), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// A day as people read it; nothing for 0.
fn date(ms: i64) -> String {
    time(ms).split(' ').next().unwrap_or_default().to_owned()
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
    if let Some(left) = status.test_mode_left_ms {
        line(format!(
            "*** TEST MODE for {} more minutes: nothing is counted or refused ***",
            left.div_ceil(60_000)
        ))?;
    }
    table(
        ["feature", "in use", "capacity", "overdraft", "over-commit", "peak", "peak at", "last full"],
        status.pools.iter().map(|pool| {
            [
                pool.feature.clone(),
                pool.in_use.to_string(),
                Units(pool.capacity).to_string(),
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

fn feature(feature: &pb::LicensedFeature) -> String {
    let overdraft = if feature.overdraft == 0 { String::new() } else { format!("+{}", feature.overdraft) };
    format!("{}={}{overdraft}", feature.feature, feature.quantity)
}

fn features(features: &[pb::LicensedFeature]) -> String {
    features.iter().map(feature).collect::<Vec<_>>().join(", ")
}

fn license_state(license: &pb::License) -> String {
    let state = word(license.state().as_str_name(), "LICENSE_STATE_");
    if license.trial { format!("{state} (trial)") } else { state }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

pub(crate) fn licenses(licenses: &[pb::License]) -> io::Result<()> {
    table(
        ["license", "state", "features", "in use", "valid from", "valid until", "key"],
        licenses.iter().map(|license| {
            let in_use = license.features.iter().map(|feature| feature.in_use.to_string());
            [
                license.license.clone(),
                license_state(license),
                features(&license.features),
                in_use.collect::<Vec<_>>().join(", "),
                date(license.not_before_ms),
                date(license.not_after_ms),
                or_dash(&license.key),
            ]
        }),
    )?;
    for license in licenses.iter().filter(|license| !license.advice.is_empty()) {
        line(format!("{}: {}", license.license, license.advice))?;
    }
    Ok(())
}

/// One license, a line for each thing that is known of it.
pub(crate) fn license(license: &pb::License) -> io::Result<()> {
    let field = |name: &str, value: String| line(format!("{name:<12} {value}"));
    field("license", license.license.clone())?;
    field("state", license_state(license))?;
    for licensed in &license.features {
        let used = format!(
            "{} ({}): {} units, overdraft {}, {} in use now",
            licensed.feature, licensed.metric, licensed.quantity, licensed.overdraft, licensed.in_use
        );
        field("feature", used)?;
    }
    field("valid from", time(license.not_before_ms))?;
    field("valid until", time(license.not_after_ms))?;
    if license.grace_days > 0 {
        field("grace", format!("{} days after that", license.grace_days))?;
    }
    field("key", or_dash(&license.key))?;
    field("since", time(license.installed_at_ms))?;
    field("sku", or_dash(&license.sku))?;
    field("plan", or_dash(&license.plan))?;
    field("customer", or_dash(&license.customer))?;
    if license.advice.is_empty() { Ok(()) } else { field("to do", license.advice.clone()) }
}

/// Requests that await an answer; nothing when there is none.
pub(crate) fn requests(requests: &[pb::StoredRequest]) -> io::Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    table(
        ["stored request", "kind", "about", "made", "exported", "sent", "trouble"],
        requests.iter().map(|request| {
            let about = [&request.key, &request.license, &request.product];
            let about = about.into_iter().find(|text| !text.is_empty());
            let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
            [
                request.request.clone(),
                request.kind.clone(),
                or_dash(about.map_or("", String::as_str)),
                time(request.created_at_ms),
                yes(request.exported),
                yes(request.sent),
                or_dash(&request.trouble),
            ]
        }),
    )
}

/// What became of what was asked of the licensing server.
pub(crate) fn settlement(settlement: &pb::Settlement) -> io::Result<()> {
    if let Some(stored) = &settlement.stored {
        let why = if stored.trouble.is_empty() { String::new() } else { format!(": {}", stored.trouble) };
        line(format!("the request to {} is stored{why}", stored.kind))?;
        line(
            "next: management-node license export --out request.xml; have it answered; license complete FILE",
        )?;
        return requests(std::slice::from_ref(stored));
    }
    licenses(&settlement.licenses)?;
    for trial in &settlement.trials {
        line(format!(
            "can be tried: {} ({}), with license fetch --trial {}",
            trial.sku,
            features(&trial.features),
            trial.sku
        ))?;
    }
    Ok(())
}

/// The check-up, a line or two a step.
pub(crate) fn check(answer: &pb::CheckLicensesResponse) -> io::Result<()> {
    for step in &answer.steps {
        let result = word(step.result().as_str_name(), "CHECK_RESULT_");
        line(format!("{result:<8} {:<10} {}", step.step, step.text))?;
        if !step.advice.is_empty() {
            line(format!("{:19} do: {}", "", step.advice))?;
        }
    }
    Ok(())
}

pub(crate) fn test_mode(test_mode: &pb::TestMode) -> io::Result<()> {
    if test_mode.on {
        line(format!(
            "TEST MODE is on for {} more minutes: nothing is counted or refused",
            test_mode.left_ms.div_ceil(60_000)
        ))
    } else if test_mode.leases > 0 {
        line(format!("test mode is off; {} leases that were taken in it are still held", test_mode.leases))
    } else {
        line("test mode is off")
    }
}

pub(crate) fn alarms(alarms: &[pb::AlarmRecord]) -> io::Result<()> {
    if alarms.is_empty() {
        return line("no alarm is on");
    }
    table(
        ["alarm", "subject", "raised", "cleared", "text"],
        alarms.iter().map(|alarm| {
            [
                alarm.name.clone(),
                alarm.subject.clone(),
                time(alarm.raised_at_ms),
                time(alarm.cleared_at_ms),
                alarm.text.clone(),
            ]
        }),
    )
}

pub(crate) fn support(lines: &[pb::SupportLine]) -> io::Result<()> {
    for entry in lines {
        line(format!("{}  {:<9}  {}", time(entry.at_ms), entry.about, entry.text))?;
    }
    Ok(())
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
                format!("{} of {}", pool.in_use, Units(pool.capacity.saturating_add(pool.overdraft))),
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
            Units(pool.capacity.saturating_add(pool.overdraft)),
            Units(pool.capacity),
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
