//! Kills before, in the middle of and after every step of the work on disk: from the making of a store over its
//! opening and the commits to a snapshot and what it makes superfluous. Each is followed by a start, and by a
//! comparison with every answer that was given.

use std::fs;
use std::path::Path;

use headroom_deploy::agent::Agent;
use headroom_deploy::fleet::Options;
use headroom_tests::askers::{
    CAPACITY, all_answered, all_ask, all_work, compare_all, compare_work, enrol, leased, nodes, open, workers,
};
use headroom_tests::known::{Known, number_from, sum};
use headroom_tests::licensing::copy;
use headroom_tests::write_log::{self, Step};
use headroom_tests::{Deployment, programs, until};

use super::load;
use super::recording::gone;
use super::shim::{Shim, When};

/// Kills, of all tests here together.
fn kills() -> u32 {
    number_from("HEADROOM_TEST_STEP_KILLS", 80)
}

/// So many kills, spread over a span of steps.
fn spread(kills: u32, first: u32, last: u32) -> impl Iterator<Item = (u32, When)> {
    let whens = [When::Before, When::Middle, When::After].into_iter().cycle();
    let steps = (0..kills).map(move |kill| first + kill * (last - first + 1) / kills);
    steps.zip(whens)
}

fn pool_only(options: Options) -> Options {
    Options { nodes: Vec::new(), capacity: CAPACITY.to_string(), ..options }
}

/// The last step of the first commits after a start.
const COMMITS: u32 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_management_node_killed_at_any_step_of_its_start_and_its_commits_loses_and_invents_nothing() {
    let mut deployment = Deployment::start_with(pool_only).await;
    let mut nodes = nodes(&deployment).await;
    let state = deployment.layout().service("management");
    let kills = kills() * 3 / 10;
    for (step, when) in spread(kills, 1, COMMITS) {
        deployment.kill_management().await;
        deployment.management_env = Shim::over(&state).kill(step, when).env();
        // Killed before it serves, it does not start.
        if deployment.start_management().await.is_ok() {
            all_ask(&mut nodes, false, gone(&mut deployment, "management")).await;
        }
        deployment.kill_management().await;
        deployment.management_env.clear();
        deployment.start_management().await.unwrap_or_else(|error| panic!("{when:?} step {step}: {error}"));
        compare_all(&deployment, &mut nodes, &format!("{when:?} step {step}")).await;
    }
    all_answered(&mut nodes).await;
    for node in &nodes {
        assert_eq!(leased(&deployment, &node.name).await, node.known.held, "{}", node.name);
    }
    let (granted, denied, ended) = sum(nodes.iter().map(|node| &node.known));
    println!(
        "{kills} kills of the management node at steps 1 to {COMMITS} after its start: {granted} grants, {denied} \
         denials and {ended} releases answered; 0 lost, 0 invented"
    );
    deployment.stop().await;
}

/// Fills a store so that a snapshot is due when it is opened next, and a file of records superfluous after it.
async fn due(store: &Path) {
    load::fill(store, 5 << 20).await;
    load::snapshot(store).await;
    load::fill(store, 9 << 20).await;
}

/// The files of records that a store has.
fn files(store: &Path) -> usize {
    fs::read_dir(store.join("records")).expect("the records").count()
}

