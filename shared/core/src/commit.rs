//! In which order commands are decided, made durable, shown and answered: the committer without its
//! tasks, threads and disks.
//!
//! - [`Sequencer::decide`] decides into the open batch. Commands see everything decided before them;
//!   nobody else does until it is durable.
//! - [`Sequencer::seal`] closes the batch, only while no record is in flight. So every answer, also one
//!   without events, has waited for each record that could have influenced it, and for its own batch.
//! - [`Sequencer::durable`] says that the record in flight is on the disk: only now its state may be
//!   shown and its askers answered.
//!
//! A batch that neither changed anything nor must prove a commit becomes no record. Nothing is ever taken
//! back: whoever cannot make a record durable throws the sequencer away and recovers.

use crate::machine::{Machine, Tx};
use crate::record::{self, Link, Position, Sealed};
use crate::time::Now;

/// A machine's own part of a service, ahead of what is durable by at most two batches. `A` is how an
/// asker gets its answer.
pub struct Sequencer<M: Machine, A> {
    generation: u64,
    state: M::State,
    volatile: M::Volatile,
    /// The last sealed record, durable or in flight.
    link: Link,
    open: Batch<M, A>,
    flying: Option<Flying<M, A>>,
}

/// Decided commands that are not sealed yet.
struct Batch<M: Machine, A> {
    now: Now,
    commit: bool,
    generation: Option<u64>,
    events: Vec<M::Event>,
    answers: Vec<(A, M::Reply)>,
}

impl<M: Machine, A> Default for Batch<M, A> {
    fn default() -> Self {
        Self { now: Now::default(), commit: false, generation: None, events: Vec::new(), answers: Vec::new() }
    }
}

/// A record on its way to the disk, and what happens once it is there.
struct Flying<M: Machine, A> {
    state: M::State,
    now: Now,
    bytes: usize,
    events: Vec<M::Event>,
    answers: Vec<(A, M::Reply)>,
}

/// What is to be done with a closed batch.
pub enum Closed<M: Machine, A> {
    /// Nothing changed, and nothing is in flight: the askers are answered at once.
    Unchanged {
        /// Who is answered what.
        answers: Vec<(A, M::Reply)>,
        /// The durable position.
        position: Position,
    },
    /// A record is to be appended. [`Sequencer::durable`] says that it was.
    Record(Sealed),
}

/// A record that became durable.
pub struct Durably<M: Machine, A> {
    /// The state with it.
    pub state: M::State,
    /// Its place in the history.
    pub position: Position,
    /// When it was decided.
    pub time: Now,
    /// What happened.
    pub events: Vec<M::Event>,
    /// Its size.
    pub bytes: usize,
    /// Who is answered what.
    pub answers: Vec<(A, M::Reply)>,
}

impl<M: Machine, A> Sequencer<M, A> {
    /// Goes on from a recovered state, which stands at `link` of the history `generation`.
    #[must_use]
    pub fn new(state: M::State, link: Link, generation: u64) -> Self {
        Self {
            generation,
            state,
            volatile: M::Volatile::default(),
            link,
            open: Batch::default(),
            flying: None,
        }
    }

    /// Decides a command. Its answer comes with its batch.
    pub fn decide(&mut self, now: Now, command: M::Command, asker: A) {
        self.open.now = now;
        let mut tx = Tx::new(&mut self.state, &mut self.volatile, &mut self.open.events);
        let answer = M::handle(&mut tx, now, command);
        self.open.commit |= answer.commit;
        self.open.generation = answer.generation.or(self.open.generation);
        self.open.answers.push((asker, answer.reply));
    }

    /// Commands in the open batch.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.open.answers.len()
    }

    /// What happened in the open batch.
    #[must_use]
    pub fn events(&self) -> &[M::Event] {
        &self.open.events
    }

    /// The state as decided, which may be ahead of what is durable: not to be shown to anybody.
    #[must_use]
    pub fn state(&self) -> &M::State {
        &self.state
    }

    /// What a restart forgets.
    #[must_use]
    pub fn volatile(&self) -> &M::Volatile {
        &self.volatile
    }

    /// A record was sealed and is not durable yet.
    #[must_use]
    pub fn is_flying(&self) -> bool {
        self.flying.is_some()
    }

    /// Where the chain stands with the last sealed record, durable or in flight.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link
    }

    /// Closes the open batch; `None` while a record is in flight.
    pub fn seal(&mut self) -> Option<Closed<M, A>> {
        if self.flying.is_some() {
            return None;
        }
        let batch = std::mem::take(&mut self.open);
        if batch.events.is_empty() && !batch.commit {
            let position = self.position();
            return Some(Closed::Unchanged { answers: batch.answers, position });
        }
        let after = self.link;
        let (link, bytes) = record::seal(after, batch.now.wall, &batch.events);
        self.link = link;
        self.generation = batch.generation.unwrap_or(self.generation);
        self.flying = Some(Flying {
            state: self.state.clone(),
            now: batch.now,
            bytes: bytes.len(),
            events: batch.events,
            answers: batch.answers,
        });
        Some(Closed::Record(Sealed { after, link, bytes, generation: batch.generation }))
    }

    /// The record in flight is durable; `None` when there is none.
    pub fn durable(&mut self) -> Option<Durably<M, A>> {
        let Flying { state, now, bytes, events, answers } = self.flying.take()?;
        Some(Durably { state, position: self.position(), time: now, events, bytes, answers })
    }

    fn position(&self) -> Position {
        Position { generation: self.generation, sequence: self.link.sequence }
    }
}
