//! Power cuts anywhere in a recording, and the judgement of what the real store makes of what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;
use std::path::Path;

use headroom_core::machine::Machine;
use headroom_core::record;
use headroom_core::time::Millis;
use headroom_shared::committer::{Recovered, recover};
use headroom_shared::disk_log::DiskLog;
use headroom_shared::log::{Log, Sealed};
use headroom_simulator::dice::Dice;
use headroom_tests::write_log::{Entry, Step};

use super::disk::{Cut, Losses};
use super::load;
use super::recording::{Recording, written};

/// As many recordings are cut at the same time.
const THREADS: usize = 2;
/// So many cuts are followed by one after which the store is also used on.
const USED_ON: u64 = 8;

/// The legs that a state holds.
pub(super) trait Legs: Machine {
    fn legs(state: &Self::State) -> BTreeSet<String>;
}

impl Legs for management_core::PoolMachine {
    fn legs(state: &Self::State) -> BTreeSet<String> {
        state.leases.iter().map(|(key, _)| key.leg.to_string()).collect()
    }
}

impl Legs for conferencing_core::Node {
    fn legs(state: &Self::State) -> BTreeSet<String> {
        state.legs.keys().map(ToString::to_string).collect()
    }
}

/// What clients know at one moment: of each leg that was ever asked for, that it runs, that it does not,
/// or neither while there is no answer.
#[derive(Clone, Default)]
struct Known {
    acknowledged: u64,
    /// Records that were written, durable or not.
    written: u64,
    legs: BTreeMap<String, Option<bool>>,
}

impl Known {
    fn step(&mut self, entry: &Entry, store: &Path) {
        match &entry.step {
            Step::Written { data, .. } => {
                self.written = self.written.max(written(entry, store, data).map_or(0, |(number, _)| number));
            }
            Step::Asked(claims) => {
                self.legs.extend(claims.iter().map(|claim| (claim.leg.clone(), None)));
            }
            Step::Answered { sequence, claims } => {
                self.acknowledged = self.acknowledged.max(*sequence);
                self.legs.extend(claims.iter().map(|claim| (claim.leg.clone(), Some(claim.runs))));
            }
            _ => {}
        }
    }

    fn judge(&self, found: &BTreeSet<String>) -> Result<(), String> {
        for (leg, runs) in &self.legs {
            match runs {
                Some(true) if !found.contains(leg) => return Err(format!("{leg} was granted and is lost")),
                Some(false) if found.contains(leg) => return Err(format!("{leg} was ended and is there")),
                _ => {}
            }
        }
        match found.iter().find(|leg| !self.legs.contains_key(*leg)) {
            Some(leg) => Err(format!("{leg} is there and was never asked for")),
            None => Ok(()),
        }
    }
}

/// What came of many cuts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) cuts: u64,
    harsh: u64,
    with: [u64; 4],
    losses: Losses,
    no_store: u64,
    used_on: u64,
    /// Cuts after which a record was gone that nobody had an answer for.
    behind: u64,
    lost: u64,
    refused: u64,
}

impl Figures {
    /// Whether every cut left all that was acknowledged, nothing else, and a store that opens.
    pub(super) fn nothing_lost(&self) -> bool {
        self.cuts > 0 && self.lost == 0 && self.refused == 0
    }

    fn count(&mut self, cut: Cut, losses: Losses) {
        self.cuts += 1;
        self.harsh += u64::from(cut.harsh);
        let kinds = [losses.dropped, losses.torn, losses.hollow, losses.names];
        self.with.iter_mut().zip(kinds).for_each(|(with, kind)| *with += u64::from(kind > 0));
        self.losses += losses;
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.harsh += other.harsh;
        self.with.iter_mut().zip(other.with).for_each(|(with, more)| *with += more);
        self.losses += other.losses;
        self.no_store += other.no_store;
        self.used_on += other.used_on;
        self.behind += other.behind;
        self.lost += other.lost;
        self.refused += other.refused;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [dropped, torn, hollow, names] = self.with;
        let losses = self.losses;
        write!(
            f,
            "{} cuts ({} on a harsh disk): writes dropped in {dropped} ({}), torn in {torn} ({}), only their length \
             kept in {hollow} ({}), changes of names lost in {names} ({}); {} before there was a store, {} lost \
             records nobody had an answer for, {} used on afterwards; cuts that lost something acknowledged or made something up: {}, stores refused: {}",
            self.cuts,
            self.harsh,
            losses.dropped,
            losses.torn,
            losses.hollow,
            losses.names,
            self.no_store,
            self.behind,
            self.used_on,
            self.lost,
            self.refused,
        )
    }
}

/// What came of cuts, and of what they were.
pub(super) struct Report {
    what: String,
    pub(super) figures: Figures,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.figures)
    }
}

/// Cuts a recording so often, at places and in ways that a seed chooses. Whatever goes wrong is printed, and
/// what the first such cut left is kept.
pub(super) fn cut<M: Legs>(recording: &Recording<M>, count: usize, seed: u64) -> Report
where
    M::State: PartialEq,
    Recording<M>: Sync,
{
    let begun = std::time::Instant::now();
    let mut cuts = choose(recording, count, seed);
    cuts.sort_by_key(|cut| cut.at);
    let figures = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let mine: Vec<Cut> = cuts.iter().copied().skip(thread).step_by(THREADS).collect();
                scope.spawn(move || sweep(recording, &mine))
            })
            .collect();
        let mut figures = Figures::default();
        for thread in threads {
            figures += thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        figures
    });
    Report {
        what: format!(
            "{}, {} steps, {} records, seed {seed}, {:.1} s",
            recording.name,
            recording.entries.len(),
            recording.history.records(),
            begun.elapsed().as_secs_f64()
        ),
        figures,
    }
}

