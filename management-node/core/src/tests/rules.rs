//! The rules of rating and capacity, through the pool.

use super::*;

#[test]
fn a_reserved_leg_is_freed_unless_its_node_claims_it_in_time() {
    let mut f = Fixture::with_ten();
    let (mut a, mut b) = (f.node("a"), f.node("b"));
    let mut split = gateway("g");
    split.legs[1].owner = Some(b.name.clone());
    assert!(f.grants(&mut a, split.clone()));
    assert_eq!(f.in_use(), 2);
    assert_eq!(f.held(&b), LegSet::default(), "a reserved leg is not in the node's digest");
    f.pass(31);
    assert_eq!(f.in_use(), 1);
    let late = call("g", Service::Gateway, vec![leg("g.out")]);
    assert!(f.grants(&mut b, late), "the inbound leg runs: the outbound one may be asked for anew");
    let mut unknown = gateway("h");
    unknown.legs[1].owner = Some(NodeName::new("nobody").expect("name"));
    assert!(matches!(f.ask(&mut a, unknown), Verdict::Refused { field, .. } if field == "legs[1].owner"));
}

#[test]
fn one_leg_of_a_gateway_call_alone_is_refused_and_takes_nothing() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    let single = call("g", Service::Gateway, vec![leg("g.in")]);
    assert!(matches!(f.ask(&mut a, single), Verdict::Refused { field, .. } if field == "legs"));
    assert_eq!(f.in_use(), 0);
}

#[test]
fn a_gateway_call_has_two_legs_in_however_many_requests() {
    let mut f = Fixture::with_ten();
    f.install(license("T", "connect.teams", 1, 0)).expect("installs");
    let mut a = f.node("a");
    let mut teams = gateway("t");
    teams.info.interop = Some(Interop::Teams);
    assert!(f.grants(&mut a, teams.clone()));
    let mut more = teams.clone();
    more.legs = vec![leg("t.3")];
    assert!(matches!(f.ask(&mut a, more.clone()), Verdict::Refused { field, .. } if field == "legs"));
    more.legs[0].replaces = Some(LegId::new("t.out").expect("id"));
    assert!(f.grants(&mut a, more), "a retried leg is not one more");
    assert!(matches!(f.ask(&mut a, teams), Verdict::Refused { .. }));
    assert_eq!(f.bench.state.leases.len(), 2);
}

#[test]
fn a_retry_moves_the_unit_that_was_reserved_on_another_node() {
    let mut f = Fixture::new();
    f.install(license("L", "call", 2, 0)).expect("installs");
    let (mut a, mut b) = (f.node("a"), f.node("b"));
    let mut split = gateway("g");
    split.legs[1].owner = Some(b.name.clone());
    assert!(f.grants(&mut a, split.clone()));
    let mut retry = call("g", Service::Gateway, vec![leg("g.out2")]);
    retry.legs[0].replaces = Some(LegId::new("g.out").expect("id"));
    assert!(f.grants(&mut a, retry.clone()));
    assert_eq!((f.in_use(), f.bench.state.reserved.len()), (2, 0));
    // Once its node has claimed a leg, it is that node's to give back.
    f.release(&mut a, "g.out2");
    split.legs.remove(0);
    assert!(f.grants(&mut a, split.clone()));
    split.legs[0].owner = None;
    assert!(f.grants(&mut b, split));
    assert!(!f.grants(&mut a, retry));
}

#[test]
fn a_node_may_run_the_leg_that_was_reserved_for_it_in_another_call() {
    let mut f = Fixture::with_ten();
    let (mut a, mut b) = (f.node("a"), f.node("b"));
    let mut split = gateway("g");
    split.legs[1].owner = Some(b.name.clone());
    assert!(f.grants(&mut a, split));
    assert!(f.grants(&mut b, one("g.out")));
    assert_eq!((f.in_use(), f.bench.state.reserved.len()), (2, 0));
}

#[test]
fn a_transfer_moves_its_unit_and_never_needs_a_free_one() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    for n in 0..10 {
        assert!(f.grants(&mut a, one(&format!("{n}"))));
    }
    let mut moved = one("moved");
    moved.legs[0].replaces = Some(LegId::new("3").expect("id"));
    assert!(f.grants(&mut a, moved.clone()));
    assert_eq!(f.in_use(), 10);
    assert!(
        f.bench
            .state
            .lease(f.bench.state.holder_of(&a.name).expect("id"), &LegId::new("3").expect("id"))
            .is_none()
    );
    assert!(f.grants(&mut a, moved), "the repeat is the same grant");
    let mut twice = one("twice");
    twice.legs[0].replaces = Some(LegId::new("3").expect("id"));
    assert!(!f.grants(&mut a, twice), "a unit moves once");
}

