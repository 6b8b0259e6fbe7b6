//! The contract with a node: numbering, fencing, reports, adoption, clones.

use super::*;

#[test]
fn a_retry_gets_the_same_answer_and_takes_nothing_more() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    let first = f.mutate(&mut a, Change::Allocate(vec![one("1")])).expect("granted");
    let again = f.mutate_as(&a, 1, Change::Allocate(vec![one("1")])).expect("the same");
    assert_eq!(first, again);
    f.restart();
    assert_eq!(f.mutate_as(&a, 1, Change::Allocate(vec![one("1")])), Ok(first), "also after a restart");
    assert_eq!(f.in_use(), 1);
    assert_eq!(
        f.mutate_as(&a, 1, Change::Release(vec![LegId::new("1").expect("id")])),
        Err(Refusal::SequenceReused { given: 1 })
    );
    assert_eq!(
        f.mutate_as(&a, 3, Change::Release(Vec::new())),
        Err(Refusal::SequenceOrder { given: 3, due: 2 })
    );
    f.release(&mut a, "1");
    assert_eq!(
        f.mutate_as(&a, 1, Change::Allocate(vec![one("1")])),
        Err(Refusal::SequenceOrder { given: 1, due: 3 }),
        "an older number is refused, not carried out again"
    );
}

#[test]
fn naming_a_leg_that_holds_a_lease_answers_the_same_grant() {
    let mut f = Fixture::with_ten();
    let (mut a, mut b) = (f.node("a"), f.node("b"));
    let first = f.ask(&mut a, one("1"));
    assert_eq!(f.ask(&mut a, one("1")), first);
    assert_eq!(f.in_use(), 1);
    let mut other = one("2");
    other.legs[0].leg = LegId::new("1").expect("id");
    assert!(matches!(f.ask(&mut a, other.clone()), Verdict::Refused { field, .. } if field == "legs[0].leg"));
    assert!(f.grants(&mut b, other), "a leg's id is its node's own");
    f.release(&mut b, "1");
    assert_eq!(f.in_use(), 1, "a node releases its own leases only");
}

#[test]
fn a_new_session_fences_the_old_one_at_once() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    assert!(f.grants(&mut a, one("1")));
    let mut old = a.clone();
    let held = f.held(&a);
    let opened = f.open(&mut a, None, held).expect("opens");
    assert!(!opened.report_required, "the digests agree");
    assert_eq!(
        f.mutate(&mut old, Change::Release(Vec::new())),
        Err(Refusal::SessionStale { given: old.session })
    );
    let mut late = Peer { opened: 0, ..a.clone() };
    assert_eq!(f.open(&mut late, None, held), Err(Refusal::OpenNumberOld { given: 1, last: 2 }));
    assert!(f.beat(&a, held, Vec::new()).is_ok(), "the late opening fenced nobody");
}

#[test]
fn a_report_adopts_above_the_limit_and_releases_only_when_it_is_complete() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    for n in 0..10 {
        assert!(f.grants(&mut a, one(&format!("old{n}"))));
    }
    let legs: Vec<_> = (0..12).flat_map(|n| running(&one(&format!("new{n}")))).collect();
    let total = set(&legs);
    assert!(f.open(&mut a, None, total).expect("opens").report_required);
    assert_eq!(f.mutate(&mut a, Change::Release(Vec::new())), Err(Refusal::ReportRequired { due: 0 }));
    assert!(!f.report(&a, 0, legs[..5].to_vec(), None).expect("taken").complete);
    assert_eq!(f.in_use(), 15, "nothing is released yet");
    f.restart();
    assert!(!f.report(&a, 0, legs[..5].to_vec(), None).expect("a repeat is taken").complete);
    assert_eq!(f.report(&a, 2, Vec::new(), None), Err(Refusal::ChunkOrder { report: 1, chunk: 2 }));
    assert!(f.report(&a, u32::MAX, Vec::new(), None).is_err());
    assert!(f.report(&a, 1, legs[5..].to_vec(), Some(total)).expect("taken").complete);
    assert_eq!((f.in_use(), f.held(&a)), (12, total));
    assert!(f.beat(&a, total, Vec::new()).is_ok_and(|beat| !beat.report_required));
    assert!(!f.grants(&mut a, one("more")));
}

