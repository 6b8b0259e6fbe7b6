//! What the live screen shows: gathered from the public interfaces of the services, twice a second.

use std::collections::{BTreeSet, VecDeque};

use headroom_proto::admission::Contact;
use headroom_proto::{admin, common};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::agent::Agent;
use crate::pool::Pool;

/// How many decisions are kept to be shown.
const KEPT: usize = 50;

/// A node as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeLine {
    /// Its name.
    pub name: String,
    /// Where its media server asks.
    pub address: String,
    /// How it stands to the pool, in words; `no answer` when it does not run.
    pub contact: String,
    /// Legs that run, when it answers.
    pub legs: Option<u64>,
    /// Legs it granted by itself that the pool has not recorded.
    pub optimistic: u64,
    /// Time left to decide alone, in milliseconds, when it answers.
    pub grace_left_ms: Option<u64>,
    /// Its link is cut.
    pub cut: bool,
}

/// A decision and what the caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The node that was asked.
    pub node: String,
    /// The call.
    pub call: String,
    /// What the caller was told.
    pub told: String,
}

impl Decision {
    /// Was it refused? Shown in another colour.
    #[must_use]
    pub fn refused(&self) -> bool {
        !self.told.starts_with("granted")
    }
}

/// Everything that is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// The pool of calls; nothing when the management node does not answer.
    pub pool: Option<PoolLine>,
    /// The licenses, a line each.
    pub licenses: Vec<String>,
    /// The nodes.
    pub nodes: Vec<NodeLine>,
    /// The last decisions, newest first.
    pub decisions: VecDeque<Decision>,
    /// Alarms of the pool and the nodes, a sentence each.
    pub alarms: Vec<String>,
}

/// The pool of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolLine {
    /// Units in use.
    pub in_use: u32,
    /// Units licensed.
    pub capacity: u32,
    /// Units above capacity that are permitted.
    pub overdraft: u32,
    /// Units in use above both.
    pub over_commit: u32,
    /// Why.
    pub cause: &'static str,
    /// The most ever in use.
    pub peak: u32,
    /// Denials so far.
    pub denials: u64,
}

