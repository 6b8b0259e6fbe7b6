//! Bringing the books in line: with the pool after a session began, with a media server's own list.

use std::collections::BTreeSet;
use std::sync::Arc;

use headroom_core::{CallId, LegId, Millis, Now, SourceId, Tx};
use imbl::OrdMap;

use crate::command::Reply;
use crate::event::{Event, Which, Why};
use crate::machine::Node;
use crate::state::LegRecord;
use crate::volatile::{Question, Volatile};
use crate::{admit, verdict};

/// A leg whose grant went out so recently is not ended by a list: its source may have made that before it
/// learned of the grant, whatever revision it read, because the revision rises with the grant and not with
/// its delivery.
pub(crate) const GRANTED_FOR: Millis = Millis(10_000);
/// The same while the answer is not known to have gone out, and for lists read before a leg was asked for again.
pub(crate) const UNDELIVERED_FOR: Millis = Millis::MINUTE;

/// The pool now holds exactly these legs, as they were, without the revoked ones.
pub(crate) fn settle(tx: &mut Tx<'_, Node>, snapshot: &OrdMap<LegId, Arc<LegRecord>>, revoked: &[LegId]) {
    // What the node believed to be held, and is not.
    let state = tx.state();
    let gone: Vec<_> = state
        .ending
        .iter()
        .filter(|(leg, ending)| match snapshot.get(*leg) {
            None => ending.held.is_some(),
            // The pool's lease is now that of the leg that runs under this id; giving back the one
            // before would take it away.
            Some(record) => record.revision != ending.revision && !revoked.contains(leg),
        })
        .map(|(leg, ending)| Which { leg: leg.clone(), revision: ending.revision })
        .collect();
    if !gone.is_empty() {
        tx.emit(Event::Released { legs: gone });
    }
    revoke(tx, revoked);
    for record in snapshot.values().filter(|record| !record.revoked) {
        if revoked.contains(record.id()) {
            continue;
        }
        let held = Some(&record.running.charge);
        let state = tx.state();
        let known = match state.legs.get(record.id()).filter(|r| r.revision == record.revision) {
            Some(now) => now.held.as_ref() == held,
            None => state.ending.get(record.id()).is_some_and(|e| e.held.as_ref() == held),
        };
        if !known {
            verdict::hold(tx, record.which(), record.call().clone(), held.cloned(), None);
        }
    }
    let dropped: Vec<_> = tx
        .state()
        .legs
        .iter()
        .filter(|(leg, now)| {
            now.held.is_some() && snapshot.get(*leg).is_none_or(|r| r.revision != now.revision)
        })
        .map(|(_, now)| (now.which(), now.call().clone()))
        .collect();
    for (which, call) in dropped {
        tx.emit(Event::Held { which, call, held: None, lease: None });
    }
}

/// The pool has taken the units of these legs back.
pub(crate) fn revoke(tx: &mut Tx<'_, Node>, revoked: &[LegId]) {
    let state = tx.state();
    let legs: Vec<_> = revoked
        .iter()
        .filter(|leg| state.legs.get(*leg).is_some_and(|r| !r.revoked))
        // The pool means an earlier leg of this id, whose end it has not heard of.
        .filter(|leg| !state.ending.contains_key(*leg))
        .cloned()
        .collect();
    if !legs.is_empty() {
        tx.emit(Event::Revoked { legs });
    }
    for leg in revoked {
        match tx.state().ending.get(leg).cloned() {
            // One that ended meanwhile holds nothing either; its end is still to be heard.
            Some(ending) if ending.held.is_some() => {
                let which = Which { leg: leg.clone(), revision: ending.revision };
                tx.emit(Event::Unheld { which });
            }
            Some(_) => {}
            // The pool waits to hear that it ended, and nothing here would ever say so.
            None if !tx.state().legs.contains_key(leg) => {
                tx.volatile_mut().unknown.insert(leg.clone());
            }
            None => {}
        }
    }
}

/// A media server lists its legs.
pub(crate) fn sync(tx: &mut Tx<'_, Node>, now: Now, source: &SourceId, as_of: u64, legs: &[LegId]) -> Reply {
    let revision = tx.state().counters.revision;
    if as_of > revision {
        let text = format!("{as_of} has not been reached: the list is at {revision}");
        return Reply::Invalid { field: "as_of", text };
    }
    tx.volatile_mut().sources.insert(source.clone(), now.boot);
    admit::confirm(tx, legs.iter());
    let listed: BTreeSet<_> = legs.iter().collect();
    let (state, volatile) = (tx.state(), tx.volatile());
    let just_granted = |leg: &LegId| {
        let again = volatile.asked_again.get(leg);
        if again.is_some_and(|(at, revision)| as_of <= *revision && now.boot.since(*at) < UNDELIVERED_FOR) {
            return true;
        }
        // One that was granted before a restart may have been so right before.
        let at = volatile.granted_at.get(leg).copied().unwrap_or(volatile.started);
        let span = if state.undelivered.contains(leg) { UNDELIVERED_FOR } else { GRANTED_FOR };
        now.boot.since(at) < span
    };
    let ended: Vec<_> = state
        .legs
        .values()
        .filter(|r| r.source() == source && r.revision <= as_of && !listed.contains(r.id()))
        .filter(|r| !just_granted(r.id()))
        .map(|r| r.id().clone())
        .collect();
    let unknown: Vec<_> = listed
        .into_iter()
        .filter(|leg| !state.legs.contains_key(*leg) && !volatile.asked.contains_key(*leg))
        .cloned()
        .collect();
    if !ended.is_empty() {
        admit::end(tx, now, ended.clone(), Why::NotListed);
    }
    Reply::Synced { ended, unknown }
}

/// Legs of a call that are being asked for.
pub(crate) fn asked_of(volatile: &Volatile, call: &CallId) -> Vec<LegId> {
    volatile
        .asks
        .values()
        .filter_map(|ask| match &ask.what {
            Question::Call { call: asked, .. } if asked.info.call == *call => Some(&asked.legs),
            _ => None,
        })
        .flatten()
        .map(|leg| leg.leg.clone())
        .collect()
}
