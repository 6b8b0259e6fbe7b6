//! The pool's records, read as they become durable, and what must be true of them. The promises have the
//! numbers of the simulator's oracle.

use std::collections::{BTreeMap, BTreeSet};

use headroom_core::record::{self, Link};
use headroom_core::{Charge, Feature};
use headroom_shared::memory_log::MemoryLog;
use management_core::{EndedHow, Event, HolderId, LeaseKey, Origin};

/// A promise that was not kept, and how.
pub(crate) type Broken = (&'static str, String);

/// What the records say.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The last record that was read.
    read: Link,
    /// Who holds what.
    books: BTreeMap<LeaseKey, Charge>,
    /// Units of `call` in use.
    in_use: u32,
    /// The most there ever were.
    peak: u32,
    /// An over-commit has a cause on record.
    over: bool,
    /// Released by their nodes, which use no id twice.
    released: BTreeSet<LeaseKey>,
    /// Each session's last number.
    numbers: BTreeMap<HolderId, u64>,
    /// Sessions opened.
    sessions: BTreeMap<HolderId, usize>,
    /// Leases by how they came to be, of each leg.
    origins: BTreeMap<LeaseKey, Vec<Origin>>,
    /// Sessions that lapsed.
    lapsed: usize,
}

impl Ledger {
    /// Reads what is new in a log.
    pub(crate) fn follow(&mut self, log: &MemoryLog, limit: u32) -> Result<(), Broken> {
        let stored = log.stored();
        for (_, bytes) in stored.records.range(self.read.sequence + 1..) {
            let opened = record::open::<Event>(self.read, bytes);
            let (link, _, events) = opened.map_err(|error| ("I11", error.to_string()))?;
            self.read = link;
            for event in events {
                self.event(&event, limit)?;
            }
            if self.in_use > limit && !self.over {
                let text = format!("{} units of {limit} are in use without a cause", self.in_use);
                return Err(("I2", text));
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, limit: u32) -> Result<(), Broken> {
        match event {
            Event::LeaseGranted(packed) => {
                let lease = packed.lease();
                let key = LeaseKey { holder: packed.holder(), leg: lease.leg.leg.clone() };
                self.granted(key, lease.charge, lease.origin, limit)?;
            }
            Event::LeaseChanged { key, charge, .. } => {
                let before = self.books.insert(key.clone(), charge.clone());
                let before = before.ok_or_else(|| ("I4", format!("{key:?} changed, and was not held")))?;
                self.in_use = self.in_use - units(&before) + units(charge);
            }
            Event::LeaseEnded { key, how, .. } => {
                let ended = self.books.remove(key);
                let ended = ended.ok_or_else(|| ("I4", format!("{key:?} ended, and was not held")))?;
                self.in_use -= units(&ended);
                if *how == EndedHow::Released {
                    self.released.insert(key.clone());
                }
            }
            Event::Mutated { holder, sequence, .. } => {
                let last = self.numbers.entry(*holder).or_default();
                if *sequence != *last + 1 {
                    return Err(("I4", format!("{holder:?} had number {sequence} decided after {last}")));
                }
                *last = *sequence;
            }
            Event::SessionOpened { holder, .. } => {
                self.numbers.insert(*holder, 0);
                *self.sessions.entry(*holder).or_default() += 1;
            }
            Event::SessionLapsed { .. } => self.lapsed += 1,
            Event::OverCommitBegan { .. } => self.over = true,
            Event::OverCommitEnded { .. } => self.over = false,
            _ => {}
        }
        Ok(())
    }

    fn granted(&mut self, key: LeaseKey, charge: Charge, origin: Origin, limit: u32) -> Result<(), Broken> {
        let more = units(&charge);
        if origin != Origin::Adopted && more > 0 && self.in_use + more > limit {
            let text = format!("{key:?} was granted {more} above {} of {limit}", self.in_use);
            return Err(("I1", text));
        }
        if self.released.contains(&key) {
            return Err(("I5", format!("{key:?} is leased again after its node released it")));
        }
        self.in_use += more;
        self.peak = self.peak.max(self.in_use);
        self.origins.entry(key.clone()).or_default().push(origin);
        match self.books.insert(key.clone(), charge) {
            None => Ok(()),
            Some(_) => Err(("I4", format!("{key:?} is leased twice"))),
        }
    }

    /// Who holds what.
    pub(crate) const fn books(&self) -> &BTreeMap<LeaseKey, Charge> {
        &self.books
    }

    /// Units in use.
    pub(crate) const fn in_use(&self) -> u32 {
        self.in_use
    }

    /// The most units that ever were in use.
    pub(crate) const fn peak(&self) -> u32 {
        self.peak
    }

    /// How many sessions were opened in all.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.values().sum()
    }

    /// How many lapsed.
    pub(crate) const fn lapsed(&self) -> usize {
        self.lapsed
    }

    /// How often, and how, a leg was leased.
    pub(crate) fn origins(&self, leg: &str) -> Vec<Origin> {
        let of_leg = self.origins.iter().filter(|(key, _)| key.leg.as_str() == leg);
        of_leg.flat_map(|(_, origins)| origins.iter().copied()).collect()
    }

    /// How many leases record what a node had decided.
    pub(crate) fn adopted(&self) -> usize {
        self.origins.values().flatten().filter(|origin| **origin == Origin::Adopted).count()
    }

    /// The number of the last record.
    pub(crate) const fn records(&self) -> u64 {
        self.read.sequence
    }
}

fn units(charge: &Charge) -> u32 {
    if charge.feature == Feature::Call { charge.units.0 } else { 0 }
}
