//! Feeds: a conferencing platform tells, after the fact, which legs began, changed and ended.
//!
//! Each machine of the platform numbers its events. A number that is left out may have been the end of any leg
//! that runs there, so those legs are in doubt until something is heard of them. Doubt alone ends nothing soon:
//! platforms also leave out events that nobody subscribed to.

use std::collections::BTreeMap;

use headroom_core::rating::rate;
use headroom_core::{Call, CallInfo, Leg, LegId, Millis, Now, Service, SourceId, Tx};
use minicbor::{Decode, Encode};

use crate::admit::{change, confirm, end, grant};
use crate::asks::end_legs;
use crate::command::Reply;
use crate::event::{Event, Why};
use crate::machine::Node;
use crate::state::{LegRecord, State};

/// A platform may have nothing to tell for hours while its legs run. Silent for so long, or in doubt for so long,
/// they are released.
pub const QUIET: Millis = Millis::DAY;
/// The alarm of a gap stays on for so long at least.
pub const TOLD_FOR: Millis = Millis::HOUR;
/// A source whose clock is ahead by more than this is not believed: what it tells once its clock was set would look
/// as if it came from before.
const AHEAD: Millis = Millis::HOUR;

/// How far the events of one source have been heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Heard {
    /// The number of the last event.
    #[n(0)]
    pub seq: u64,
    /// When that happened, by the source's clock.
    #[n(1)]
    pub at: Millis,
    /// When the numbers began anew, by the source's clock.
    #[n(2)]
    pub since: Millis,
    /// Events that were never heard, or could not be read; at least so many.
    #[n(3)]
    pub missed: u64,
}

/// What an event is to what was heard before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It follows.
    Next(Heard),
    /// It was heard already, or is overtaken by what was.
    Again,
    /// From before the numbers began anew: it was kept while the source was started.
    Before,
}

impl Heard {
    /// Where an event stands. `wall` is this node's clock.
    #[must_use]
    pub fn place(&self, event: &FeedEvent, wall: Millis) -> Place {
        let at = if event.at > wall.plus(AHEAD) { wall } else { event.at };
        let started = event.what == Happened::FeedStarted;
        let unreadable = u64::from(event.what == Happened::Unreadable);
        let missing = |numbers: u64| self.missed.saturating_add(numbers).saturating_add(unreadable);
        if at < self.since {
            Place::Before
        } else if started && at > self.since {
            Place::Next(Self { seq: event.seq, at, since: at, missed: self.missed })
        } else if started {
            Place::Again
        } else if event.seq > self.seq {
            Place::Next(Self { seq: event.seq, at, missed: missing(event.seq - self.seq - 1), ..*self })
        } else if at > self.at {
            // The numbers began anew, and that was not heard.
            Place::Next(Self { seq: event.seq, at, since: at, missed: missing(event.seq.max(2) - 1) })
        } else {
            Place::Again
        }
    }
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
    let place = tx.state().heard(&event.source).place(&event, now.wall);
    if let Place::Next(heard) = place {
        hear(tx, now, &event, heard);
    }
    let nothing = Reply::Ended { count: 0, outcomes: Vec::new() };
    match event.what {
        // Also one that comes again: an end is never lost, and ends nothing twice.
        Happened::LegEnded(leg) if is_of_feed(tx.state(), &leg) => return end_legs(tx, now, vec![leg]),
        // What came after it has been heard.
        Happened::LegRuns(_) if place == Place::Again => {}
        // Nor does what was kept from before say anything of legs that are known.
        Happened::LegRuns(call) if place == Place::Before && runs_here(tx.state(), &call) => {}
        Happened::LegRuns(call) => runs(tx, now, *call),
        Happened::LegEnded(_) | Happened::FeedStarted | Happened::Unreadable | Happened::Other => {}
    }
    nothing
}

/// A platform says nothing of the legs of media servers that ask here.
fn is_of_feed(state: &State, leg: &LegId) -> bool {
    state.legs.get(leg).is_none_or(|record| state.feeds.contains_key(record.source()))
}

fn runs_here(state: &State, call: &Call) -> bool {
    call.legs.iter().all(|leg| state.legs.contains_key(&leg.leg))
}

/// Counts an event.
fn hear(tx: &mut Tx<'_, Node>, now: Now, event: &FeedEvent, heard: Heard) {
    let (state, source) = (tx.state(), &event.source);
    let before = state.heard(source);
    let runs_here = state.sources.contains_key(source);
    // What a source told while it was started anew has not been heard either.
    let gap = heard.missed > before.missed || (heard.since > before.since && runs_here);
    let certain = |record: &LegRecord| record.source() == source && !state.doubtful.contains(record.id());
    let certain: Vec<_> = match gap && runs_here {
        true => state.legs.values().filter(|record| certain(record)).map(|r| r.id().clone()).collect(),
        false => Vec::new(),
    };
    tx.emit(Event::Heard { source: source.clone(), heard });
    if gap {
        tx.volatile_mut().gaps.insert(source.clone(), now.boot);
    }
    if !certain.is_empty() {
        tx.volatile_mut().doubted.extend(certain.into_iter().map(|leg| (leg, now.boot)));
        tx.emit(Event::Doubted { source: source.clone() });
    }
}

