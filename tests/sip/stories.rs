//! One call at a time, and what becomes of it.

use std::time::Duration;

use headroom_tests::sip::{Load, Media, ONE, Scenario};
use headroom_tests::until;

use super::{CONFERENCE, NUMBER, Site, answers, talks};

const SECOND: Duration = Duration::from_secs(1);

fn callee() -> Scenario {
    Scenario::by("callee")
}

fn calls() -> Scenario {
    Scenario::by("anna").invites(Media::AudioVideo).answered()
}

fn named(call_ids: &'static str) -> Load {
    Load { call_ids, ..ONE }
}

/// Hears why it is refused, and when to try again.
fn refused() -> Scenario {
    let headers = [("Retry-After", "30"), ("Reason", "SIP;cause=503;text=.*licen")];
    Scenario::by("anna").invites(Media::AudioVideo).refused_saying(503, &headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_through_kamailio_take_units_and_give_them_back_however_they_end() {
    let site = Site::start(10, &[]).await;

    let conference = site.conference(&talks(), 1);
    let caller = site.caller(CONFERENCE, &calls().waits(SECOND * 5).hangs_up(), named("basic"));
    site.uses(1).await;
    caller.done().await;
    conference.done().await;
    site.is_empty_after("a call into a conference").await;

    let callee = site.callee(&talks(), 1);
    let caller = site.caller(NUMBER, &calls().waits(SECOND * 5).hangs_up(), named("gateway"));
    site.uses(2).await;
    caller.done().await;
    callee.done().await;
    site.is_empty_after("a gateway call of two legs").await;

    let callee = site.callee(&self::callee().rings_and_talks(SECOND * 20, Media::AudioVideo), 1);
    let gives_up = Scenario::by("anna").invites(Media::AudioVideo).rings().waits(SECOND * 5).cancels();
    let caller = site.caller(NUMBER, &gives_up, named("cancel"));
    site.uses(2).await;
    caller.done().await;
    callee.done().await;
    site.is_empty_after("a call that its caller gave up").await;

    let busy = self::callee().is_called().says("486 Busy Here", Media::None).hears("ACK");
    let callee = site.callee(&busy, 1);
    let caller = Scenario::by("anna").invites(Media::AudioVideo).refused_with(486);
    site.caller(NUMBER, &caller, named("busy")).done().await;
    callee.done().await;
    site.is_empty_after("a callee who was busy").await;

    // Ten calls stay; the eleventh hears why it cannot.
    let conference = site.conference(&talks(), 10);
    let ten = Load { calls: 10, ..named("ten") };
    let caller = site.caller(CONFERENCE, &calls().waits(SECOND * 15).hangs_up(), ten);
    site.uses(10).await;
    site.caller(CONFERENCE, &refused(), named("eleventh")).done().await;
    site.caller(NUMBER, &refused(), named("twelfth")).done().await;
    assert_eq!(site.units().await, 10);
    caller.done().await;
    conference.done().await;
    site.is_empty_after("an eleventh call of ten").await;
    site.deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_gives_up_while_the_pool_is_asked_leaves_nothing_behind() {
    let mut site = Site::start(10, &[]).await;
    let pool = site.deployment.management_pid().expect("it runs");
    // The pool does not answer for a while: the node decides after its budget.
    headroom_deploy::process::signal(pool, rustix::process::Signal::STOP);
    let gives_up =
        Scenario::by("anna").invites(Media::AudioVideo).expects(100).waits(SECOND / 2).cancels_early();
    let caller = site.caller(NUMBER, &gives_up, named("early"));
    caller.done().await;
    headroom_deploy::process::signal(pool, rustix::process::Signal::CONT);
    site.deployment.pool_is("what was granted to go back", |pool| pool.peak >= 2).await;
    site.is_empty_after("a call given up while it was asked for").await;
    site.kamailio.kill().await;
    site.deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_that_a_call_drops_adds_or_holds_are_rated_anew_and_a_refused_change_leaves_it_as_it_was() {
    let site = Site::start(2, &[]).await;
    let takes = |media| callee().hears("INVITE").says_within("200 OK", media).hears("ACK");

    let conference =
        answers(Media::AudioVideo).then(&takes(Media::Audio)).then(&takes(Media::Hold)).is_hung_up_on();
    let conference = site.conference(&conference, 1);
    let caller = calls()
        .waits(SECOND * 5)
        .offers(Media::Audio)
        .answered_again()
        .waits(SECOND * 5)
        .offers(Media::Hold)
        .answered_again()
        .waits(SECOND * 5)
        .hangs_up();
    let caller = site.caller(CONFERENCE, &caller, named("hold"));
    site.uses(1).await;
    // The node hears of every change, and none costs anything.
    for media in ["audio only", "audio and video"] {
        until(media, async || {
            let log = site.kamailio.logged();
            let told = log.matches("has other media").count();
            let wanted = if media == "audio only" { 1 } else { 2 };
            if told >= wanted { Ok(()) } else { Err(format!("{told} changes")) }
        })
        .await;
        assert_eq!(site.units().await, 1, "{media}");
    }
    caller.done().await;
    conference.done().await;
    site.is_empty_after("a call that went to audio and to hold").await;

    // Control alone costs nothing; sound then costs a unit.
    let control = || Scenario::by("bert").invites(Media::Control).answered().waits(SECOND);
    let conference =
        answers(Media::Control).then(&takes(Media::AudioVideo)).then(&takes(Media::Control)).is_hung_up_on();
    let conference = site.conference(&conference, 1);
    let caller = control()
        .offers(Media::AudioVideo)
        .answered_again()
        .waits(SECOND * 5)
        .offers(Media::Control)
        .answered_again()
        .waits(SECOND * 5)
        .hangs_up();
    let caller = site.caller(CONFERENCE, &caller, named("control"));
    site.uses(1).await;
    site.uses(0).await;
    assert_eq!(
        site.deployment.pool().legs().await.expect("the pool answers").len(),
        1,
        "its lease of 0 units"
    );
    caller.done().await;
    conference.done().await;
    site.is_empty_after("a call that had sound for a while").await;

    // In a full pool it is refused, and the call goes on as it was.
    let callee = site.callee(&talks(), 1);
    let full = site.caller(NUMBER, &calls().waits(SECOND * 15).hangs_up(), named("full"));
    site.uses(2).await;
    let conference = site.conference(&answers(Media::Control).is_hung_up_on(), 1);
    let wants_more = control().offers(Media::AudioVideo).refused_with(488).waits(SECOND).hangs_up();
    site.caller(CONFERENCE, &wants_more, named("more")).done().await;
    conference.done().await;
    assert_eq!(site.units().await, 2);
    full.done().await;
    callee.done().await;
    site.is_empty_after("a change that a full pool refused").await;
    site.deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_and_callees_who_vanish_are_noticed_and_too_long_a_call_is_ended() {
    let site = Site::start(10, &["#!define HEADROOM_LONGEST_CALL 8"]).await;
    let callee = site.callee(&talks(), 3);
    let three = Load { calls: 3, ..named("lost") };
    let caller = site.caller(NUMBER, &calls().waits(SECOND * 600).hangs_up(), three);
    site.uses(6).await;
    caller.vanish().await;
    callee.vanish().await;
    site.is_empty_after("callers and callees who vanished").await;

    let callee = site.callee(&talks(), 1);
    let caller = site.caller(NUMBER, &calls().is_hung_up_on(), named("long"));
    site.uses(2).await;
    caller.done().await;
    callee.done().await;
    site.is_empty_after("a call that was too long").await;
    site.deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_moves_its_units_in_a_full_pool() {
    let site = Site::start(2, &[]).await;
    // Attended: the new call names the one that it replaces.
    let callee = site.callee(&talks(), 2);
    let first = site.caller(NUMBER, &calls().waits(SECOND * 8).hangs_up(), named("first"));
    site.uses(2).await;
    let replaces = "Replaces: first-1;to-tag=b1;from-tag=a1\n";
    let second = Scenario::by("bert").invites_with(Media::AudioVideo, replaces).answered();
    let second = site.caller("4930999", &second.waits(SECOND * 14).hangs_up(), named("second"));
    site.holds(&["second-1~a1-1.in", "second-1~a1-1.out"]).await;
    first.done().await;
    site.holds(&["second-1~a1-1.in", "second-1~a1-1.out"]).await;
    // Nobody else comes in meanwhile.
    site.caller(NUMBER, &refused(), named("other")).done().await;
    second.done().await;
    callee.done().await;
    site.is_empty_after("an attended transfer").await;

    // Blind: who was asked to call somebody else does.
    let callee = answers(Media::AudioVideo)
        .may_hear("REFER", 1)
        .is_hung_up_on()
        .goes_to(2)
        .mark(1)
        .says_within("202 Accepted", Media::None)
        .is_hung_up_on()
        .mark(2);
    let callee = site.callee(&callee, 2);
    let refers = calls().refers_to("sip:4930999@example.com").waits(SECOND * 8).hangs_up();
    let first = site.caller(NUMBER, &refers, named("blind"));
    site.uses(2).await;
    until("the transfer to be asked for", async || {
        let seen = site.kamailio.logged();
        if seen.contains("a transfer from blind-1~a1") { Ok(()) } else { Err("no REFER".to_owned()) }
    })
    .await;
    let moved = Scenario::by(NUMBER).invites(Media::AudioVideo).answered().waits(SECOND * 12).hangs_up();
    let moved = site.caller("4930999", &moved, named("moved"));
    site.holds(&["moved-1~a1-1.in", "moved-1~a1-1.out"]).await;
    first.done().await;
    site.holds(&["moved-1~a1-1.in", "moved-1~a1-1.out"]).await;
    moved.done().await;
    callee.done().await;
    site.is_empty_after("a blind transfer").await;

    // One that the other side refuses changes nothing.
    let callee = answers(Media::AudioVideo).is_hung_up_on();
    let callee = site.callee(&callee, 1);
    let first = site.caller(NUMBER, &calls().waits(SECOND * 10).hangs_up(), named("stays"));
    site.uses(2).await;
    let busy = self::callee().is_called().says("486 Busy Here", Media::None).hears("ACK");
    let conference = site.conference(&busy, 1);
    let replaces = "Replaces: stays-1;to-tag=b1;from-tag=a1\n";
    let refused = Scenario::by("bert").invites_with(Media::AudioVideo, replaces).refused_with(486);
    site.caller(CONFERENCE, &refused, named("busy")).done().await;
    conference.done().await;
    site.holds(&["stays-1~a1-1.in", "stays-1~a1-1.out"]).await;
    first.done().await;
    callee.done().await;
    site.is_empty_after("a transfer that was refused").await;
    site.deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_an_administrator_released_by_force_is_hung_up_and_no_other() {
    let site = Site::start(10, &["#!define HEADROOM_RESYNC 1"]).await;
    let conference = site.conference(&talks(), 2);
    let bystander = site.caller(CONFERENCE, &calls().waits(SECOND * 20).hangs_up(), named("bystander"));
    let caller = site.caller(CONFERENCE, &calls().is_hung_up_on(), named("force"));
    site.uses(2).await;
    site.deployment.pool().force_release("node-a", "force-1~a1-1.in").await.expect("it is released");
    caller.done().await;
    site.holds(&["bystander-1~a1-1.in"]).await;
    bystander.done().await;
    conference.done().await;
    site.is_empty_after("a call released by force").await;
    site.deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_takes_no_second_call_under_the_lease_of_the_first_and_no_question_that_is_none() {
    let site = Site::start(1, &[]).await;
    let conference = site.conference(&talks(), 1);
    let first = site.caller(CONFERENCE, &calls().waits(SECOND * 10).hangs_up(), named("same"));
    site.uses(1).await;
    // The same Call-ID with another tag, and a name that no leg can have.
    let again = refused().tagged("other");
    site.caller(CONFERENCE, &again, named("same")).done().await;
    first.done().await;
    conference.done().await;
    let long =
        Scenario::by(&"x".repeat(400)).invites(Media::AudioVideo).answered().waits(SECOND * 5).hangs_up();
    let conference = site.conference(&talks(), 1);
    let long = site.caller(CONFERENCE, &long, named("long"));
    site.uses(1).await;
    long.done().await;
    conference.done().await;
    site.is_empty_after("calls that try").await;
    site.deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_node_kamailio_does_what_its_operator_chose_and_nothing_else_waits() {
    let mut site = Site::with(20, &["#!define HEADROOM_TIMEOUT 20"], Some("3s")).await;
    // It stands still: more calls wait for it than Kamailio has workers, and go on when that takes too long. Others are
    // answered meanwhile.
    let node = site.deployment.node("node-a").expect("a node").service.as_ref().expect("it runs").pid();
    headroom_deploy::process::signal(node, rustix::process::Signal::STOP);
    let conference = site.conference(&talks(), 11);
    let ten = Load { calls: 10, rate: 50, call_ids: "still" };
    let permitted = site.caller(CONFERENCE, &calls().waits(SECOND * 20).hangs_up(), ten);
    let undecided =
        |site: &Site, call: &str| site.kamailio.logged().contains(&format!("{call} was not decided"));
    for _ in 0..5 {
        site.caller("", &Scenario::by("anybody").asks_for_options(), named("options")).done().await;
        assert!(!undecided(&site, "still-1~a1"), "it was answered only after the calls");
    }
    until("the calls to go on", async || {
        if undecided(&site, "still-1~a1") { Ok(()) } else { Err("they wait".to_owned()) }
    })
    .await;
    headroom_deploy::process::signal(node, rustix::process::Signal::CONT);
    // They are recorded when the node answers again.
    site.uses(10).await;
    permitted.done().await;
    site.is_empty_after("calls that went on while their node stood still").await;

    // It is gone.
    site.deployment.kill_node("node-a").await.expect("it runs");
    let permitted = site.caller(CONFERENCE, &calls().waits(SECOND * 15).hangs_up(), named("gone"));
    until("the call to go on", async || {
        if undecided(&site, "gone-1~a1") { Ok(()) } else { Err("it waits".to_owned()) }
    })
    .await;
    site.deployment.start_node("node-a").await.expect("it starts");
    site.holds(&["gone-1~a1-1.in"]).await;
    permitted.done().await;
    conference.done().await;
    site.is_empty_after("a call that went on without its node").await;
    site.deployment.stop().await;

    let mut site = Site::start(10, &["#!define HEADROOM_REFUSE_WHEN_AWAY"]).await;
    site.deployment.kill_node("node-a").await.expect("it runs");
    let headers = [("Retry-After", "30"), ("Reason", "SIP;cause=503;text=.*cannot check")];
    let refused = Scenario::by("anna").invites(Media::AudioVideo).refused_saying(503, &headers);
    site.caller(CONFERENCE, &refused, named("refused")).done().await;
    site.deployment.start_node("node-a").await.expect("it starts");
    site.is_empty_after("a call that was refused without its node").await;
    site.deployment.stop().await;
}
