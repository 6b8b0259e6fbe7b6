//! Lists of media servers: which legs an administrator wants ended, and which legs run.

use conferencing_core::Command;
use headroom_core::{LegId, Millis};

use crate::media::{ANSWERED_WITHIN, ServerEvent};
use crate::node::Asker;
use crate::world::World;

/// A media server lists its legs so often, and so often when it is unruly.
const LIST_EVERY: (i64, i64) = (30_000, 3_000);
/// A list can be so long on the way.
const LIST_LATE: i64 = 30_000;

impl World {
    /// Reads where the list stands, and which of its legs are to be ended; lists what it runs a moment later.
    pub(crate) fn read(&mut self, at: usize, server: usize) {
        let every = self.list_every();
        let next = self.dice.span(every / 2, every);
        self.server_soon(at, server, next, ServerEvent::Read);
        if !self.reaches(at, server) {
            return;
        }
        let Some(process) = &self.nodes[at].process else { return };
        let as_of = process.shown.counters.revision;
        let source = self.nodes[at].servers[server].source.clone();
        let legs = &process.shown.legs;
        let mine = |leg: &&LegId| legs.get(*leg).is_some_and(|record| *record.source() == source);
        let revoked: Vec<LegId> = process.shown.revoked.iter().filter(mine).cloned().collect();
        if !revoked.is_empty() {
            self.tell(|world| {
                format!(
                    "{}: reads that {} must end",
                    world.server_label(at, server),
                    crate::say::legs(&revoked)
                )
            });
            self.node_submit(at, Command::Told { legs: revoked.clone() }, Asker::Nobody);
            for leg in revoked {
                let after = self.dice.span(0, 5_000);
                // Also one that it does not know any more.
                let known = self.nodes[at].servers[server].running.contains_key(&leg);
                if !known && !self.plan.feeds() {
                    self.oracle.over(at, &leg, self.time);
                    self.nodes[at].servers[server].ending.insert(leg.clone());
                    self.server_soon(at, server, after, ServerEvent::SayEnds);
                }
                self.server_soon(at, server, after, ServerEvent::End(leg));
            }
        }
        // A platform does not say what runs.
        if self.plan.feeds() {
            return;
        }
        // Unruly ones are quick with it: so an answer can be on its way to them.
        let latest = if self.plan.unruly() && self.dice.chance(500) { 30 } else { 400 };
        let after = self.dice.span(0, latest);
        let journal = self.nodes[at].journals;
        self.server_soon(at, server, after, ServerEvent::List(as_of, journal, self.time));
    }

    pub(crate) fn list_every(&self) -> i64 {
        if self.plan.unruly() { LIST_EVERY.1 } else { LIST_EVERY.0 }
    }

    pub(crate) fn list(&mut self, at: usize, server: usize, (as_of, journal): (u64, u64), read: Millis) {
        let mine = &self.nodes[at].servers[server];
        let legs: Vec<LegId> = mine.running.keys().filter(|leg| mine.runs(leg)).cloned().collect();
        // One that took no time to make may leave out what was answered as it was begun.
        let slow = self.plan.unruly() && self.time.since(read) > ANSWERED_WITHIN && self.dice.chance(500);
        if !slow {
            return self.listed(at, server, (as_of, journal), legs);
        }
        let after = self.dice.span(0, LIST_LATE);
        self.server_soon(at, server, after, ServerEvent::Listed(as_of, journal, legs));
    }

    pub(crate) fn listed(
        &mut self,
        at: usize,
        server: usize,
        (as_of, journal): (u64, u64),
        legs: Vec<LegId>,
    ) {
        if journal != self.nodes[at].journals || !self.reaches(at, server) {
            return;
        }
        let source = self.nodes[at].servers[server].source.clone();
        self.speak(at, server, Command::Sync { source, as_of, legs }, Asker::List(server));
    }

    /// Legs that the node does not run: it had been told that they ended, or has forgotten them.
    pub(crate) fn list_heard<'a>(&mut self, at: usize, server: usize, legs: impl Iterator<Item = &'a LegId>) {
        for leg in legs {
            if self.nodes[at].servers[server].running.remove(leg).is_some() {
                self.oracle.over(at, leg, self.time);
                self.oracle.end_heard(at, leg, self.time);
            }
        }
    }
}
