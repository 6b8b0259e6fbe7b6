//! What the pool's verdicts on legs and calls mean: for those who wait, and for the books.

use std::collections::{BTreeMap, BTreeSet};

use headroom_core::{Call, CallId, Charge, LegId, Now, Tx};

use crate::command::{AskId, Decision, LegVerdict, Outcome};
use crate::event::{Event, Which};
use crate::machine::Node;
use crate::uplink::{CallItem, LegItem, PoolLease, Verdict};
use crate::volatile::Question;
use crate::{admit, asks, reconcile};

pub(crate) fn adopted(
    tx: &mut Tx<'_, Node>,
    items: Vec<(Which, CallId, Charge)>,
    leases: Vec<PoolLease>,
    revoked: &[LegId],
) {
    let leases: BTreeMap<_, _> = leases.into_iter().map(|lease| (lease.leg.clone(), lease)).collect();
    for (which, call, charge) in items {
        if revoked.contains(&which.leg) {
            continue;
        }
        let lease = leases.get(&which.leg);
        let counted = lease.map_or(&charge, |lease| &lease.charge);
        hold(tx, which.clone(), call, Some(counted.clone()), lease.map(|lease| lease.lease));
        compare(tx, &which.leg, counted, &charge);
    }
    reconcile::revoke(tx, revoked);
}

/// A leg that the pool counts otherwise than this node stays as it is: asking again and again would
/// change nothing.
fn compare(tx: &mut Tx<'_, Node>, leg: &LegId, counted: &Charge, asked: &Charge) {
    if counted != asked && tx.state().unsettled.contains(leg) {
        tx.volatile_mut().stuck.insert(leg.clone());
    }
}

/// The pool holds so much for a leg that runs or has run.
pub(crate) fn hold(
    tx: &mut Tx<'_, Node>,
    which: Which,
    call: CallId,
    held: Option<Charge>,
    lease: Option<headroom_core::LeaseId>,
) {
    let running = tx.state().legs.get(&which.leg).filter(|r| r.revision == which.revision);
    let runs = running.is_some();
    if running.is_some_and(|record| record.revoked) {
        return;
    }
    // The lease is that of the leg that runs under this id; giving back the one before, which the
    // pool never told apart, would take it away.
    let before = tx.state().ending.get(&which.leg).filter(|_| runs && held.is_some());
    if let Some(revision) = before.map(|ending| ending.revision) {
        tx.emit(Event::Released { legs: vec![Which { leg: which.leg.clone(), revision }] });
    }
    if !runs && held.is_some() {
        // It has ended, and the pool had it after all.
        let noted = tx.volatile_mut().noted.remove(&which.leg);
        withdraw(tx, noted);
    }
    tx.emit(Event::Held { which, call, held, lease });
}

pub(crate) fn updated(
    tx: &mut Tx<'_, Node>,
    now: Now,
    item: LegItem,
    verdict: Verdict<PoolLease>,
) -> Option<(AskId, Outcome)> {
    let waiting = item.ask.and_then(|ask| Some((ask, asks::take(tx.volatile_mut(), ask)?)));
    let leg = item.which.leg.clone();
    let question = waiting.and_then(|(ask, taken)| match taken.what {
        Question::Leg { media, .. } => Some((ask, media)),
        Question::Call { .. } => None,
    });
    match verdict {
        Verdict::Granted(lease) => {
            let charge = lease.charge.clone();
            hold(tx, item.which, item.call, Some(lease.charge), Some(lease.lease));
            let answer = question.map(|(ask, media)| {
                (ask, Outcome::Leg(admit::change(tx, &leg, media, charge.clone(), false)))
            });
            compare(tx, &leg, &charge, &item.charge);
            answer
        }
        Verdict::Denied(reason) => {
            withdraw(tx, item.denied);
            let units = tx.state().legs.get(&leg).map(|r| r.running.charge.units).unwrap_or_default();
            Some((question?.0, Outcome::Leg(LegVerdict::Denied { reason, units })))
        }
        Verdict::Refused { .. } => {
            // The pool does not know the leg: it is adopted as it runs.
            hold(tx, item.which, item.call, None, None);
            let (ask, media) = question?;
            Some((ask, Outcome::Leg(admit::decide_leg(tx, now, &leg, media))))
        }
    }
}

