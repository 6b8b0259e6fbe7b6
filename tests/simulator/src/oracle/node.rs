//! The promises of a node, checked after each of its commands.

use conferencing_core::feed::QUIET;
use conferencing_core::machine::reading;
use conferencing_core::uplink::Phase;
use conferencing_core::{Command, Event, FeedEvent, Grace, Happened, Reading, RequestId, State, Why};
use headroom_core::{LegId, Millis, Now};

use super::{Broken, Contact};
use crate::world::World;

/// What a machine's clocks and journal may miss at most: the clocks are saved every minute.
const SAVED_EVERY: Millis = Millis::MINUTE;
/// A grant that nobody named is dropped after a minute up; a tick later, and its write.
const NAMED_WITHIN: Millis = Millis(75_000);
/// Contact is noted at most so often.
const NOTED_EVERY: Millis = Millis(1_100);

/// What a command says, kept for when it is decided.
pub struct NodeStep {
    /// Legs that it names as known to the media server.
    named: Vec<LegId>,
    /// The request that it answers, successfully.
    answered: Option<RequestId>,
    /// A process begins.
    starts: bool,
    /// Time is looked at.
    ticks: bool,
    /// A media server says what runs already.
    tells: bool,
}

impl World {
    /// Looks at a command before it is decided.
    pub(crate) fn node_deciding(&self, at: usize, command: &Command) -> NodeStep {
        let runs = |leg: &LegId| self.state(at).is_some_and(|state| state.legs.contains_key(leg));
        let named = match command {
            // Asked for again, it is known.
            Command::Admit { call, .. } => {
                call.legs.iter().map(|leg| leg.leg.clone()).filter(|leg| runs(leg)).collect()
            }
            Command::Adopt { call } => call.legs.iter().map(|leg| leg.leg.clone()).collect(),
            Command::Feed { event: FeedEvent { what: Happened::LegRuns(call), .. } } => {
                call.legs.iter().map(|leg| leg.leg.clone()).collect()
            }
            Command::Delivered { legs } | Command::Sync { legs, .. } => legs.clone(),
            Command::UpdateLegs { legs } => legs.iter().map(|(_, leg, _)| leg.clone()).collect(),
            _ => Vec::new(),
        };
        let answered = match command {
            Command::Answered { request, outcome: Ok(_), .. } => Some(*request),
            _ => None,
        };
        let (starts, ticks) =
            (matches!(command, Command::Started { .. }), matches!(command, Command::Tick { .. }));
        let tells = matches!(command, Command::Adopt { .. } | Command::Feed { .. });
        NodeStep { named, answered, starts, ticks, tells }
    }

    /// Checks what a command did.
    pub(crate) fn node_decided(&mut self, at: usize, step: &NodeStep, events: &[Event], now: Now) {
        let life = self.nodes[at].lives;
        if step.starts {
            self.oracle.node(at).proofs.clear();
        }
        let named = step.named.iter().map(|leg| (leg.clone(), life));
        self.oracle.node(at).named.extend(named);
        for event in events {
            match event {
                Event::Granted { legs, .. } => {
                    // What takes units over is no new call, and what runs already is not granted.
                    let moves = step.tells || legs.iter().any(|leg| leg.leg.replaces.is_some());
                    for leg in legs {
                        self.oracle.node(at).granted.insert(leg.leg.leg.clone(), life);
                        self.check(self.wanted(at, &leg.leg.leg));
                        if leg.held.is_none() && !moves {
                            self.check(self.within_grace(at, now));
                        }
                    }
                }
                Event::Ended { legs, why, .. } => {
                    for leg in legs {
                        self.check(self.rightly_ended(at, leg, *why));
                    }
                }
                Event::Clock { grace } => self.clock_saved(at, step, grace, now),
                Event::Denied { .. } => self.count("denied by a node alone"),
                Event::Revoked { .. } => self.count("revoked"),
                _ => {}
            }
        }
        self.check(self.age_is_true(at, now));
        self.check(self.leased_or_queued(at));
        if step.ticks {
            self.check(self.named_or_dropped(at, now));
        }
        if step.answered.is_some() {
            self.check(self.held_is_leased(at));
        }
    }

    /// I5: a leg begins only because its media server wants it to.
    fn wanted(&self, at: usize, leg: &LegId) -> Result<(), Broken> {
        let truth = self.oracle.nodes.get(&at);
        let Some(asked) = truth.and_then(|truth| truth.asked.get(leg)) else {
            return Err(("I5", format!("{leg} begins on {at}, and nobody asked for it")));
        };
        match truth.and_then(|truth| truth.heard.get(leg)) {
            Some(heard) if heard > asked && !self.may_be_late(*heard) => {
                Err(("I5", format!("{leg} begins on {at} after the node had heard of its end")))
            }
            _ => Ok(()),
        }
    }

