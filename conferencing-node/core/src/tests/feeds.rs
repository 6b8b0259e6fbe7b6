//! Platforms that tell afterwards.

use std::collections::BTreeMap;

use headroom_core::{DenialReason, Feature, Interop};
use proptest::prelude::*;

use super::story::status;
use super::*;
use crate::feed::{QUIET, TOLD_FOR};
use crate::{FeedEvent, Happened};

const SOURCE: &str = "feed:10.0.0.1";

fn source() -> SourceId {
    SourceId::new(SOURCE).expect("a source")
}

/// A leg of a call as the platform describes it.
fn described(call_name: &str, leg_name: &str, service: Service, interop: Option<Interop>) -> Call {
    let mut call = call(call_name, &[leg_name]);
    call.info = CallInfo { service, interop, source: source(), ..call.info };
    call
}

fn in_room(leg: &str) -> Happened {
    Happened::LegRuns(Box::new(described(leg, leg, Service::Vmr, None)))
}

fn ended(leg: &str) -> Happened {
    Happened::LegEnded(leg_id(leg))
}

/// A second of the platform's clock for each number.
fn event(seq: u64, what: Happened) -> FeedEvent {
    let at = Millis(1_700_000_000_000 + i64::try_from(seq).expect("small") * 1000);
    FeedEvent { source: source(), seq, at, what }
}

fn tell(rig: &mut Rig, events: Vec<FeedEvent>) {
    for event in events {
        let Reply::Ended { .. } = rig.run(Command::Feed { event }) else { panic!("ended") };
    }
    rig.settle();
}

fn tell_all(rig: &mut Rig, from: u64, what: impl IntoIterator<Item = Happened>) {
    tell(rig, (from..).zip(what).map(|(seq, what)| event(seq, what)).collect());
}

fn alarms(rig: &mut Rig) -> Vec<String> {
    status(rig).alarms
}

fn gap(rig: &mut Rig) -> bool {
    alarms(rig).contains(&format!("feed_gap:{SOURCE}"))
}

fn missed(rig: &Rig) -> u64 {
    rig.bench.state.feeds[&source()].missed
}

#[test]
fn legs_that_a_platform_tells_of_are_recorded_also_above_the_limit_and_released_at_their_end() {
    let mut rig = Rig::new(1);
    rig.settle();
    tell_all(&mut rig, 1, [Happened::FeedStarted, in_room("a"), in_room("b")]);
    rig.check_rest();
    assert_eq!(rig.pool.held.len(), 2);
    // All of it once more changes nothing.
    let before = rig.bench.state.counters.revision;
    tell_all(&mut rig, 1, [Happened::FeedStarted, in_room("a"), in_room("b")]);
    assert_eq!(rig.bench.state.counters.revision, before);
    tell_all(&mut rig, 4, [ended("a"), ended("b"), ended("c")]);
    rig.check_rest();
    assert!(rig.pool.held.is_empty());
    // What was told of them comes late.
    tell(&mut rig, vec![event(2, in_room("a"))]);
    assert!(rig.bench.state.legs.is_empty());
    assert!(!gap(&mut rig) && missed(&rig) == 0);
    rig.check_snapshot();
}

#[test]
fn a_number_that_is_left_out_is_told_until_every_leg_was_heard_of_and_for_an_hour() {
    let mut rig = Rig::new(9);
    rig.settle();
    tell_all(&mut rig, 1, [Happened::FeedStarted, in_room("a"), in_room("b"), in_room("c")]);
    tell(&mut rig, vec![event(8, in_room("d"))]);
    assert!(gap(&mut rig));
    assert_eq!(missed(&rig), 3);
    assert_eq!(rig.bench.state.doubtful.len(), 3, "d was heard of since");
    rig.check_snapshot();
    rig.restart();
    assert!(gap(&mut rig));
    tell_all(&mut rig, 9, [in_room("a"), ended("b")]);
    rig.tick(TOLD_FOR);
    assert!(gap(&mut rig), "nothing was heard of c");
    tell(&mut rig, vec![event(11, in_room("c"))]);
    rig.tick(Millis::MINUTE);
    assert!(!gap(&mut rig));
    assert_eq!(rig.bench.state.legs.len(), 3);
    tell(&mut rig, vec![event(12, Happened::Unreadable)]);
    assert!(gap(&mut rig), "what cannot be read may have been an end");
    assert_eq!(missed(&rig), 4);
}

