//! Many seeds: one after the other on each processor, some twice, and the figures of all.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use headroom_core::Millis;

use crate::plan::Profile;
use crate::story::Telling;
use crate::world::{Outcome, Violation, World};

/// Of so many seeds one is run twice and must be the same.
const TWICE: u64 = 100;

/// Figures of many seeds.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Seeds.
    pub seeds: u64,
    /// Events carried out.
    pub steps: u64,
    /// Simulated time of all nodes.
    pub node_time: Millis,
    /// Seeds that were run twice.
    pub repeated: u64,
    /// Faults and other happenings by name.
    pub counts: BTreeMap<&'static str, u64>,
}

/// A seed that broke a promise.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The seed.
    pub seed: u64,
    /// What it broke.
    pub violation: Violation,
}

/// How far many seeds have come.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Seeds that are done, or nearly.
    pub done: u64,
    /// The seed that was done just now, if it broke a promise.
    pub failed: Option<&'a Failed>,
}

/// Which worlds.
#[derive(Debug, Clone, Copy)]
pub struct Worlds {
    /// Of this kind only; else of any kind that comes by chance.
    pub only: Option<Profile>,
    /// The first seed.
    pub first: u64,
    /// How many seeds.
    pub count: u64,
}

/// Runs a seed. A panic of a machine is a broken promise too.
#[must_use]
pub fn seed(seed: u64, only: Option<Profile>, telling: Telling) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| World::new(seed, only, telling).run())) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let text = text.unwrap_or_default();
            let violation = Some(Violation { promise: "panic", text, at: Millis(0) });
            let (counts, story) = (BTreeMap::new(), Vec::new());
            Outcome { violation, trace: 0, steps: 0, node_time: Millis(0), counts, story }
        }
    }
}

/// Runs seeds on so many threads, until `failures` of them have broken a promise. `progress` is told
/// after each.
pub fn seeds(
    worlds: Worlds,
    threads: usize,
    failures: usize,
    progress: impl Fn(Progress<'_>) + Sync,
) -> (Figures, Vec<Failed>) {
    let Worlds { only, first, count } = worlds;
    let next = AtomicU64::new(first);
    let end = first.saturating_add(count);
    let all = Mutex::new((Figures::default(), Vec::<Failed>::new()));
    let work = || {
        let mut mine = Figures::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let enough = all.lock().map_or(true, |all| all.1.len() >= failures);
            if number >= end || enough {
                break;
            }
            let failed = one(number, only, &mut mine).map(|violation| Failed { seed: number, violation });
            progress(Progress { done: number - first + 1, failed: failed.as_ref() });
            if let (Some(failed), Ok(mut all)) = (failed, all.lock()) {
                all.1.push(failed);
            }
        }
        if let Ok(mut all) = all.lock() {
            all.0.add(&mine);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let (figures, mut failed) = all.into_inner().unwrap_or_default();
    failed.sort_by_key(|failed| failed.seed);
    (figures, failed)
}

fn one(number: u64, only: Option<Profile>, figures: &mut Figures) -> Option<Violation> {
    let outcome = seed(number, only, Telling::Nothing);
    figures.seeds += 1;
    figures.steps += outcome.steps;
    figures.node_time = figures.node_time.plus(outcome.node_time);
    for (name, count) in &outcome.counts {
        *figures.counts.entry(name).or_default() += count;
    }
    if outcome.violation.is_none() && number.is_multiple_of(TWICE) {
        figures.repeated += 1;
        let again = seed(number, only, Telling::Nothing);
        if again.trace != outcome.trace {
            let text =
                format!("the trace is {:016x}, and the second time {:016x}", outcome.trace, again.trace);
            return Some(Violation { promise: "replay", text, at: Millis(0) });
        }
    }
    outcome.violation
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.node_time = self.node_time.plus(other.node_time);
        self.repeated += other.repeated;
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }
}