/// A time of day as people read it.
#[must_use]
pub fn time_of_day(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// A span as people read it: `13d 23h`, `4h 05m`, `18 s`.
#[must_use]
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d {:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h {:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m {:02}s", seconds % 60),
        () => format!("{seconds} s"),
    }
}

/// The word of a denial's reason.
#[must_use]
pub fn reason_word(reason: i32) -> String {
    let name = common::DenialReason::try_from(reason).unwrap_or_default().as_str_name();
    name.trim_start_matches("DENIAL_REASON_").to_lowercase()
}

/// Looks again and again, and remembers what was decided.
#[derive(Debug, Default)]
pub struct Watcher {
    decisions: VecDeque<Decision>,
    known_calls: BTreeSet<(String, String)>,
    last_denial: u64,
    last: Picture,
}

impl Watcher {
    /// Takes note of a decision the caller told us of.
    pub fn note(&mut self, node: &str, call: &str, told: &str) {
        let at_ms = Timestamp::now().as_millisecond();
        self.known_calls.insert((node.to_owned(), call.to_owned()));
        self.push(Decision { at_ms, node: node.into(), call: call.into(), told: told.into() });
    }

    fn push(&mut self, decision: Decision) {
        self.decisions.push_front(decision);
        self.decisions.truncate(KEPT);
    }

    /// Asks everyone once. What does not answer is shown as such; licenses stay as last seen.
    pub async fn look(&mut self, pool: &Pool, nodes: &[(Agent, bool)]) -> Picture {
        let mut picture = Picture { licenses: self.last.licenses.clone(), ..Picture::default() };
        if let Ok(status) = pool.status().await {
            let calls = status.pools.iter().find(|p| p.feature == "call").cloned().unwrap_or_default();
            picture.pool = Some(pool_line(&calls, &status));
            picture.alarms.extend(status.alarms.iter().map(|a| format!("{}: {}", a.name, a.text)));
            if let Ok(licenses) = pool.licenses().await {
                picture.licenses = licenses.iter().map(license_line).collect();
            }
            if let Ok(denials) = pool.denials().await {
                self.see_denials(&denials);
            }
        }
        for (agent, cut) in nodes {
            let line = self.see_node(agent, *cut, &mut picture.alarms).await;
            picture.nodes.push(line);
        }
        picture.decisions = self.decisions.clone();
        self.last = picture.clone();
        picture
    }

    /// Denials the pool recorded that no caller told us of.
    fn see_denials(&mut self, denials: &[admin::DenialRecord]) {
        let newest = denials.iter().map(|d| d.number).max().unwrap_or(0);
        let seen = self.last_denial;
        for denial in denials.iter().rev().filter(|d| d.number > seen) {
            let call = denial.call.as_ref().map(|c| c.call.clone()).unwrap_or_default();
            if self.known_calls.contains(&(denial.node.clone(), call.clone())) {
                continue;
            }
            let told = format!("denied, {}", reason_word(denial.reason));
            self.push(Decision { at_ms: denial.at_ms, node: denial.node.clone(), call, told });
        }
        self.last_denial = seen.max(newest);
    }

    async fn see_node(&mut self, agent: &Agent, cut: bool, alarms: &mut Vec<String>) -> NodeLine {
        let address = agent.address().to_string();
        let mut line = NodeLine { name: agent.name.clone(), address, cut, ..NodeLine::default() };
        let (Ok(status), Ok(legs)) = (agent.status().await, agent.legs().await) else {
            line.contact = "no answer".into();
            return line;
        };
        line.contact = match status.contact() {
            Contact::In => "in contact".into(),
            Contact::Out => format!("OUT {}", span(status.out_of_contact_ms)),
            Contact::GraceExpired => "GRACE EXPIRED".into(),
            Contact::NotEnrolled => "NOT ENROLLED".into(),
            Contact::Unspecified => "unknown".into(),
        };
        line.legs = Some(status.legs);
        line.optimistic = status.optimistic;
        line.grace_left_ms = Some(status.grace_left_ms);
        alarms.extend(status.alarms.iter().map(|a| format!("{}: {a}", agent.name)));
        for leg in legs {
            if self.known_calls.insert((agent.name.clone(), leg.call.clone())) {
                let alone = if leg.optimistic { ", optimistic" } else { "" };
                let units = leg.units;
                let told = format!("granted, {units} unit{}{alone}", if units == 1 { "" } else { "s" });
                self.push(Decision {
                    at_ms: leg.admitted_at_ms,
                    node: agent.name.clone(),
                    call: leg.call,
                    told,
                });
            }
        }
        line
    }
}

fn pool_line(pool: &admin::Pool, status: &admin::GetPoolStatusResponse) -> PoolLine {
    PoolLine {
        in_use: pool.in_use,
        capacity: pool.capacity,
        overdraft: pool.overdraft,
        over_commit: pool.over_commit,
        cause: match pool.cause() {
            admin::OverCommitCause::Unspecified => "",
            admin::OverCommitCause::AdoptedLegs => "adopted legs",
            admin::OverCommitCause::CapacityShrank => "capacity shrank",
        },
        peak: pool.peak,
        denials: status.denials,
    }
}

fn license_line(license: &admin::License) -> String {
    let state = license.state().as_str_name().trim_start_matches("LICENSE_STATE_").to_lowercase();
    let features = license.features.iter().map(|f| {
        let more = if f.overdraft > 0 { format!("+{}", f.overdraft) } else { String::new() };
        format!("{} {}{more}", f.quantity, f.feature)
    });
    let until = match license.not_after_ms {
        0 => "no end".to_owned(),
        end => format!("until {}", Timestamp::from_millisecond(end).unwrap_or_default().strftime("%Y-%m-%d")),
    };
    format!("{}: {}, {state}, {until}", license.license, features.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        let texts: Vec<String> = [18_000, 125_000, 14_700_000, 1_209_599_000].into_iter().map(span).collect();
        assert_eq!(texts, ["18 s", "2m 05s", "4h 05m", "13d 23h"]);
    }

    #[test]
    fn a_denial_a_caller_told_us_of_is_shown_once() {
        let mut watcher = Watcher::default();
        watcher.note("node-a", "call-11", "insufficient_licenses: full");
        let denial = |number, call: &str| admin::DenialRecord {
            number,
            node: "node-a".into(),
            call: Some(common::Call { call: call.into(), ..Default::default() }),
            reason: 1,
            ..Default::default()
        };
        watcher.see_denials(&[denial(2, "other"), denial(1, "call-11")]);
        watcher.see_denials(&[denial(2, "other"), denial(1, "call-11")]);
        let told: Vec<_> = watcher.decisions.iter().map(|d| d.told.as_str()).collect();
        assert_eq!(told, ["denied, insufficient_licenses", "insufficient_licenses: full"]);
    }
}