/// Half of the cuts are near what happens rarely: names that change, and all that is not records.
pub(super) fn choose<M: Machine>(recording: &Recording<M>, count: usize, seed: u64) -> Vec<Cut> {
    let rare = |entry: &Entry| {
        let naming = matches!(
            entry.step,
            Step::Created | Step::Folder | Step::Removed | Step::Renamed(_) | Step::Length(_)
        );
        naming || entry.path.contains("/snapshots/")
    };
    let rare: Vec<_> = (0..recording.entries.len()).filter(|at| rare(&recording.entries[*at])).collect();
    let mut dice = Dice::new(seed);
    (0..count)
        .map(|_| {
            let at = match dice.index(2) {
                0 if !rare.is_empty() => rare[dice.index(rare.len())] + dice.index(4),
                _ => dice.index(recording.entries.len() + 1),
            };
            let (kept, torn) = match dice.index(5) {
                0 => (0, 0),
                1 => (100, 0),
                2 => (0, 100),
                3 => (dice.index(100), 0),
                _ => {
                    let kept = dice.index(100);
                    (kept, dice.index(101 - kept))
                }
            };
            let harsh = dice.index(2) == 0;
            Cut { at: at.min(recording.entries.len()), harsh, kept, torn, dice: dice.any() }
        })
        .collect()
}

/// Makes the cuts in the order in which they come.
fn sweep<M: Legs>(recording: &Recording<M>, cuts: &[Cut]) -> Figures
where
    M::State: PartialEq,
{
    let (mut disk, mut known, mut done) = (recording.base.clone(), Known::default(), 0);
    let first = recording.history.first();
    known.acknowledged = first;
    if let Some((_, state)) = recording.history.at(first) {
        known.legs.extend(M::legs(state).into_iter().map(|leg| (leg, Some(true))));
    }
    let mut figures = Figures::default();
    for cut in cuts {
        for entry in &recording.entries[done..cut.at] {
            disk.step(entry).expect("it was taken before");
            known.step(entry, &recording.store);
        }
        done = cut.at;
        let folder = folder();
        let losses = disk.after(*cut, recording.entries.get(cut.at), folder.path());
        figures.count(*cut, losses);
        let use_on = figures.cuts % USED_ON == 0;
        // sled may give up in its own way; a service that ends is one that refuses.
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            judge(recording, &folder.path().join(&recording.store), &known, use_on, &mut figures)
        }));
        let judged = judged.unwrap_or_else(|_| Err("refused: it panicked".into()));
        if let Err(why) = judged {
            let refused = why.starts_with("refused");
            figures.refused += u64::from(refused);
            figures.lost += u64::from(!refused);
            let mut step = format!("{:?}", recording.entries.get(cut.at));
            step.truncate(120);
            eprintln!("{}, {cut:?} in {step}, {losses:?}: {why}", recording.name);
            if figures.lost + figures.refused == 1 {
                eprintln!("what is left is kept in {}", folder.keep().display());
            }
        }
    }
    figures
}

/// In memory where there is such a place: thousands of folders are made.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let mut named = tempfile::Builder::new();
    named.prefix("headroom-cut-");
    let made = if memory.is_dir() { named.tempdir_in(memory) } else { named.tempdir() };
    made.expect("a folder")
}

/// Opens what is left as the service does, and compares.
fn judge<M: Legs>(
    recording: &Recording<M>,
    store: &Path,
    known: &Known,
    use_on: bool,
    figures: &mut Figures,
) -> Result<(), String>
where
    M::State: PartialEq,
{
    if !store.exists() {
        figures.no_store += 1;
        if known.acknowledged > 0 {
            return Err(format!("the store is gone, and record {} was acknowledged", known.acknowledged));
        }
    }
    let log = load::open(store).map_err(|error| format!("refused: {error}"))?;
    let recovered = recover::<M>(&log).map_err(|error| format!("refused: {error}"))?;
    let sequence = recovered.head.sequence;
    if sequence < known.acknowledged {
        return Err(format!("it ends at record {sequence}, and {} was acknowledged", known.acknowledged));
    }
    let Some((link, state)) = recording.history.at(sequence) else {
        return Err(format!("it ends at record {sequence}, which was never written"));
    };
    if *link != recovered.head || *state != recovered.state {
        return Err(format!("its state at record {sequence} is not the one that its history makes"));
    }
    known.judge(&M::legs(&recovered.state))?;
    figures.behind += u64::from(sequence < known.written);
    if use_on {
        figures.used_on += 1;
        go_on(log, store, &recovered)?;
    }
    Ok(())
}

/// The store takes records and snapshots, and gives them back.
fn go_on<M: Machine>(log: DiskLog, store: &Path, recovered: &Recovered<M>) -> Result<(), String>
where
    M::State: PartialEq,
{
    let nothing: [M::Event; 0] = [];
    let mut link = recovered.head;
    for _ in 0..2 {
        let after = link;
        let (next, bytes) = record::seal(after, Millis(0), &nothing);
        link = next;
        log.append(&Sealed { after, link, bytes, generation: None }).map_err(|error| error.to_string())?;
        let events: Vec<M::Event> = M::snapshot(&recovered.state).collect();
        log.snapshot(link, &mut events.chunks(64).map(record::seal_chunk))
            .map_err(|error| error.to_string())?;
        log.trim().map_err(|error| error.to_string())?;
    }
    drop(log);
    let log = load::open(store).map_err(|error| format!("refused after it was used: {error}"))?;
    let again = recover::<M>(&log).map_err(|error| format!("refused after it was used: {error}"))?;
    if again.head == link && again.state == recovered.state {
        Ok(())
    } else {
        Err("after it was used, it holds something else".into())
    }
}