/// Starts the management node and gives the number of steps until a snapshot is complete and what it makes
/// superfluous is gone.
async fn steps_of_a_snapshot(deployment: &mut Deployment) -> u32 {
    let state = deployment.layout().service("management");
    let (log, before) = (deployment.layout().root().join("steps"), files(&state.join("log")));
    deployment.management_env = Shim::over(&state).log(&log).env();
    deployment.start_management().await.expect("it starts");
    until("the snapshot", async || {
        let now = files(&state.join("log"));
        if now < before { Ok(()) } else { Err(format!("{now} files of records")) }
    })
    .await;
    deployment.kill_management().await;
    let entries = write_log::read(&log).expect("the log of the steps");
    // The beginning and the end of a sync are one step.
    let steps = entries.iter().filter(|entry| !matches!(entry.step, Step::SyncDone(_)));
    u32::try_from(steps.count()).expect("not so many")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_management_node_killed_at_any_step_of_a_snapshot_and_a_trim_loses_and_invents_nothing() {
    let mut deployment = Deployment::start_with(pool_only).await;
    let enrolled = enrol(&deployment, 2).await;
    deployment.kill_management().await;
    let store = deployment.layout().service("management").join("log");
    due(&store).await;
    let kept = deployment.layout().root().join("kept");
    copy(&store, &kept);
    let restore = || {
        fs::remove_dir_all(&store).expect("the store goes");
        copy(&kept, &store);
    };
    let last = steps_of_a_snapshot(&mut deployment).await;
    restore();
    deployment.management_env.clear();
    deployment.start_management().await.expect("it starts");
    let held = all_legs(&deployment).await;
    let state = deployment.layout().service("management");
    let (kills, mut known) = (kills() * 2 / 10, Vec::new());
    for (step, when) in spread(kills, 1, last) {
        deployment.kill_management().await;
        restore();
        deployment.management_env = Shim::over(&state).kill(step, when).env();
        let mut nodes = Vec::new();
        if deployment.start_management().await.is_ok() {
            nodes = open(&deployment, &enrolled).await.unwrap_or_default();
            all_ask(&mut nodes, false, gone(&mut deployment, "management")).await;
        }
        deployment.kill_management().await;
        deployment.management_env.clear();
        let when = format!("{when:?} step {step} of {last}");
        deployment.start_management().await.unwrap_or_else(|error| panic!("{when}: {error}"));
        compare_all(&deployment, &mut nodes, &when).await;
        let found = all_legs(&deployment).await;
        assert!(held.iter().all(|leg| found.contains(leg)), "{when}: {} legs were held", held.len());
        known.extend(nodes.into_iter().map(|node| node.known));
    }
    let (granted, denied, ended) = sum(&known);
    println!(
        "{kills} kills of the management node at steps 1 to {last}, with a whole snapshot and a trim: {granted} \
         grants, {denied} denials and {ended} releases answered; 0 lost, 0 invented"
    );
    deployment.stop().await;
}

async fn all_legs(deployment: &Deployment) -> Vec<String> {
    let listed = async || deployment.pool().legs().await.map_err(|error| error.to_string());
    until("the legs", listed).await.into_iter().map(|leg| leg.leg).collect()
}

const NODE: &str = "node-a";

async fn with_a_node() -> Deployment {
    let (nodes, capacity) = (vec![(NODE.to_owned(), 0)], CAPACITY.to_string());
    let deployment = Deployment::start_with(|options| Options { nodes, capacity, ..options }).await;
    deployment.agent(NODE).await;
    deployment
}

fn agent(deployment: &Deployment) -> Agent {
    deployment.node(NODE).expect("the node").agent.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conferencing_node_killed_at_any_step_of_its_start_and_its_commits_loses_and_invents_nothing() {
    let mut deployment = with_a_node().await;
    let state = deployment.layout().service(NODE);
    let mut workers = workers();
    let kills = kills() * 2 / 10;
    for (step, when) in spread(kills, 1, COMMITS) {
        deployment.kill_node(NODE).await.expect("the node");
        deployment.node_mut(NODE).expect("the node").env = Shim::over(&state).kill(step, when).env();
        if deployment.start_node(NODE).await.is_ok() {
            let agent = agent(&deployment);
            all_work(&mut workers, &agent, gone(&mut deployment, NODE)).await;
        }
        deployment.kill_node(NODE).await.expect("the node");
        deployment.node_mut(NODE).expect("the node").env.clear();
        deployment.start_node(NODE).await.unwrap_or_else(|error| panic!("{when:?} step {step}: {error}"));
        compare_work(&agent(&deployment), &workers, &format!("{when:?} step {step}")).await;
    }
    let known: Vec<Known> = workers.into_iter().map(|worker| worker.known).collect();
    let (granted, denied, ended) = sum(&known);
    println!(
        "{kills} kills of a conferencing node at steps 1 to {COMMITS} after its start: {granted} grants, {denied} \
         denials and {ended} ends answered; 0 lost, 0 invented"
    );
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conferencing_node_killed_at_any_step_of_making_its_journal_starts_afterwards() {
    const MAKING: u32 = 45;
    let mut deployment = with_a_node().await;
    let state = deployment.layout().service(NODE);
    let kills = kills() * 15 / 100;
    for (step, when) in spread(kills, 1, MAKING) {
        deployment.kill_node(NODE).await.expect("the node");
        fs::remove_dir_all(&state).expect("the journal goes");
        fs::create_dir(&state).expect("an empty folder");
        deployment.node_mut(NODE).expect("the node").env = Shim::over(&state).kill(step, when).env();
        if deployment.start_node(NODE).await.is_ok() {
            gone(&mut deployment, NODE).await;
        }
        deployment.kill_node(NODE).await.expect("the node");
        deployment.node_mut(NODE).expect("the node").env.clear();
        deployment.start_node(NODE).await.unwrap_or_else(|error| panic!("{when:?} step {step}: {error}"));
        let agent = agent(&deployment);
        until("the status", async || agent.status().await.map_err(|error| error.to_string())).await;
    }
    println!(
        "{kills} kills of a conferencing node at steps 1 to {MAKING} of its first start: it starts afterwards"
    );
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_whose_making_was_killed_at_any_step_is_made_afterwards() {
    let deployment = Deployment::start_with(pool_only).await;
    let vendor = deployment.layout().service("licensing").join("vendor.pub");
    let init = |folder: &Path, env| {
        let mut init = std::process::Command::new(programs().join("management-node"));
        init.arg("--state").arg(folder.join("pool")).args(["init", "--vendor-key"]).arg(&vendor);
        init.envs::<Vec<(String, std::ffi::OsString)>, _, _>(env).output().expect("it runs")
    };
    let whole = tempfile::tempdir().expect("a folder");
    let log = whole.path().join("steps");
    assert!(init(whole.path(), Shim::over(whole.path()).log(&log).env()).status.success());
    let entries = write_log::read(&log).expect("the log of the steps");
    let steps = entries.iter().filter(|entry| !matches!(entry.step, Step::SyncDone(_))).count();
    let (last, kills) = (u32::try_from(steps).expect("not so many"), kills() * 15 / 100);
    for (step, when) in spread(kills, 1, last) {
        let folder = tempfile::tempdir().expect("a folder");
        let first = init(folder.path(), Shim::over(folder.path()).kill(step, when).env());
        assert!(!first.status.success(), "{when:?} step {step} of {last}: {first:?}");
        let store = folder.path().join("pool/log");
        let was_made = store.exists();
        let second = init(folder.path(), Vec::new());
        assert_eq!(second.status.success(), !was_made, "{when:?} step {step} of {last}: {second:?}");
        load::open(&store).unwrap_or_else(|error| panic!("{when:?} step {step} of {last}: {error}"));
    }
    println!(
        "{kills} kills of `management-node init` at its steps 1 to {last}: it makes the deployment afterwards"
    );
    deployment.stop().await;
}