pub(crate) fn allocated(
    tx: &mut Tx<'_, Node>,
    now: Now,
    item: CallItem,
    verdict: Verdict<Vec<PoolLease>>,
) -> Option<(AskId, Outcome)> {
    let waiting = asks::take(tx.volatile_mut(), item.ask);
    if matches!(verdict, Verdict::Denied(_)) {
        withdraw(tx, item.denied);
    }
    let decision = match verdict {
        Verdict::Granted(leases) => {
            let leases: BTreeMap<_, _> = leases.into_iter().map(|l| (l.leg.clone(), l)).collect();
            granted(tx, now, &item, waiting.is_some(), &leases, waiting.as_ref().map(|w| &w.what))?
        }
        // Decided here meanwhile, or hung up: nobody hears of this.
        _ if waiting.is_none() => return None,
        // Another question had the same legs granted meanwhile.
        _ if admit::all_run(tx.state(), &item.call) => Decision::Granted(admit::repeat(tx, now, &item.call)),
        Verdict::Denied(reason) => Decision::Denied(reason),
        // One of a revoked leg was asked for before the node heard of it.
        Verdict::Refused { field, text } => admit::revoked(tx.state(), &item.call)
            .map_or(Decision::Refused { field, text }, Decision::Conflict),
    };
    waiting.map(|_| (item.ask, Outcome::Call(decision)))
}

/// The pool has recorded a denial that was noted here too.
fn withdraw(tx: &mut Tx<'_, Node>, denied: Option<u64>) {
    if let Some(number) = denied.filter(|number| tx.state().past.contains_key(number)) {
        tx.emit(Event::PastWithdrawn { number });
    }
}

/// The pool granted a call: to who waits, or to legs decided here meanwhile, or to nobody any more.
fn granted(
    tx: &mut Tx<'_, Node>,
    now: Now,
    item: &CallItem,
    waits: bool,
    leases: &BTreeMap<LegId, PoolLease>,
    question: Option<&Question>,
) -> Option<Decision> {
    let told = match question {
        Some(Question::Call { ended, .. }) => ended.clone(),
        _ => BTreeSet::new(),
    };
    let over = asks::over(tx.state(), now, &item.call, &told);
    let own: Vec<_> =
        item.call.legs.iter().filter(|leg| !admit::is_foreign(tx.state(), leg)).cloned().collect();
    for leg in own {
        let Some(lease) = leases.get(&leg.leg) else { continue };
        let state = tx.state();
        let running = state.legs.get(&leg.leg).filter(|r| r.call() == &item.call.info.call);
        let revision = match running {
            // The leg runs: by another question, or decided here meanwhile. The pool knows a leg by
            // its id and call, so it is this leg that it holds.
            Some(record) => record.revision,
            None if waits && !over.contains(&leg.leg) => continue,
            // Nobody wants it any more: it is to be given back.
            None => item.admitted.unwrap_or(0),
        };
        let which = Which { leg: leg.leg.clone(), revision };
        let call = item.call.info.call.clone();
        hold(tx, which, call, Some(lease.charge.clone()), Some(lease.lease));
    }
    moved(tx, &item.call);
    if !waits {
        return None;
    }
    Some(match asks::left(&item.call, &over) {
        Ok(call) => Decision::Granted(admit::grant(tx, now, &call, Some(leases))),
        Err(released) => Decision::Conflict(released),
    })
}

/// The pool has moved the units of replaced legs, so that it holds nothing for them any more. One
/// that still runs, because the leg that was to take over is gone already, is adopted again.
fn moved(tx: &mut Tx<'_, Node>, call: &Call) {
    for old in call.legs.iter().filter_map(|leg| leg.replaces.as_ref()) {
        if let Some(revision) = tx.state().ending.get(old).filter(|e| e.held.is_some()).map(|e| e.revision) {
            tx.emit(Event::Unheld { which: Which { leg: old.clone(), revision } });
        }
        let Some(record) = tx.state().legs.get(old).cloned() else { continue };
        hold(tx, record.which(), record.call().clone(), None, None);
    }
}
