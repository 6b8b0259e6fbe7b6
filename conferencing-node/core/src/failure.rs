//! What it means when the pool does not carry a request out.

use headroom_core::{Millis, Now, Tx};

use crate::answer::{Outcomes, begin_report, decided};
use crate::asks;
use crate::command::{Decision, LegVerdict, Outcome};
use crate::event::Event;
use crate::machine::{Node, reading};
use crate::uplink::{Failure, Load, Phase, Request};
use crate::volatile::{Kind, Singly, Volatile};

/// Pause between probes: first and highest ceiling. The highest decides how soon after an overload or an outage
/// calls are decided by the pool again; a thousand nodes that probe a dead pool are 400 attempts a second.
const PROBE: (Millis, Millis) = (Millis(500), Millis(5_000));
/// Ceiling of the pause of a node that was answered, and refused: another answer is not to be hoped for soon.
const REFUSED: Millis = Millis(15_000);
/// So long without a decision, and decisions are made here.
const SILENT: Millis = Millis(5_000);
/// So many attempts without a decision in a row, and decisions are made here.
const UNDECIDED: u32 = 3;

pub(crate) fn take_failure(tx: &mut Tx<'_, Node>, now: Now, failure: Failure, jitter: u32) -> Outcomes {
    match failure {
        Failure::Undecided { retry_after } => return undecided(tx, now, retry_after, jitter),
        Failure::Stale | Failure::ReportRequired => {
            let volatile = tx.volatile_mut();
            volatile.stales += 1;
            let again = volatile.stales > UNDECIDED;
            if failure == Failure::Stale {
                drop_session(volatile);
            } else {
                report_again(tx);
            }
            if again {
                // Sessions that end before anything is done in them: no reason to hurry.
                return undecided(tx, now, None, jitter);
            }
            decided(tx.volatile_mut());
        }
        Failure::OpenNumberOld => {
            let volatile = tx.volatile_mut();
            drop_session(volatile);
            // The journal is older than what the pool has seen: catch up in growing steps.
            let tries = volatile.circuit.undecided.min(20);
            volatile.open_step = 1 << tries;
            return undecided(tx, now, None, jitter);
        }
        Failure::Revoked => {
            drop_session(tx.volatile_mut());
            let mut grace = tx.state().counters.grace.at(&reading(tx.volatile(), now));
            if !grace.refused {
                grace.refused = true;
                tx.emit(Event::Clock { grace });
            }
            return refused(tx, now, jitter);
        }
        Failure::Invalid { field, text } => return invalid(tx, now, &field, &text, jitter),
    }
    Vec::new()
}

/// The session is over; what was under way is settled by the next one.
pub(crate) fn drop_session(volatile: &mut Volatile) {
    volatile.phase = Phase::Down;
    volatile.flight = None;
    for ask in volatile.asks.values_mut() {
        ask.in_flight = false;
    }
}

fn report_again(tx: &mut Tx<'_, Node>) {
    let link = match &tx.volatile().phase {
        Phase::Active(link) | Phase::Reporting { link, .. } => Some(*link),
        Phase::Down => None,
    };
    drop_session(tx.volatile_mut());
    if let Some(link) = link {
        begin_report(tx, link);
    }
}

/// Whether the request in flight has had no decision for as long as the session can live. Either
/// the session has lapsed, or the pool fails over this very request, and would for ever.
fn hopeless(volatile: &Volatile, now: Now) -> bool {
    let ttl = match &volatile.phase {
        Phase::Active(link) | Phase::Reporting { link, .. } => link.ttl,
        Phase::Down => return false,
    };
    volatile.flight.as_ref().is_some_and(|flight| now.boot.since(flight.since) >= ttl)
}

/// The pool answers what makes no sense. The session is over, and the next one can wait: openings are
/// answered, so counting attempts alone would not slow this down.
pub(crate) fn give_up(tx: &mut Tx<'_, Node>, now: Now, jitter: u32) -> Outcomes {
    drop_session(tx.volatile_mut());
    refused(tx, now, jitter)
}

fn refused(tx: &mut Tx<'_, Node>, now: Now, jitter: u32) -> Outcomes {
    let circuit = &mut tx.volatile_mut().circuit;
    (circuit.undecided, circuit.ceiling) = (UNDECIDED, PROBE.1);
    undecided(tx, now, Some(part(REFUSED, jitter)), jitter)
}

/// Full jitter: so many thousandths.
fn part(ceiling: Millis, jitter: u32) -> Millis {
    Millis(ceiling.0 * i64::from(jitter) / 1000)
}

