//! The node as a machine: commands in, events and answers out.

use headroom_core::{Answer, Class, Machine, Millis, Now, Tx};

use crate::command::{Command, Reply};
use crate::event::Event;
use crate::grace::Reading;
use crate::state::State;
use crate::volatile::Volatile;
use crate::{admit, answer, asks, feed, prepare, reconcile, status, tick};

/// The clocks are saved along with other changes at most so often.
const SAVE_WITH_OTHERS: Millis = Millis::SECOND;

/// A conferencing node.
#[derive(Debug)]
pub struct Node;

/// The kernel is asked every second whether its clock is synchronized; a wall clock that moved by more than
/// this against the boot clock since then was set, and is believed only once the kernel is asked again.
const SET: u64 = 500;

/// All clocks, now.
#[must_use]
pub fn reading(volatile: &Volatile, now: Now) -> Reading {
    let moved = now.booted_at().0.abs_diff(volatile.booted_at.0);
    let synchronized = volatile.synchronized && moved <= SET;
    Reading { boot_id: volatile.boot_id, boot: now.boot, wall: now.wall, synchronized }
}

/// What the kernel says of its clock.
pub(crate) fn asked_kernel(volatile: &mut Volatile, now: Now, synchronized: bool) {
    volatile.synchronized = synchronized;
    volatile.booted_at = now.booted_at();
}

/// Saves the clocks and the age of the last contact.
pub(crate) fn save_clock(tx: &mut Tx<'_, Node>, now: Now) {
    let grace = tx.state().counters.grace.at(&reading(tx.volatile(), now));
    tx.emit(Event::Clock { grace });
}

impl Machine for Node {
    type State = State;
    type Volatile = Volatile;
    type Command = Command;
    type Event = Event;
    type Reply = Reply;

    fn class(command: &Command) -> Class {
        match command {
            // Answers and expiries let people go who wait already.
            Command::Answered { .. } | Command::Expire { .. } | Command::Poll => Class::Heartbeat,
            Command::Delivered { .. } | Command::Told { .. } | Command::Sync { .. } => Class::Adopt,
            // Ends beside admissions, in the order they came: the end of a call that overtakes the admission of
            // its legs finds nothing, and they would stay.
            Command::Admit { .. }
            | Command::Adopt { .. }
            | Command::Feed { .. }
            | Command::Foresee { .. }
            | Command::UpdateLegs { .. }
            | Command::EndLegs { .. }
            | Command::EndCall { .. } => Class::Allocate,
            Command::Started { .. }
            | Command::Alive { .. }
            | Command::Drain { .. }
            | Command::Tick { .. }
            | Command::Status => Class::Background,
        }
    }

    fn handle(tx: &mut Tx<'_, Self>, now: Now, command: Command) -> Answer<Reply> {
        tick::stood_still(tx.volatile_mut(), now);
        let before = tx.emitted();
        let reply = decide(tx, now, command);
        let stale = tx.state().counters.grace.stale(&reading(tx.volatile(), now), SAVE_WITH_OTHERS);
        if tx.emitted() > before && stale {
            save_clock(tx, now);
        }
        Answer::now(reply)
    }

    fn apply(state: &mut State, event: &Event) {
        state.apply(event);
    }

    fn snapshot(state: &State) -> impl Iterator<Item = Event> + Send + '_ {
        state.snapshot()
    }
}

fn decide(tx: &mut Tx<'_, Node>, now: Now, command: Command) -> Reply {
    match command {
        Command::Started { nonce, boot_id, node, synchronized, options } => {
            tick::started(tx, now, (nonce, boot_id), node, synchronized, options)
        }
        Command::Admit { ask, call } => admit::admit(tx, now, ask, call),
        Command::Adopt { call } => Reply::Decided(admit::adopt(tx, now, &call)),
        Command::Feed { event } => feed::feed(tx, now, event),
        Command::Foresee { call } => Reply::Foreseen(admit::foresee(tx, now, call)),
        Command::UpdateLegs { legs } => admit::update_legs(tx, now, legs),
        Command::EndLegs { legs } => asks::end_legs(tx, now, legs),
        Command::EndCall { call } => {
            let running = tx.state().calls.get(&call).map(|legs| legs.iter().cloned().collect::<Vec<_>>());
            let mut legs = running.unwrap_or_default();
            legs.extend(reconcile::asked_of(tx.volatile(), &call));
            asks::end_legs(tx, now, legs)
        }
        Command::Sync { source, as_of, legs } => reconcile::sync(tx, now, &source, as_of, &legs),
        Command::Expire { asks } => Reply::Outcomes(asks::expire(tx, now, asks)),
        Command::Delivered { legs } => {
            admit::delivered(tx, now, &legs);
            Reply::Done
        }
        Command::Told { legs } => {
            let untold = |leg: &_| tx.state().legs.get(leg).is_some_and(|r| r.revoked && !r.told);
            let legs: Vec<_> = legs.into_iter().filter(untold).collect();
            if !legs.is_empty() {
                tx.emit(Event::Told { legs });
                answer::beat_soon(tx.volatile_mut(), now);
            }
            Reply::Done
        }
        Command::Alive { source } => {
            tx.volatile_mut().sources.insert(source, now.boot);
            Reply::Done
        }
        Command::Drain { on } => {
            if tx.state().counters.draining != on {
                tx.emit(Event::Draining { on });
            }
            Reply::Done
        }
        Command::Poll => Reply::Uplink { outcomes: Vec::new(), next: prepare::next(tx, now) },
        Command::Answered { request, outcome, jitter } => {
            let outcomes = answer::answered(tx, now, request, outcome, jitter);
            Reply::Uplink { outcomes, next: prepare::next(tx, now) }
        }
        Command::Tick { synchronized } => Reply::Outcomes(tick::tick(tx, now, synchronized)),
        Command::Status => Reply::Status(Box::new(status::status(tx.state(), tx.volatile(), now))),
    }
}