#[test]
fn a_report_that_lost_a_leg_begins_again_and_releases_nothing() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    assert!(f.grants(&mut a, one("old")));
    let legs: Vec<_> = (0..4).flat_map(|n| running(&one(&format!("new{n}")))).collect();
    let total = set(&legs);
    f.open(&mut a, None, total).expect("opens");
    assert_eq!(
        f.report(&a, 0, legs[1..].to_vec(), Some(total)),
        Err(Refusal::ReportMismatch { stated: 4, taken: 3 })
    );
    assert_eq!(f.in_use(), 4, "the old lease is still held");
    assert!(f.report(&a, 0, legs[..1].to_vec(), None).is_err(), "a late chunk of the broken report");
    a.report = 2;
    assert!(f.report(&a, 0, legs, Some(total)).expect("taken").complete);
    assert_eq!(f.in_use(), 4);
}

#[test]
fn drift_at_the_same_number_is_found_and_mended_within_the_session() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    assert!(f.grants(&mut a, one("1")));
    let wrong = LegSet::default();
    assert!(f.beat(&a, wrong, Vec::new()).expect("in session").report_required);
    assert_eq!(f.mutate(&mut a, Change::Release(Vec::new())), Err(Refusal::ReportRequired { due: 0 }));
    assert!(f.report(&a, 0, Vec::new(), Some(wrong)).expect("taken").complete);
    assert_eq!(f.in_use(), 0);
    assert!(f.grants(&mut a, one("2")), "the session goes on");
    let (again, other) = (running(&one("1")), set(&running(&one("1"))));
    assert!(f.report(&a, 0, again.clone(), Some(other)).expect("answered").complete);
    assert_eq!(f.in_use(), 1, "a late repeat of a report brings nothing back");
    assert!(!f.beat(&a, wrong, Vec::new()).expect("in session").report_required, "at most once in 10 s");
    f.pass(11);
    assert!(f.beat(&a, wrong, Vec::new()).expect("in session").report_required);
    assert!(f.report(&a, 0, again, Some(other)).is_err(), "nor while the next one is due");
    assert_eq!(f.in_use(), 1);
}

#[test]
fn a_process_that_was_superseded_and_speaks_again_is_a_clone_and_both_count() {
    let mut f = Fixture::with_ten();
    let mut first = f.node("a");
    assert!(f.grants(&mut first, one("1")));
    let held = f.held(&first);
    let mut copy = Peer { nonce: Nonce([99; 16]), ..first.clone() };
    assert!(!f.open(&mut copy, Some(first.nonce), held).expect("takes over").report_required);
    assert!(f.beat(&first, held, Vec::new()).is_err());
    first.opened += 1;
    let opened = f.open(&mut first, None, held).expect("gets books of its own");
    assert!(opened.report_required);
    assert!(f.report(&first, 0, running(&one("1")), Some(held)).expect("taken").complete);
    assert_eq!(f.in_use(), 2, "both machines' legs count");
    assert!(f.beat(&copy, held, Vec::new()).is_ok() && f.beat(&first, held, Vec::new()).is_ok());
    let alarms = f.bench.state.alarms(&f.bench.volatile.view(), f.now.wall);
    assert!(alarms.iter().any(|alarm| alarm.name == "cloned_identity"), "{alarms:?}");
}

#[test]
fn a_copy_is_a_clone_also_when_its_original_has_spoken_last() {
    let mut f = Fixture::with_ten();
    // A store that knows neither: it was restored.
    let first = f.node("a");
    let mut original = Peer { nonce: Nonce([98; 16]), ..first.clone() };
    let mut copy = Peer { nonce: Nonce([99; 16]), ..first };
    f.open(&mut copy, Some(original.nonce), LegSet::default()).expect("takes over");
    original.opened = copy.opened;
    f.open(&mut original, None, LegSet::default()).expect("takes over");
    copy.opened = original.opened;
    f.open(&mut copy, Some(original.nonce), LegSet::default()).expect("gets books of its own");
    assert!(f.beat(&original, LegSet::default(), Vec::new()).is_ok(), "and fences nobody");
    assert!(names(&f).contains(&"cloned_identity"));
}

