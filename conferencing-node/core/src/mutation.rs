//! Which mutation goes to the pool next, and what is in it.

use std::collections::BTreeSet;

use headroom_core::call::MAX_LEGS;
use headroom_core::rating::rate;
use headroom_core::{Charge, LegId, Media, Now, Tx};

use crate::asks;
use crate::command::AskId;
use crate::event::Which;
use crate::machine::Node;
use crate::state::LegRecord;
use crate::turn::Turn;
use crate::uplink::{CallItem, LegItem, Link, Load, Request};
use crate::volatile::{Ask, Kind, Question, Singly, Volatile};
use crate::weight::Room;

pub(crate) fn next(tx: &mut Tx<'_, Node>, link: Link, now: Now) -> Option<(Request, Load)> {
    let order = tx.volatile().turns.order();
    let (turn, prepared) = order.into_iter().find_map(|turn| Some((turn, batch(tx, turn, link, now)?)))?;
    tx.volatile_mut().turns.sent(turn);
    Some(prepared)
}

/// Prepares a mutation. Items are sent alone only until those of the refused request are through, or
/// nothing of the kind is left.
fn batch(tx: &mut Tx<'_, Node>, turn: Turn, link: Link, now: Now) -> Option<(Request, Load)> {
    let prepared = match turn {
        Turn::Release => release(tx, link),
        Turn::Adopt => adopt(tx, link),
        Turn::Decrease | Turn::Change => update(tx, link, turn),
        Turn::Allocate => allocate(tx, link, now),
    };
    let kind = turn.kind();
    // Changes can be left when there are no decreases.
    if let Some(singly) = tx.volatile().singly.filter(|singly| singly.kind == kind)
        && (prepared.is_some() || turn != Turn::Decrease)
    {
        let left = if prepared.is_some() { singly.left.saturating_sub(1) } else { 0 };
        tx.volatile_mut().singly = (left > 0).then_some(Singly { left, ..singly });
    }
    prepared
}

fn limit(volatile: &Volatile, kind: Kind) -> usize {
    if volatile.singly.is_some_and(|singly| singly.kind == kind) { 1 } else { MAX_LEGS }
}

/// Legs whose end the pool is to hear of: those that it may hold, and those that it wants ended and
/// that do not run here. One of these that runs meanwhile is in the books like any other.
fn owed<'a>(tx: &'a Tx<'_, Node>) -> impl Iterator<Item = Which> + 'a {
    let (state, volatile) = (tx.state(), tx.volatile());
    let ended = state.ending.iter().map(|(leg, ending)| (leg, ending.revision));
    let absent = |leg: &&LegId| !state.legs.contains_key(*leg) && !state.ending.contains_key(*leg);
    ended
        .chain(volatile.unknown.iter().filter(absent).map(|leg| (leg, 0)))
        .filter(|(leg, _)| !volatile.stuck.contains(*leg))
        .map(|(leg, revision)| Which { leg: leg.clone(), revision })
}

fn release(tx: &mut Tx<'_, Node>, link: Link) -> Option<(Request, Load)> {
    let which: Vec<_> = owed(tx).take(limit(tx.volatile(), Kind::Release)).collect();
    if which.is_empty() {
        return None;
    }
    for ask in tx.volatile_mut().asks.values_mut() {
        ask.ripe = true;
    }
    let legs = which.iter().map(|w| w.leg.clone()).collect();
    let request = Request::Release { session: link.session, sequence: link.sequence + 1, legs };
    Some((request, Load::Release(which)))
}

/// Unsettled legs that can be told to the pool now: its earlier lease of the same id, if any, has
/// been given back.
fn unsettled<'a>(tx: &'a Tx<'_, Node>) -> impl Iterator<Item = &'a LegRecord> {
    let (state, volatile) = (tx.state(), tx.volatile());
    state
        .unsettled
        .iter()
        .filter(|leg| !state.ending.contains_key(*leg) && !volatile.stuck.contains(*leg))
        .filter_map(|leg| state.legs.get(leg).map(AsRef::as_ref))
}

/// A smaller charge is an update; everything else the pool does not know yet is an adoption.
fn is_decrease(record: &LegRecord) -> bool {
    !record.redescribed
        && record.held.as_ref().is_some_and(|h| {
            h.feature == record.running.charge.feature && record.running.charge.units < h.units
        })
}

