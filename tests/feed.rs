//! A conferencing platform that tells its events to a node.

use headroom_tests::platform::{BASIC, BEARER, Platform, Port, participant};
use headroom_tests::receiver::receiver;
use headroom_tests::{Deployment, PATIENCE, until};
use serde_json::{Value, json};
use tokio::process::Command;

const EVENTS: &str = "/feed/v1/events";

/// A pool for so many calls, and a node with a port for feeds.
pub(crate) async fn site(capacity: &str, more: &[&str]) -> (Deployment, Port) {
    let mut deployment = Deployment::one_node(capacity).await;
    let folder = deployment.layout().root().join("feed");
    let port = Port::make(folder, deployment.layout().service("node-a"));
    let node = deployment.node_mut("node-a").expect("a node");
    node.extra = port.flags();
    node.extra.extend(more.iter().map(Into::into));
    deployment.stop_node("node-a").await.expect("it ends");
    deployment.start_node("node-a").await.expect("it starts");
    deployment.agent("node-a").await;
    (deployment, port)
}

async fn status(deployment: &Deployment) -> headroom_proto::admission::GetStatusResponse {
    deployment.node("node-a").expect("a node").agent.status().await.expect("a status")
}

fn with(mut data: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        data[name] = value.clone();
    }
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn legs_that_a_platform_tells_of_are_rated_recorded_and_released() {
    let (deployment, port) = site("20", &[]).await;
    let mut platform = Platform::new(&port, "10.0.0.1");
    platform.starts().await;
    for (leg, changes, units) in [
        ("sip", json!({}), 1),
        ("control", json!({ "has_media": false, "protocol": "WebRTC" }), 1),
        ("skype", json!({ "protocol": "MSSIP", "is_presenting": true }), 3),
        ("stream", json!({ "protocol": "RTMP", "has_media": false, "call_direction": "out" }), 4),
    ] {
        platform.connects(&with(participant(leg), &changes)).await;
        deployment.uses(units).await;
    }
    // The control client takes part with media, the Skype participant no longer presents.
    platform
        .tells("participant_updated", &with(participant("control"), &json!({ "protocol": "WebRTC" })))
        .await;
    platform.tells("participant_updated", &json!({ "uuid": "skype", "is_presenting": false })).await;
    deployment.uses(4).await;
    let legs = deployment.pool().legs().await.expect("legs");
    assert_eq!(
        legs.iter().map(|leg| leg.leg.as_str()).collect::<Vec<_>>(),
        ["control", "sip", "skype", "stream"]
    );

    // A gateway call into a hosted meeting: its plan pays once, and no call is counted.
    let gateway = |leg: &str, changes: Value| {
        let whole = json!({ "service_type": "gateway", "conference": "meeting:1" });
        with(with(participant(leg), &whole), &changes)
    };
    platform.connects(&gateway("in", json!({}))).await;
    deployment.uses(5).await;
    platform.connects(&gateway("out", json!({ "protocol": "TEAMS", "call_direction": "out" }))).await;
    deployment.uses(4).await;

    // The ends come in bulk, with numbers of their own, and twice.
    let ends: Vec<_> = ["sip", "control", "skype", "stream", "in", "out"]
        .map(|leg| platform.event("participant_disconnected", &json!({ "uuid": leg })))
        .into();
    let bulk = json!({
        "node": "127.0.0.1", "seq": 0, "version": 1, "time": 0, "event": "eventsink_bulk", "data": ends,
    });
    platform.send(&bulk).await;
    platform.send(&bulk).await;
    deployment.is_empty().await;
    // What was told before the end comes late, and revives nothing.
    platform
        .send(&with(ends[0].clone(), &json!({ "event": "participant_updated", "data": participant("sip") })))
        .await;
    let told = status(&deployment).await;
    let feed = &told.feeds[0];
    assert_eq!((feed.source.as_str(), feed.seq, feed.missed), ("feed:10.0.0.1", 15, 0));
    assert!(told.alarms.is_empty(), "{:?}", told.alarms);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_left_out_raise_an_alarm_and_who_is_unknown_is_not_heard() {
    let (deployment, port) = site("20", &[]).await;
    let mut platform = Platform::new(&port, "10.0.0.1");
    platform.starts().await;
    platform.connects(&participant("a")).await;
    platform.leaves_out(2);
    platform.connects(&participant("b")).await;
    let told = status(&deployment).await;
    assert_eq!(told.alarms, ["feed_gap:feed:10.0.0.1"]);
    assert_eq!((told.feeds[0].missed, told.feeds[0].in_doubt), (2, 1));

    let event = platform.event("participant_disconnected", &json!({ "uuid": "a" })).to_string();
    for wrong in ["", "Basic cGxhdGZvcm06d3Jvbmc=", "Bearer nobody"] {
        let (code, answer) = port.speak(EVENTS, wrong, Some(event.clone())).await.expect("an answer");
        assert_eq!((code, &answer["error"]), (401, &json!("unauthorized")), "{wrong}");
    }
    let (code, answer) = port.speak(EVENTS, BEARER, Some("{\"node\": 7}".into())).await.expect("an answer");
    assert_eq!((code, &answer["field"]), (400, &json!("node")), "{answer}");
    let (code, answer) = port.speak("/v1/legs", BEARER, None).await.expect("an answer");
    assert_eq!(code, 404, "what media servers ask is not served to other hosts: {answer}");

    // As platforms do, with HTTP/1.1.
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--http1.1",
        "--user",
        "platform:correct horse",
    ]);
    curl.args(["--data", &event, "--cacert"]).arg(port.file("authority.pem"));
    curl.arg(format!("https://{}{EVENTS}", port.address().expect("an address")));
    let output = curl.output().await.expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"events\":1}", "{output:?}");
    deployment.uses(1).await;
    platform.disconnects("b").await;
    deployment.is_empty().await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_release_is_lost_while_the_node_and_the_pool_are_killed_and_started_again() {
    const LEGS: usize = 120;
    let (mut deployment, port) = site("1000", &[]).await;
    let machines = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|node| {
        let mut platform = Platform::new(&port, node);
        tokio::spawn(async move {
            platform.starts().await;
            let leg = |n: usize| format!("{node}/{n}");
            for n in 0..LEGS + 10 {
                if n < LEGS {
                    platform.connects(&participant(&leg(n))).await;
                }
                if n % 3 == 0 && n < LEGS {
                    let update = json!({ "uuid": leg(n), "is_presenting": true });
                    platform.tells("participant_updated", &update).await;
                }
                if n >= 10 {
                    platform.disconnects(&leg(n - 10)).await;
                }
            }
            platform.told_again
        })
    });
    let heard = async |deployment: &Deployment, least: u64| {
        until("more to be heard", async || {
            let agent = &deployment.node("node-a").expect("a node").agent;
            let feeds = agent.status().await.map_err(|error| error.to_string())?.feeds;
            let seq = feeds.iter().map(|feed| feed.seq).min().unwrap_or_default();
            if feeds.len() == 3 && seq >= least { Ok(()) } else { Err(format!("{feeds:?}")) }
        })
        .await;
    };
    for (round, least) in [20, 60, 100, 140].into_iter().enumerate() {
        heard(&deployment, least).await;
        if round == 1 {
            deployment.kill_management().await;
        }
        deployment.kill_node("node-a").await.expect("it is killed");
        deployment.start_node("node-a").await.expect("it starts again");
        if round == 2 {
            deployment.start_management().await.expect("it starts again");
        }
    }
    let mut again = 0;
    for machine in machines {
        again += machine.await.expect("everything is taken");
    }
    assert!(again > 0, "nothing went wrong on the way");
    deployment.is_empty().await;
    let told = status(&deployment).await;
    assert!(told.feeds.iter().all(|feed| feed.missed == 0), "{:?}", told.feeds);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn legs_above_the_limit_count_raise_an_alarm_and_are_disconnected_if_the_operator_wants() {
    let (address, posts) = receiver();
    let hook = format!("http://user:secret@{address}/disconnect");
    let (deployment, port) = site("1", &["--disconnect", &hook]).await;
    let mut platform = Platform::new(&port, "10.0.0.1");
    let posted = |leg: &str, reason: &str| {
        let post = posts.recv_timeout(PATIENCE).expect("a post");
        let head = post.head.to_ascii_lowercase();
        assert!(head.starts_with("post /disconnect "), "{head}");
        assert!(head.contains("authorization: basic dxnlcjpzzwnyzxq="), "{head}");
        assert!(head.contains(&format!("headroom-reason: {reason}")), "{head}");
        assert_eq!(post.body, json!({ "participant_id": leg }));
    };
    platform.starts().await;
    platform.connects(&participant("first")).await;
    platform.connects(&participant("second")).await;
    posted("second", "insufficient_licenses");
    // It counts until it has ended.
    deployment.uses(2).await;
    until("the alarm", async || {
        let alarms = deployment.pool().status().await.map_err(|error| error.to_string())?.alarms;
        if alarms.iter().any(|alarm| alarm.name == "over_commit") {
            Ok(())
        } else {
            Err(format!("{alarms:?}"))
        }
    })
    .await;
    platform.disconnects("second").await;
    deployment.uses(1).await;
    // Who pays for a gateway call is known with its outbound leg: here nobody has a license for hosted meetings.
    let gateway = json!({ "service_type": "gateway", "conference": "meeting:1" });
    platform.connects(&with(participant("in"), &gateway)).await;
    let out = json!({ "protocol": "TEAMS", "call_direction": "out" });
    platform.connects(&with(with(participant("out"), &gateway), &out)).await;
    posted("out", "no_license");
    platform.disconnects("out").await;
    platform.disconnects("in").await;
    deployment.uses(1).await;
    // A control client that wants media, and nothing is left.
    platform.connects(&with(participant("third"), &json!({ "has_media": false }))).await;
    platform.tells("participant_updated", &participant("third")).await;
    posted("third", "insufficient_licenses");
    platform.disconnects("third").await;
    // One that an administrator releases by force.
    deployment.pool().force_release("node-a", "first").await.expect("it is released");
    posted("first", "revoked");
    platform.disconnects("first").await;
    deployment.is_empty().await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_asks_before_is_told_to_reject_when_the_pool_is_full() {
    let (deployment, port) = site("1", &[]).await;
    let ask = async |query: &str| {
        let path = format!("/policy/v1/service/configuration?{query}");
        let (code, answer) = port.speak(&path, BASIC, None).await.expect("an answer");
        assert_eq!((code, &answer["status"], &answer["result"]), (200, &json!("success"), &json!({})));
        answer["action"].as_str().expect("an action").to_owned()
    };
    let call = "call_direction=dial_in&protocol=sip&remote_alias=sip%3Aanna%40example.com&local_alias=lobby\
                &node_ip=10.0.0.1&registered=False&version_id=36";
    assert_eq!(ask(call).await, "continue");
    let mut platform = Platform::new(&port, "10.0.0.1");
    platform.starts().await;
    platform.connects(&participant("a")).await;
    until("a rejection", async || match ask(call).await.as_str() {
        "reject" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    assert_eq!(ask("call_direction=non_dial&local_alias=lobby").await, "continue");
    until("the rejection to be recorded", async || {
        let denials = deployment.pool().denials().await.map_err(|error| error.to_string())?;
        if denials.iter().any(|d| format!("{d:?}").contains("sip:anna@example.com")) {
            Ok(())
        } else {
            Err(format!("{denials:?}"))
        }
    })
    .await;
    platform.disconnects("a").await;
    until("the next to be let in", async || match ask(call).await.as_str() {
        "continue" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    let (code, _) = port.speak("/policy/v1/service/configuration", "", None).await.expect("an answer");
    assert_eq!(code, 401);
    deployment.stop().await;
}
