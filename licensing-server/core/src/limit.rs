//! How often one source may fail: guessing keys must cost time.

use std::collections::{BTreeMap, BTreeSet};

use headroom_core::{Millis, Text};

/// Failures that a source has at once.
pub const LIMIT_FAILURES: i64 = 10;
/// After so long it has one more.
pub const LIMIT_EVERY: Millis = Millis::MINUTE;
/// Sources that are remembered. One that is forgotten has all its failures again.
const MAX_SOURCES: usize = 10_000;

/// Failures by source: when each will have all of them back. Forgotten by a restart.
#[derive(Debug, Default)]
pub struct Limits {
    whole_at: BTreeMap<Text, Millis>,
    refused: BTreeSet<Text>,
}

impl Limits {
    /// When a source may ask again, if it may not now.
    #[must_use]
    pub fn wait(&self, source: &Text, boot: Millis) -> Option<Millis> {
        let debt = self.whole_at.get(source)?.since(boot);
        let most = LIMIT_EVERY.times(LIMIT_FAILURES - 1);
        (debt > most).then(|| debt.since(most))
    }

    /// Whether a source is refused for the first time since it last was heard: a line in the audit is
    /// enough for all of them.
    pub fn refuse(&mut self, source: &Text) -> bool {
        self.refused.insert(source.clone())
    }

    /// Counts a failure.
    pub fn failed(&mut self, source: &Text, boot: Millis) {
        self.whole_at.retain(|_, at| *at > boot);
        self.refused.remove(source);
        self.refused.retain(|source| self.whole_at.contains_key(source));
        if self.whole_at.len() >= MAX_SOURCES && !self.whole_at.contains_key(source) {
            // The one that failed least.
            let least = self.whole_at.iter().min_by_key(|(_, at)| **at).map(|(source, _)| source.clone());
            if let Some(least) = least {
                self.whole_at.remove(&least);
            }
        }
        let at = self.whole_at.entry(source.clone()).or_insert(boot);
        *at = (*at).max(boot).plus(LIMIT_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_fails_ten_times_at_once_and_then_once_a_minute() {
        let (mut limits, source) = (Limits::default(), Text::new("192.0.2.1").expect("a text"));
        let mut boot = Millis(5_000);
        for _ in 0..LIMIT_FAILURES {
            assert_eq!(limits.wait(&source, boot), None);
            limits.failed(&source, boot);
        }
        assert_eq!(limits.wait(&source, boot), Some(LIMIT_EVERY));
        assert_eq!(limits.wait(&Text::default(), boot), None, "another source");
        boot = boot.plus(LIMIT_EVERY);
        assert_eq!(limits.wait(&source, boot), None);
        assert!(limits.refuse(&source) && !limits.refuse(&source), "noted once");
        limits.failed(&source, boot);
        assert!(limits.refuse(&source), "and again after it was heard");
        assert_eq!(limits.wait(&source, boot), Some(LIMIT_EVERY));
        boot = boot.plus(LIMIT_EVERY.times(LIMIT_FAILURES));
        limits.failed(&Text::default(), boot);
        assert!(!limits.whole_at.contains_key(&source), "forgotten once it has all its failures back");
    }
}