    fn reading(&self, at: usize, now: Now) -> Reading {
        let process = self.nodes[at].process.as_ref();
        process.map(|process| reading(process.volatile(), now)).unwrap_or_default()
    }

    fn state(&self, at: usize) -> Option<&State> {
        self.nodes[at].process.as_ref().map(crate::process::Process::state)
    }

    /// I8: no node grants alone for longer than its grace, by true time.
    fn within_grace(&self, at: usize, now: Now) -> Result<(), Broken> {
        let Some(state) = self.state(at) else { return Ok(()) };
        let grace = state.counters.grace;
        if !grace.had_contact || grace.refused {
            return Err(("I8", format!("{at} grants alone without ever having had contact")));
        }
        let age = grace.at(&self.reading(at, now)).age;
        let Some(truth) = self.oracle.nodes.get(&at) else { return Ok(()) };
        let Some(contact) = truth.contact else { return Ok(()) };
        let most = self.plan.grace.plus(truth.unseen).plus(SAVED_EVERY).plus(NOTED_EVERY);
        let out = self.time.since(contact);
        if age >= self.plan.grace || out > most {
            return Err((
                "I8",
                format!("{at} grants alone {out} after its last contact, by its books {age}"),
            ));
        }
        Ok(())
    }

    fn clock_saved(&mut self, at: usize, step: &NodeStep, grace: &Grace, now: Now) {
        let synchronized = self.nodes[at].host.synchronized && self.reading(at, now).synchronized;
        let truth = self.oracle.node(at);
        truth.unknown = grace.wall_unknown || (truth.unknown && !synchronized);
        // After a boot it is saved before the time off is known.
        if grace.refused || !grace.had_contact || grace.age > Millis(0) || step.starts {
            return;
        }
        let time = self.time;
        let host = &self.nodes[at].host;
        let behind = self.oracle.behind(at, host, time);
        let right = host.synchronized && host.wrong_by == 0 && !grace.wall_unknown;
        let truth = self.oracle.node(at);
        let proved = step.answered.is_some_and(|request| truth.proofs.contains(&request));
        if proved {
            (truth.contact, truth.unseen, truth.stood_still) = (Some(time), Millis(0), Millis(0));
            truth.measured = right;
            truth.noting.push(Contact { grace: *grace, at: time, behind, misled: truth.misled });
        } else if truth.contact.is_some_and(|contact| time.since(contact) > NOTED_EVERY) {
            self.violate("I12", format!("{at} counts as contact what proves no commit"));
        }
    }

    /// What became durable at a node.
    pub(crate) fn node_durable(&mut self, at: usize, events: &[Event]) {
        for event in events {
            let Event::Clock { grace } = event else { continue };
            let truth = self.oracle.node(at);
            if let Some(which) = truth.noting.iter().position(|contact| contact.grace == *grace) {
                truth.noted = truth.noting.drain(..=which).next_back();
            }
        }
    }

    /// I15: the age of grace.
    fn age_is_true(&self, at: usize, now: Now) -> Result<(), Broken> {
        let Some(state) = self.state(at) else { return Ok(()) };
        let grace = state.counters.grace;
        let Some(truth) = self.oracle.nodes.get(&at) else { return Ok(()) };
        let (Some(contact), true) = (truth.contact, grace.had_contact) else { return Ok(()) };
        let reading = self.reading(at, now);
        let age = grace.at(&reading).age;
        let out = self.time.since(contact);
        // A right clock tells how long the machine was off.
        let unseen = if truth.measured && reading.synchronized { truth.stood_still } else { truth.unseen };
        if age.plus(unseen).plus(SAVED_EVERY).plus(NOTED_EVERY) < out {
            return Err(("I15", format!("{at} is out of contact for {out}, by its books for {age}")));
        }
        // A contact that was not durably noted is forgotten by a crash.
        let Some(contact) = truth.noted else { return Ok(()) };
        let noted = self.time.since(contact.at);
        let misled = contact.behind.plus(truth.misled.since(contact.misled));
        if age > noted.plus(misled).plus(NOTED_EVERY) {
            return Err(("I15", format!("{at} is out of contact for {noted}, by its books even for {age}")));
        }
        Ok(())
    }

