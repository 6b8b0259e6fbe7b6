//! Which request goes to the pool next, and what is in it.

use std::sync::Arc;

use headroom_core::call::MAX_LEGS;
use headroom_core::{LegId, LegSet, Millis, Now, Tx};

use crate::command::AskId;
use crate::event::{Event, Which};
use crate::machine::Node;
use crate::state::LegRecord;
use crate::uplink::{CallItem, Flight, LegItem, Link, Load, Next, Phase, Request, RequestId};
use crate::volatile::{Kind, Question, Singly, Volatile};
use crate::weight::Room;

/// How long a probe may take while decisions are made here.
const PROBE: Millis = Millis(2_000);
/// How long an attempt may take when nobody waits for it.
const PATIENT: Millis = Millis(5_000);
/// Most past events in one heartbeat.
const MAX_PAST: usize = 64;
impl Volatile {
    /// Whether the request in flight is about this leg.
    #[must_use]
    pub fn busy(&self, leg: &LegId) -> bool {
        self.flight.as_ref().is_some_and(|flight| match &flight.load {
            Load::Adopt(items) => items.iter().any(|(which, _, _)| which.leg == *leg),
            Load::Update(items) => items.iter().any(|item| item.which.leg == *leg),
            Load::Allocate(items) => items.iter().any(|i| i.call.legs.iter().any(|l| l.leg == *leg)),
            // A session that begins or a report may count the leg at any moment.
            Load::Open(legs) => legs.contains_key(leg),
            Load::Report { .. } | Load::Release(_) | Load::Heartbeat(_) => false,
        }) || matches!(&self.phase, Phase::Reporting { snapshot, .. } if snapshot.contains_key(leg))
    }
}

/// What is to be sent now.
pub(crate) fn next(tx: &mut Tx<'_, Node>, now: Now) -> Next {
    let circuit = &tx.volatile().circuit;
    if now.boot < circuit.not_before {
        return Next::Wait { until: circuit.not_before };
    }
    if tx.volatile().flight.is_none() {
        let prepared = prepare(tx, now);
        let Some((request, load)) = prepared else {
            let until = match &tx.volatile().phase {
                Phase::Active(link) => link.beat_at,
                // Nothing else can be waited for: the other phases always have something to say.
                Phase::Down | Phase::Reporting { .. } => now.boot.plus(Millis::SECOND),
            };
            return Next::Wait { until };
        };
        let volatile = tx.volatile_mut();
        volatile.requests += 1;
        let id = RequestId(volatile.requests);
        volatile.flight = Some(Flight { id, request: Arc::new(request), load });
    }
    let volatile = tx.volatile_mut();
    volatile.circuit.since.get_or_insert(now.boot);
    let timeout = timeout(volatile);
    match &volatile.flight {
        Some(flight) => Next::Send { id: flight.id, request: Arc::clone(&flight.request), timeout },
        None => Next::Wait { until: now.boot },
    }
}

fn timeout(volatile: &Volatile) -> Millis {
    let patient =
        matches!(volatile.flight.as_ref().map(|f| &f.load), Some(Load::Open(_) | Load::Report { .. }));
    if patient {
        PATIENT
    } else if volatile.circuit.open {
        PROBE
    } else {
        volatile.options.attempt()
    }
}

fn prepare(tx: &mut Tx<'_, Node>, now: Now) -> Option<(Request, Load)> {
    match &tx.volatile().phase {
        Phase::Down => Some(open(tx)),
        Phase::Reporting { .. } => report(tx.volatile()),
        Phase::Active(link) => {
            let link = *link;
            batch(tx, Kind::Release, |tx| release(tx, link))
                .or_else(|| heartbeat(tx, link, now))
                .or_else(|| batch(tx, Kind::Adopt, |tx| adopt(tx, link)))
                .or_else(|| batch(tx, Kind::Update, |tx| update(tx, link)))
                .or_else(|| batch(tx, Kind::Allocate, |tx| allocate(tx, link)))
        }
    }
}

