//! Fourteen days, with the real program and the real 14 days under shifted clocks.
//!
//! libfaketime shifts every clock of the process. Unless told otherwise it also replaces the
//! boot clock by values that count from 1970, so a shift forward is time that passed while the
//! machine ran, and a shift backward looks like another boot.
//!
//! The shift is given in the environment, once a process: a file that libfaketime reads anew lets a
//! thread see the clock unshifted while another one reads it (fixed only after its release 0.9.10).

use std::path::PathBuf;

use headroom_deploy::agent::{Agent, Answer, simple_call};
use headroom_proto::admission::Contact;
use headroom_tests::{Deployment, faketime, stands, until};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const NODE: &str = "node-a";

/// A fleet of which one node runs with shifted clocks, and in a boot of the test's choosing.
struct Shifted {
    deployment: Deployment,
    boot: PathBuf,
    boot_clock: bool,
}

impl Shifted {
    /// A node in contact, its clocks not shifted yet; `boot_clock` says whether the boot clock will be too.
    async fn start(boot_clock: bool) -> (Self, Agent) {
        let deployment = Deployment::start().await;
        let boot = deployment.layout().root().join("boot-id");
        let mut shifted = Self { deployment, boot, boot_clock };
        shifted.boot(1);
        let node = shifted.deployment.node_mut(NODE).expect("the node");
        node.extra = vec!["--boot-id-file".into(), shifted.boot.clone().into()];
        shifted.restart(0).await;
        let agent = shifted.deployment.agent(NODE).await;
        (shifted, agent)
    }

    /// The node dies without notice and starts again with its clocks shifted.
    async fn restart(&mut self, seconds: i64) -> Agent {
        self.deployment.kill_node(NODE).await.expect("the node");
        let node = self.deployment.node_mut(NODE).expect("the node");
        node.env = vec![
            ("LD_PRELOAD".into(), faketime().into()),
            ("FAKETIME".into(), format!("{seconds:+}").into()),
        ];
        if !self.boot_clock {
            node.env.push(("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()));
        }
        self.deployment.start_node(NODE).await.expect("the node starts again");
        self.deployment.node(NODE).expect("the node").agent.clone()
    }

    /// The next start of the node is in this boot.
    fn boot(&self, number: u8) {
        let id = format!("00000000-0000-4000-8000-0000000000{number:02x}\n");
        std::fs::write(&self.boot, id).expect("a file for the test");
    }

    fn cut(&self) {
        self.deployment.node(NODE).expect("the node").link.cut();
    }

    fn heal(&self) {
        self.deployment.node(NODE).expect("the node").link.heal();
    }
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

/// What was not certainly answered before a restart stays only if the media server names it.
async fn name_all(agent: &Agent) {
    let named = agent.prove_life().await.expect("an answer");
    assert_eq!(named.status, 200, "{named:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn thirteen_days_and_23_hours_grant_and_fourteen_days_reject_for_good() {
    let (mut node, agent) = Shifted::start(true).await;
    let first = ask(&agent, "in-contact").await;
    assert!(first.granted(), "{first:?}");

    node.cut();
    let agent = node.restart(13 * DAY + 23 * HOUR).await;
    name_all(&agent).await;
    grants_alone(&agent, "day-13").await;
    let agent = node.restart(13 * DAY + 23 * HOUR).await;
    name_all(&agent).await;
    grants_alone(&agent, "day-13-restarted").await;

    let agent = node.restart(14 * DAY).await;
    name_all(&agent).await;
    rejects(&agent, "day-14").await;
    let running = agent.legs().await.expect("legs");
    for call in ["in-contact", "day-13", "day-13-restarted"] {
        assert!(running.iter().any(|leg| leg.leg == call), "{call} was cut: {running:?}");
    }

    // set back, forward, back, and after another boot
    for (call, shift) in [("back", 0), ("forward", 3 * DAY), ("far-back", -30 * DAY)] {
        let agent = node.restart(shift).await;
        rejects(&agent, call).await;
    }
    node.boot(2);
    let agent = node.restart(0).await;
    rejects(&agent, "another-boot").await;

    // only contact resets it
    node.heal();
    until("contact", async || stands(&agent, Contact::In).await).await;
    until("a grant", async || {
        let answer = ask(&agent, "contact-again").await;
        if answer.granted() { Ok(()) } else { Err(answer.told()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wall_clock_alone_neither_uses_grace_up_nor_gives_it_back() {
    let (mut node, agent) = Shifted::start(false).await;
    assert!(ask(&agent, "in-contact").await.granted());
    node.cut();

    // in one boot the wall clock is not looked at
    for (call, shift) in [("wall-forward", 15 * DAY), ("wall-back", -15 * DAY), ("wall-right", 0)] {
        let agent = node.restart(shift).await;
        grants_alone(&agent, call).await;
    }

    // after another boot it tells how long the machine was off, once it can be trusted; measured from the
    // latest that it showed before, because one that is not synchronized may have been set back
    node.boot(2);
    let agent = node.restart(30 * DAY).await;
    if clock_is_trusted() {
        rejects(&agent, "off-for-15-days").await;
        let agent = node.restart(0).await;
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
