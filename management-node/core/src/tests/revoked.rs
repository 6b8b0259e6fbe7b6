//! Legs that an administrator released by force: ordered to end until they have, and not recorded again.

use super::contract::names;
use super::*;

#[test]
fn a_forced_release_reaches_the_node_and_the_leg_is_not_adopted_again() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    assert!(f.grants(&mut a, one("1")));
    let before = f.held(&a);
    assert_eq!(f.force(&a, "1"), Ok(Charge::calls(1)));
    assert!(matches!(f.force(&a, "1"), Err(Refusal::NoSuchLease { .. })));
    assert_eq!(f.in_use(), 0);
    f.restart();
    let one_leg = LegId::new("1").expect("id");
    let beat = f.beat(&a, before, Vec::new()).expect("in session");
    assert_eq!(beat.revoked, vec![one_leg.clone()]);
    assert_eq!(f.adopt(&mut a, &one("1")), (Vec::new(), vec![one_leg.clone()]));
    let mut again = a.clone();
    assert!(f.open(&mut again, None, before).expect("opens").report_required);
    let reported = f.report(&again, 0, running(&one("1")), Some(before)).expect("adds up");
    assert_eq!((reported.complete, reported.revoked), (true, vec![one_leg.clone()]));
    assert_eq!(f.in_use(), 0);
    let beat = f.beat(&again, LegSet::default(), vec![one_leg]).expect("in session");
    assert!(beat.revoked.is_empty(), "told once is enough");
    f.pass(1);
    f.pass(31);
    assert!(names(&f).contains(&"revoked_still_running"));
    f.release(&mut again, "1");
    assert!(!names(&f).contains(&"revoked_still_running"));
    assert!(f.grants(&mut again, one("1")), "once it ended the id is free again");
}

#[test]
fn a_heartbeat_that_was_long_on_the_way_and_counts_a_revoked_leg_is_no_drift() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    assert!(f.grants(&mut a, one("1")));
    let before = f.held(&a);
    f.force(&a, "1").expect("held");
    let leg = LegId::new("1").expect("id");
    f.beat(&a, LegSet::default(), vec![leg]).expect("in session");
    // Said before the node had heard of it, and delivered after it told its media server.
    let late = f.beat(&a, before, Vec::new()).expect("in session");
    assert!(!late.report_required);
    f.release(&mut a, "1");
    assert!(f.beat(&a, before, Vec::new()).expect("in session").report_required, "it is drift by now");
}

/// A pool that took the one leg of a node back by force.
fn revoked() -> (Fixture, Peer, LegId) {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    assert!(f.grants(&mut a, one("1")));
    f.force(&a, "1").expect("held");
    (f, a, LegId::new("1").expect("id"))
}

/// What the node is ordered to end at its next heartbeat.
fn ordered(f: &mut Fixture, a: &Peer) -> Vec<LegId> {
    f.beat(a, LegSet::default(), Vec::new()).expect("in session").revoked
}

#[test]
fn a_revoked_leg_that_its_node_leaves_out_of_its_books_stays_revoked_until_it_ends() {
    let (mut f, mut a, leg) = revoked();
    assert_eq!(ordered(&mut f, &a), vec![leg.clone()]);
    // The node has heard, its media server has not been told yet, and it opens anew: its books agree.
    assert!(!f.open(&mut a, None, LegSet::default()).expect("opens").report_required);
    assert_eq!(ordered(&mut f, &a), [leg]);
    f.pass(1);
    f.pass(31);
    assert!(names(&f).contains(&"revoked_still_running"));
    f.release(&mut a, "1");
    assert!(f.bench.state.tombstones.is_empty());
}

#[test]
fn a_leg_released_by_force_while_its_node_reports_stays_released() {
    let mut f = Fixture::with_ten();
    let mut a = f.node("a");
    let (first, second) = (running(&one("1")), running(&one("2")));
    let total = set(&[first.clone(), second.clone()].concat());
    assert!(f.open(&mut a, None, total).expect("opens").report_required);
    f.report(&a, 0, first.clone(), None).expect("taken");
    f.force(&a, "1").expect("adopted");
    assert!(f.report(&a, 1, second, Some(total)).expect("taken").complete);
    let beat = f.beat(&a, total, Vec::new()).expect("in session");
    assert_eq!((beat.revoked.len(), beat.drift, f.in_use()), (1, None, 1));
    assert_eq!(f.adopt(&mut a, &one("1")).1.len(), 1, "it is not adopted again");
}

#[test]
fn a_store_that_lost_a_legs_end_orders_it_again_in_the_next_session() {
    let (mut f, mut a, leg) = revoked();
    f.beat(&a, LegSet::default(), vec![leg.clone()]).expect("in session");
    // The release that came then is not in this store: the node runs no such leg, and never speaks of it.
    f.open(&mut a, None, LegSet::default()).expect("opens");
    assert_eq!(ordered(&mut f, &a), [leg]);
    f.release(&mut a, "1");
    assert!(f.bench.state.tombstones.is_empty());
}

#[test]
fn a_leg_that_uses_the_id_of_one_whose_end_this_store_lost_is_adopted_by_mutation_and_by_report() {
    for report in [false, true] {
        let (mut f, mut a, _) = revoked();
        let later = call("later", Service::Vmr, vec![leg("1")]);
        let legs = running(&later);
        if report {
            assert!(f.open(&mut a, None, set(&legs)).expect("opens").report_required);
            let total = Some(set(&legs));
            let reported = f.report(&a, 0, legs, total).expect("taken");
            assert!(reported.complete && reported.revoked.is_empty());
        } else {
            assert!(f.adopt(&mut a, &later).1.is_empty());
        }
        assert!(f.bench.state.tombstones.is_empty());
        assert_eq!(f.in_use(), 1);
    }
}

#[test]
fn a_process_that_lost_its_journal_is_told_again_what_to_end() {
    let (mut f, mut a, leg) = revoked();
    f.beat(&a, LegSet::default(), vec![leg.clone()]).expect("in session");
    assert!(ordered(&mut f, &a).is_empty());
    a.nonce = Nonce([99; 16]);
    f.open(&mut a, None, LegSet::default()).expect("opens");
    assert_eq!(ordered(&mut f, &a), [leg]);
}
