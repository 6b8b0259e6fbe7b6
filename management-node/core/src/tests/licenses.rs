//! Licenses over their life: requests, test mode, license time, alarms.

use headroom_core::activation::{Answer, Holding, Outcome, VerifiedAnswer, Wish};
use headroom_core::entitlement::{EntitlementKey, RANDOM_BYTES};
use headroom_core::license::{SigningKey, TrustedKeys, sign};

use super::*;

fn key() -> EntitlementKey {
    EntitlementKey::from_random([1; RANDOM_BYTES])
}

fn machine() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn id(id: &str) -> LicenseId {
    LicenseId::new(id).expect("an id")
}

impl Fixture {
    fn wish(&mut self, wish: Wish, nonce: u8) -> Result<LicenseRequest, Refusal> {
        let wanted = Wanted {
            wish,
            nonce: LicenseNonce([nonce; 16]),
            manual: false,
            machine: machine().public_key(),
            software: Text::default(),
        };
        match self.run(Command::Request(wanted)) {
            Reply::Requested(result) => result.map(|open| open.as_ref().clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Applies an answer that lists these licenses, each activated.
    fn answered(
        &mut self,
        nonce: u8,
        revision: u64,
        held: &[(&str, u32)],
        outcome: Outcome,
    ) -> Result<Applied, Refusal> {
        let vendor = SigningKey::from_seed(&[1; 32]);
        let licenses: Vec<_> = held
            .iter()
            .map(|(id, units)| LicenseDocument { machine_sequence: 1, ..license(id, "call", *units, 0) })
            .map(|document| sign(document, &vendor).expect("signs"))
            .collect();
        let holdings =
            licenses.iter().map(|l| Holding { license: l.signed().clone(), key: Some(key()) }).collect();
        let answer = Answer {
            nonce: LicenseNonce([nonce; 16]),
            machine: machine().public_key().id(),
            sequence: 1,
            revision,
            at: self.now.wall,
            outcome,
            certificate: None,
            holdings,
            ended: Vec::new(),
            offers: Vec::new(),
        };
        let trusted = TrustedKeys::from(vendor.public_key());
        let answer = Box::new(VerifiedAnswer { answer, licenses, trusted });
        let again = LicenseNonce([99; 16]);
        match self.run(Command::ApplyAnswer { answer, just_now: true, again }) {
            Reply::Applied(result) => *result,
            other => panic!("{other:?}"),
        }
    }

    fn state_of(&self, license: &str) -> Option<LicenseState> {
        let installed = self.bench.state.licenses.get(&id(license))?;
        Some(self.bench.state.license_state(installed, self.now.wall))
    }

    fn capacity(&self) -> Units {
        self.bench.state.capacity(&Feature::Call, self.now.wall).capacity
    }

    /// Lets time pass on both clocks, and ticks.
    fn leap(&mut self, span: Millis) {
        self.now.wall = self.now.wall.plus(span);
        self.now.boot = self.now.boot.plus(span);
        self.tick();
    }

    fn tick(&mut self) {
        self.run(Command::Tick { around: Vec::new() });
    }

    fn on(&self) -> Vec<String> {
        let on = self.bench.state.alarm_book.iter().filter(|(_, record)| record.cleared_at.is_none());
        on.map(|(key, _)| key.name.to_string()).collect()
    }

    fn raised(&self, name: &str) -> usize {
        let raised = |event: &&Event| matches!(event, Event::AlarmRaised { key, quiet: false, .. } if key.name.as_str() == name);
        self.bench.events.iter().filter(raised).count()
    }
}

#[test]
fn a_request_is_numbered_before_it_is_shown_and_the_same_wish_has_one() {
    let mut f = Fixture::new();
    let first = f.wish(Wish::Activate(key()), 1).expect("a request");
    let again = f.wish(Wish::Activate(key()), 2).expect("the same");
    assert_eq!(first, again);
    assert_eq!(first.request.sequence, 1);
    f.restart();
    assert_eq!(f.wish(Wish::Refresh, 3).expect("another").request.sequence, 2);
    assert_eq!(f.bench.state.requests.len(), 2);
}

#[test]
fn a_license_counts_from_its_answer_on_and_until_then_calls_are_told_so() {
    let mut f = Fixture::new();
    let mut a = f.node("a");
    assert_eq!(f.ask(&mut a, one("0")), Verdict::Denied(DenialReason::NoLicense));
    f.wish(Wish::Activate(key()), 1).expect("a request");
    assert_eq!(f.ask(&mut a, one("1")), Verdict::Denied(DenialReason::LicenseNotActivated));
    f.answered(1, 1, &[("L", 10)], Outcome::Done).expect("applied");
    assert!(f.grants(&mut a, one("2")));
    assert_eq!(f.wish(Wish::Activate(key()), 2), Err(Refusal::KeyInstalled(id("L"))));
    assert_eq!(f.answered(1, 1, &[("L", 10)], Outcome::Done), Err(Refusal::AnswersNoRequest), "a replay");
}

#[test]
fn a_license_being_returned_counts_nothing_and_a_return_that_is_out_is_not_cancelled() {
    let mut f = Fixture::new();
    f.wish(Wish::Activate(key()), 1).expect("a request");
    f.answered(1, 1, &[("L", 10)], Outcome::Done).expect("applied");
    f.wish(Wish::Return(id("L")), 2).expect("a request");
    assert_eq!((f.state_of("L"), f.capacity()), (Some(LicenseState::ReturnPending), Units::ZERO));
    let cancelled = |f: &mut Fixture, nonce| match f.run(Command::CancelRequest(LicenseNonce([nonce; 16]))) {
        Reply::Changed(result) => result,
        other => panic!("{other:?}"),
    };
    assert_eq!(cancelled(&mut f, 2), Ok(()));
    assert_eq!(f.capacity(), Units(10), "nobody had seen it");
    f.wish(Wish::Return(id("L")), 3).expect("a request");
    f.run(Command::MarkRequest { nonce: LicenseNonce([3; 16]), mark: Mark::Exported });
    f.restart();
    assert_eq!(cancelled(&mut f, 3), Err(Refusal::ReturnIsOut(id("L"))));
    assert_eq!(f.capacity(), Units::ZERO);
    f.answered(3, 2, &[], Outcome::Done).expect("applied");
    assert_eq!(f.state_of("L"), None);
}

#[test]
fn an_answer_that_is_older_than_one_applied_closes_its_request_and_changes_nothing() {
    let mut f = Fixture::new();
    f.wish(Wish::Activate(key()), 1).expect("a request");
    f.wish(Wish::Refresh, 2).expect("a request");
    f.answered(2, 5, &[("L", 10), ("M", 5)], Outcome::Done).expect("applied");
    f.answered(1, 4, &[("L", 10)], Outcome::Done).expect("applied");
    assert_eq!(f.capacity(), Units(15));
    assert!(f.bench.state.requests.is_empty());
}

#[test]
fn a_wish_that_the_server_did_not_look_at_is_asked_again_unless_it_came_true() {
    let mut f = Fixture::new();
    f.wish(Wish::Activate(key()), 1).expect("a request");
    f.answered(1, 1, &[("L", 10)], Outcome::Done).expect("applied");
    f.wish(Wish::Return(id("L")), 2).expect("a request");
    let applied = f.answered(2, 3, &[("L", 10)], Outcome::Resynchronized).expect("applied");
    let renewed = applied.renewed.expect("asked again");
    assert_eq!((renewed.request.wish.clone(), renewed.request.sequence), (Wish::Return(id("L")), 3));
    assert_eq!(f.state_of("L"), Some(LicenseState::ReturnPending));
    let applied = f.answered(99, 4, &[], Outcome::Resynchronized).expect("applied");
    assert_eq!(applied.renewed, None, "it is returned already");
    assert_eq!(f.state_of("L"), None);
}

#[test]
fn what_was_installed_from_a_file_stays_when_an_answer_does_not_list_it() {
    let mut f = Fixture::with_ten();
    f.wish(Wish::Refresh, 1).expect("a request");
    f.answered(1, 1, &[], Outcome::Done).expect("applied");
    assert_eq!(f.capacity(), Units(10));
    assert!(matches!(f.wish(Wish::Return(id("L1")), 2), Err(Refusal::NotActivated(_))));
    let deleted = f.run(Command::DeleteLicense(id("L1")));
    assert!(matches!(deleted, Reply::Changed(Ok(()))), "{deleted:?}");
    assert_eq!(f.capacity(), Units::ZERO);
}

#[test]
fn a_license_taken_out_of_its_answer_is_not_installed_as_a_file() {
    let mut f = Fixture::new();
    let document = LicenseDocument { machine_sequence: 3, ..license("L", "call", 10, 0) };
    assert_eq!(f.install(document), Err(Refusal::NeedsItsAnswer(id("L"))));
}

#[test]
fn a_reboot_counts_the_time_up_once_and_a_fresh_license_counts_at_once() {
    let mut f = Fixture::new();
    f.leap(Millis::DAY.times(3));
    let before = f.bench.state.license_time(f.now.wall);
    f.bench.restart();
    // Off for 40 days, up for 7 hours when the service starts.
    let up = Millis::HOUR.times(7);
    f.now = Now { wall: f.now.wall.plus(Millis::DAY.times(40)).plus(up), boot: up };
    let settings = Settings::default();
    f.run(Command::Start { settings, fingerprint: fingerprint("here"), boot_id: BootId([2; 16]) });
    let shown = f.bench.state.license_time(f.now.wall);
    assert_eq!(shown, before.plus(up));
    let mut document = license("L", "call", 10, 0);
    (document.not_before, document.issued_at) = (f.now.wall, f.now.wall);
    f.install(document).expect("installs");
    assert_eq!(f.state_of("L"), Some(LicenseState::Active), "its vendor's time is believed");
}

#[test]
fn expiry_and_grace_act_at_the_next_request_and_no_clock_that_is_set_back_revives() {
    let mut f = Fixture::new();
    let end = f.now.wall.plus(Millis::HOUR);
    let mut document = license("L", "call", 10, 0);
    (document.not_after, document.grace_days) = (Some(end), Some(1));
    f.install(document).expect("installs");
    let mut a = f.node("a");
    assert_eq!(f.state_of("L"), Some(LicenseState::Active));
    f.leap(Millis::HOUR);
    assert_eq!(f.state_of("L"), Some(LicenseState::Grace));
    assert!(f.on().contains(&"license_grace".to_owned()), "{:?}", f.on());
    assert!(f.grants(&mut a, one("1")));
    f.leap(Millis::DAY);
    assert_eq!(f.ask(&mut a, one("2")), Verdict::Denied(DenialReason::LicenseExpired));
    f.now.wall = Millis(1_000_000);
    assert_eq!(f.ask(&mut a, one("3")), Verdict::Denied(DenialReason::LicenseExpired));
    f.restart();
    assert_eq!(f.ask(&mut a, one("4")), Verdict::Denied(DenialReason::LicenseExpired));
}

#[test]
fn a_minute_with_the_clock_ten_years_ahead_ends_nothing() {
    let mut f = Fixture::new();
    let mut document = license("L", "call", 10, 0);
    document.not_after = Some(f.now.wall.plus(Millis::DAY.times(100)));
    f.install(document).expect("installs");
    let mut a = f.node("a");
    f.now.wall = f.now.wall.plus(Millis::DAY.times(3650));
    assert!(f.grants(&mut a, one("1")));
    f.leap(Millis::MINUTE);
    f.restart();
    f.now.wall = Millis(f.now.wall.0 - Millis::DAY.times(3650).0);
    f.tick();
    assert_eq!(f.state_of("L"), Some(LicenseState::Active));
}

#[test]
fn test_mode_is_without_limits_for_eight_hours_and_not_again_while_its_leases_remain() {
    let mut f = Fixture::new();
    let mut a = f.node("a");
    let turn = |f: &mut Fixture, on| match f.run(Command::TestMode(on)) {
        Reply::Changed(result) => result,
        other => panic!("{other:?}"),
    };
    turn(&mut f, true).expect("on");
    assert!(matches!(turn(&mut f, true), Err(Refusal::TestModeOn { .. })));
    for n in 0..50 {
        assert!(f.grants(&mut a, one(&n.to_string())), "without any license");
    }
    f.tick();
    assert!(f.on().contains(&"test_mode".to_owned()), "{:?}", f.on());
    f.restart();
    f.now.wall = Millis(1_000);
    f.leap(Millis(TEST_MODE.0 - 60_000));
    assert!(f.bench.state.test_mode.on(), "neither a restart nor a clock set back changes it");
    f.leap(Millis::MINUTE);
    assert!(!f.bench.state.test_mode.on());
    assert!(f.on().contains(&"over_commit".to_owned()), "no call is cut: {:?}", f.on());
    assert_eq!(f.ask(&mut a, one("x")), Verdict::Denied(DenialReason::NoLicense));
    let held = f.bench.state.leases.len() as u64;
    assert_eq!(
        turn(&mut f, true),
        if held == 0 { Ok(()) } else { Err(Refusal::TestModeHeld { leases: held }) }
    );
    for n in 0..50 {
        f.release(&mut a, &n.to_string());
    }
    let _ = turn(&mut f, true);
    assert!(f.bench.state.test_mode.on(), "any number of times");
    turn(&mut f, false).expect("off");
    assert!(!f.bench.state.test_mode.on());
}

#[test]
fn use_raises_one_step_at_a_time_not_again_at_once_and_clears() {
    let mut f = Fixture::new();
    f.install(license("L", "call", 20, 2)).expect("installs");
    let mut a = f.node("a");
    let fill = |f: &mut Fixture, a: &mut Peer, to: u32| {
        for n in 0..to {
            f.ask(a, one(&n.to_string()));
        }
        f.tick();
    };
    for (units, alarm) in [
        (15, None),
        (16, Some("capacity_80")),
        (18, Some("capacity_90")),
        (19, Some("capacity_95")),
        (20, Some("capacity_100")),
        (21, Some("overdraft")),
    ] {
        fill(&mut f, &mut a, units);
        let on: Vec<_> = f.on().into_iter().filter(|name| name != "session_lapsed").collect();
        assert_eq!(on, alarm.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{units} in use");
    }
    for n in 10..21 {
        f.release(&mut a, &n.to_string());
    }
    // It was full since the last look; at the next one it is not.
    f.tick();
    f.tick();
    assert_eq!(f.on(), Vec::<String>::new());
    fill(&mut f, &mut a, 16);
    let on = vec!["capacity_80".to_owned()];
    assert_eq!((f.on(), f.raised("capacity_80")), (on.clone(), 1), "on, and not told again so soon");
    f.tick();
    assert_eq!(f.raised("capacity_80"), 1);
    f.bench.volatile.settings.alarm_repeat = Millis(0);
    f.tick();
    assert_eq!((f.on(), f.raised("capacity_80")), (on, 2));
}

#[test]
fn a_pool_that_is_full_between_two_looks_is_not_overlooked() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    for n in 0..10 {
        assert!(f.grants(&mut a, one(&n.to_string())));
    }
    for n in 0..10 {
        f.release(&mut a, &n.to_string());
    }
    f.tick();
    assert_eq!(f.raised("capacity_100"), 1);
    f.tick();
    assert_eq!(f.on(), Vec::<String>::new());
}

#[test]
fn a_licenses_end_is_announced_from_thirty_days_on_in_steps() {
    let mut f = Fixture::new();
    let mut document = license("L", "call", 10, 0);
    document.not_after = Some(f.now.wall.plus(Millis::DAY.times(31)));
    f.install(document).expect("installs");
    let mut seen = Vec::new();
    for _ in 0..32 {
        f.leap(Millis::DAY);
        let on = f.on().into_iter().filter(|name| name.starts_with("license_exp"));
        seen.extend(on);
    }
    seen.dedup();
    let expected = ["30d", "14d", "7d", "3d", "1d"].map(|span| format!("license_expires_{span}"));
    assert_eq!(seen[..5], expected);
    assert_eq!(seen[5..], ["license_expired".to_owned()]);
}

#[test]
fn a_silent_node_is_announced_in_steps_up_to_the_end_of_its_grace() {
    let mut f = Fixture::with_ten();
    f.node("a");
    let mut seen = Vec::new();
    let mut look = |f: &mut Fixture, span: Millis, times: i64| {
        for _ in 0..times {
            f.leap(span);
            seen.extend(f.on().into_iter().filter(|name| name.starts_with("out_of_contact")));
        }
    };
    // Liveness moves at most two seconds a tick.
    look(&mut f, Millis::SECOND.times(2), 200);
    look(&mut f, Millis::MINUTE.times(10), 200);
    look(&mut f, Millis::HOUR.times(6), 60);
    seen.dedup();
    assert_eq!(seen, ["5m", "1h", "24h", "7d", "12d", "13d"].map(|span| format!("out_of_contact_{span}")));
}
