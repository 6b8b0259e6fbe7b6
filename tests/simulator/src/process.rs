//! One process of a service: its queue, its [`Sequencer`], and what it has shown to the world so far.
//! It dies between any two of its steps; then only its disk is left. What all services do alike is here;
//! when each step happens is theirs.

use std::collections::BTreeMap;

use headroom_core::commit::{Closed, Durably, Sequencer};
use headroom_core::machine::{Class, Machine};
use headroom_core::record::Sealed;
use headroom_core::{Millis, Now, Position};

use crate::dice::Dice;
use crate::disk::{Disk, Recovered};
use crate::oracle::Broken;

/// A running process. `A` is who waits for an answer.
pub struct Process<M: Machine, A> {
    /// Which of the service's processes it is.
    pub life: u64,
    /// It has asked what the time brings, and waits for the answer before it asks again.
    pub ticking: bool,
    /// It has been told to look at its queue.
    woken: bool,
    /// The record on its way to the disk.
    appending: Option<Sealed>,
    /// The published state.
    pub shown: M::State,
    /// Where that stands in the history.
    pub position: Position,
    sequencer: Sequencer<M, Asker<A>>,
    /// What waits to be looked at, and since when.
    queue: Vec<(Class, M::Command, A, Millis)>,
    /// Events decided, and durable.
    decided: u64,
    durable: u64,
    /// Commands decided.
    asked: u64,
    /// By command that is not answered yet: events decided with it and before.
    saw: BTreeMap<u64, u64>,
}

struct Asker<A> {
    who: A,
    number: u64,
}

/// Answers that go out, and whether one of them depends on what is not durable.
pub struct Answers<M: Machine, A> {
    /// Who is answered what.
    pub answers: Vec<(A, M::Reply)>,
    /// The durable position.
    pub position: Position,
    /// Answers that depend on more events than are durable.
    pub early: usize,
}

/// A record that became durable.
pub struct Written<M: Machine, A> {
    /// Who is answered.
    pub answers: Answers<M, A>,
    /// What happened.
    pub events: Vec<M::Event>,
}

/// What becomes of a batch.
pub enum Closing<M: Machine, A> {
    /// A record is on its way already: the batch stays open.
    Busy,
    /// Nothing is to be written, and these are answered.
    Answered(Answers<M, A>),
    /// A record is on its way to the disk now.
    Writing,
}

/// What a process left behind, for the next one to find.
pub struct Left<M: Machine> {
    /// The state: what was shown, with the record on its way if that is on the disk.
    pub state: M::State,
    /// Where it stands.
    pub position: Position,
    /// What that record says happened.
    pub events: Vec<M::Event>,
}

impl<M: Machine, A> Process<M, A> {
    /// Begins with what the disk gave back.
    #[must_use]
    pub fn new(life: u64, recovered: Recovered<M>) -> Self {
        let Recovered { state, head, generation } = recovered;
        Self {
            life,
            ticking: false,
            woken: false,
            appending: None,
            shown: state.clone(),
            position: Position { generation, sequence: head.sequence },
            sequencer: Sequencer::new(state, head, generation),
            queue: Vec::new(),
            decided: 0,
            durable: 0,
            asked: 0,
            saw: BTreeMap::new(),
        }
    }

    /// A command arrives. Whether the process has to be told to look at its queue.
    #[must_use]
    pub fn submit(&mut self, command: M::Command, who: A, at: Millis) -> bool {
        self.queue.push((M::class(&command), command, who, at));
        !std::mem::replace(&mut self.woken, true)
    }

    /// What is to be decided now, most urgent first, and since when it waits; at most `most` commands are in one
    /// batch.
    pub fn take(&mut self, most: usize) -> Vec<(M::Command, A, Millis)> {
        self.woken = false;
        let room = most.saturating_sub(self.sequencer.commands()).min(self.queue.len());
        self.queue.sort_by_key(|(class, ..)| *class);
        self.queue.drain(..room).map(|(_, command, who, since)| (command, who, since)).collect()
    }

    /// Whether the process has to be told to look at its queue again: commands wait that the batch before had
    /// no room for.
    #[must_use]
    pub fn goes_on(&mut self) -> bool {
        !self.queue.is_empty() && !std::mem::replace(&mut self.woken, true)
    }

    /// Number of the last record that was sealed, durable or not.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.sequencer.link().sequence
    }

    /// The state as decided.
    #[must_use]
    pub fn state(&self) -> &M::State {
        self.sequencer.state()
    }

    /// What a restart forgets.
    #[must_use]
    pub fn volatile(&self) -> &M::Volatile {
        self.sequencer.volatile()
    }

    /// Decides a command; answers what happened by it. An answer may depend on everything that was
    /// decided until then.
    pub fn decide(&mut self, now: Now, command: M::Command, who: A) -> &[M::Event] {
        let before = self.sequencer.events().len();
        self.asked += 1;
        self.sequencer.decide(now, command, Asker { who, number: self.asked });
        self.decided += (self.sequencer.events().len() - before) as u64;
        self.saw.insert(self.asked, self.decided);
        &self.sequencer.events()[before..]
    }

    /// Closes the batch, when nothing is in flight.
    pub fn close(&mut self) -> Closing<M, A> {
        match self.sequencer.seal() {
            None => Closing::Busy,
            Some(Closed::Unchanged { answers, position }) => {
                Closing::Answered(self.answers(answers, position))
            }
            Some(Closed::Record(sealed)) => {
                self.appending = Some(sealed);
                Closing::Writing
            }
        }
    }

    /// The disk has written the record on its way, and a snapshot when one is due after `every` records;
    /// `None` when there was no record.
    ///
    /// # Errors
    /// A promise of the sequencer that was not kept.
    pub fn written(&mut self, disk: &mut Disk, every: u64) -> Result<Option<Written<M, A>>, Broken> {
        let Some(sealed) = self.appending.take() else { return Ok(None) };
        let written = self.append(disk, sealed)?;
        if disk.since_snapshot() >= every {
            disk.snapshot::<M>(&self.shown);
        }
        Ok(Some(written))
    }

    /// The process dies. Of the record on its way nobody knows whether it is on the disk.
    ///
    /// # Errors
    /// A promise of the sequencer that was not kept.
    pub fn die(mut self, disk: &mut Disk, dice: &mut Dice) -> Result<Left<M>, Broken> {
        let mut events = Vec::new();
        if let Some(sealed) = self.appending.take()
            && dice.chance(500)
        {
            events = self.append(disk, sealed)?.events;
        }
        Ok(Left { state: self.shown, position: self.position, events })
    }

    fn append(&mut self, disk: &mut Disk, sealed: Sealed) -> Result<Written<M, A>, Broken> {
        if !disk.append(sealed) {
            return Err(("I11", "a record does not follow the one before".into()));
        }
        let Some(Durably { state, position, events, answers, .. }) = self.sequencer.durable() else {
            return Err(("I13", "a record became durable that nobody sealed".into()));
        };
        (self.shown, self.position) = (state, position);
        self.durable += events.len() as u64;
        Ok(Written { answers: self.answers(answers, position), events })
    }

    fn answers(&mut self, answers: Vec<(Asker<A>, M::Reply)>, position: Position) -> Answers<M, A> {
        let saw = answers.iter().filter_map(|(asker, _)| self.saw.remove(&asker.number));
        let early = saw.filter(|saw| *saw > self.durable).count();
        let answers = answers.into_iter().map(|(asker, reply)| (asker.who, reply)).collect();
        Answers { answers, position, early }
    }
}
