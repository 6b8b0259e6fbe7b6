//! Many calls at a time, and what is killed among them.

use std::time::{Duration, Instant};

use headroom_tests::sip::{Load, Media, Scenario, Sipp};
use headroom_tests::{PATIENCE, until};

use super::{CONFERENCE, NUMBER, Site, say, talks};

/// Fifty calls a second, of which one in twenty is given up.
const RATE: u32 = 50;
const TWO_MINUTES: u32 = 120;
const THIRTY_SECONDS: Duration = Duration::from_secs(30);
/// How long a call rings and how long it lasts.
const RINGS: Duration = Duration::from_secs(1);
const LASTS: Duration = Duration::from_secs(2);

/// Talks for two seconds; one in twenty gives up while it rings.
fn call() -> Scenario {
    Scenario::by("anna")
        .invites(Media::AudioVideo)
        .rings_or_goes_to(0.05, 3)
        .answers_come()
        .waits(LASTS)
        .hangs_up()
        .goes_to(4)
        .mark(3)
        .waits(RINGS / 10)
        .cancels()
        .mark(4)
}

fn callee() -> Scenario {
    Scenario::by("callee").rings_and_talks(RINGS, Media::AudioVideo)
}

fn during(seconds: u32) -> Load {
    Load { calls: RATE * seconds, rate: RATE, call_ids: "load" }
}

