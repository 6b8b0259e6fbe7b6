//! Why a license does not count, as the participant is told it, and in the support log: through a real
//! conferencing node.

use std::path::Path;

use headroom_deploy::agent::{Agent, simple_call};
use headroom_deploy::fleet::Options;
use headroom_tests::licensing::path;
use headroom_tests::{Deployment, until};
use serde_json::Value;

async fn management(deployment: &Deployment, words: &[&str]) -> String {
    let words = words.iter().map(Into::into).collect();
    deployment.command("management-node", "management", words).await.expect("it is content")
}

async fn vendor(deployment: &Deployment, words: &[&str]) -> String {
    let words = words.iter().map(Into::into).collect();
    deployment.command("licensing-server", "licensing", words).await.expect("it is content")
}

/// Asks for a call until it is denied for this reason, and gives the sentence that is announced.
async fn denied(agent: &Agent, call: &str, reason: &str) -> String {
    let mut attempt = 0;
    until(reason, async || {
        // An id that was in use is dead for a minute.
        attempt += 1;
        let call = format!("{call}-{attempt}");
        let answer = agent.admit(&simple_call(&call, &call)).await.expect("an answer");
        if answer.granted() {
            agent.end_call(&call).await.expect("an answer");
        }
        if answer.reason() == reason { Ok(answer.told()) } else { Err(answer.told()) }
    })
    .await
}

async fn granted(agent: &Agent, call: &str) {
    until("a grant", async || {
        let answer = agent.admit(&simple_call(call, call)).await.expect("an answer");
        if answer.granted() { Ok(()) } else { Err(answer.told()) }
    })
    .await;
    agent.end_call(call).await.expect("an answer");
}

async fn only_license(deployment: &Deployment) -> String {
    let list = management(deployment, &["license", "list", "--json"]).await;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    list["licenses"][0]["license"].as_str().expect("a license").to_owned()
}

/// Has the stored request answered by the vendor, as by mail.
async fn carry(deployment: &Deployment, desk: &Path) {
    let (request, answer) = (desk.join("request.xml"), desk.join("answer.xml"));
    let _ = std::fs::remove_file(&request);
    management(deployment, &["license", "export", "--out", path(&request)]).await;
    let xml = vendor(deployment, &["answer", path(&request)]).await;
    std::fs::write(&answer, xml).expect("written");
    management(deployment, &["license", "complete", path(&answer)]).await;
}

fn in_seconds(seconds: u64) -> String {
    let date = std::process::Command::new("date")
        .args(["-u", "-d", &format!("{seconds} seconds"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .expect("date runs");
    String::from_utf8(date.stdout).expect("text").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_for_which_no_license_counts_is_told_to_the_participant_and_logged() {
    let only = |options| Options { nodes: vec![("node-a".into(), 0)], ..options };
    let mut deployment = Deployment::start_with(only).await;
    let desk = tempfile::tempdir().expect("a folder");
    let agent = deployment.agent("node-a").await;
    granted(&agent, "licensed").await;

    let license = only_license(&deployment).await;
    management(&deployment, &["license", "delete", &license]).await;
    let text = denied(&agent, "without", "no_license").await;
    assert!(text.contains("no license for this kind of call"), "{text}");

    vendor(&deployment, &["customer", "add", "Example"]).await;
    let key = vendor(&deployment, &["key", "create", "--customer", "Example", "--feature", "call=5"]).await;
    let key = key.trim();
    management(&deployment, &["license", "add", key, "--manual"]).await;
    let text = denied(&agent, "stored", "license_not_activated").await;
    assert!(text.contains("has not been activated"), "{text}");
    carry(&deployment, desk.path()).await;
    granted(&agent, "activated").await;

    // The container's identity is another: as after its folder was moved without it.
    let id = deployment.layout().service("management").join("machine-id");
    let before = std::fs::read_to_string(&id).expect("the machine's id");
    deployment.kill_management().await;
    std::fs::write(&id, "another\n").expect("written");
    deployment.start_management().await.expect("it starts again");
    let text = denied(&agent, "moved", "license_corrupt").await;
    assert!(text.contains("does not match its machine"), "{text}");
    deployment.kill_management().await;
    std::fs::write(&id, before).expect("written");
    deployment.start_management().await.expect("it starts again");
    granted(&agent, "back").await;

    vendor(&deployment, &["key", "change", key, "--not-after", &in_seconds(3)]).await;
    management(&deployment, &["license", "refresh", "--manual"]).await;
    carry(&deployment, desk.path()).await;
    let text = denied(&agent, "late", "license_expired").await;
    assert!(text.contains("has expired"), "{text}");

    // Expired units come back with the next request, not with a restart.
    vendor(&deployment, &["key", "change", key, "--not-after", "none"]).await;
    management(&deployment, &["license", "refresh", "--manual"]).await;
    carry(&deployment, desk.path()).await;
    granted(&agent, "renewed").await;

    let log = management(&deployment, &["support-log", "--limit", "1000"]).await;
    for reason in ["no_license", "license_not_activated", "license_corrupt", "license_expired"] {
        assert!(log.contains(&format!("{reason}: call ")), "{reason}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_test_mode_calls_beyond_every_license_are_granted_and_when_it_ends_none_is_cut() {
    let only = |options| Options { nodes: vec![("node-a".into(), 0)], capacity: "1".into(), ..options };
    let deployment = Deployment::start_with(only).await;
    let agent = deployment.agent("node-a").await;
    management(&deployment, &["test-mode", "on"]).await;
    for n in 0..5 {
        let name = format!("call-{n}");
        let answer = agent.admit(&simple_call(&name, &name)).await.expect("an answer");
        assert!(answer.granted(), "{}", answer.told());
    }
    management(&deployment, &["test-mode", "off"]).await;
    let refused = agent.admit(&simple_call("after", "after")).await.expect("an answer");
    assert_eq!(refused.reason(), "insufficient_licenses");
    assert_eq!(agent.legs().await.expect("its legs").len(), 5, "no call is cut");
    let status = management(&deployment, &["test-mode", "status"]).await;
    assert!(status.contains("5 leases that were taken in it are still held"), "{status}");
    let words = ["test-mode", "on"].iter().map(Into::into).collect();
    let error = deployment.command("management-node", "management", words).await.expect_err("not yet");
    assert!(error.to_string().contains("5 leases that were taken in the last test mode"), "{error}");
}