#[test]
fn a_removed_node_is_told_so_and_its_units_are_free_at_once() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    assert!(f.grants(&mut a, one("1")));
    assert!(matches!(f.run(Command::RemoveNode(a.name.clone())), Reply::NodeRemoved(Ok(1))));
    assert_eq!(f.in_use(), 0);
    assert_eq!(f.beat(&a, LegSet::default(), Vec::new()), Err(Refusal::Revoked));
    let mut stranger = Peer { caller: CertificateHash([66; 32]), ..a.clone() };
    assert_eq!(f.open(&mut stranger, None, LegSet::default()), Err(Refusal::Unknown), "never heard of");
    assert_eq!(f.open(&mut a, None, LegSet::default()), Err(Refusal::Revoked));
    let other = CertificateHash([77; 32]);
    let again = Command::AddNode { node: a.name.clone(), certificate: other };
    assert!(matches!(f.run(again), Reply::NodeAdded(Ok(()))));
    assert_eq!(
        f.open(&mut a, None, LegSet::default()),
        Err(Refusal::Revoked),
        "the old certificate stays out"
    );
    let mut new = Peer { caller: other, opened: 0, ..a };
    assert!(f.open(&mut new, None, LegSet::default()).is_ok());
}

pub(super) fn names(f: &Fixture) -> Vec<&'static str> {
    f.bench.state.alarms(&f.bench.volatile.view(), f.now.wall).iter().map(|alarm| alarm.name).collect()
}

#[test]
fn a_report_that_nobody_finishes_does_not_hide_the_peaks_of_others() {
    let mut f = Fixture::with_ten();
    let (mut a, mut b) = (f.node("a"), f.node("b"));
    assert!(f.grants(&mut a, one("1")));
    f.force(&a, "1").expect("held");
    let named = running(&one("1"));
    assert!(f.open(&mut a, None, set(&named)).expect("opens").report_required);
    f.report(&a, 0, named, None).expect("taken");
    f.pass(121);
    f.open(&mut b, None, LegSet::default()).expect("opens");
    assert!(f.grants(&mut b, one("2")) && f.grants(&mut b, one("3")));
    assert_eq!(f.bench.state.usage.get(&Feature::Call).expect("used").peak, Units(2));
}

#[test]
fn drift_is_reported_only_when_there_is_room_to_report() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    assert!(f.grants(&mut a, one("1")));
    let mut busy: Vec<_> = (0..32).map(|n| f.node(&format!("n{n}"))).collect();
    for peer in &mut busy {
        f.open(peer, None, set(&running(&one("x")))).expect("opens");
        f.open(peer, None, set(&running(&one("x")))).expect("its own place does not stand in its way");
    }
    assert!(!f.beat(&a, LegSet::default(), Vec::new()).expect("in session").report_required);
    // Those who say nothing of their reports give their places up, by the pool's clock.
    f.now.wall = Millis(f.now.wall.0 - Millis::HOUR.0);
    f.pass(11);
    let beat = f.beat(&a, LegSet::default(), Vec::new()).expect("in session");
    assert_eq!((beat.report_required, beat.drift), (true, Some(f.held(&a))));
}

#[test]
fn a_refused_request_writes_nothing_and_proves_nothing() {
    let mut f = Fixture::with_ten();
    let a = f.node("a");
    let mut events = Vec::new();
    let beat = |legs| Heartbeat { sequence: 0, legs, told: Vec::new(), past: Vec::new(), optimistic: 0 };
    for (session, proves) in [(a.session, true), (a.session + 7, false)] {
        let request = Request::Heartbeat(beat(LegSet::default()));
        let command = Command::Speak { caller: a.caller, generation: 0, session, request };
        let mut tx = headroom_core::Tx::new(&mut f.bench.state, &mut f.bench.volatile, &mut events);
        let answer = <PoolMachine as headroom_core::Machine>::handle(&mut tx, f.now, command);
        assert_eq!(answer.commit, proves);
    }
    assert!(events.is_empty());
}

