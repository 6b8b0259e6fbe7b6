//! A machine small enough to know by heart: numbers under keys, and marks in the order decided.

use std::collections::BTreeMap;
use std::sync::Arc;

use headroom_core::machine::{Answer, Class, Machine, Tx};
use headroom_core::record::{self, Link};
use headroom_core::time::{Clock, Millis, Now};
use headroom_shared::committer::{self, Committer, Handle, Options};
use headroom_shared::log::{Log, Sealed};
use minicbor::{Decode, Encode};

pub(crate) struct Toy;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) values: BTreeMap<u32, i64>,
    pub(crate) marks: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Add(u32, i64),
    Read(u32),
    Beat,
    Mark(Class, u32),
    /// Sets so many keys, each with an event of its own.
    Fill(u32),
    /// The history gets another identity.
    Renew(u64),
    Panic,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Event {
    #[n(0)]
    Set(#[n(0)] u32, #[n(1)] i64),
    #[n(1)]
    Marked(#[n(0)] u32, #[n(1)] u32),
}

impl Machine for Toy {
    type State = State;
    type Volatile = ();
    type Command = Command;
    type Event = Event;
    type Reply = i64;

    fn class(command: &Command) -> Class {
        match command {
            Command::Add(..) | Command::Read(_) => Class::Allocate,
            Command::Beat => Class::Heartbeat,
            Command::Mark(class, _) => *class,
            Command::Fill(_) | Command::Renew(_) | Command::Panic => Class::Background,
        }
    }

    fn handle(tx: &mut Tx<'_, Self>, _: Now, command: Command) -> Answer<i64> {
        let value = |tx: &Tx<'_, Self>, key| tx.state().values.get(&key).copied().unwrap_or(0);
        match command {
            Command::Add(key, n) => {
                tx.emit(Event::Set(key, value(tx, key) + n));
                Answer::now(value(tx, key))
            }
            Command::Read(key) => Answer::now(value(tx, key)),
            Command::Beat => Answer::committed(0),
            Command::Mark(class, tag) => {
                tx.emit(Event::Marked(class as u32, tag));
                Answer::now(0)
            }
            Command::Fill(keys) => {
                (0..keys).for_each(|key| tx.emit(Event::Set(key, 1)));
                Answer::now(0)
            }
            Command::Renew(generation) => Answer::renewing(0, generation),
            Command::Panic => panic!("as asked"),
        }
    }

    fn apply(state: &mut State, event: &Event) {
        match *event {
            Event::Set(key, value) => {
                state.values.insert(key, value);
            }
            Event::Marked(class, tag) => state.marks.push((class, tag)),
        }
    }

    fn snapshot(state: &State) -> impl Iterator<Item = Event> + Send + '_ {
        let values = state.values.iter().map(|(key, value)| Event::Set(*key, *value));
        values.chain(state.marks.iter().map(|(class, tag)| Event::Marked(*class, *tag)))
    }
}

/// A clock that stands still: nothing here depends on it.
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { wall: Millis(1_000), boot: Millis(10) }
    }
}

pub(crate) fn start(log: &Arc<impl Log>, options: Options) -> (Handle<Toy>, Committer) {
    committer::start(Arc::clone(log) as Arc<dyn Log>, Arc::new(Still), options).unwrap()
}

/// Appends one record of events that set `key` = its sequence, with `size` events.
pub(crate) fn append(log: &dyn Log, after: Link, size: u32) -> Link {
    let sealed = sealed(after, size);
    log.append(&sealed).unwrap();
    sealed.link
}

pub(crate) fn sealed(after: Link, size: u32) -> Sealed {
    let sequence = i64::try_from(after.sequence + 1).unwrap();
    let events: Vec<Event> = (0..size).map(|key| Event::Set(key, sequence)).collect();
    let (link, bytes) = record::seal(after, Millis(1_000), &events);
    Sealed { after, link, bytes, generation: None }
}

/// Snapshots a state that was recovered at `at`.
pub(crate) fn snapshot(log: &dyn Log, at: Link, state: &State, chunk: usize) {
    let events: Vec<Event> = Toy::snapshot(state).collect();
    log.snapshot(at, &mut events.chunks(chunk).map(record::seal_chunk)).unwrap();
}

/// Lets every task that is ready run, many times over.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
