//! Fourteen days, with the real program and the real 14 days under shifted clocks.
//!
//! libfaketime shifts every clock of the process. Unless told otherwise it also replaces the
//! boot clock by values that count from 1970, so a shift forward is time that passed while the
//! machine ran, and a shift backward looks like another boot.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use headroom_deploy::agent::{Agent, Answer, simple_call};
use headroom_proto::admission::Contact;
use headroom_tests::{Deployment, faketime, stands, until};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const NODE: &str = "node-a";

/// The files that shift the node's clocks and name its boot.
struct Shifted {
    offset: PathBuf,
    boot: PathBuf,
}

impl Shifted {
    /// Restarts the node with shifted clocks; `boot_clock` says whether the boot clock is shifted too.
    async fn new(deployment: &mut Deployment, boot_clock: bool) -> Self {
        let root = deployment.layout().root().to_owned();
        let shifted = Self { offset: root.join("offset"), boot: root.join("boot-id") };
        shifted.set(0);
        shifted.boot(1);
        deployment.stop_node(NODE).await.expect("the node");
        let mut env: Vec<(String, OsString)> = vec![
            ("LD_PRELOAD".into(), faketime().into()),
            ("FAKETIME_TIMESTAMP_FILE".into(), shifted.offset.clone().into()),
            // the file is read anew each time
            ("FAKETIME_NO_CACHE".into(), "1".into()),
        ];
        if !boot_clock {
            env.push(("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()));
        }
        let node = deployment.node_mut(NODE).expect("the node");
        node.env = env;
        node.extra = vec!["--boot-id-file".into(), shifted.boot.clone().into()];
        deployment.start_node(NODE).await.expect("the node starts");
        shifted
    }

    fn set(&self, seconds: i64) {
        replace(&self.offset, &format!("{seconds:+}\n"));
    }

    fn boot(&self, number: u8) {
        replace(&self.boot, &format!("00000000-0000-4000-8000-0000000000{number:02x}\n"));
    }
}

/// The node may read at any time: never half a file.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("a file for the test");
    std::fs::rename(&new, file).expect("a file for the test");
}

async fn restart(deployment: &mut Deployment) -> Agent {
    deployment.kill_node(NODE).await.expect("the node");
    deployment.start_node(NODE).await.expect("the node starts again");
    deployment.node(NODE).expect("the node").agent.clone()
}

async fn ask(agent: &Agent, call: &str) -> Answer {
    agent.admit(&simple_call(call, call)).await.expect("an answer")
}

async fn grants_alone(agent: &Agent, call: &str) {
    until("an optimistic grant", async || {
        let answer = ask(agent, call).await;
        if answer.granted() && answer.optimistic() { Ok(()) } else { Err(answer.told()) }
    })
    .await;
}

/// From now on every new call is refused, and stays refused.
async fn rejects(agent: &Agent, call: &str) {
    until("grace_expired", async || {
        let answer = ask(agent, call).await;
        if answer.reason() == "grace_expired" { Ok(()) } else { Err(answer.told()) }
    })
    .await;
    let again = ask(agent, &format!("{call}-again")).await;
    assert_eq!((again.status, again.reason()), (403, "grace_expired"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn thirteen_days_and_23_hours_grant_and_fourteen_days_reject_for_good() {
    let mut deployment = Deployment::start().await;
    let clock = Shifted::new(&mut deployment, true).await;
    let agent = deployment.agent(NODE).await;
    let first = ask(&agent, "in-contact").await;
    assert!(first.granted(), "{first:?}");

    deployment.node(NODE).expect("the node").link.cut();
    clock.set(13 * DAY + 23 * HOUR);
    grants_alone(&agent, "day-13").await;
    let agent = restart(&mut deployment).await;
    // what was not certainly answered before a restart stays only if the media server names it
    let named = agent.prove_life().await.expect("an answer");
    assert_eq!(named.status, 200, "{named:?}");
    grants_alone(&agent, "day-13-restarted").await;

    clock.set(14 * DAY);
    rejects(&agent, "day-14").await;
    let running = agent.legs().await.expect("legs");
    assert!(running.iter().any(|leg| leg.leg == "day-13"), "a running call was cut: {running:?}");

    // set back, started again, forward, back, and after another boot
    clock.set(0);
    let agent = restart(&mut deployment).await;
    rejects(&agent, "back").await;
    clock.set(3 * DAY);
    let agent = restart(&mut deployment).await;
    rejects(&agent, "forward").await;
    clock.set(-30 * DAY);
    let agent = restart(&mut deployment).await;
    rejects(&agent, "far-back").await;
    clock.set(0);
    clock.boot(2);
    let agent = restart(&mut deployment).await;
    rejects(&agent, "another-boot").await;

    // only contact resets it
    deployment.node(NODE).expect("the node").link.heal();
    until("contact", async || stands(&agent, Contact::In).await).await;
    until("a grant", async || {
        let answer = ask(&agent, "contact-again").await;
        if answer.granted() { Ok(()) } else { Err(answer.told()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wall_clock_alone_neither_uses_grace_up_nor_gives_it_back() {
    let mut deployment = Deployment::start().await;
    let clock = Shifted::new(&mut deployment, false).await;
    let agent = deployment.agent(NODE).await;
    assert!(ask(&agent, "in-contact").await.granted());
    deployment.node(NODE).expect("the node").link.cut();

    // in one boot the wall clock is not looked at
    clock.set(15 * DAY);
    grants_alone(&agent, "wall-forward").await;
    let agent = restart(&mut deployment).await;
    grants_alone(&agent, "wall-forward-restarted").await;
    clock.set(-15 * DAY);
    let agent = restart(&mut deployment).await;
    grants_alone(&agent, "wall-back").await;

    // after another boot it tells how long the machine was off, once it can be trusted
    clock.set(0);
    let agent = restart(&mut deployment).await;
    grants_alone(&agent, "wall-right").await;
    clock.boot(2);
    clock.set(15 * DAY);
    let agent = restart(&mut deployment).await;
    if clock_is_trusted() {
        rejects(&agent, "off-for-15-days").await;
        clock.set(0);
        let agent = restart(&mut deployment).await;
        rejects(&agent, "off-and-set-back").await;
    } else {
        grants_alone(&agent, "off-but-not-known-for-how-long").await;
    }
}

/// Is the kernel's clock synchronized, or has the machine been up for more than an hour?
fn clock_is_trusted() -> bool {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up: f64 = uptime.split_whitespace().next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
    headroom_shared::clock::synchronized() || up > 3600.0
}
