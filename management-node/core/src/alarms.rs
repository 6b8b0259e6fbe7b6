//! What an administrator should look at: the conditions that hold now, and the book of when each was
//! raised and cleared.
//!
//! Of a ladder (use of a pool, time out of contact, time to a license's end) only the highest step that
//! holds is on. Of an alarm that was raised a short while ago nobody is told again, however often its
//! condition comes and goes.

use std::collections::{BTreeMap, BTreeSet};

use headroom_core::{Feature, Millis, NodeName, Text, Units};
use minicbor::{Decode, Encode};

use crate::capacity::LicenseState;
use crate::event::Event;
use crate::explain::LiveView;
use crate::machine::PoolTx;
use crate::state::{OverCommitCause, Pool, PoolInstant};

/// A store that was found to have lost records is an alarm for so long.
const ROLLBACK_SHOWN: Millis = Millis::HOUR.times(24);
/// That the licensing server's books were ahead is an alarm for so long.
const RESYNCHRONIZED_SHOWN: Millis = Millis::HOUR.times(24);
/// A machine whose licenses were activated should hear of the licensing server, be it by file.
const UNANSWERED: Millis = Millis::DAY.times(30);
/// Alarms that were cleared so long ago are forgotten.
const FORGOTTEN_AFTER: Millis = Millis::DAY.times(7);
/// Most alarms in the book.
const MAX_ALARMS: usize = 10_000;

/// Steps of a pool's use, in percent of its capacity, highest first.
const USE: [(u64, &str); 4] =
    [(100, "capacity_100"), (95, "capacity_95"), (90, "capacity_90"), (80, "capacity_80")];
/// Steps to a license's end, nearest first.
const EXPIRY: [(Millis, &str); 5] = [
    (Millis::DAY, "license_expires_1d"),
    (Millis::DAY.times(3), "license_expires_3d"),
    (Millis::DAY.times(7), "license_expires_7d"),
    (Millis::DAY.times(14), "license_expires_14d"),
    (Millis::DAY.times(30), "license_expires_30d"),
];
/// Steps of the time out of contact, longest first.
const CONTACT: [(Millis, &str); 6] = [
    (Millis::DAY.times(13), "out_of_contact_13d"),
    (Millis::DAY.times(12), "out_of_contact_12d"),
    (Millis::DAY.times(7), "out_of_contact_7d"),
    (Millis::DAY, "out_of_contact_24h"),
    (Millis::HOUR, "out_of_contact_1h"),
    (Millis::MINUTE.times(5), "out_of_contact_5m"),
];

/// Something an administrator should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmNote {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub subject: String,
    /// One sentence.
    pub text: String,
}

impl AlarmNote {
    /// An alarm.
    #[must_use]
    pub fn new(name: &'static str, subject: impl ToString, text: impl Into<String>) -> Self {
        Self { name, subject: subject.to_string(), text: text.into() }
    }

    fn key(&self) -> AlarmKey {
        AlarmKey { name: Text::clipped(self.name), subject: Text::clipped(&self.subject) }
    }
}

/// An alarm's name and subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct AlarmKey {
    /// Its name.
    #[n(0)]
    pub name: Text,
    /// What it is about.
    #[n(1)]
    pub subject: Text,
}

/// An alarm in the book.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AlarmRecord {
    /// When it was raised last and told.
    #[n(0)]
    pub raised_at: Millis,
    /// What it said then.
    #[n(1)]
    pub text: Text,
    /// When it was cleared; nothing while it is on.
    #[n(2)]
    pub cleared_at: Option<Millis>,
    /// It is on again so soon that nobody was told.
    #[n(3)]
    pub quiet: bool,
}

impl Pool {
    /// The conditions that hold.
    #[must_use]
    pub fn alarms(&self, live: &LiveView, at: Millis) -> Vec<AlarmNote> {
        self.conditions(live, at, &BTreeMap::new())
    }

    /// The conditions that hold, `crests` being the highest use of pools since the last look.
    fn conditions(
        &self,
        live: &LiveView,
        at: Millis,
        crests: &BTreeMap<Feature, PoolInstant>,
    ) -> Vec<AlarmNote> {
        let mut notes = Vec::new();
        self.test_mode_notes(at, &mut notes);
        self.pool_notes(at, crests, &mut notes);
        self.license_notes(at, &mut notes);
        self.site_notes(at, &mut notes);
        self.node_notes(live, at, &mut notes);
        if let Some(rollback) = self.rollback.as_ref().filter(|found| at.since(found.at) < ROLLBACK_SHOWN) {
            let node = rollback.node.as_ref().map_or("a node unknown here", NodeName::as_str);
            let text = format!(
                "{node} had seen record {} when this store stood at {}: records were lost, as by a restore \
                 from a backup; every node was asked anew what it runs",
                rollback.seen, rollback.here
            );
            notes.push(AlarmNote::new("store_rolled_back", "store", text));
        }
        notes
    }

