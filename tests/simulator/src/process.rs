//! One process of a service: its queue, its [`Sequencer`], and what it has shown to the world so far.
//! It dies between any two of its steps; then only its disk is left.

use std::collections::BTreeMap;

use headroom_core::commit::{Closed, Durably, Sequencer};
use headroom_core::machine::{Class, Machine};
use headroom_core::record::Sealed;
use headroom_core::{Now, Position};

use crate::disk::Recovered;

/// A running process. `A` is who waits for an answer.
pub struct Process<M: Machine, A> {
    /// Which of the service's processes it is.
    pub life: u64,
    /// It has been told to look at its queue.
    pub woken: bool,
    /// The record on its way to the disk.
    pub appending: Option<Sealed>,
    /// The published state.
    pub shown: M::State,
    /// Where that stands in the history.
    pub position: Position,
    sequencer: Sequencer<M, Asker<A>>,
    queue: Vec<(Class, M::Command, A)>,
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

/// What became durable: who is answered, and what happened.
pub type Appended<M, A> = (Answers<M, A>, Vec<<M as Machine>::Event>);

impl<M: Machine, A> Process<M, A> {
    /// Begins with what the disk gave back.
    #[must_use]
    pub fn new(life: u64, recovered: Recovered<M>) -> Self {
        let Recovered { state, head, generation } = recovered;
        Self {
            life,
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

    /// A command arrives.
    pub fn push(&mut self, command: M::Command, who: A) {
        self.queue.push((M::class(&command), command, who));
    }

    /// What is to be decided now, most urgent first; at most `most` commands are in one batch.
    pub fn take(&mut self, most: usize) -> Vec<(M::Command, A)> {
        let room = most.saturating_sub(self.sequencer.commands()).min(self.queue.len());
        self.queue.sort_by_key(|(class, ..)| *class);
        self.queue.drain(..room).map(|(_, command, who)| (command, who)).collect()
    }

    /// Commands that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
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
    pub fn close(&mut self) -> Option<Answers<M, A>> {
        match self.sequencer.seal()? {
            Closed::Unchanged { answers, position } => Some(self.answers(answers, position)),
            Closed::Record(sealed) => {
                self.appending = Some(sealed);
                None
            }
        }
    }

    /// The record on its way is durable.
    pub fn appended(&mut self) -> Option<Appended<M, A>> {
        let Durably { state, position, events, answers, .. } = self.sequencer.durable()?;
        (self.shown, self.position) = (state, position);
        self.durable += events.len() as u64;
        Some((self.answers(answers, position), events))
    }

    fn answers(&mut self, answers: Vec<(Asker<A>, M::Reply)>, position: Position) -> Answers<M, A> {
        let saw = answers.iter().filter_map(|(asker, _)| self.saw.remove(&asker.number));
        let early = saw.filter(|saw| *saw > self.durable).count();
        let answers = answers.into_iter().map(|(asker, reply)| (asker.who, reply)).collect();
        Answers { answers, position, early }
    }
}
