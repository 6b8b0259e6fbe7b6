//! The pool as metrics.

use headroom_core::Millis;
use headroom_core::time::Clock;
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::Handle;
use headroom_shared::metrics::Sample;
use management_core::{AlarmNote, LiveView, Phase, Pool, PoolMachine};

/// What an administrator should look at around the books.
pub(crate) fn around(pool: &Handle<PoolMachine>) -> Vec<AlarmNote> {
    let mut notes = Vec::new();
    if pool.snapshot_postponed() {
        let text = "the disk is nearly full: no snapshot is written, and the log grows until it ends the \
                    service; make room";
        notes.push(AlarmNote::new("snapshot_postponed", "store", text));
    }
    notes
}

/// What an administrator should look at: in the books, and around them.
pub(crate) fn alarms(
    pool: &Handle<PoolMachine>,
    state: &Pool,
    live: &LiveView,
    at: Millis,
) -> Vec<AlarmNote> {
    let mut alarms = state.alarms(live, at);
    alarms.extend(around(pool));
    alarms
}

/// Takes a sample of the published state.
pub(crate) fn sample(pool: &Handle<PoolMachine>, live: &LiveView) -> Sample {
    let sample = Sample::default();
    let (view, at) = (pool.view(), SystemClock.now().wall);
    let state = &view.state;
    for feature in state.features() {
        let (instant, usage) = (state.instant(&feature, at), state.usage.get(&feature).copied());
        let labels = [("feature", feature.as_str())];
        let gauge = |name, meaning, units: u32| sample.gauge(name, meaning, &labels, u64::from(units));
        gauge("headroom_pool_units_in_use", "Units in use.", instant.in_use.0);
        gauge("headroom_pool_units_capacity", "Units of all valid licenses.", instant.capacity.0);
        gauge("headroom_pool_units_overdraft", "Units permitted above capacity.", instant.overdraft.0);
        let above = instant.in_use.above(instant.capacity);
        gauge("headroom_pool_units_in_overdraft", "Units in use above capacity.", above.0);
        gauge("headroom_pool_units_over_commit", "Units in use above the licenses.", instant.over_commit().0);
        gauge("headroom_pool_units_peak", "The most units ever in use.", usage.unwrap_or_default().peak.0);
    }
    sample.gauge("headroom_leases", "Leases held.", &[], state.leases.len() as u64);
    sample.gauge("headroom_calls", "Calls with at least one leg.", &[], state.counters.calls);
    let test_mode = u64::from(state.test_mode.on());
    sample.gauge(
        "headroom_test_mode",
        "1 while test mode is on: nothing is counted or refused.",
        &[],
        test_mode,
    );
    for (id, installed) in &state.licenses {
        let labels = [("license", id.as_str()), ("state", state.license_state(installed, at).word())];
        sample.gauge("headroom_license", "1 for the state of each license.", &labels, 1);
        if let Some(end) = installed.document.ends() {
            let left = end.since(state.license_time(at)).0.unsigned_abs() / 1000;
            let labels = [("license", id.as_str())];
            sample.gauge("headroom_license_seconds_left", "Until the license counts no more.", &labels, left);
        }
    }
    sample.counter("headroom_denials_total", "Requests denied.", &[], state.counters.denial);
    sample.gauge("headroom_queue_waiting", "Commands that wait to be decided.", &[], pool.waiting() as u64);
    let refused = pool.refused();
    let meaning = "Commands refused undecided because too many waited before them.";
    sample.counter("headroom_refused_overloaded_total", meaning, &[], refused.overloaded);
    let meaning = "Commands refused undecided because they had waited too long.";
    sample.counter("headroom_refused_expired_total", meaning, &[], refused.expired);
    sample.counter("headroom_records_total", "Durable records.", &[], view.position.sequence);
    let writing = u64::from(pool.snapshot_writing());
    sample.gauge("headroom_snapshot_writing", "1 while a snapshot is being written.", &[], writing);
    let sessions = |wanted: fn(&Phase) -> bool| {
        let sessions = state.holders.values().filter_map(|holder| holder.session.as_ref());
        sessions.filter(|session| wanted(&session.phase)).count() as u64
    };
    let meaning = "Sessions of nodes.";
    sample.gauge("headroom_sessions", meaning, &[("phase", "active")], sessions(|p| *p == Phase::Active));
    sample.gauge("headroom_sessions", meaning, &[("phase", "reporting")], sessions(|p| *p != Phase::Active));
    for alarm in alarms(pool, state, live, at) {
        let labels = [("name", alarm.name), ("subject", alarm.subject.as_str())];
        sample.gauge("headroom_alarm", "1 while the alarm is on.", &labels, 1);
    }
    sample
}