#[test]
fn a_leg_whose_end_was_not_heard_is_released_after_a_day_and_one_that_was_heard_of_is_not() {
    let mut rig = Rig::new(9);
    rig.settle();
    tell_all(&mut rig, 1, [Happened::FeedStarted, in_room("a"), in_room("b")]);
    tell(&mut rig, vec![event(5, in_room("b"))]);
    for seq in 6..10 {
        rig.tick(Millis(QUIET.0 / 4));
        tell(&mut rig, vec![event(seq, Happened::Other)]);
    }
    rig.check_rest();
    assert_eq!(rig.pool.held.keys().map(LegId::as_str).collect::<Vec<_>>(), ["b"]);
    assert!(!gap(&mut rig));
}

#[test]
fn a_platform_with_nothing_to_tell_keeps_its_legs_for_a_day() {
    let mut rig = Rig::new(9);
    rig.settle();
    tell_all(&mut rig, 1, [Happened::FeedStarted, in_room("a")]);
    let hours = |rig: &mut Rig, hours: i64| {
        for _ in 0..hours {
            rig.tick(Millis::HOUR);
            rig.settle();
        }
    };
    let silent = format!("source_silent:{SOURCE}");
    hours(&mut rig, 11);
    assert!(!alarms(&mut rig).contains(&silent));
    hours(&mut rig, 2);
    assert!(alarms(&mut rig).contains(&silent));
    assert_eq!(rig.pool.held.len(), 1);
    hours(&mut rig, 11);
    rig.check_rest();
    assert!(rig.pool.held.is_empty());
}