fn undecided(tx: &mut Tx<'_, Node>, now: Now, retry_after: Option<Millis>, jitter: u32) -> Outcomes {
    if hopeless(tx.volatile(), now) {
        drop_session(tx.volatile_mut());
    }
    let circuit = &mut tx.volatile_mut().circuit;
    circuit.undecided += 1;
    let silent = circuit.since.is_some_and(|since| now.boot.since(since) >= SILENT);
    let mut pause = retry_after.unwrap_or_default();
    if circuit.undecided >= UNDECIDED || silent {
        circuit.open = true;
        circuit.ceiling = Millis((circuit.ceiling.0 * 2).clamp(PROBE.0.0, PROBE.1.0));
        pause = pause.max(part(circuit.ceiling, jitter));
    }
    circuit.not_before = now.boot.plus(pause);
    if !circuit.open {
        return Vec::new();
    }
    let waiting = asks::waiting(tx.volatile());
    asks::expire(tx, now, waiting)
}

/// The pool finds fault with a request. Nothing was done. With several items, each is sent alone, so
/// that the faulty one hits nobody else.
fn invalid(tx: &mut Tx<'_, Node>, now: Now, field: &str, text: &str, jitter: u32) -> Outcomes {
    let volatile = tx.volatile_mut();
    let Some(flight) = volatile.flight.take() else { return Vec::new() };
    for ask in volatile.asks.values_mut() {
        ask.in_flight = false;
    }
    let (kind, left) = match &flight.load {
        Load::Release(items) => (Kind::Release, items.len()),
        Load::Adopt(items) => (Kind::Adopt, items.len()),
        Load::Update(items) => (Kind::Update, items.len()),
        Load::Allocate(items) => (Kind::Allocate, items.len()),
        Load::Open(_) | Load::Report { .. } | Load::Heartbeat(_) => {
            return session_refused(tx, now, &flight.request, field, jitter);
        }
    };
    decided(volatile);
    volatile.singly = (left > 1).then_some(Singly { kind, left });
    if left > 1 {
        return Vec::new();
    }
    match flight.load {
        Load::Release(legs) => volatile.stuck.extend(legs.into_iter().map(|which| which.leg)),
        Load::Adopt(items) => volatile.stuck.extend(items.into_iter().map(|(which, _, _)| which.leg)),
        Load::Update(items) => {
            let Some(item) = items.into_iter().next() else { return Vec::new() };
            match item.ask.and_then(|ask| Some((ask, asks::take(volatile, ask)?))) {
                Some((ask, _)) => {
                    let (field, text) = (within(field, "legs"), text.to_owned());
                    return vec![(ask, Outcome::Leg(LegVerdict::Refused { field, text }))];
                }
                None => {
                    volatile.stuck.insert(item.which.leg);
                }
            }
        }
        Load::Allocate(items) => {
            let taken = items.first().and_then(|i| Some((i.ask, asks::take(volatile, i.ask)?)));
            if let Some((ask, _)) = taken {
                let (field, text) = (within(field, "calls"), text.to_owned());
                return vec![(ask, Outcome::Call(Decision::Refused { field, text }))];
            }
        }
        // Dealt with above.
        Load::Open(_) | Load::Report { .. } | Load::Heartbeat(_) => {}
    }
    Vec::new()
}

/// The pool finds fault with what begins or keeps a session. The one item at fault is left out, so
/// that it cannot keep the node out of contact; else there is nothing but a new session, after a pause.
fn session_refused(tx: &mut Tx<'_, Node>, now: Now, request: &Request, field: &str, jitter: u32) -> Outcomes {
    let (leg, past) = match request {
        Request::Report { legs, .. } => (at(legs, "legs", field).map(|l| l.leg.leg.clone()), None),
        Request::Heartbeat { past, .. } => (None, at(past, "past", field).map(|event| event.number)),
        _ => (None, None),
    };
    if let Some(leg) = leg {
        let volatile = tx.volatile_mut();
        volatile.stuck.insert(leg.clone());
        volatile.unreported.insert(leg);
        report_again(tx);
    } else if let Some(number) = past {
        tx.emit(Event::PastWithdrawn { number });
    } else {
        return give_up(tx, now, jitter);
    }
    undecided(tx, now, None, jitter)
}

/// A field's path as who asked knows it: without the place that his item has in the request.
fn within(field: &str, list: &str) -> String {
    let place = field.strip_prefix(list).filter(|rest| rest.starts_with('['));
    place.and_then(|rest| rest.split_once("].")).map_or(field, |(_, own)| own).to_owned()
}

/// The item of a list that a field's path names: `legs[3]` or anything in it.
fn at<'a, T>(items: &'a [T], list: &str, field: &str) -> Option<&'a T> {
    let (index, _) = field.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
    items.get(index.parse::<usize>().ok()?)
}