/// A leg runs, by its platform's own decision: recorded like every leg that was not asked for.
fn runs(tx: &mut Tx<'_, Node>, now: Now, mut call: Call) {
    let state = tx.state();
    interworks(state, &mut call.info);
    let [leg] = call.legs.as_slice() else { return };
    let id = leg.leg.clone();
    if !is_of_feed(state, &id) {
        return;
    }
    match state.legs.get(&id).cloned() {
        // This was told late.
        None if state.was_told_dead(&id, now.boot) => return,
        None => {
            grant(tx, now, &call, None);
        }
        // The pool has taken its units back, and waits for its end.
        Some(record) if record.revoked => {}
        Some(record) if record.call() != &call.info.call || record.source() != &call.info.source => {
            end(tx, now, vec![id.clone()], Why::Moved);
            grant(tx, now, &call, None);
        }
        Some(record) => describe(tx, &record, &call.info, leg),
    }
    confirm(tx, [&id].into_iter());
    if call.info.interop.is_some() {
        others_interwork(tx, &call.info, &id);
    }
}

/// A leg that goes on in its call, perhaps otherwise than before.
fn describe(tx: &mut Tx<'_, Node>, record: &LegRecord, info: &CallInfo, leg: &Leg) {
    let charge = rate(info, leg.protocol, leg.media);
    let old = &record.running;
    if old.info == *info && old.leg == (Leg { media: old.leg.media, ..leg.clone() }) {
        change(tx, record.id(), leg.media, charge, false);
    } else {
        tx.emit(Event::Redescribed { info: info.clone(), leg: leg.clone(), charge });
    }
}

/// Only the outbound leg of a gateway call shows what the call interworks with.
fn interworks(state: &State, info: &mut CallInfo) {
    if info.service == Service::Gateway && info.interop.is_none() {
        let legs = state.calls.get(&info.call).into_iter().flatten();
        info.interop =
            legs.filter_map(|leg| state.legs.get(leg)).find_map(|record| record.running.info.interop);
    }
}

/// The legs that began before it was known what their call interworks with.
fn others_interwork(tx: &mut Tx<'_, Node>, info: &CallInfo, but: &LegId) {
    let state = tx.state();
    let legs = state.calls.get(&info.call).into_iter().flatten().filter(|leg| *leg != but);
    let records = legs.filter_map(|leg| state.legs.get(leg)).filter(|record| {
        let old = &record.running.info;
        !record.revoked && old.service == info.service && old.interop.is_none()
    });
    let others: Vec<_> = records.cloned().collect();
    for record in others {
        let known = CallInfo { interop: info.interop, ..record.running.info.clone() };
        describe(tx, &record, &known, &record.running.leg);
    }
}

/// How long a source may be silent with legs before they are released.
pub(crate) fn patience(state: &State, source: &SourceId, otherwise: Millis) -> Millis {
    if state.feeds.contains_key(source) { otherwise.max(QUIET) } else { otherwise }
}

/// Releases legs that have been in doubt for too long, and forgets gaps that were told for long enough.
pub(crate) fn tick(tx: &mut Tx<'_, Node>, now: Now) {
    let doubtful = tx.state().doubtful.clone();
    tx.volatile_mut().doubted.retain(|leg, _| doubtful.contains(leg));
    let for_long = |(_, at): &(&LegId, &Millis)| now.boot.since(**at) >= QUIET;
    let lost: Vec<_> = tx.volatile().doubted.iter().filter(for_long).map(|(leg, _)| leg.clone()).collect();
    if !lost.is_empty() {
        end(tx, now, lost, Why::Orphaned);
    }
    if !tx.volatile().gaps.is_empty() {
        let in_doubt = in_doubt(tx.state());
        let told = |at: Millis| now.boot.since(at) >= TOLD_FOR;
        tx.volatile_mut().gaps.retain(|source, at| !told(*at) || in_doubt.contains_key(source));
    }
}

/// How many legs of each source are in doubt.
pub(crate) fn in_doubt(state: &State) -> BTreeMap<SourceId, u64> {
    let mut count = BTreeMap::new();
    for record in state.doubtful.iter().filter_map(|leg| state.legs.get(leg)) {
        *count.entry(record.source().clone()).or_default() += 1;
    }
    count
}