#[test]
fn numbers_begin_anew_and_what_was_kept_from_before_is_taken_and_not_counted() {
    let mut rig = Rig::new(9);
    rig.settle();
    tell_all(&mut rig, 1, [Happened::FeedStarted, in_room("a"), in_room("b")]);
    // Started anew after the fifth event, of which the last two come only now.
    let anew = |seq: u64, what| FeedEvent { seq, ..event(seq + 100, what) };
    tell(&mut rig, vec![anew(1, Happened::FeedStarted), event(4, ended("a")), anew(2, in_room("c"))]);
    assert!(gap(&mut rig), "ends may have been lost while it was started");
    assert_eq!((missed(&rig), rig.bench.state.feeds[&source()].seq), (0, 2));
    tell(&mut rig, vec![event(5, in_room("b")), anew(3, Happened::Other)]);
    rig.tick(TOLD_FOR);
    assert!(gap(&mut rig), "b is in doubt: what was kept from before says nothing of now");
    tell(&mut rig, vec![anew(4, in_room("b"))]);
    rig.tick(Millis::MINUTE);
    assert!(!gap(&mut rig) && missed(&rig) == 0);
    assert_eq!(rig.bench.state.legs.keys().map(LegId::as_str).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn a_leg_that_goes_from_a_reception_into_a_hosted_meeting_is_paid_by_the_meetings_plan() {
    let mut rig = Rig::new(9);
    rig.settle();
    let at = |leg: &str, call: &str, service, interop| {
        Happened::LegRuns(Box::new(described(call, leg, service, interop)))
    };
    tell_all(&mut rig, 1, [Happened::FeedStarted, at("in", "x", Service::Reception, None)]);
    tell(&mut rig, vec![event(3, at("in", "rule:1", Service::Gateway, None))]);
    rig.check_rest();
    assert_eq!(rig.pool.held[&leg_id("in")].1.feature, Feature::Call);
    tell(&mut rig, vec![event(4, at("out", "rule:1", Service::Gateway, Some(Interop::Teams)))]);
    rig.check_rest();
    let features: Vec<_> = rig.pool.held.values().map(|(_, charge)| charge.feature.clone()).collect();
    assert_eq!(features, [Feature::ConnectTeams, Feature::ConnectTeams]);
    // Told again without it, the inbound leg stays what it is.
    let before = rig.bench.state.counters.revision;
    tell(&mut rig, vec![event(5, at("in", "rule:1", Service::Gateway, None))]);
    assert_eq!(rig.bench.state.counters.revision, before);
    tell_all(&mut rig, 6, [ended("out"), ended("in")]);
    rig.check_rest();
    assert!(rig.pool.held.is_empty());
}

#[test]
fn a_call_that_has_yet_to_begin_is_refused_when_it_would_be_and_the_refusal_is_recorded() {
    let mut rig = Rig::new(1);
    let foresee =
        |rig: &mut Rig| match rig.run(Command::Foresee { call: described("c", "x", Service::Vmr, None) }) {
            Reply::Foreseen(reason) => reason,
            other => panic!("{other:?}"),
        };
    assert_eq!(foresee(&mut rig), Some(DenialReason::NotEnrolled));
    rig.settle();
    assert_eq!(foresee(&mut rig), None);
    tell_all(&mut rig, 1, [Happened::FeedStarted, in_room("a")]);
    rig.tick(Millis(15_000));
    rig.settle();
    assert_eq!(foresee(&mut rig), Some(DenialReason::InsufficientLicenses));
    tell(&mut rig, vec![event(3, ended("a"))]);
    rig.tick(Millis(15_000));
    rig.settle();
    assert!(rig.bench.state.past.is_empty(), "the pool has recorded the refusals");
    assert_eq!(foresee(&mut rig), None);
    rig.run(Command::Drain { on: true });
    assert_eq!(foresee(&mut rig), Some(DenialReason::Draining));
    assert!(rig.bench.state.legs.is_empty(), "nothing is counted");
}

/// What happens on the way of an event, or before it.
#[derive(Debug, Clone)]
enum Step {
    Begins(u8),
    Changes(u8),
    Ends(u8),
    StartsAnew,
    /// The last events come again, as after an answer that was lost.
    Again(u8),
    /// The next events are lost.
    Lost(u8),
    NodeRestarts,
    Cut(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8_u8).prop_map(Step::Begins),
        3 => (0..8_u8).prop_map(Step::Changes),
        5 => (0..8_u8).prop_map(Step::Ends),
        1 => Just(Step::StartsAnew),
        2 => (1..4_u8).prop_map(Step::Again),
        1 => (1..3_u8).prop_map(Step::Lost),
        1 => Just(Step::NodeRestarts),
        1 => any::<bool>().prop_map(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No release that reached the node is lost, no leg that ended comes back, every lost event is noticed.
    #[test]
    fn the_legs_are_those_the_platform_runs_whatever_happens_on_the_way(steps in prop::collection::vec(step(), 1..60)) {
        let mut rig = Rig::new(3);
        rig.settle();
        let (mut seq, mut clock, mut lost) = (0, 0, 0);
        let (mut missed_any, mut noticed) = (false, false);
        // The numbers do not tell of what was lost right before they begin anew, when nothing ran; nor when that itself
        // is lost, and the first number heard since is by chance the one that would have come.
        let (mut untold, mut lost_start) = (false, false);
        // Legs have ids that are used once; what the platform runs, and what the node was told.
        let (mut uses, mut runs, mut told) = ([0_u32; 8], BTreeMap::new(), BTreeMap::new());
        let mut sent: Vec<FeedEvent> = Vec::new();
        let mut muted: BTreeMap<String, bool> = BTreeMap::new();
        for step in std::iter::once(Step::StartsAnew).chain(steps) {
            rig.pass(Millis(300));
            clock += 1;
            let name = |n: u8, uses: &[u32; 8]| format!("leg{n}-{}", uses[usize::from(n)]);
            let what = match step {
                Step::StartsAnew => {
                    seq = 0;
                    untold |= missed_any && rig.bench.state.legs.is_empty();
                    lost_start = lost > 0;
                    Happened::FeedStarted
                }
                Step::Begins(n) => {
                    let leg = name(n, &uses);
                    runs.insert(leg.clone(), ());
                    in_room(&leg)
                }
                Step::Changes(n) => {
                    let leg = name(n, &uses);
                    if !runs.contains_key(&leg) { continue }
                    let off = muted.entry(leg.clone()).or_default();
                    *off = !*off;
                    let mut call = described(&leg, &leg, Service::Vmr, None);
                    if *off { call.legs[0].media = Media::CONTROL_ONLY }
                    Happened::LegRuns(Box::new(call))
                }
                Step::Ends(n) => {
                    let leg = name(n, &uses);
                    if runs.remove(&leg).is_none() { continue }
                    uses[usize::from(n)] += 1;
                    ended(&leg)
                }
                Step::Again(n) => {
                    let from = sent.len().saturating_sub(n.into());
                    tell(&mut rig, sent[from..].to_vec());
                    continue;
                }
                Step::Lost(n) => { lost += n; continue }
                Step::NodeRestarts => { rig.restart(); rig.settle(); continue }
                Step::Cut(off) => { rig.connected = !off; continue }
            };
            seq += 1;
            let event = FeedEvent { source: source(), seq, at: Millis(clock), what };
            if lost > 0 {
                lost -= 1;
                missed_any = true;
                continue;
            }
            let expected = rig.bench.state.heard(&source()).seq + 1;
            untold |= std::mem::take(&mut lost_start) && seq == expected;
            match &event.what {
                Happened::LegRuns(call) => { told.insert(call.legs[0].leg.as_str().to_owned(), ()); }
                Happened::LegEnded(leg) => { told.remove(leg.as_str()); }
                _ => {}
            }
            sent.push(event.clone());
            tell(&mut rig, vec![event]);
            noticed |= gap(&mut rig);
        }
        clock += 1;
        seq += 1;
        untold |= lost_start && seq == rig.bench.state.heard(&source()).seq + 1;
        tell(&mut rig, vec![FeedEvent { source: source(), seq, at: Millis(clock), what: Happened::Other }]);
        let here: Vec<_> = rig.bench.state.legs.keys().map(|leg| leg.as_str().to_owned()).collect();
        prop_assert_eq!(&here, &told.keys().cloned().collect::<Vec<_>>());
        if missed_any {
            prop_assert!(noticed || gap(&mut rig) || untold, "a gap is noticed");
        } else {
            prop_assert_eq!(&here, &runs.keys().cloned().collect::<Vec<_>>());
        }
        rig.connected = true;
        rig.tick(Millis::MINUTE);
        rig.settle();
        rig.check_rest();
        rig.check_snapshot();
        // A day later nothing is left of legs that have ended, and those that were heard of are there.
        for leg in runs.keys() {
            seq += 1;
            clock += 1;
            let what = in_room(leg);
            tell(&mut rig, vec![FeedEvent { source: source(), seq, at: Millis(clock), what }]);
        }
        rig.tick(Millis(QUIET.0 - Millis::HOUR.0));
        clock += 1;
        tell(&mut rig, vec![FeedEvent { source: source(), seq: seq + 1, at: Millis(clock), what: Happened::Other }]);
        rig.tick(Millis::HOUR);
        rig.settle();
        let here: Vec<_> = rig.bench.state.legs.keys().map(|leg| leg.as_str().to_owned()).collect();
        if !untold {
            prop_assert_eq!(here, runs.into_keys().collect::<Vec<_>>());
        }
        rig.check_rest();
    }
}

#[test]
fn a_source_that_began_anew_unheard_is_noticed_and_one_with_a_wrong_clock_is_heard_on() {
    let mut rig = Rig::new(9);
    rig.settle();
    tell_all(&mut rig, 1, [Happened::FeedStarted, in_room("a"), in_room("b"), Happened::Other]);
    let later = FeedEvent { seq: 3, ..event(100, in_room("a")) };
    tell(&mut rig, vec![later.clone(), later]);
    assert!(gap(&mut rig));
    assert_eq!((missed(&rig), rig.bench.state.doubtful.len()), (2, 1));
    rig.tick(Millis::HOUR);
    // Its clock is ten years ahead as it starts, and right afterwards.
    let ahead = Millis::DAY.times(3652);
    let started = FeedEvent { seq: 1, at: rig.now.wall.plus(ahead), ..event(1, Happened::FeedStarted) };
    tell(&mut rig, vec![started]);
    rig.pass(Millis::SECOND);
    let now = rig.now.wall;
    tell(&mut rig, vec![FeedEvent { seq: 3, at: now, ..event(1, ended("b")) }]);
    assert_eq!(missed(&rig), 3, "the second was not heard");
}

#[test]
fn a_leg_that_was_given_up_is_recorded_again_by_its_next_event() {
    let mut rig = Rig::new(9);
    rig.settle();
    tell_all(&mut rig, 1, [Happened::FeedStarted, in_room("a")]);
    rig.tick(QUIET);
    rig.settle();
    assert!(rig.bench.state.legs.is_empty());
    tell(&mut rig, vec![event(3, in_room("a"))]);
    rig.check_rest();
    assert_eq!(rig.pool.held.len(), 1);
}

#[test]
fn a_leg_of_a_media_server_that_asks_is_not_ended_or_taken_over_by_a_feed() {
    let mut rig = Rig::new(9);
    rig.settle();
    rig.admit(call("c", &["a"]));
    tell_all(&mut rig, 1, [Happened::FeedStarted, ended("a"), in_room("a")]);
    assert_eq!(rig.bench.state.legs[&leg_id("a")].source(), &SourceId::default());
}