/// Prepares a mutation. Items are sent alone only until those of the refused request are through, or
/// nothing of the kind is left.
fn batch(
    tx: &mut Tx<'_, Node>,
    kind: Kind,
    prepare: impl FnOnce(&mut Tx<'_, Node>) -> Option<(Request, Load)>,
) -> Option<(Request, Load)> {
    let prepared = prepare(tx);
    if let Some(singly) = tx.volatile().singly.filter(|singly| singly.kind == kind) {
        let left = if prepared.is_some() { singly.left.saturating_sub(1) } else { 0 };
        tx.volatile_mut().singly = (left > 0).then_some(Singly { left, ..singly });
    }
    prepared
}

fn open(tx: &mut Tx<'_, Node>) -> (Request, Load) {
    let step = std::mem::take(&mut tx.volatile_mut().open_step).max(1);
    let number = tx.state().counters.open_number + step;
    tx.emit(Event::Opening { number });
    let volatile = tx.volatile_mut();
    volatile.stuck.clear();
    volatile.unreported.clear();
    volatile.singly = None;
    let state = tx.state();
    let request = Request::Open {
        nonce: state.counters.nonce.unwrap_or_default(),
        predecessor: state.counters.predecessor,
        number,
        legs: state.running_set,
        seen: tx.volatile().seen,
    };
    (request, Load::Open(state.legs.clone()))
}

fn report(volatile: &Volatile) -> Option<(Request, Load)> {
    let Phase::Reporting { link, snapshot, chunk, after, .. } = &volatile.phase else { return None };
    let from = after.as_ref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
    let (mut legs, mut room, mut last) = (Vec::new(), Room::new(MAX_LEGS), true);
    for (_, record) in snapshot.range::<_, LegId>((from, std::ops::Bound::Unbounded)) {
        if !room.take(1, &record.running) {
            last = false;
            break;
        }
        legs.push(record.running.clone());
    }
    let end = legs.last().map(|running| running.leg.leg.clone());
    let total = last.then(|| {
        let mut set = LegSet::default();
        for record in snapshot.values() {
            set.add(record.id(), record.call(), &record.running.charge);
        }
        set
    });
    let request = Request::Report { session: link.session, report: link.reports, chunk: *chunk, legs, total };
    Some((request, Load::Report { last, end }))
}

fn limit(volatile: &Volatile, kind: Kind) -> usize {
    if volatile.singly.is_some_and(|singly| singly.kind == kind) { 1 } else { MAX_LEGS }
}

fn release(tx: &Tx<'_, Node>, link: Link) -> Option<(Request, Load)> {
    let volatile = tx.volatile();
    let which: Vec<_> = tx
        .state()
        .ending
        .iter()
        .filter(|(leg, _)| !volatile.stuck.contains(*leg))
        .take(limit(volatile, Kind::Release))
        .map(|(leg, ending)| Which { leg: leg.clone(), revision: ending.revision })
        .collect();
    if which.is_empty() {
        return None;
    }
    let legs = which.iter().map(|w| w.leg.clone()).collect();
    let request = Request::Release { session: link.session, sequence: link.sequence + 1, legs };
    Some((request, Load::Release(which)))
}

fn heartbeat(tx: &Tx<'_, Node>, link: Link, now: Now) -> Option<(Request, Load)> {
    if now.boot < link.beat_at {
        return None;
    }
    let (state, volatile) = (tx.state(), tx.volatile());
    let told: Vec<_> = state
        .revoked
        .iter()
        .filter(|leg| !volatile.told.contains(*leg) && state.legs.get(*leg).is_some_and(|r| r.told))
        .take(MAX_LEGS)
        .cloned()
        .collect();
    let optimistic =
        state.unsettled.iter().filter(|leg| state.legs.get(*leg).is_some_and(|r| r.optimistic())).count();
    let mut room = Room::new(MAX_PAST);
    let past = state.past.values().map(AsRef::as_ref).take_while(|event| room.take(1, *event));
    let request = Request::Heartbeat {
        session: link.session,
        sequence: link.sequence,
        legs: state.held_set,
        told: told.clone(),
        past: past.cloned().collect(),
        optimistic: optimistic as u64,
    };
    Some((request, Load::Heartbeat(told)))
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
    record
        .held
        .as_ref()
        .is_some_and(|h| h.feature == record.running.charge.feature && record.running.charge.units < h.units)
}

fn adopt(tx: &Tx<'_, Node>, link: Link) -> Option<(Request, Load)> {
    let mut room = Room::new(limit(tx.volatile(), Kind::Adopt));
    let records: Vec<_> =
        unsettled(tx).filter(|r| !is_decrease(r)).take_while(|r| room.take(1, &r.running)).collect();
    if records.is_empty() {
        return None;
    }
    let load = records.iter().map(|r| (r.which(), r.call().clone(), r.running.charge.clone())).collect();
    let legs = records.iter().map(|r| r.running.clone()).collect();
    let request = Request::Adopt { session: link.session, sequence: link.sequence + 1, legs };
    Some((request, Load::Adopt(load)))
}

fn update(tx: &mut Tx<'_, Node>, link: Link) -> Option<(Request, Load)> {
    let limit = limit(tx.volatile(), Kind::Update);
    let (mut legs, mut items) = (Vec::new(), Vec::new());
    let mut named = std::collections::BTreeSet::new();
    for record in unsettled(tx).filter(|r| is_decrease(r)).take(limit) {
        named.insert(record.id().clone());
        legs.push((record.id().clone(), record.running.leg.media));
        items.push(LegItem { ask: None, which: record.which(), call: record.call().clone(), denied: None });
    }
    for (ask, waiting) in &tx.volatile().asks {
        let Question::Leg { leg, media } = &waiting.what else { continue };
        let Some(record) = tx.state().legs.get(leg) else { continue };
        // One change of a leg at a time, and none before the pool knows the leg.
        if items.len() >= limit || record.unsettled() || !named.insert(leg.clone()) {
            continue;
        }
        legs.push((leg.clone(), *media));
        let (which, call) = (record.which(), record.call().clone());
        items.push(LegItem { ask: Some(*ask), which, call, denied: None });
    }
    if items.is_empty() {
        return None;
    }
    for ask in items.iter().filter_map(|item| item.ask) {
        mark_in_flight(tx, ask);
    }
    let request = Request::Update { session: link.session, sequence: link.sequence + 1, legs };
    Some((request, Load::Update(items)))
}

fn allocate(tx: &mut Tx<'_, Node>, link: Link) -> Option<(Request, Load)> {
    let mut room = Room::new(MAX_LEGS);
    let singly = limit(tx.volatile(), Kind::Allocate) == 1;
    let mut items = Vec::new();
    for (ask, waiting) in &tx.volatile().asks {
        let Question::Call { call, .. } = &waiting.what else { continue };
        if singly && !items.is_empty() {
            break;
        }
        // An earlier lease of the same id is given back first.
        if call.legs.iter().any(|leg| tx.state().ending.contains_key(&leg.leg)) {
            continue;
        }
        if !room.take(call.legs.len(), call) {
            break;
        }
        items.push(CallItem { ask: *ask, call: call.clone(), admitted: None, denied: None });
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

fn mark_in_flight(tx: &mut Tx<'_, Node>, ask: AskId) {
    if let Some(ask) = tx.volatile_mut().asks.get_mut(&ask) {
        ask.in_flight = true;
    }
}
