//! The same as lines, where standard output is no terminal: a line when something changed.

use std::collections::BTreeSet;

use headroom_core::Units;

use crate::picture::{Decision, Picture, time_of_day};

/// Remembers what was said.
#[derive(Debug, Default)]
pub struct Plain {
    pool: String,
    nodes: Vec<String>,
    alarms: BTreeSet<String>,
    newest: Option<Decision>,
}

impl Plain {
    /// The lines that are new in this picture.
    pub fn lines(&mut self, picture: &Picture) -> Vec<String> {
        let mut lines: Vec<String> =
            picture.decisions.iter().take_while(|d| Some(*d) != self.newest.as_ref()).map(decision).collect();
        lines.reverse();
        self.newest = picture.decisions.front().cloned();
        let pool = match &picture.pool {
            Some(p) => format!(
                "calls: {} in use of {}, overdraft {}, over-commit {}, peak {}",
                p.in_use,
                Units(p.capacity),
                p.overdraft,
                p.over_commit,
                p.peak
            ),
            None => "calls: the management node does not answer".to_owned(),
        };
        if pool != self.pool {
            lines.push(pool.clone());
            self.pool = pool;
        }
        let nodes: Vec<String> = picture.nodes.iter().map(node).collect();
        lines.extend(nodes.iter().filter(|n| !self.nodes.contains(n)).cloned());
        self.nodes = nodes;
        let alarms: BTreeSet<String> = picture.alarms.iter().cloned().collect();
        lines.extend(alarms.difference(&self.alarms).map(|a| format!("alarm on: {a}")));
        lines.extend(self.alarms.difference(&alarms).map(|a| format!("alarm off: {a}")));
        self.alarms = alarms;
        lines
    }
}

fn decision(d: &Decision) -> String {
    format!("{} {} {}: {}", time_of_day(d.at_ms), d.node, d.call, d.told)
}

fn node(node: &crate::picture::NodeLine) -> String {
    // the age of a loss of contact changes all the time and is no news
    let contact = if node.contact.starts_with("OUT") { "out of contact" } else { &node.contact };
    let legs = node.legs.map_or("-".to_owned(), |n| n.to_string());
    let cut = if node.cut { ", link cut" } else { "" };
    format!("{} ({}): {contact}, {legs} legs, {} optimistic{cut}", node.name, node.address, node.optimistic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::PoolLine;

    #[test]
    fn what_did_not_change_is_not_said_again() {
        let mut plain = Plain::default();
        let mut picture = Picture { pool: Some(PoolLine::default()), ..Picture::default() };
        assert_eq!(plain.lines(&picture).len(), 1);
        assert!(plain.lines(&picture).is_empty());
        let told =
            |call: &str| Decision { at_ms: 0, node: "n".into(), call: call.into(), told: "granted".into() };
        picture.decisions.push_front(told("1"));
        picture.decisions.push_front(told("2"));
        let lines = plain.lines(&picture);
        assert!(lines[0].ends_with("n 1: granted") && lines[1].ends_with("n 2: granted"), "{lines:?}");
        assert!(plain.lines(&picture).is_empty());
    }
}