#[test]
fn interworking_takes_one_unit_of_its_plan_for_the_whole_call_and_never_falls_back() {
    let mut f = Fixture::with_ten();
    f.install(license("T", "connect.teams", 1, 0)).expect("installs");
    let mut a = f.node("a");
    let teams = |name: &str| {
        let mut call = gateway(name);
        call.info.interop = Some(Interop::Teams);
        call
    };
    assert!(f.grants(&mut a, teams("t")));
    let used = |f: &Fixture| f.bench.state.in_use(&Feature::ConnectTeams).0;
    assert_eq!((used(&f), f.in_use()), (1, 0));
    assert_eq!(f.ask(&mut a, teams("u")), Verdict::Denied(DenialReason::InsufficientLicenses));
    f.release(&mut a, "t.in");
    assert_eq!(used(&f), 1, "held until the last leg ends");
    f.release(&mut a, "t.out");
    assert_eq!(used(&f), 0);
    let mut meet = gateway("m");
    meet.info.interop = Some(Interop::Meet);
    assert_eq!(f.ask(&mut a, meet), Verdict::Denied(DenialReason::NoLicense));
}

#[test]
fn a_skype_leg_that_presents_takes_a_second_unit_and_gives_it_back() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    let mut skype = one("s");
    skype.legs[0].protocol = Protocol::Skype;
    assert!(f.grants(&mut a, skype));
    let mut media = Media::AUDIO_VIDEO;
    (media.presentation, media.presenting) = (headroom_core::Presentation::Standard, true);
    assert!(
        matches!(f.update(&mut a, "s", media), Verdict::Granted(leased) if leased.charge == Charge::calls(2))
    );
    assert_eq!(f.in_use(), 2);
    assert!(matches!(f.update(&mut a, "s", Media::AUDIO_VIDEO), Verdict::Granted(_)));
    assert_eq!(f.in_use(), 1);
}

#[test]
fn overdraft_permits_more_and_ends_there() {
    let mut f = Fixture::new();
    f.install(license("L", "call", 2, 1)).expect("installs");
    let mut a = f.node("a");
    for n in 0..3 {
        assert!(f.grants(&mut a, one(&format!("{n}"))));
    }
    assert_eq!(f.ask(&mut a, one("3")), Verdict::Denied(DenialReason::InsufficientLicenses));
}

#[test]
fn a_denial_names_the_first_reason_that_holds() {
    let mut f = Fixture::new();
    let mut a = f.node("a");
    let mut control = one("c");
    control.legs[0].media = Media::CONTROL_ONLY;
    assert_eq!(
        f.ask(&mut a, control.clone()),
        Verdict::Denied(DenialReason::NoLicense),
        "0 units need one too"
    );
    let mut later = license("later", "call", 1, 0);
    later.not_before = f.now.wall.plus(Millis::DAY);
    f.install(later).expect("installs");
    assert_eq!(f.ask(&mut a, one("1")), Verdict::Denied(DenialReason::LicenseNotActivated));
    let mut past = license("past", "call", 1, 0);
    past.not_after = Some(f.now.wall.plus(Millis::SECOND.times(-1)));
    f.install(past).expect("installs");
    assert_eq!(f.ask(&mut a, one("1")), Verdict::Denied(DenialReason::LicenseExpired));
    let mut short = license("short", "call", 1, 0);
    short.not_after = Some(f.now.wall.plus(Millis::MINUTE));
    f.install(short).expect("installs");
    assert!(f.grants(&mut a, one("1")) && f.grants(&mut a, control));
    f.pass(61);
    assert_eq!(f.ask(&mut a, one("2")), Verdict::Denied(DenialReason::LicenseExpired));
    let usage = f.bench.state.usage.get(&Feature::Call).copied().expect("used");
    assert_eq!(usage.over_commit.map(|(cause, _)| cause), Some(OverCommitCause::CapacityShrank));
    let mut moved = one("moved");
    moved.legs[0].replaces = Some(LegId::new("1").expect("id"));
    assert!(f.grants(&mut a, moved), "no running call is cut, a transferred one neither");
    let settings = Settings::default();
    f.run(Command::Start { settings, fingerprint: fingerprint("elsewhere"), boot_id: BootId([1; 16]) });
    assert_eq!(f.ask(&mut a, one("2")), Verdict::Denied(DenialReason::LicenseCorrupt));
    let other = Box::new(Installed::from_file(license("x", "call", 1, 0), vec![1], f.now.wall));
    assert!(matches!(
        f.run(Command::InstallLicense(other)),
        Reply::Installed(Err(Refusal::OtherMachine { .. }))
    ));
}

