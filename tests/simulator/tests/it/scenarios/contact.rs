//! The pool is away, or its answers are; and what is true afterwards.

use headroom_core::Millis;
use headroom_simulator::fault::{Fault, Who};
use headroom_simulator::scene::{Scenario, leg};

use super::{A, B, cut, min, s, tells};

#[test]
fn a_node_that_loses_the_pool_goes_on_and_its_calls_are_recorded_when_it_is_back() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), cut(Some(A), min(6)))
        .call(min(2), A, "c2", &[leg("l2")])
        .end(min(3), A, "l1")
        .look(min(6))
        .look(min(9));
    tells(
        "disconnect",
        "A node loses the pool for six minutes. Calls go on; its session lapses at the pool; everything is \
         recorded when it is back.",
        scenario,
    );
}

#[test]
fn nodes_that_return_above_the_limit_keep_their_calls_and_new_ones_wait_until_use_is_within_it() {
    let scenario = Scenario::default()
        .with(|plan| plan.capacity = 2)
        .call(s(10), A, "c1", &[leg("a1")])
        .fault(min(1), cut(None, min(1)))
        .call(s(75), A, "c2", &[leg("a2")])
        .call(s(80), B, "c3", &[leg("b1"), leg("b2")])
        .look(min(4))
        .call(s(250), B, "c4", &[leg("b3")])
        .end(s(270), A, "a1")
        .end(s(280), B, "b2")
        .call(s(290), B, "c5", &[leg("b4")])
        .end(s(300), B, "b1")
        .call(s(310), B, "c6", &[leg("b5")])
        .look(min(6));
    tells(
        "return-above-the-limit",
        "Out of contact two nodes grant more than is licensed. Nothing is cut; new calls are refused until use is \
         back within the limit.",
        scenario,
    );
}

#[test]
fn a_license_that_ends_during_an_outage_refuses_new_calls_on_return_and_cuts_none() {
    let scenario = Scenario::default()
        .with(|plan| plan.expires = Some(min(3)))
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), cut(Some(A), min(4)))
        .call(min(4), A, "c2", &[leg("l2")])
        .look(min(4))
        .call(min(7), A, "c3", &[leg("l3")])
        .call(min(7), B, "c4", &[leg("l4")])
        .look(min(8));
    tells(
        "expiry-during-an-outage",
        "The license ends while a node is out of contact. The node goes on by its grace; in contact new calls are \
         refused, running ones go on.",
        scenario,
    );
}

#[test]
fn a_grant_whose_answer_is_lost_is_counted_once() {
    let scenario = Scenario::default()
        .fault(s(20), Fault::Partition { node: Some(A), to_pool: false, to_node: true, span: s(30) })
        .call(s(22), A, "c1", &[leg("l1")])
        .look(s(40))
        .look(min(2));
    tells(
        "answers-lost",
        "The pool grants, and its answers are lost. The node decides alone in time; both mean the same leg, which is \
         counted once.",
        scenario,
    );
}

#[test]
fn a_node_whose_requests_are_lost_decides_alone() {
    let scenario = Scenario::default()
        .fault(s(20), Fault::Partition { node: Some(A), to_pool: true, to_node: false, span: s(30) })
        .call(s(22), A, "c1", &[leg("l1")])
        .end(s(30), A, "l1")
        .look(s(40))
        .look(min(2));
    tells(
        "requests-lost",
        "A node's requests do not arrive. A call begins and ends meanwhile: the pool hears of it afterwards, and \
         holds nothing.",
        scenario,
    );
}

#[test]
fn a_link_that_flaps_loses_and_doubles_nothing() {
    let scenario = Scenario::default()
        .fault(s(20), Fault::Flap { node: A, times: 4, each: s(10) })
        .call(s(22), A, "c1", &[leg("l1")])
        .call(s(35), A, "c2", &[leg("l2")])
        .end(s(45), A, "l1")
        .call(s(65), A, "c3", &[leg("l3")])
        .look(min(3));
    tells(
        "flapping-link",
        "The way to the pool comes and goes every ten seconds, with calls in between.",
        scenario,
    );
}

#[test]
fn a_crash_of_the_pool_loses_no_lease_and_no_call() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(s(30), Fault::Crash { who: Who::Pool, down: s(20) })
        .call(s(35), B, "c2", &[leg("l2")])
        .look(min(2));
    tells("pool-crash", "The pool crashes and is back twenty seconds later.", scenario);
}

#[test]
fn a_pool_whose_disk_stands_still_is_no_contact_and_costs_no_call() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(s(30), Fault::Stall { who: Who::Pool, span: min(1) })
        .call(s(40), A, "c2", &[leg("l2")])
        .look(s(80))
        .look(min(3));
    tells(
        "pool-disk-stands-still",
        "The pool's disk finishes nothing for a minute: what it could not make durable it does not answer, and the \
         nodes decide alone.",
        scenario,
    );
}

#[test]
fn a_restored_backup_is_found_out_by_the_nodes_and_brought_in_line() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .call(s(12), B, "c2", &[leg("l2")])
        .fault(s(30), Fault::Backup)
        .call(min(1), A, "c3", &[leg("l3")])
        .end(s(70), B, "l2")
        .fault(min(2), Fault::Restore)
        .look(min(4));
    tells(
        "restored-backup",
        "The pool goes on from an old copy of its store. The nodes have seen later records: every session is fenced \
         and every node says what it runs.",
        scenario,
    );
}

#[test]
fn after_fourteen_days_out_of_contact_every_new_call_is_refused() {
    let day = Millis::DAY;
    let scenario = Scenario::default()
        .with(|plan| {
            plan.nodes = 1;
            plan.active = day.times(15);
            plan.tick = s(2);
        })
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), cut(Some(A), day.times(15)))
        .call(day.times(1), A, "c2", &[leg("l2")])
        .look(day.times(7))
        .call(day.times(14), A, "c3", &[leg("l3")])
        .call(day.times(14).plus(min(2)), A, "c4", &[leg("l4")])
        .look(day.times(14).plus(min(3)));
    tells(
        "fourteen-days",
        "A node is out of contact for longer than its grace: alarms, then every new call is refused. Calls that run go on.",
        scenario,
    );
}

#[test]
fn restarts_do_not_lengthen_the_grace() {
    let scenario = Scenario::default()
        .with(|plan| {
            plan.grace = Millis::HOUR;
            plan.active = Millis::HOUR.times(2);
        })
        .fault(s(30), cut(Some(A), Millis::HOUR.times(2)))
        .fault(min(1), Fault::Restarts { node: A, times: 7, each: min(9) })
        .call(min(59), A, "c1", &[leg("l1")])
        .call(min(61), A, "c2", &[leg("l2")])
        .look(min(62));
    tells(
        "restarts-and-grace",
        "With an hour of grace a node restarts every nine minutes: the hour ends as it would.",
        scenario,
    );
}
