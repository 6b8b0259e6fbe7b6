//! The store of a management node that is not what it was: restored from an older copy, or cut short.

use std::fs;

use headroom_deploy::agent::{Agent, simple_call};
use headroom_proto::admission::Contact;
use headroom_tests::licensing::copy;
use headroom_tests::{Deployment, stands, until};

async fn grant(agent: &Agent, call: &str) {
    let answer = agent.admit(&simple_call(call, call)).await.expect("an answer");
    assert!(answer.granted() && !answer.optimistic(), "{answer:?}");
}

async fn contact(deployment: &Deployment) {
    for node in deployment.nodes() {
        until("contact", async || stands(&node.agent, Contact::In).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_restored_from_an_older_copy_is_found_alarmed_and_reported_anew() {
    let mut deployment = Deployment::start().await;
    let (a, b) = (deployment.agent("node-a").await, deployment.agent("node-b").await);
    grant(&a, "kept").await;
    grant(&a, "ends").await;

    let state = deployment.layout().service("management");
    let older = deployment.layout().root().join("older");
    deployment.kill_management().await;
    copy(&state, &older);
    deployment.start_management().await.expect("the management node starts again");
    contact(&deployment).await;
    assert_eq!(alarms(&deployment).await, Vec::<String>::new());
    grant(&a, "new-on-a").await;
    grant(&b, "new-on-b").await;
    assert_eq!(a.end_call("ends").await.expect("an answer").status, 200);
    until("three legs", async || leased(&deployment, &["kept", "new-on-a", "new-on-b"]).await).await;

    deployment.kill_management().await;
    fs::remove_dir_all(&state).expect("the store goes");
    copy(&older, &state);
    deployment.start_management().await.expect("the older store opens");
    contact(&deployment).await;
    until("what runs, and nothing else", async || {
        leased(&deployment, &["kept", "new-on-a", "new-on-b"]).await
    })
    .await;
    assert_eq!(alarms(&deployment).await, ["store_rolled_back"]);
    grant(&b, "after").await;
    deployment.stop().await;
}

async fn alarms(deployment: &Deployment) -> Vec<String> {
    let status = deployment.pool().status().await.expect("the pool's status");
    status.alarms.into_iter().map(|alarm| alarm.name).collect()
}

async fn leased(deployment: &Deployment, legs: &[&str]) -> Result<(), String> {
    let found = deployment.pool().legs().await.map_err(|error| error.to_string())?;
    let mut found: Vec<_> = found.into_iter().map(|leg| leg.leg).collect();
    found.sort();
    if found == legs { Ok(()) } else { Err(format!("{found:?}")) }
}
