//! What an administrator is told without asking: alarms listed, in metrics and posted to a receiver, and a
//! support log that also has what nodes decided alone.

use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

use headroom_deploy::agent::{Agent, simple_call};
use headroom_deploy::fleet::Options;
use headroom_proto::admission::Contact;
use headroom_tests::receiver::{Post, receiver};
use headroom_tests::{Deployment, stands, until};
use serde_json::Value;

async fn command(deployment: &Deployment, words: &[&str]) -> String {
    let words = words.iter().map(Into::into).collect();
    deployment.command("management-node", "management", words).await.expect("it is content")
}

async fn fill(agent: &Agent, from: u32, to: u32) {
    for n in from..to {
        let name = format!("call-{n}");
        let answer = agent.admit(&simple_call(&name, &name)).await.expect("an answer");
        assert!(answer.granted(), "{n}: {}", answer.told());
    }
}

/// The next post that is about `subject`, and not about the time before it had a license.
fn next(received: &mpsc::Receiver<Post>, subject: &str) -> (String, String) {
    loop {
        let posted = received.recv_timeout(headroom_tests::PATIENCE).expect("a post");
        let text = |field: &str| posted.body[field].as_str().expect("a text").to_owned();
        if text("subject") == subject && text("alarm") != "no_license" {
            return (text("alarm"), text("state"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn use_of_a_pool_raises_alarms_step_by_step_and_posts_them_once_and_cleared() {
    let (address, received) = receiver();
    let mut deployment =
        Deployment::start_with(|options| Options { capacity: "10+2".into(), ..options }).await;
    deployment.kill_management().await;
    deployment.management_env =
        vec![("HEADROOM_ALARM_WEBHOOK".into(), format!("http://{address}/alarms").into())];
    deployment.start_management().await.expect("it starts again");
    let agent = deployment.agent("node-a").await;
    let posted = |alarm: &str, state: &str| assert_eq!(next(&received, "call"), (alarm.into(), state.into()));
    fill(&agent, 0, 8).await;
    posted("capacity_80", "raised");
    let list = command(&deployment, &["alarms"]).await;
    assert!(list.contains("capacity_80") && list.contains("8 of 10 units in use"), "{list}");
    fill(&agent, 8, 9).await;
    let mut both = [next(&received, "call"), next(&received, "call")];
    both.sort();
    assert_eq!(both, [("capacity_80".into(), "cleared".into()), ("capacity_90".into(), "raised".into())]);
    fill(&agent, 9, 12).await;
    until("overdraft", async || {
        let list = command(&deployment, &["alarms"]).await;
        if list.contains("overdraft") { Ok(()) } else { Err(list) }
    })
    .await;
    let pool = command(&deployment, &["pool", "--json"]).await;
    let pool: Value = serde_json::from_str(&pool).expect("JSON");
    let call = &pool["pools"][0];
    let numbers = ["capacity", "overdraft", "in_use", "over_commit"].map(|field| call[field].as_u64());
    assert_eq!(numbers, [10, 2, 12, 0].map(Some), "overdraft is counted and reported apart");
    for n in 0..12 {
        agent.end_call(&format!("call-{n}")).await.expect("an answer");
    }
    until("all is clear", async || {
        let list = command(&deployment, &["alarms"]).await;
        if list.contains("no alarm is on") { Ok(()) } else { Err(list) }
    })
    .await;
    assert!(command(&deployment, &["alarms", "--cleared"]).await.contains("overdraft"));
    loop {
        if next(&received, "call") == ("overdraft".into(), "cleared".into()) {
            break;
        }
    }
    let log = command(&deployment, &["support-log"]).await;
    assert!(log.contains("raised overdraft call") && log.contains("cleared overdraft call"), "{log}");
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("soon enough")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_that_a_node_made_alone_is_in_the_support_log_at_its_true_time() {
    let deployment = Deployment::start_with(|options| Options { budget: None, ..options }).await;
    let agent = deployment.agent("node-a").await;
    fill(&agent, 0, 10).await;
    let denied = agent.admit(&simple_call("by-the-pool", "by-the-pool")).await.expect("an answer");
    assert_eq!(denied.reason(), "insufficient_licenses");
    let node = deployment.node("node-a").expect("the node");
    node.link.cut();
    // What was on its way when the node was cut off is decided by the pool once it comes, and is the pool's.
    agent.admit(&simple_call("on-its-way", "on-its-way")).await.expect("an answer");
    let before = now_ms();
    let alone = agent.admit(&simple_call("by-the-node", "by-the-node")).await.expect("an answer");
    assert_eq!(alone.reason(), "insufficient_licenses", "{}", alone.told());
    let after = now_ms();
    node.link.heal();
    until("contact", async || stands(&agent, Contact::In).await).await;
    let line = until("the node's denial", async || {
        let log = command(&deployment, &["support-log", "--call", "by-the-node", "--json"]).await;
        let log: Value = serde_json::from_str(&log).expect("JSON");
        // The pool too decides the request that was on its way when the node was cut off, once it comes.
        let alone =
            |line: &&Value| line["text"].as_str().is_some_and(|text| text.contains("by the node alone"));
        let lines = log["lines"].as_array().expect("a list");
        lines.iter().find(alone).cloned().ok_or_else(|| log.to_string())
    })
    .await;
    let text = line["text"].as_str().expect("a text");
    assert!(text.contains("by the node alone"), "{text}");
    let at = line["at_ms"].as_i64().expect("a time");
    assert!((before..=after).contains(&at), "{before} {at} {after}");
    let all = command(&deployment, &["support-log"]).await;
    assert!(all.contains("insufficient_licenses: call by-the-pool of "), "{all}");
    let none = command(&deployment, &["support-log", "--since", "2999-01-01"]).await;
    assert_eq!(none, "");
}
