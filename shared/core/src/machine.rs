//! The shape of every service: a pure machine that a committer owns.
//!
//! [`Machine::handle`] decides and changes the state only by [`Tx::emit`], which applies at once,
//! so that the second command of a batch sees the first. [`Machine::apply`] is the only mutator,
//! also on recovery: replaying the events rebuilds the state.

use minicbor::{Decode, Encode};

use crate::time::Now;

/// Something that can be written to the log and read back by older and newer versions.
pub trait Durable: Encode<()> + for<'b> Decode<'b, ()> + Clone + Send + Sync + 'static {}
impl<T: Encode<()> + for<'b> Decode<'b, ()> + Clone + Send + Sync + 'static> Durable for T {}

/// How soon a command is taken when several wait; lower first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Gives something back.
    Release,
    /// Keeps a session.
    Heartbeat,
    /// Opens a session: somebody waits for it with all that he has to say.
    Session,
    /// Records what already runs.
    Adopt,
    /// Asks for something.
    Allocate,
    /// Carries much at once; at most a quarter of a batch.
    Report,
    /// Everything else: ticks, administration.
    Background,
}

impl Class {
    /// Every class, most urgent first.
    pub const ALL: [Self; 7] = [
        Self::Release,
        Self::Heartbeat,
        Self::Session,
        Self::Adopt,
        Self::Allocate,
        Self::Report,
        Self::Background,
    ];
}

/// The answer to a command.
#[derive(Debug)]
pub struct Answer<R> {
    /// What the asker gets, once everything it depends on is durable.
    pub reply: R,
    /// Whether the answer must prove a durable commit, even when no event was emitted.
    pub commit: bool,
    /// The history gets this identity with the record of this command, because what was handed out
    /// under the one before is not to be trusted any more.
    pub generation: Option<u64>,
}

impl<R> Answer<R> {
    /// An answer that waits for what it depends on.
    pub const fn now(reply: R) -> Self {
        Self { reply, commit: false, generation: None }
    }

    /// An answer that proves a commit made after the command arrived.
    pub const fn committed(reply: R) -> Self {
        Self { reply, commit: true, generation: None }
    }

    /// An answer with which the history gets another identity.
    pub const fn renewing(reply: R, generation: u64) -> Self {
        Self { reply, commit: true, generation: Some(generation) }
    }
}

/// A deterministic state machine.
pub trait Machine: Send + Sync + Sized + 'static {
    /// What survives a restart; only [`Machine::apply`] writes it. Clones must be cheap.
    type State: Clone + Default + Send + Sync + 'static;
    /// What is forgotten by a restart: liveness, who waits.
    type Volatile: Default + Send + 'static;
    /// What is asked.
    type Command: Send + 'static;
    /// What happened.
    type Event: Durable;
    /// What is answered.
    type Reply: Send + 'static;

    /// How urgent a command is.
    fn class(command: &Self::Command) -> Class;

    /// Decides a command.
    fn handle(tx: &mut Tx<'_, Self>, now: Now, command: Self::Command) -> Answer<Self::Reply>;

    /// Applies what happened.
    fn apply(state: &mut Self::State, event: &Self::Event);

    /// The events that rebuild a state from nothing.
    fn snapshot(state: &Self::State) -> impl Iterator<Item = Self::Event> + Send + '_;
}

/// A machine's view while it decides one command.
pub struct Tx<'a, M: Machine> {
    state: &'a mut M::State,
    volatile: &'a mut M::Volatile,
    events: &'a mut Vec<M::Event>,
}

impl<'a, M: Machine> Tx<'a, M> {
    /// A view on parts that the caller owns.
    pub fn new(
        state: &'a mut M::State,
        volatile: &'a mut M::Volatile,
        events: &'a mut Vec<M::Event>,
    ) -> Self {
        Self { state, volatile, events }
    }

    /// The state, with everything emitted so far.
    #[must_use]
    pub fn state(&self) -> &M::State {
        self.state
    }

    /// What a restart forgets, to read.
    #[must_use]
    pub fn volatile(&self) -> &M::Volatile {
        self.volatile
    }

    /// What a restart forgets, to change.
    pub fn volatile_mut(&mut self) -> &mut M::Volatile {
        self.volatile
    }

    /// Applies an event and has it written.
    pub fn emit(&mut self, event: M::Event) {
        M::apply(self.state, &event);
        self.events.push(event);
    }

    /// How many events this batch holds so far.
    #[must_use]
    pub fn emitted(&self) -> usize {
        self.events.len()
    }
}

/// A machine run by hand, for tests and simulations: no log, no tasks.
pub struct Bench<M: Machine> {
    /// The durable state.
    pub state: M::State,
    /// The volatile state.
    pub volatile: M::Volatile,
    /// Every event so far.
    pub events: Vec<M::Event>,
}

impl<M: Machine> Default for Bench<M> {
    fn default() -> Self {
        Self { state: M::State::default(), volatile: M::Volatile::default(), events: Vec::new() }
    }
}

impl<M: Machine> Bench<M> {
    /// Decides one command.
    pub fn run(&mut self, now: Now, command: M::Command) -> M::Reply {
        let mut tx = Tx::new(&mut self.state, &mut self.volatile, &mut self.events);
        M::handle(&mut tx, now, command).reply
    }

    /// What a crash and a restart leave: the events, encoded, decoded and applied again.
    ///
    /// # Panics
    /// When an event does not survive its own encoding, which is what a test wants to know.
    pub fn restart(&mut self) {
        let mut state = M::State::default();
        for event in &self.events {
            let bytes = minicbor::to_vec(event).expect("an event encodes");
            let event: M::Event = minicbor::decode(&bytes).expect("an event decodes");
            M::apply(&mut state, &event);
        }
        self.state = state;
        self.volatile = M::Volatile::default();
    }
}
