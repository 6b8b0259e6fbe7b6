//! What an operator asks about, told as text: each scenario is a small world that is written down, and the
//! story of what the machines do in it. `UPDATE_EXPECT=1 cargo test -p headroom-simulator` writes the stories
//! anew; whoever changes one reads it.

use std::fmt::Write as _;

use expect_test::expect_file;
use headroom_core::{Media, Millis};
use headroom_simulator::fault::{Fault, Who, Year};
use headroom_simulator::scene::{Scenario, Scene, leg};

const A: usize = 0;
const B: usize = 1;

const fn s(seconds: i64) -> Millis {
    Millis::SECOND.times(seconds)
}

const fn min(minutes: i64) -> Millis {
    Millis::MINUTE.times(minutes)
}

/// Both ways between a node, or all, and the pool.
const fn cut(node: Option<usize>, span: Millis) -> Fault {
    Fault::Partition { node, to_pool: true, to_node: true, span }
}

/// Time without its milliseconds, which mean nothing to anybody.
fn clock(at: Millis) -> String {
    let seconds = at.0 / 1_000;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let days = if days > 0 { format!("{days}d ") } else { String::new() };
    format!("{days}{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
}

/// Runs a scenario: every promise is kept, and the story is the one that was read.
fn tells(name: &str, about: &str, scenario: Scenario) {
    let outcome = scenario.run();
    let mut text = format!("{about}\n\n");
    for (at, line) in &outcome.story {
        let _ = writeln!(text, "{}  {line}", clock(*at));
    }
    let file = format!("{}/tests/scenarios/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    expect_file![file].assert_eq(&text);
    assert_eq!(outcome.violation, None);
}

#[test]
fn a_full_pool_refuses_a_call_and_takes_one_as_soon_as_another_ends() {
    let scenario = Scenario::default()
        .with(|plan| plan.capacity = 2)
        .call(s(10), A, "c1", &[leg("l1"), leg("l2")])
        .look(s(20))
        .call(s(30), B, "c2", &[leg("l3")])
        .end(s(40), A, "l1")
        .call(s(50), B, "c3", &[leg("l4")])
        .look(min(2));
    tells(
        "full-pool",
        "Two units are licensed: a third leg is refused until one of the others has ended.",
        scenario,
    );
}

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
fn calls_within_the_overdraft_are_admitted_and_shown() {
    let scenario = Scenario::default()
        .with(|plan| (plan.capacity, plan.overdraft) = (2, 1))
        .call(s(10), A, "c1", &[leg("l1"), leg("l2")])
        .call(s(20), B, "c2", &[leg("l3")])
        .look(s(40))
        .call(s(50), B, "c3", &[leg("l4")]);
    tells(
        "overdraft",
        "Above the capacity there is an overdraft: it is used, shown, and has an end.",
        scenario,
    );
}

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
fn a_crash_of_the_pool_loses_no_lease_and_no_call() {
    let scenario = Scenario::default()
        .call(s(10), A, "c1", &[leg("l1")])
        .fault(s(30), Fault::Crash { who: Who::Pool, down: s(20) })
        .call(s(35), B, "c2", &[leg("l2")])
        .look(min(2));
    tells("pool-crash", "The pool crashes and is back twenty seconds later.", scenario);
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
fn a_transfer_passes_although_the_pool_is_full() {
    let scenario = Scenario::default()
        .with(|plan| plan.capacity = 1)
        .call(s(10), A, "c1", &[leg("l1")])
        .call(s(20), A, "c2", &[leg("l2")])
        .call(s(30), A, "c3", &[leg("l3").instead_of("l1")])
        .look(s(40));
    tells(
        "transfer",
        "With a full pool a new call is refused, one that takes over the unit of another is not.",
        scenario,
    );
}

#[test]
fn a_gateway_call_reserves_for_the_other_node_what_that_node_then_claims() {
    let scenario =
        Scenario::default().call(s(10), A, "c1", &[leg("in"), leg("out").on("b")]).look(s(11)).look(min(2));
    tells(
        "gateway",
        "A gateway call has a leg on each of two nodes: one asks for both, the other claims its own.",
        scenario,
    );
}

#[test]
fn what_is_reserved_and_not_claimed_is_free_again() {
    let scenario = Scenario::default()
        .fault(s(5), Fault::MuteServer { node: B, server: 0, span: min(2) })
        .call(s(10), A, "c1", &[leg("in"), leg("out").on("b")])
        .look(s(20))
        .look(min(1));
    tells(
        "reserved-in-vain",
        "The other node's media server never asks for the leg that was reserved for it.",
        scenario,
    );
}

#[test]
fn a_leg_that_needs_more_than_there_is_keeps_what_it_has() {
    let change = |leg| Scene::Change { node: A, leg, media: Media::AUDIO_VIDEO };
    let scenario = Scenario::default()
        .with(|plan| plan.capacity = 1)
        .call(s(10), A, "c1", &[leg("l1").control_only(), leg("l2").control_only()])
        .scene(s(20), change("l1"))
        .scene(s(30), change("l2"))
        .end(s(40), A, "l1")
        .scene(s(50), change("l2"))
        .look(min(1));
    tells(
        "more-media",
        "Legs without media need no unit. With media they do: the second waits until one is free.",
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