#[test]
fn a_store_that_lost_records_fences_every_session_and_takes_another_identity() {
    let mut f = Fixture::with_ten();
    let (mut a, b) = (f.node("a"), f.node("b"));
    assert!(f.grants(&mut a, one("1")));
    let command = Command::RolledBack { caller: b.caller, seen: 90, here: 7, generation: 5 };
    let mut tx = headroom_core::Tx::new(&mut f.bench.state, &mut f.bench.volatile, &mut f.bench.events);
    let answer = <PoolMachine as headroom_core::Machine>::handle(&mut tx, f.now, command);
    assert_eq!(answer.generation, Some(5));
    let stale = Err(Refusal::SessionStale { given: a.session });
    assert_eq!(f.beat(&a, LegSet::default(), Vec::new()), stale);
    // The number that its session goes on under was that of a later one, in what was lost.
    let sessions = f.bench.state.holders.values().filter(|holder| holder.node == a.name);
    let number = sessions.filter_map(|holder| holder.session.as_ref()).map(|session| session.number).max();
    a.session = number.expect("a session");
    let stale = Err(Refusal::SessionStale { given: a.session });
    assert_eq!(f.beat(&a, LegSet::default(), Vec::new()), stale);
    assert!(names(&f).contains(&"store_rolled_back"));
    assert_eq!(f.in_use(), 1);
    f.pass(121);
    assert_eq!(f.in_use(), 0, "who never comes back keeps nothing");
    let removed = Command::RemoveNode(b.name.clone());
    f.run(removed);
    let command = Command::RolledBack { caller: b.caller, seen: 90, here: 7, generation: 6 };
    assert!(matches!(f.run(command), Reply::RolledBack(Err(Refusal::Revoked))));
    f.pass(24 * 3600);
    assert!(!names(&f).contains(&"store_rolled_back"));
}

#[test]
fn a_session_lapses_by_the_pools_own_clock_and_a_restart_gives_a_full_ttl() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    assert!(f.grants(&mut a, one("1")));
    f.pass(100);
    // A stall of an hour is no silence of an hour.
    f.now.boot = f.now.boot.plus(Millis::HOUR);
    f.run(Command::Tick { around: Vec::new() });
    assert_eq!(f.in_use(), 1);
    f.restart();
    f.pass(119);
    assert_eq!(f.in_use(), 1);
    f.pass(2);
    assert_eq!(f.in_use(), 0);
    let held = set(&running(&one("1")));
    assert_eq!(f.beat(&a, held, Vec::new()), Err(Refusal::SessionStale { given: a.session }));
    assert!(f.open(&mut a, None, held).expect("opens").report_required);
    assert!(f.report(&a, 0, running(&one("1")), Some(held)).expect("taken").complete);
    assert_eq!(f.in_use(), 1, "a late node is adopted again");
}

#[test]
fn what_a_node_did_alone_is_recorded_once_at_its_true_time() {
    let mut f = Fixture::with_ten();
    let a = f.node("a");
    let past = |number, at, what| Past { number, at: Millis(at), what };
    let events = vec![
        past(1, 500, PastEvent::Denied { call: one("d"), reason: DenialReason::GraceExpired }),
        past(2, 600, PastEvent::Ended(running(&one("e")).remove(0))),
    ];
    for _ in 0..2 {
        let heartbeat = Heartbeat {
            sequence: 0,
            legs: LegSet::default(),
            told: Vec::new(),
            past: events.clone(),
            optimistic: 0,
        };
        let Reply::Beat(Ok(beat)) = f.speak(&a, Request::Heartbeat(heartbeat)) else { panic!("in session") };
        assert_eq!(beat.past_recorded, 2);
    }
    assert_eq!((f.bench.state.denials.len(), f.bench.state.ended.len()), (1, 1));
    let denial = f.bench.state.denials.get_max().map(|(_, denial)| denial.clone()).expect("one");
    assert_eq!((denial.at, denial.by_node), (Millis(500), true));
}

#[test]
fn a_node_that_must_wait_to_report_keeps_the_session_it_has() {
    let mut f = Fixture::with_ten();
    let mut waiting = f.node("waiting");
    assert!(f.grants(&mut waiting, one("1")));
    let held = f.held(&waiting);
    let legs = running(&one("x"));
    let mut busy: Vec<_> = (0..32).map(|n| f.node(&format!("n{n}"))).collect();
    for peer in &mut busy {
        assert!(f.open(peer, None, set(&legs)).expect("opens").report_required);
    }
    let before = waiting.clone();
    let refusal = f.open(&mut waiting, None, set(&legs));
    assert_eq!(refusal, Err(Refusal::Busy { reporting: 32, waiting: 1, limit: 32 }));
    assert!(f.beat(&before, held, Vec::new()).is_ok());
    assert!(f.open(&mut waiting, None, held).is_ok(), "who need not report need not wait");
    assert!(f.report(&busy[0], 0, legs.clone(), Some(set(&legs))).expect("taken").complete);
    assert!(f.open(&mut waiting, None, set(&legs)).expect("there is room").report_required);
}