    fn test_mode_notes(&self, at: Millis, notes: &mut Vec<AlarmNote>) {
        if let Some(left) = self.test_mode_left(at) {
            let minutes = left.minutes_begun();
            let text = format!("TEST MODE: nothing is counted or refused for {minutes} more minutes");
            notes.push(AlarmNote::new("test_mode", "pool", text));
        }
    }

    fn pool_notes(&self, at: Millis, crests: &BTreeMap<Feature, PoolInstant>, notes: &mut Vec<AlarmNote>) {
        for feature in self.features() {
            let pool = self.instant(&feature, at);
            if let Some((cause, _)) = self.usage.get(&feature).and_then(|usage| usage.over_commit) {
                let why = match cause {
                    OverCommitCause::AdoptedLegs => "legs that the pool had not granted were recorded",
                    OverCommitCause::CapacityShrank => "capacity shrank under running calls",
                };
                let text = format!(
                    "{} of {} in use, {} more than the licenses permit: {why}",
                    pool.in_use,
                    pool.limit(),
                    pool.over_commit()
                );
                notes.push(AlarmNote::new("over_commit", &feature, text));
            }
            let crest = crests.get(&feature).filter(|crest| level(crest) > level(&pool)).unwrap_or(&pool);
            if let Some(name) = step(crest) {
                let overdraft = crest.overdraft;
                let text = format!(
                    "{} of {} units in use, {overdraft} more in overdraft",
                    crest.in_use, crest.capacity
                );
                notes.push(AlarmNote::new(name, &feature, text));
            }
        }
        if let Some(reason) = self.capacity(&Feature::Call, at).invalid {
            let text = "no license for call is valid: every new call is denied";
            notes.push(AlarmNote::new(reason.word(), Feature::Call, text));
        }
    }

    fn license_notes(&self, at: Millis, notes: &mut Vec<AlarmNote>) {
        let time = self.license_time(at);
        for (id, installed) in &self.licenses {
            let state = self.license_state(installed, at);
            let end = installed.document.not_after;
            match state {
                LicenseState::Corrupt => {
                    let text = if installed.activated() {
                        "the license does not match this machine: repair it with `license repair`"
                    } else {
                        "the license does not match this machine: have it issued anew"
                    };
                    notes.push(AlarmNote::new("license_corrupt", id, text));
                }
                LicenseState::Expired => {
                    notes.push(AlarmNote::new("license_expired", id, "the license's time is over"));
                }
                LicenseState::Grace => {
                    let left = installed.document.ends().unwrap_or(time).since(time);
                    let text = format!("the license's time is over; it still counts for {}", days(left));
                    notes.push(AlarmNote::new("license_grace", id, text));
                }
                LicenseState::Active => {
                    let left = end.map(|end| end.since(time));
                    let nearest = EXPIRY.iter().find(|(span, _)| left.is_some_and(|left| left <= *span));
                    if let (Some((_, name)), Some(left)) = (nearest, left) {
                        notes.push(AlarmNote::new(name, id, format!("the license ends in {}", days(left))));
                    }
                }
                LicenseState::NotYetValid | LicenseState::ReturnPending => {}
            }
        }
    }

    fn site_notes(&self, at: Millis, notes: &mut Vec<AlarmNote>) {
        let lately = |then: &Millis| at.since(*then) < RESYNCHRONIZED_SHOWN;
        if self.site.resynchronized_at.as_ref().is_some_and(lately) {
            let text = "the licensing server's books were ahead of these, as after a restore from a backup or \
                        when two machines share one state folder; they agree again";
            notes.push(AlarmNote::new("licenses_resynchronized", "licenses", text));
        }
        let activated = self.licenses.values().any(|installed| installed.activated());
        if let Some(answered) = self.site.answered_at.filter(|_| activated)
            && self.license_time(at).since(answered) >= UNANSWERED
        {
            let text = format!(
                "the licensing server has not answered for {}: renewals and revocations are not heard",
                days(self.license_time(at).since(answered))
            );
            notes.push(AlarmNote::new("licensing_silent", "licenses", text));
        }
    }

    fn node_notes(&self, live: &LiveView, at: Millis, notes: &mut Vec<AlarmNote>) {
        for holder in self.holders.values() {
            if holder.instance > 0 {
                let text = format!("machine {} uses the identity of this node too", holder.instance + 1);
                notes.push(AlarmNote::new("cloned_identity", &holder.node, text));
            }
            if let Some(lapsed) = holder.lapsed {
                let text = format!("silent for longer than the session TTL; {lapsed} leases were returned");
                notes.push(AlarmNote::new("session_lapsed", &holder.node, text));
            }
            // A second machine that is gone is no loss of contact.
            let silent = holder.silent_since.filter(|_| holder.instance == 0).map(|since| at.since(since));
            let longest = CONTACT.iter().find(|(span, _)| silent.is_some_and(|silent| silent >= *span));
            if let (Some((_, name)), Some(silent)) = (longest, silent) {
                let text = format!("nothing was heard of the node for {}", days(silent));
                notes.push(AlarmNote::new(name, &holder.node, text));
            }
        }
        for key in live.still_running.iter().filter(|key| self.tombstones.contains_key(*key)) {
            let text = "was released by force and has not ended";
            notes.push(AlarmNote::new("revoked_still_running", &key.leg, text));
        }
    }

