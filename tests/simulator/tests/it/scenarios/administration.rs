//! What administrators do.

use headroom_simulator::fault::Fault;
use headroom_simulator::scene::{Scenario, leg};

use super::{A, cut, min, s, tells};

#[test]
fn a_lease_taken_back_by_an_administrator_stays_taken_back() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), Fault::ForceRelease { node: A })
        .look(min(3));
    tells(
        "forced-release",
        "An administrator takes a lease back: the node is told, and its media server ends the leg.",
        scenario,
    );
}

#[test]
fn a_lease_taken_back_from_a_node_out_of_contact_is_not_brought_back_by_it() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1"), leg("l2")])
        .fault(s(50), cut(Some(A), min(4)))
        .fault(min(1), Fault::ForceRelease { node: A })
        .look(min(2))
        .look(min(8));
    tells(
        "forced-release-out-of-contact",
        "An administrator takes a lease back while its node is out of contact. On its return the node may keep the \
         other leg, and must end this one.",
        scenario,
    );
}

#[test]
fn a_removed_node_gets_no_calls_until_it_is_enrolled_anew() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), Fault::Remove { node: A })
        .call(s(75), A, "c2", &[leg("l2")])
        .look(s(80))
        .call(min(5), A, "c3", &[leg("l3")])
        .look(min(6));
    tells("removed-node", "An administrator removes a node, and enrols it anew within a minute.", scenario);
}

#[test]
fn a_drained_node_finishes_its_calls_and_takes_no_new_ones() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), Fault::Drain { node: A, span: min(2) })
        .call(s(70), A, "c2", &[leg("l2")])
        .call(s(75), A, "c3", &[leg("l3").instead_of("l1")])
        .look(s(90))
        .call(min(4), A, "c4", &[leg("l4")]);
    tells(
        "drained-node",
        "A node is drained for two minutes; what takes over from a running call still passes.",
        scenario,
    );
}

#[test]
fn test_mode_admits_everything_and_its_end_cuts_nothing() {
    let scenario = Scenario::default()
        .with(|plan| plan.capacity = 1)
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(s(30), Fault::TestMode { on: true })
        .call(s(40), A, "c2", &[leg("l2")])
        .look(min(1))
        .fault(s(90), Fault::TestMode { on: false })
        .call(s(100), A, "c3", &[leg("l3")])
        .look(min(2));
    tells(
        "test-mode",
        "Test mode is on for a minute: everything is admitted. Then use is above the limit.",
        scenario,
    );
}

#[test]
fn an_activated_license_counts_from_its_installation_until_its_return() {
    let scenario = Scenario::default()
        .with(|plan| {
            plan.keys = 1;
            plan.capacity = 1;
        })
        .call(s(10), A, "c1", &[leg("l1")])
        .call(s(20), A, "c2", &[leg("l2")])
        .fault(s(30), Fault::Ask { what: 0 })
        .call(min(1), A, "c3", &[leg("l3")])
        .look(s(70))
        .fault(min(2), Fault::Ask { what: 2 })
        .call(min(3), A, "c4", &[leg("l4")])
        .look(min(4));
    tells(
        "activation-and-return",
        "A key is activated, used, and returned while its units are in use.",
        scenario,
    );
}
