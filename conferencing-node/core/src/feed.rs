//! Feeds: a conferencing platform tells, after the fact, which legs began, changed and ended.
//!
//! Each machine of the platform numbers its events. A number that is left out may have been the end of any leg
//! that runs there, so those legs are in doubt until something is heard of them. Doubt alone ends nothing soon:
//! platforms also leave out events that nobody subscribed to.

use headroom_core::rating::rate;
use headroom_core::{Call, CallInfo, LegId, Millis, Now, SourceId, Tx};
use minicbor::{Decode, Encode};

use crate::admit::{change, confirm, end, grant};
use crate::asks::end_legs;
use crate::command::Reply;
use crate::event::{Event, Why};
use crate::machine::Node;
use crate::state::State;

/// A platform may have nothing to tell for hours while its legs run. Silent for so long, or in doubt for so long,
/// they are released.
pub const QUIET: Millis = Millis::DAY;
/// The alarm of a gap stays on for so long at least.
pub const TOLD_FOR: Millis = Millis::HOUR;
/// Most sources whose events are counted.
pub const MAX_FEEDS: usize = 10_000;

/// How far the events of one source have been heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Heard {
    /// The number of the last event.
    #[n(0)]
    pub seq: u64,
    /// When the numbers began anew, by the source's clock.
    #[n(1)]
    pub since: Millis,
    /// Events that were never heard, or could not be read.
    #[n(2)]
    pub missed: u64,
}

/// One event of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// The machine that tells.
    pub source: SourceId,
    /// Its number of the event.
    pub seq: u64,
    /// When it happened, by the source's clock.
    pub at: Millis,
    /// What happened.
    pub what: Happened,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// The numbers begin anew.
    FeedStarted,
    /// A leg runs, as the only one in this description of its call.
    LegRuns(Box<Call>),
    /// A leg has ended.
    LegEnded(LegId),
    /// Something of a leg that cannot be read. It may have been an end.
    Unreadable,
    /// Something that concerns no leg.
    Other,
}

/// Takes an event. It can come again, and late.
pub(crate) fn feed(tx: &mut Tx<'_, Node>, now: Now, event: FeedEvent) -> Reply {
    tx.volatile_mut().sources.insert(event.source.clone(), now.boot);
    hear(tx, now, &event);
    match event.what {
        Happened::LegEnded(leg) => return end_legs(tx, now, vec![leg]),
        Happened::LegRuns(call) => runs(tx, now, *call),
        Happened::FeedStarted | Happened::Unreadable | Happened::Other => {}
    }
    Reply::Ended { count: 0, outcomes: Vec::new() }
}

/// Counts an event.
fn hear(tx: &mut Tx<'_, Node>, now: Now, event: &FeedEvent) {
    let state = tx.state();
    let before = state.feeds.get(&event.source).copied();
    if before.is_none() && state.feeds.len() >= MAX_FEEDS {
        return;
    }
    let before = before.unwrap_or_default();
    // What was kept from before the numbers began anew can come among what is told since.
    if event.at < before.since {
        return;
    }
    let started = event.what == Happened::FeedStarted;
    let again = if started { event.at == before.since } else { event.seq <= before.seq };
    if again {
        return;
    }
    let unreadable = u64::from(event.what == Happened::Unreadable);
    let heard = if started {
        Heard { seq: event.seq, since: event.at, missed: before.missed }
    } else {
        let left_out = event.seq - before.seq - 1;
        Heard { seq: event.seq, missed: before.missed.saturating_add(left_out + unreadable), ..before }
    };
    let runs_here = state.sources.contains_key(&event.source);
    // What a source told while it was started anew has not been heard either.
    let doubted = heard.missed > before.missed || (started && runs_here);
    tx.emit(Event::Heard { source: event.source.clone(), heard });
    if doubted {
        tx.volatile_mut().doubted.insert(event.source.clone(), now.boot);
        if runs_here {
            tx.emit(Event::Doubted { source: event.source.clone() });
        }
    }
}