fn adopt(tx: &Tx<'_, Node>, link: Link) -> Option<(Request, Load)> {
    let mut room = Room::new(limit(tx.volatile(), Kind::Adopt));
    let (state, volatile) = (tx.state(), tx.volatile());
    // A transfer moves its units: they are given back first, or a full pool would count them twice for a moment.
    let owes_its_own = |r: &&LegRecord| {
        let old = r.running.leg.replaces.as_ref();
        old.is_some_and(|old| state.ending.contains_key(old) && !volatile.stuck.contains(old))
    };
    let records: Vec<_> = unsettled(tx)
        .filter(|r| !is_decrease(r) && !owes_its_own(r))
        .take_while(|r| room.take(1, &r.running))
        .collect();
    if records.is_empty() {
        return None;
    }
    let load = records.iter().map(|r| (r.which(), r.call().clone(), r.running.charge.clone())).collect();
    let legs = records.iter().map(|r| r.running.clone()).collect();
    let request = Request::Adopt { session: link.session, sequence: link.sequence + 1, legs };
    Some((request, Load::Adopt(load)))
}

type Change = (LegItem, Media);

fn decreases(tx: &Tx<'_, Node>) -> impl Iterator<Item = Change> {
    unsettled(tx)
        .filter(|record| is_decrease(record))
        .map(|record| (item(record, None, record.running.charge.clone()), record.running.leg.media))
}

/// One change of a leg at a time, and none before the pool knows the leg.
fn changes(tx: &Tx<'_, Node>) -> impl Iterator<Item = Change> {
    let legs = &tx.state().legs;
    let mut named = BTreeSet::new();
    ripe(tx).filter_map(move |(ask, waiting)| {
        let Question::Leg { leg, media } = &waiting.what else { return None };
        let record = legs.get(leg).filter(|record| !record.unsettled())?;
        let charge = rate(&record.running.info, record.running.leg.protocol, *media);
        named.insert(leg).then(|| (item(record, Some(*ask), charge), *media))
    })
}

fn item(record: &LegRecord, ask: Option<AskId>, charge: Charge) -> LegItem {
    LegItem { ask, which: record.which(), call: record.call().clone(), charge, denied: None }
}

/// Decreases and questions about media fit into one request; whose turn it is comes first, and must
/// be in it.
fn update(tx: &mut Tx<'_, Node>, link: Link, turn: Turn) -> Option<(Request, Load)> {
    let limit = limit(tx.volatile(), Kind::Update);
    let all: Vec<_> = if turn == Turn::Decrease {
        decreases(tx).chain(changes(tx)).take(limit).collect()
    } else {
        changes(tx).chain(decreases(tx)).take(limit).collect()
    };
    if all.first().is_none_or(|(item, _)| item.ask.is_none() != (turn == Turn::Decrease)) {
        return None;
    }
    let legs = all.iter().map(|(item, media)| (item.which.leg.clone(), *media)).collect();
    let items: Vec<_> = all.into_iter().map(|(item, _)| item).collect();
    for ask in items.iter().filter_map(|item| item.ask) {
        mark_in_flight(tx, ask);
    }
    let request = Request::Update { session: link.session, sequence: link.sequence + 1, legs };
    Some((request, Load::Update(items)))
}

fn allocate(tx: &mut Tx<'_, Node>, link: Link, now: Now) -> Option<(Request, Load)> {
    let mut room = Room::new(MAX_LEGS);
    let singly = limit(tx.volatile(), Kind::Allocate) == 1;
    let mut items = Vec::new();
    for (ask, waiting) in ripe(tx) {
        let Question::Call { call, ended } = &waiting.what else { continue };
        if singly && !items.is_empty() {
            break;
        }
        // An earlier lease of the same id is given back first.
        let owed = |leg: &LegId| tx.state().ending.contains_key(leg) || tx.volatile().unknown.contains(leg);
        if call.legs.iter().any(|leg| owed(&leg.leg)) {
            continue;
        }
        // Without legs that have ended since, of which the pool may have heard.
        let Ok(call) = asks::left(call, &asks::over(tx.state(), now, call, ended)) else { continue };
        if !room.take(call.legs.len(), &call) {
            break;
        }
        items.push(CallItem { ask: *ask, call, admitted: None, denied: None });
    }
    if items.is_empty() {
        return None;
    }
    for item in &items {
        mark_in_flight(tx, item.ask);
    }
    let calls = items.iter().map(|item| item.call.clone()).collect();
    let request = Request::Allocate { session: link.session, sequence: link.sequence + 1, calls };
    Some((request, Load::Allocate(items)))
}

/// Questions that wait, unless all of them came after something that is still to be given back.
fn ripe<'a>(tx: &'a Tx<'_, Node>) -> impl Iterator<Item = (&'a AskId, &'a Ask)> {
    let asks = &tx.volatile().asks;
    let any = owed(tx).next().is_none() || asks.values().any(|ask| ask.ripe);
    asks.iter().filter(move |_| any)
}

fn mark_in_flight(tx: &mut Tx<'_, Node>, ask: AskId) {
    if let Some(ask) = tx.volatile_mut().asks.get_mut(&ask) {
        ask.in_flight = true;
        ask.ripe = true;
    }
}