    /// I7: what a node ends has ended, or its media server has said nothing of it for as long as agreed.
    fn rightly_ended(&self, at: usize, leg: &LegId, why: Why) -> Result<(), Broken> {
        let truth = self.oracle.nodes.get(&at);
        let server = self.nodes[at].servers.iter().find(|server| server.runs(leg));
        let right = match why {
            Why::Told => server.is_none() || truth.is_some_and(|truth| truth.over.contains_key(leg)),
            Why::Replaced => truth.is_some_and(|truth| truth.replaced.contains_key(leg)),
            // It goes on: what follows says where.
            Why::Moved => self.plan.feeds(),
            Why::NotListed => server.is_none(),
            Why::Orphaned => server.is_none_or(|server| {
                let silent = self.time.since(server.spoke).plus(Millis::SECOND.times(5));
                silent >= if self.plan.feeds() { QUIET } else { self.plan.orphan_after }
            }),
            Why::Unconfirmed => {
                let life = self.nodes[at].lives;
                let named = truth.and_then(|truth| truth.named.get(leg)) == Some(&life);
                server.is_none() || !named
            }
        };
        if right { Ok(()) } else { Err(("I7", format!("{at} ended {leg}, which runs ({why:?})"))) }
    }

    /// I9: what was granted before the process began, and nobody is known to have heard of, is dropped.
    fn named_or_dropped(&self, at: usize, now: Now) -> Result<(), Broken> {
        let Some(process) = self.nodes[at].process.as_ref() else { return Ok(()) };
        let up = now.boot.since(process.volatile().started);
        let (Some(truth), true) = (self.oracle.nodes.get(&at), up >= NAMED_WITHIN) else { return Ok(()) };
        let (state, life) = (process.state(), self.nodes[at].lives);
        let unheard = |leg: &&LegId| {
            truth.granted.get(*leg).is_some_and(|of| *of < life) && !truth.named.contains_key(*leg)
        };
        match state.legs.keys().filter(|_| state.legs.len() <= 64).find(unheard) {
            Some(leg) => {
                Err(("I9", format!("{leg} is still held by {at}, and nobody has heard of its grant")))
            }
            None => Ok(()),
        }
    }

    /// I14: a leg that begins because its node granted it runs there.
    pub(crate) fn begins_held(&self, at: usize, leg: &LegId) -> Result<(), Broken> {
        let Some(state) = self.state(at) else { return Ok(()) };
        let truth = self.oracle.nodes.get(&at);
        let replaced = truth.is_some_and(|truth| truth.replaced.contains_key(leg));
        if state.legs.contains_key(leg) || replaced || self.nodes[at].journals > 0 {
            return Ok(());
        }
        Err(("I14", format!("{leg} begins, granted by {at}, which has ended it meanwhile")))
    }

    /// I14: every leg is held as it runs, or is to be brought in line.
    fn leased_or_queued(&self, at: usize) -> Result<(), Broken> {
        let Some(state) = self.state(at).filter(|state| state.legs.len() <= 64) else { return Ok(()) };
        let in_line = |record: &conferencing_core::LegRecord| {
            record.revoked
                || record.held.as_ref() == Some(&record.running.charge)
                || state.unsettled.contains(record.id())
        };
        match state.legs.values().find(|record| !in_line(record)) {
            Some(record) => {
                Err(("I14", format!("{} runs on {at}, is not leased and not queued", record.id())))
            }
            None => Ok(()),
        }
    }

    /// I3 and I14: what a node believes to be held in its current session is held there.
    pub(crate) fn held_is_leased(&self, at: usize) -> Result<(), Broken> {
        let Some(process) = &self.nodes[at].process else { return Ok(()) };
        let Phase::Active(link) = &process.volatile().phase else { return Ok(()) };
        let Some(there) = &self.pool.process else { return Ok(()) };
        if link.session.generation != there.position.generation || self.oracle.reverted {
            return Ok(());
        }
        let pool = there.state();
        let current = pool.holders.iter().find_map(|(id, holder)| {
            let session = holder.session.as_ref().filter(|session| session.number == link.session.number)?;
            Some((*id, session))
        });
        let Some((holder, session)) = current else { return Ok(()) };
        if session.sequence < link.sequence {
            let text =
                format!("{at} has an answer to {}, the pool knows {}", link.sequence, session.sequence);
            return Err(("I3", text));
        }
        let settled = session.sequence == link.sequence && session.phase == management_core::Phase::Active;
        if !settled || process.state().legs.len() > 64 {
            return Ok(());
        }
        for record in process.state().legs.values() {
            let Some(held) = &record.held else { continue };
            let lease = pool.lease(holder, record.id());
            if lease.is_none_or(|lease| lease.charge != *held) && !pool.is_tombstoned(holder, record.id()) {
                return Err((
                    "I14",
                    format!("{at} believes that {} holds {held:?}, and it does not", record.id()),
                ));
            }
        }
        Ok(())
    }
}