/// A leg runs, by its platform's own decision: recorded like every leg that was not asked for.
fn runs(tx: &mut Tx<'_, Node>, now: Now, mut call: Call) {
    let state = tx.state();
    interworks(state, &mut call.info);
    let [leg] = call.legs.as_slice() else { return };
    let id = leg.leg.clone();
    match state.legs.get(&id).cloned() {
        // It has ended; this was told late.
        None if state.is_dead(&id, now.boot) => return,
        None => {
            grant(tx, now, &call, None);
        }
        // The pool has taken its units back, and waits for its end.
        Some(record) if record.revoked => {}
        Some(record) if same(&record.running.info, &call.info) => {
            let charge = rate(&record.running.info, leg.protocol, leg.media);
            change(tx, &id, leg.media, charge, false);
        }
        // It went elsewhere.
        Some(_) => {
            end(tx, now, vec![id.clone()], Why::Told);
            grant(tx, now, &call, None);
        }
    }
    confirm(tx, [&id].into_iter());
    if call.info.interop.is_some() {
        others_interwork(tx, now, &call.info, &id);
    }
}

/// Whether a leg is where it was. That a conference gets its name later is no change.
fn same(old: &CallInfo, new: &CallInfo) -> bool {
    let named = old.conference.as_str().is_empty() || new.conference.as_str().is_empty();
    (&old.call, old.service, old.interop, &old.source) == (&new.call, new.service, new.interop, &new.source)
        && (named || old.conference == new.conference)
}

/// Only the outbound leg of a gateway call shows what the call interworks with.
fn interworks(state: &State, info: &mut CallInfo) {
    if info.service == headroom_core::Service::Gateway && info.interop.is_none() {
        let legs = state.calls.get(&info.call).into_iter().flatten();
        info.interop =
            legs.filter_map(|leg| state.legs.get(leg)).find_map(|record| record.running.info.interop);
    }
}

/// The legs that began before it was known what their call interworks with are described anew.
fn others_interwork(tx: &mut Tx<'_, Node>, now: Now, info: &CallInfo, but: &LegId) {
    let state = tx.state();
    let legs = state.calls.get(&info.call).into_iter().flatten().filter(|leg| *leg != but);
    let records = legs.filter_map(|leg| state.legs.get(leg)).filter(|record| {
        let old = &record.running.info;
        !record.revoked && old.service == info.service && old.interop.is_none()
    });
    let others: Vec<Call> = records
        .map(|record| {
            let info = CallInfo { interop: info.interop, ..record.running.info.clone() };
            Call { info, legs: vec![record.running.leg.clone()] }
        })
        .collect();
    for call in others {
        let legs: Vec<_> = call.legs.iter().map(|leg| leg.leg.clone()).collect();
        end(tx, now, legs.clone(), Why::Told);
        grant(tx, now, &call, None);
        confirm(tx, legs.iter());
    }
}

/// How long a source may be silent with legs, or a leg in doubt, before it is released.
pub(crate) fn patience(state: &State, source: &SourceId, otherwise: Millis) -> Millis {
    if state.feeds.contains_key(source) { otherwise.max(QUIET) } else { otherwise }
}

/// Releases legs that have been in doubt for too long, and forgets gaps that were told for long enough.
pub(crate) fn tick(tx: &mut Tx<'_, Node>, now: Now) {
    let (state, volatile) = (tx.state(), tx.volatile());
    let doubted_for = |source: &SourceId| volatile.doubted.get(source).map(|at| now.boot.since(*at));
    let record = |leg: &LegId| state.legs.get(leg);
    let lost: Vec<LegId> = state
        .doubtful
        .iter()
        .filter(|leg| record(leg).and_then(|r| doubted_for(r.source())).is_some_and(|span| span >= QUIET))
        .cloned()
        .collect();
    if !lost.is_empty() {
        end(tx, now, lost, Why::Orphaned);
    }
    let in_doubt = in_doubt(tx.state());
    tx.volatile_mut()
        .doubted
        .retain(|source, at| now.boot.since(*at) < TOLD_FOR || in_doubt.contains(source));
}

/// Sources with legs in doubt.
pub(crate) fn in_doubt(state: &State) -> std::collections::BTreeSet<SourceId> {
    let sources = state.doubtful.iter().filter_map(|leg| state.legs.get(leg)).map(|record| record.source());
    sources.cloned().collect()
}
