//! Two hundred times each, or as often as `HEADROOM_TEST_KILLS` says: a management node and a conferencing node
//! are killed at any moment under load, and what they hold afterwards is compared with every answer that was
//! given.

use std::collections::BTreeSet;

use headroom_deploy::fleet::Options;
use headroom_simulator::dice::Dice;
use headroom_tests::askers::{
    CAPACITY, all_answered, all_ask, all_work, compare_all, compare_work, leased, nodes, running, workers,
};
use headroom_tests::known::{moment, number_from, sum};
use headroom_tests::{Deployment, until};

fn kills() -> u32 {
    number_from("HEADROOM_TEST_KILLS", 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_of_the_management_node_lose_and_invent_no_lease() {
    let (kills, capacity) = (kills(), CAPACITY.to_string());
    let change = |options| Options { nodes: Vec::new(), capacity, ..options };
    let mut deployment = Deployment::start_with(change).await;
    let mut nodes = nodes(&deployment).await;
    let mut dice = Dice::new(1000);
    for kill in 1..=kills {
        all_ask(&mut nodes, false, async {
            moment(&mut dice).await;
            deployment.kill_management().await;
        })
        .await;
        deployment.start_management().await.expect("it starts again");
        compare_all(&deployment, &mut nodes, &format!("kill {kill}")).await;
    }
    all_answered(&mut nodes).await;
    for node in &nodes {
        assert_eq!(leased(&deployment, &node.name).await, node.known.held, "{}", node.name);
    }
    let (granted, denied, ended) = sum(nodes.iter().map(|node| &node.known));
    let status =
        until("the pool's status", async || deployment.pool().status().await.map_err(|e| e.to_string()))
            .await;
    assert_eq!(status.denials, denied, "denials recorded, and denials answered");
    // How many a busy machine comes to is not promised, but they were killed at work.
    assert!(granted > u64::from(kills) / 10 && denied > 0 && ended > 0, "{granted} {denied} {ended}");
    println!(
        "{kills} kills of the management node: {granted} grants, {denied} denials and {ended} releases answered; \
         0 lost, 0 invented"
    );
    deployment.stop().await;
}

const NODE: &str = "node-a";

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_of_a_conferencing_node_lose_and_invent_no_leg() {
    let (kills, nodes) = (kills(), vec![(NODE.to_owned(), 0)]);
    let capacity = CAPACITY.to_string();
    let mut deployment = Deployment::start_with(|options| Options { nodes, capacity, ..options }).await;
    deployment.agent(NODE).await;
    let mut workers = workers();
    let mut dice = Dice::new(2000);
    for kill in 1..=kills {
        let agent = deployment.node(NODE).expect("the node").agent.clone();
        all_work(&mut workers, &agent, async {
            moment(&mut dice).await;
            deployment.kill_node(NODE).await.expect("the node");
        })
        .await;
        deployment.start_node(NODE).await.expect("it starts again");
        let agent = &deployment.node(NODE).expect("the node").agent;
        compare_work(agent, &workers, &format!("kill {kill}")).await;
    }
    let agent = deployment.agent(NODE).await;
    let mut answered = Vec::new();
    for worker in workers {
        answered.push(worker.ask(agent.clone(), true).await.known);
    }
    let held: BTreeSet<_> = answered.iter().flat_map(|known| known.held.clone()).collect();
    assert_eq!(running(&agent).await, held);
    until("the pool to hold what runs", async || {
        let leased = leased(&deployment, NODE).await;
        if leased == held { Ok(()) } else { Err(format!("{leased:?}, and {held:?} run")) }
    })
    .await;
    let (granted, denied, ended) = sum(&answered);
    assert!(granted > u64::from(kills) / 10 && ended > 0, "{granted} {denied} {ended}");
    println!(
        "{kills} kills of a conferencing node: {granted} grants, {denied} denials and {ended} ends answered; \
         0 lost, 0 invented, every leg that runs has its lease"
    );
    deployment.stop().await;
}
