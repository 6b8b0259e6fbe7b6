//! Machines of nodes and media servers die, sleep, are copied, or have wrong clocks.

use headroom_core::Millis;
use headroom_simulator::fault::{Fault, Who, Year};
use headroom_simulator::scene::{Scenario, leg};

use super::{A, cut, min, s, tells};

#[test]
fn a_cloned_node_takes_nothing_from_the_original() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), Fault::Clone { node: A, span: min(4) })
        .call(min(2), A, "c2", &[leg("l2")])
        .look(min(3))
        .look(min(9));
    tells(
        "cloned-node",
        "The machine of a node is copied and the copy runs too. Both are counted, each for itself, until one is gone.",
        scenario,
    );
}

#[test]
fn a_restart_of_an_agent_cuts_no_call() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1"), leg("l2")])
        .fault(s(30), Fault::Crash { who: Who::Node(A), down: s(5) })
        .end(s(32), A, "l2")
        .look(min(3));
    tells(
        "agent-restart",
        "The agent on a media server crashes: calls go on, and an end meanwhile is told later.",
        scenario,
    );
}

#[test]
fn a_machine_that_is_switched_off_gives_its_leases_back_when_its_session_lapses() {
    let off =
        Fault::PowerOff { who: Who::Node(A), off: min(5), year: Year::Right, synchronized_after: s(30) };
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1"), leg("l2")])
        .fault(min(1), off)
        .look(min(2))
        .look(min(4))
        .look(min(8));
    tells(
        "power-off",
        "A machine with calls is switched off: what it held is free after the session's lapse.",
        scenario,
    );
}

#[test]
fn a_clock_that_is_wrong_at_boot_neither_lengthens_nor_ends_the_grace() {
    let off =
        Fault::PowerOff { who: Who::Node(A), off: min(10), year: Year::Y1970, synchronized_after: min(20) };
    let scenario = Scenario::default()
        .with(|plan| {
            plan.grace = Millis::HOUR;
            plan.active = Millis::HOUR.times(2);
        })
        .fault(s(30), cut(Some(A), Millis::HOUR.times(2)))
        .fault(min(5), off)
        .call(min(20), A, "c1", &[leg("l1")])
        .look(min(30))
        .look(min(40))
        .call(min(59), A, "c2", &[leg("l2")])
        .call(min(61), A, "c3", &[leg("l3")]);
    tells(
        "clock-of-1970",
        "A machine without a battery starts in 1970 while it is out of contact. The time it was off counts once its \
         clock is right.",
        scenario,
    );
}

#[test]
fn a_clock_that_is_set_ahead_ends_no_grace_while_the_machine_runs() {
    let scenario = Scenario::default()
        .with(|plan| plan.grace = Millis::HOUR)
        .fault(s(30), cut(Some(A), min(5)))
        .fault(min(1), Fault::JumpClock { who: Who::Node(A), by: 15 * 86_400_000 })
        .call(min(2), A, "c1", &[leg("l1")])
        .look(min(3));
    tells(
        "clock-set-ahead",
        "Somebody sets a node's clock ahead by fifteen days while it is out of contact.",
        scenario,
    );
}

#[test]
fn a_media_server_that_crashes_gives_its_leases_back_with_its_next_list() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1"), leg("l2")])
        .fault(min(1), Fault::CrashServer { node: A, server: 0 })
        .look(min(2));
    tells(
        "media-server-crash",
        "A media server crashes with its calls and lists none when it is back.",
        scenario,
    );
}

#[test]
fn the_legs_of_a_media_server_that_stays_away_are_given_up_after_the_agreed_silence() {
    let scenario = Scenario::default()
        .with(|plan| plan.orphan_after = min(4))
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), Fault::SilentServer { node: A, server: 0 })
        .look(min(4))
        .look(min(7));
    tells(
        "media-server-gone",
        "A media server dies and stays away: an alarm, and after the agreed time its legs end.",
        scenario,
    );
}

#[test]
fn a_node_without_its_journal_begins_anew_and_holds_nothing() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), Fault::LoseJournal { node: A })
        .look(min(3))
        .call(min(4), A, "c2", &[leg("l2")]);
    tells("lost-journal", "The state folder of a node is lost.", scenario);
}

#[test]
fn a_paused_machine_goes_on_where_it_was() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(min(1), Fault::Pause { node: A, span: min(5) })
        .look(min(5))
        .call(min(7), A, "c2", &[leg("l2")])
        .look(min(8));
    tells("paused-machine", "A node's virtual machine is paused for five minutes with a call.", scenario);
}