    pub(crate) fn raise_alarm(&mut self, key: &AlarmKey, text: &Text, at: Millis, quiet: bool) {
        let told = self.alarm_book.get(key).filter(|_| quiet).map(|record| record.raised_at);
        let record =
            AlarmRecord { raised_at: told.unwrap_or(at), text: text.clone(), cleared_at: None, quiet };
        self.alarm_book.insert(key.clone(), record);
    }

    pub(crate) fn clear_alarm(&mut self, key: &AlarmKey, at: Millis) {
        if let Some(record) = self.alarm_book.get_mut(key) {
            record.cleared_at = Some(at);
        }
    }

    /// Alarms that were cleared long ago and, of more than the book holds, those that were cleared first.
    fn forgettable(&self, at: Millis) -> Vec<AlarmKey> {
        let cleared = self.alarm_book.iter().filter_map(|(key, record)| Some((record.cleared_at?, key)));
        let mut cleared: Vec<_> = cleared.collect();
        cleared.sort();
        let surplus = self.alarm_book.len().saturating_sub(MAX_ALARMS);
        let old = |then: Millis| at.since(then) >= FORGOTTEN_AFTER;
        let gone = cleared.into_iter().enumerate().filter(|(nth, (then, _))| *nth < surplus || old(*then));
        gone.map(|(_, (_, key))| key.clone()).collect()
    }
}

/// A span as people say it.
fn days(span: Millis) -> String {
    match span.0 {
        ms if ms >= 2 * Millis::DAY.0 => format!("{} days", ms / Millis::DAY.0),
        ms if ms >= 2 * Millis::HOUR.0 => format!("{} hours", ms / Millis::HOUR.0),
        ms => format!("{} minutes", ms / Millis::MINUTE.0),
    }
}

/// How full a pool is, in percent of its capacity; nothing when it has none or no limit.
fn level(pool: &PoolInstant) -> Option<u64> {
    if pool.capacity.is_zero() || pool.capacity == Units::UNLIMITED {
        return None;
    }
    Some(u64::from(pool.in_use.0) * 100 / u64::from(pool.capacity.0))
}

fn step(pool: &PoolInstant) -> Option<&'static str> {
    let level = level(pool)?;
    if pool.in_use > pool.capacity && !pool.overdraft.is_zero() {
        return Some("overdraft");
    }
    USE.iter().find(|(percent, _)| level >= *percent).map(|(_, name)| *name)
}

/// Whether a pool is so full that it is an alarm.
pub(crate) fn notable(pool: &PoolInstant) -> bool {
    step(pool).is_some()
}

/// Keeps how full a pool was since the last look: it can fill and empty between two.
pub(crate) fn note_crest(tx: &mut PoolTx<'_>, feature: Feature, pool: PoolInstant) {
    let crests = &mut tx.volatile_mut().crests;
    if level(&pool) > crests.get(&feature).and_then(level) {
        crests.insert(feature, pool);
    }
}

/// Raises what holds and clears what holds no more. What was raised a short while ago is raised quietly,
/// and told once the while is over. `around` is what the
/// shell knows and the books do not.
pub(crate) fn watch(tx: &mut PoolTx<'_>, at: Millis, around: Vec<AlarmNote>) {
    let crests = std::mem::take(&mut tx.volatile_mut().crests);
    let repeat = tx.volatile().settings.alarm_repeat;
    let live = tx.volatile().view();
    let mut notes = tx.state().conditions(&live, at, &crests);
    notes.extend(around);
    let mut holds = BTreeSet::new();
    for note in notes {
        let key = note.key();
        let known = tx.state().alarm_book.get(&key);
        let on = known.is_some_and(|record| record.cleared_at.is_none());
        let untold = known.is_some_and(|record| record.quiet);
        // A clock that was set back keeps no alarm quiet.
        let lately =
            known.is_some_and(|record| at >= record.raised_at && at.since(record.raised_at) < repeat);
        if !on || (untold && !lately) {
            let text = Text::clipped(&note.text);
            tx.emit(Event::AlarmRaised { key: key.clone(), text, at, quiet: lately });
        }
        holds.insert(key);
    }
    let over: Vec<_> = tx
        .state()
        .alarm_book
        .iter()
        .filter(|(key, record)| record.cleared_at.is_none() && !holds.contains(*key))
        .map(|(key, record)| (key.clone(), record.quiet))
        .collect();
    for (key, quiet) in over {
        tx.emit(Event::AlarmCleared { key, at, quiet });
    }
    for key in tx.state().forgettable(at) {
        tx.emit(Event::AlarmForgotten(key));
    }
}
