//! What time brings: a process that begins, silent media servers, grants that nobody named.

use headroom_core::{LegId, Millis, NodeName, Now, Tx};

use crate::command::{AskId, Outcome, Reply};
use crate::event::{Event, Why};
use crate::machine::{Node, asked_kernel, reading, save_clock};
use crate::reconcile::{GRANTED_FOR, UNDELIVERED_FOR};
use crate::state::Nonce;
use crate::volatile::{Options, Volatile};
use crate::{admit, asks, feed};
use headroom_core::time::BootId;

/// A grant that nobody named for so long is dropped.
const UNCONFIRMED_FOR: Millis = Millis::MINUTE;
/// Clocks are saved at least so often.
const SAVE: Millis = Millis::MINUTE;
/// At most so much of the time between two commands counts as silence: a machine that was suspended has heard
/// nobody meanwhile, and those who speak with it have to be given time to do so. Less than any silence that has
/// consequences, and more than the second between two ticks.
const MOST_AT_ONCE: Millis = Millis(5_000);
/// A source that was silent for so long raises an alarm.
pub(crate) const SILENT: Millis = Millis(2 * Millis::MINUTE.0);

pub(crate) fn started(
    tx: &mut Tx<'_, Node>,
    now: Now,
    (nonce, boot_id): (Nonce, BootId),
    node: Option<NodeName>,
    synchronized: bool,
    options: Options,
) -> Reply {
    let sources = tx.state().sources.keys().map(|source| (source.clone(), now.boot)).collect();
    let doubted = tx.state().doubtful.iter().map(|leg| (leg.clone(), now.boot)).collect();
    let gaps = feed::in_doubt(tx.state()).into_keys().map(|source| (source, now.boot)).collect();
    let seen = tx.state().counters.seen;
    *tx.volatile_mut() = Volatile {
        boot_id,
        started: now.boot,
        looked: now.boot,
        options,
        sources,
        gaps,
        doubted,
        seen,
        ..Volatile::default()
    };
    asked_kernel(tx.volatile_mut(), now, synchronized);
    tx.emit(Event::Started { nonce, boot_id });
    if let Some(node) = node.filter(|node| tx.state().counters.node.as_ref() != Some(node)) {
        tx.emit(Event::Named { node });
    }
    save_clock(tx, now);
    Reply::Done
}

pub(crate) fn tick(tx: &mut Tx<'_, Node>, now: Now, synchronized: bool) -> Vec<(AskId, Outcome)> {
    asked_kernel(tx.volatile_mut(), now, synchronized);
    let r = reading(tx.volatile(), now);
    let grace = tx.state().counters.grace;
    if grace.stale(&r, SAVE) || (grace.off_since.is_some() && grace.at(&r).off_since.is_none()) {
        save_clock(tx, now);
    }
    orphans(tx, now);
    feed::tick(tx, now);
    unconfirmed(tx, now);
    // Askers expire their questions themselves; this catches those that went away.
    let late = |until: Millis| now.boot.since(until) >= Millis::SECOND;
    let asks = tx.volatile().asks.iter().filter(|(_, ask)| late(ask.until)).map(|(id, _)| *id).collect();
    asks::expire(tx, now, asks)
}

/// Takes the time in which this machine did nothing out of the silence of others, whatever comes first
/// afterwards.
pub(crate) fn stood_still(volatile: &mut Volatile, now: Now) {
    let span = now.boot.since(volatile.looked).since(MOST_AT_ONCE);
    volatile.looked = now.boot;
    if span > Millis(0) {
        let heard = volatile.sources.values_mut().chain(volatile.gaps.values_mut());
        let heard = heard.chain(volatile.doubted.values_mut()).chain(volatile.granted_at.values_mut());
        let again = volatile.asked_again.values_mut().map(|(at, _)| at);
        for at in heard.chain(again).chain([&mut volatile.started]) {
            *at = at.plus(span).min(now.boot);
        }
    }
}

fn orphans(tx: &mut Tx<'_, Node>, now: Now) {
    let (state, volatile) = (tx.state(), tx.volatile());
    let after = volatile.options.orphan_after;
    let silent = |at: &Millis, span: Millis| now.boot.since(*at) >= span;
    let orphaned: Vec<_> = volatile
        .sources
        .iter()
        .filter(|(source, at)| {
            state.sources.contains_key(*source) && silent(at, feed::patience(state, source, after))
        })
        .map(|(source, _)| source.clone())
        .collect();
    for source in orphaned {
        let mine = tx.state().legs.values().filter(|record| *record.source() == source);
        let legs: Vec<LegId> = mine.map(|record| record.id().clone()).collect();
        admit::end(tx, now, legs, Why::Orphaned);
    }
    let state = tx.state().sources.clone();
    tx.volatile_mut().sources.retain(|source, at| state.contains_key(source) || !silent(at, SILENT));
}

fn unconfirmed(tx: &mut Tx<'_, Node>, now: Now) {
    let (state, volatile) = (tx.state(), tx.volatile());
    let mut legs: Vec<LegId> = volatile
        .granted_at
        .iter()
        .filter(|(leg, at)| now.boot.since(**at) >= UNCONFIRMED_FOR && state.undelivered.contains(*leg))
        .map(|(leg, _)| leg.clone())
        .collect();
    if now.boot.since(volatile.started) >= UNCONFIRMED_FOR {
        legs.extend(state.unconfirmed.iter().cloned());
    }
    if !legs.is_empty() {
        admit::end(tx, now, legs, Why::Unconfirmed);
    }
    let undelivered = tx.state().undelivered.clone();
    let recent = |at: Millis| now.boot.since(at) < GRANTED_FOR;
    let volatile = tx.volatile_mut();
    volatile.granted_at.retain(|leg, at| recent(*at) || undelivered.contains(leg));
    volatile.asked_again.retain(|_, (at, _)| now.boot.since(*at) < UNDELIVERED_FOR);
}