/// Calls at this rate for so long; `meanwhile` happens among them. None goes wrong, and nothing is left.
async fn under_load(seconds: u32, what: &str, meanwhile: impl AsyncFnOnce(&mut Site)) {
    let mut site = Site::in_real_time(1000, &[]).await;
    let began = Instant::now();
    let callee = Sipp::callee(site.kamailio.gateway(), &callee(), None);
    let caller = site.caller(NUMBER, &call(), during(seconds));
    meanwhile(&mut site).await;
    let (status, tally, told) = caller.over().await;
    let code = status.code();
    assert!(matches!(code, Some(0 | 1)), "sipp ended with {status}: {told}");
    callee.vanish().await;
    let pool = site.deployment.pool().calls_pool().await.expect("the pool answers");
    let calls = during(seconds).calls;
    say(format!(
        "{calls} gateway calls in {} s: {} as they should be, {} not; at most {} of {} units in use",
        began.elapsed().as_secs(),
        tally.good,
        tally.failed,
        pool.peak,
        pool.capacity
    ));
    assert_eq!(tally.good + tally.failed, u64::from(calls));
    assert_eq!(tally.failed, 0, "{told}");
    site.is_empty_after(what).await;
    site.deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_a_second_for_two_minutes_are_admitted_and_nothing_is_left() {
    under_load(TWO_MINUTES, "two minutes of calls", async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_refused_while_the_pool_is_killed_and_started_again_and_it_is_exact_afterwards() {
    under_load(TWO_MINUTES, "two minutes of calls, half a minute of them without a pool", async |site| {
        site.uses_at_least(100).await;
        tokio::time::sleep(THIRTY_SECONDS).await;
        site.deployment.kill_management().await;
        tokio::time::sleep(THIRTY_SECONDS).await;
        site.deployment.start_management().await.expect("it starts again");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_the_node_is_killed_and_what_ended_meanwhile_is_given_back() {
    under_load(30, "calls of which some began and ended without the node", async |site| {
        site.uses_at_least(100).await;
        site.deployment.kill_node("node-a").await.expect("it runs");
        // Calls begin and end meanwhile: all that are up now are over before it is back.
        tokio::time::sleep(Duration::from_secs(10)).await;
        site.deployment.start_node("node-a").await.expect("it starts again");
        // What began without it is recorded.
        site.legs_are("a call that began meanwhile to be recorded", |legs| {
            legs.iter().any(|leg| leg.adopted)
        })
        .await;
    })
    .await;
}

/// What takes minutes, at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_kamailio_that_stays_away_loses_its_calls_and_a_replaced_call_that_does_not_end_counts_again() {
    tokio::join!(a_kamailio_is_killed(), a_replaced_call_stays());
}

/// The other side took the new call and did not end the old one.
async fn a_replaced_call_stays() {
    let site =
        Site::in_real_time(2, &["#!define HEADROOM_RESYNC 5", "#!define HEADROOM_KEEPALIVE 600"]).await;
    let calls = |by: &str, header: &str, lasts| {
        Scenario::by(by)
            .invites_with(Media::AudioVideo, header)
            .answered()
            .waits(Duration::from_secs(lasts))
            .hangs_up()
    };
    let named = |call_ids| Load { calls: 1, rate: 1, call_ids };
    let callee = Sipp::callee(site.kamailio.gateway(), &talks(), None);
    let old = site.caller(NUMBER, &calls("anna", "", 100), named("old"));
    site.uses(2).await;
    let new =
        site.caller("4930999", &calls("bert", "Replaces: old-1;to-tag=b1;from-tag=a1\n", 95), named("new"));
    site.legs_are("the new call to be answered", |legs| {
        legs.len() == 2 && legs.iter().all(|leg| leg.leg.starts_with("new-1"))
    })
    .await;
    assert_eq!(site.units().await, 2);
    let both = async || {
        let units = site.units().await;
        if units == 4 { Ok(()) } else { Err(format!("{units} units")) }
    };
    headroom_deploy::wait::until("the old call to count again", PATIENCE * 2, both).await.expect("in time");
    new.done().await;
    old.done().await;
    callee.vanish().await;
    site.is_empty_after("a replaced call that did not end").await;
    site.deployment.stop().await;
}

/// Started again it knows its calls; left away, they are orphans.
async fn a_kamailio_is_killed() {
    let mut site = Site::in_real_time(10, &[]).await;
    let conference = Sipp::callee(site.kamailio.media_server(), &talks(), None);
    let calls = |lasts| Scenario::by("anna").invites(Media::AudioVideo).answered().waits(lasts).hangs_up();
    let five = |call_ids| Load { calls: 5, rate: 10, call_ids };

    // A call that has reached the conference is one whose grant Kamailio knows of.
    let reached = async |calls: u64| {
        until("calls to reach the conference", async || match conference.called() {
            called if called == calls => Ok(()),
            called => Err(format!("{called} calls")),
        })
        .await;
    };

    let caller = site.caller(CONFERENCE, &calls(Duration::from_secs(15)), five("go-on"));
    site.uses(5).await;
    reached(5).await;
    site.kamailio.kill().await;
    site.kamailio.start_again().await;
    assert!(site.kamailio.logged().contains("headroom: 5 legs go on from before"));
    assert_eq!(site.units().await, 5);
    caller.done().await;
    site.is_empty_after("calls of which Kamailio was killed and started again").await;

    // Its callers hang up while it is away, and nobody tells.
    let node = site.deployment.node_mut("node-a").expect("a node");
    node.extra = ["--orphan-after", "150s"].map(Into::into).into();
    site.deployment.stop_node("node-a").await.expect("it ends");
    site.deployment.start_node("node-a").await.expect("it starts");
    let caller = site.caller(CONFERENCE, &calls(Duration::from_secs(600)), five("orphans"));
    site.uses(5).await;
    reached(10).await;
    site.kamailio.kill().await;
    caller.vanish().await;
    conference.vanish().await;
    let node = site.deployment.agent("node-a").await;
    let silent = async |wanted: bool| {
        let look = async || {
            let alarms = node.status().await.map_err(|error| error.to_string())?.alarms;
            let on = alarms.contains(&"source_silent:kamailio".to_owned());
            if on == wanted { Ok(()) } else { Err(format!("{alarms:?}")) }
        };
        headroom_deploy::wait::until("the alarm of a silent source", PATIENCE * 3, look)
            .await
            .expect("in time");
    };
    silent(true).await;
    assert_eq!(site.units().await, 5);
    silent(false).await;
    site.is_empty_after("calls of a Kamailio that stayed away").await;
    site.deployment.stop().await;
}