#[test]
fn a_dry_run_answers_and_takes_nothing() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    for n in 0..9 {
        assert!(f.grants(&mut a, one(&format!("{n}"))));
    }
    let events = f.bench.events.len();
    let Reply::DryRun(Ok((answers, _))) = f.speak(&a, Request::DryRun(vec![one("x"), gateway("g")])) else {
        panic!("in session")
    };
    assert!(matches!(answers[0].verdict, Verdict::Granted(_)));
    assert_eq!(answers[1].verdict, Verdict::Denied(DenialReason::InsufficientLicenses));
    assert_eq!((f.bench.events.len(), f.in_use()), (events, 9));
}

#[test]
fn a_dry_run_answers_each_call_as_the_request_would() {
    let mut f = Fixture::new();
    f.install(license("L", "call", 1, 0)).expect("installs");
    let a = f.node("a");
    let Reply::DryRun(Ok((answers, _))) = f.speak(&a, Request::DryRun(vec![one("1"), one("2")])) else {
        panic!("in session")
    };
    assert!(matches!(&answers[0].verdict, Verdict::Granted(leases) if leases[0].lease == LeaseId(0)));
    assert_eq!(answers[1].verdict, Verdict::Denied(DenialReason::InsufficientLicenses));
    assert_eq!((f.in_use(), f.bench.state.counters.denial), (0, 0));
}

#[test]
fn denials_of_huge_calls_are_bounded_by_their_size_too() {
    let mut f = Fixture::new();
    let mut a = f.node("a");
    let huge = |n: usize| {
        let mut huge = call(&format!("{n}"), Service::Vmr, Vec::new());
        let subject = Text::new(&"s".repeat(255)).expect("text");
        huge.legs = (0..512)
            .map(|l| Leg { subjects: vec![subject.clone(); 16], ..leg(&format!("{n}.{l}")) })
            .collect();
        huge
    };
    for n in 0..40 {
        assert!(!f.grants(&mut a, huge(n)));
    }
    let state = &f.bench.state;
    assert!(state.denial_bytes <= MAX_DENIAL_BYTES && state.denials.len() < 40, "{}", state.denials.len());
    assert!(state.denials.len() > 20 && state.counters.denial == 40);
}

#[test]
fn a_flood_of_denials_keeps_the_newest_and_counts_all() {
    let mut f = Fixture::new();
    let mut a = f.node("a");
    let flood = MAX_DENIALS + 500;
    let mut left = flood;
    while left > 0 {
        let batch = left.min(500);
        let calls = (0..batch).map(|n| one(&format!("{}", left - n))).collect();
        f.mutate(&mut a, Change::Allocate(calls)).expect("in session");
        left -= batch;
    }
    let state = &f.bench.state;
    assert_eq!(state.denials.len(), MAX_DENIALS);
    assert_eq!(state.minutes.values().sum::<u64>(), flood as u64);
    assert_eq!(
        state.denials.get_max().map(|(_, denial)| denial.call.info.call.as_str().to_owned()),
        Some("1".into())
    );
}

#[test]
fn an_explanation_tells_request_rating_pool_licenses_and_answer() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    for n in 0..10 {
        assert!(f.grants(&mut a, one(&format!("{n}"))));
    }
    f.pass(1);
    f.ask(&mut a, gateway("g"));
    let last = f.bench.state.explain_last().expect("decided");
    assert_eq!(last.reason, Some(DenialReason::InsufficientLicenses));
    assert_eq!((last.pool.in_use, last.pool.capacity, last.charge.units), (Units(10), Units(10), Units(2)));
    assert_eq!(last.rating, ["g.in: 1 call: leg of a gateway call", "g.out: 1 call: leg of a gateway call"]);
    assert_eq!(last.licenses.len(), 1);
    f.release(&mut a, "4");
    let ended = f.bench.state.explain_leg(&LegId::new("4").expect("id"));
    assert_eq!(ended[0].outcome, Outcome::Ended(EndedHow::Released));
    assert_eq!(f.bench.state.explain_call(&CallId::new("5").expect("id"))[0].outcome, Outcome::Running);
}
