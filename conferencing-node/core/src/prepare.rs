//! Which request goes to the pool next, and what is in it.

use std::sync::Arc;

use headroom_core::call::MAX_LEGS;
use headroom_core::{LegId, LegSet, Millis, Now, Tx};

use crate::event::Event;
use crate::machine::Node;
use crate::mutation;
use crate::uplink::{Flight, Link, Load, Next, Phase, Request, RequestId};
use crate::volatile::Volatile;
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
        volatile.flight = Some(Flight { id, request: Arc::new(request), load, since: now.boot });
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
            // Nothing is under way: the pool has told of every leg that ended.
            tx.volatile_mut().noted.clear();
            // Without it the session lapses, whatever else is to be said.
            heartbeat(tx, link, now).or_else(|| mutation::next(tx, link, now))
        }
    }
}

fn open(tx: &mut Tx<'_, Node>) -> (Request, Load) {
    let step = std::mem::take(&mut tx.volatile_mut().open_step).max(1);
    let number = tx.state().counters.open_number + step;
    tx.emit(Event::Opening { number });
    let volatile = tx.volatile_mut();
    volatile.stuck.clear();
    volatile.noted.clear();
    volatile.unreported.clear();
    volatile.told.clear();
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
