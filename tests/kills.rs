//! Two hundred times each: a management node and a conferencing node are killed at any moment under load,
//! and what they hold afterwards is compared with every answer that was given.

use std::collections::BTreeSet;
use std::time::Duration;

use headroom_deploy::agent::{Agent, simple_call};
use headroom_deploy::fleet::Options;
use headroom_proto::common::Call;
use headroom_tests::peer::{Peer, connect_lazily, granted, one_leg, undecided};
use headroom_tests::{Deployment, until};

const KILLS: u32 = 200;
/// Less than is asked for, so that some is denied all the time.
const CAPACITY: usize = 24;
const ASKERS: usize = 6;
/// An asker that holds so much gives something back.
const MOST: usize = 8;

/// Numbers without a pattern, the same in every run: what differs is where in its work a kill finds the
/// service.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap_or_default() % limit
    }

    async fn moment(&mut self) {
        tokio::time::sleep(Duration::from_micros(500 + self.below(150_000) as u64)).await;
    }
}

/// What somebody asked for, and has no answer to.
#[derive(Debug, Clone)]
enum Asked {
    Calls(Vec<String>),
    Ends(Vec<String>),
}

/// What somebody knows for certain, because it was answered.
#[derive(Debug, Default)]
struct Known {
    held: BTreeSet<String>,
    granted: u64,
    denied: u64,
    ended: u64,
    names: usize,
    pending: Option<Asked>,
}

impl Known {
    /// What to ask next: what has no answer yet, again, or something new.
    fn next(&mut self, dice: &mut Dice, whose: &str, at_once: usize) -> Asked {
        if let Some(pending) = &self.pending {
            return pending.clone();
        }
        let count = 1 + dice.below(at_once);
        let asked = if self.held.len() >= MOST || (!self.held.is_empty() && dice.below(3) == 0) {
            let skip = dice.below(self.held.len());
            Asked::Ends(self.held.iter().skip(skip).take(count).cloned().collect())
        } else {
            let names = self.names..self.names + count;
            self.names = names.end;
            Asked::Calls(names.map(|number| format!("{whose}-{number}")).collect())
        };
        self.pending = Some(asked.clone());
        asked
    }

    fn answered(&mut self, asked: &Asked, granted: &BTreeSet<String>) {
        match asked {
            Asked::Calls(names) => {
                self.granted += granted.len() as u64;
                self.denied += (names.len() - granted.len()) as u64;
                self.held.extend(granted.iter().cloned());
            }
            Asked::Ends(names) => {
                self.ended += names.len() as u64;
                self.held.retain(|name| !names.contains(name));
            }
        }
        self.pending = None;
    }

    /// Compares what is held after a restart: all that was acknowledged, and nothing but that and what
    /// was asked for without an answer.
    fn compare(&self, found: &BTreeSet<String>) -> Result<(), String> {
        let (may_be_more, may_be_less) = match &self.pending {
            Some(Asked::Calls(names)) => (names.as_slice(), [].as_slice()),
            Some(Asked::Ends(names)) => ([].as_slice(), names.as_slice()),
            None => ([].as_slice(), [].as_slice()),
        };
        let lost: Vec<_> = self.held.difference(found).filter(|name| !may_be_less.contains(name)).collect();
        let invented: Vec<_> =
            found.difference(&self.held).filter(|name| !may_be_more.contains(name)).collect();
        if lost.is_empty() && invented.is_empty() {
            return Ok(());
        }
        Err(format!("lost {lost:?}, invented {invented:?}, unanswered {:?}", self.pending))
    }
}

/// Counts of all who asked, in one line.
fn sum(all: impl IntoIterator<Item = Known>) -> (u64, u64, u64) {
    all.into_iter().fold((0, 0, 0), |(granted, denied, ended), known| {
        (granted + known.granted, denied + known.denied, ended + known.ended)
    })
}

// ------------------------------------------------------------------------------- the management node

struct Node {
    name: String,
    peer: Peer,
    known: Known,
    dice: Dice,
    /// What the pool held for it after the last restart.
    found: Option<BTreeSet<String>>,
}

impl Node {
    /// Asks until an answer stays away, or once only.
    async fn ask(mut self, once: bool) -> Self {
        loop {
            if once && self.known.pending.is_none() {
                return self;
            }
            let asked = self.known.next(&mut self.dice, &self.name, 4);
            let answer = match &asked {
                Asked::Calls(names) => {
                    let calls: Vec<Call> = names.iter().map(|name| one_leg(name)).collect();
                    let answer = self.peer.allocate(calls).await;
                    answer.map(|answer| granted(&answer).map(str::to_owned).collect())
                }
                Asked::Ends(names) => self.peer.release(names.clone()).await.map(|()| BTreeSet::new()),
            };
            match answer {
                Ok(granted) => {
                    if let (Some(found), Asked::Calls(names)) = (self.found.take(), &asked) {
                        // what was done before the kill is answered as it was done
                        let done: BTreeSet<_> =
                            names.iter().filter(|n| found.contains(*n)).cloned().collect();
                        assert!(done.is_empty() || done == granted, "did {done:?}, answered {granted:?}");
                    }
                    self.known.answered(&asked, &granted);
                }
                Err(status) => {
                    assert!(undecided(&status), "{}: {asked:?} was refused: {status:?}", self.name);
                    return self;
                }
            }
        }
    }
}

async fn all_ask(nodes: &mut Vec<Node>, once: bool, meanwhile: impl Future<Output = ()>) {
    let asking: Vec<_> = nodes.drain(..).map(|node| tokio::spawn(node.ask(once))).collect();
    meanwhile.await;
    for node in asking {
        nodes.push(node.await.expect("an asker"));
    }
}

/// The legs of a node that hold a lease.
async fn leased(deployment: &Deployment, node: &str) -> Result<BTreeSet<String>, String> {
    let legs = deployment.pool().legs().await.map_err(|error| error.to_string())?;
    Ok(legs.into_iter().filter(|leg| leg.node == node).map(|leg| leg.leg).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_of_the_management_node_lose_and_invent_no_lease() {
    let capacity = CAPACITY.to_string();
    let change = |options| Options { nodes: Vec::new(), capacity, ..options };
    let mut deployment = Deployment::start_with(change).await;
    let mut nodes = Vec::new();
    for number in 0..ASKERS {
        let name = format!("peer-{number}");
        let tls = deployment.enrol(&name).await.tls();
        let channel = connect_lazily(deployment.management_address(), tls).expect("a channel");
        let peer = Peer::open(channel).await.expect("a session");
        let dice = Dice(number as u64);
        nodes.push(Node { name, peer, known: Known::default(), dice, found: None });
    }
    let mut dice = Dice(1000);
    for kill in 1..=KILLS {
        all_ask(&mut nodes, false, async {
            dice.moment().await;
            deployment.kill_management().await;
        })
        .await;
        deployment.start_management().await.expect("it starts again");
        for node in &mut nodes {
            let found = leased(&deployment, &node.name).await.expect("legs");
            node.known.compare(&found).unwrap_or_else(|why| panic!("kill {kill}, {}: {why}", node.name));
            node.found = Some(found);
        }
        let calls = deployment.pool().calls_pool().await.expect("the pool");
        assert!(calls.in_use as usize <= CAPACITY, "kill {kill}: {calls:?}");
    }
    until("every request answered", async || {
        all_ask(&mut nodes, true, async {}).await;
        let waiting = nodes.iter().filter(|node| node.known.pending.is_some()).count();
        if waiting == 0 { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await;
    for node in &nodes {
        assert_eq!(leased(&deployment, &node.name).await.expect("legs"), node.known.held, "{}", node.name);
    }
    let (granted, denied, ended) = sum(nodes.into_iter().map(|node| node.known));
    let status = deployment.pool().status().await.expect("the pool's status");
    assert_eq!(status.denials, denied, "denials recorded, and denials answered");
    assert!(granted > u64::from(KILLS) && denied > 0 && ended > 0, "{granted} {denied} {ended}");
    println!(
        "{KILLS} kills of the management node: {granted} grants, {denied} denials and {ended} releases answered; \
         0 lost, 0 invented"
    );
    deployment.stop().await;
}

// ---------------------------------------------------------------------------- the conferencing node

const NODE: &str = "node-a";

/// A media server's worker.
struct Worker {
    name: String,
    known: Known,
    dice: Dice,
}

impl Worker {
    /// Asks until an answer stays away, or once only.
    async fn ask(mut self, agent: Agent, once: bool) -> Self {
        loop {
            if once && self.known.pending.is_none() {
                return self;
            }
            let asked = self.known.next(&mut self.dice, &self.name, 1);
            let answer = match &asked {
                Asked::Calls(names) => agent.admit(&simple_call(&names[0], &names[0])).await,
                Asked::Ends(names) => agent.end_leg(&names[0]).await,
            };
            let Ok(answer) = answer else { return self };
            let granted = match (&asked, answer.status, answer.reason()) {
                (Asked::Calls(names), 200, _) => names.iter().cloned().collect(),
                (Asked::Calls(_), 403, "insufficient_licenses") | (Asked::Ends(_), 200, _) => BTreeSet::new(),
                other => panic!("{}: {other:?} {answer:?}", self.name),
            };
            self.known.answered(&asked, &granted);
        }
    }
}

/// The legs that run on a node.
async fn running(agent: &Agent) -> Result<BTreeSet<String>, String> {
    let legs = agent.legs().await.map_err(|error| error.to_string())?;
    Ok(legs.into_iter().map(|leg| leg.leg).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_of_a_conferencing_node_lose_and_invent_no_leg() {
    let nodes = vec![(NODE.to_owned(), 0)];
    let capacity = CAPACITY.to_string();
    let mut deployment = Deployment::start_with(|options| Options { nodes, capacity, ..options }).await;
    deployment.agent(NODE).await;
    let worker = |number| Worker { name: format!("w{number}"), known: Known::default(), dice: Dice(number) };
    let mut workers: Vec<_> = (0..ASKERS as u64).map(worker).collect();
    let mut dice = Dice(2000);
    for kill in 1..=KILLS {
        let agent = deployment.node(NODE).expect("the node").agent.clone();
        let asking: Vec<_> =
            workers.drain(..).map(|worker| tokio::spawn(worker.ask(agent.clone(), false))).collect();
        dice.moment().await;
        deployment.kill_node(NODE).await.expect("the node");
        for worker in asking {
            workers.push(worker.await.expect("a worker"));
        }
        deployment.start_node(NODE).await.expect("it starts again");
        let found = running(&deployment.node(NODE).expect("the node").agent).await.expect("legs");
        let mut nobodys = found.clone();
        for worker in &workers {
            let mine = |leg: &&String| leg.starts_with(&format!("{}-", worker.name));
            let found: BTreeSet<_> = found.iter().filter(mine).cloned().collect();
            worker.known.compare(&found).unwrap_or_else(|why| panic!("kill {kill}, {}: {why}", worker.name));
            nobodys.retain(|leg| !found.contains(leg));
        }
        assert_eq!(nobodys, BTreeSet::new(), "kill {kill}: legs nobody asked for");
    }
    let agent = deployment.agent(NODE).await;
    let mut answered = Vec::new();
    for worker in workers {
        answered.push(worker.ask(agent.clone(), true).await.known);
    }
    let held: BTreeSet<_> = answered.iter().flat_map(|known| known.held.clone()).collect();
    assert_eq!(running(&agent).await.expect("legs"), held);
    until("the pool to hold what runs", async || {
        let leased = leased(&deployment, NODE).await?;
        if leased == held { Ok(()) } else { Err(format!("{leased:?}, and {held:?} run")) }
    })
    .await;
    let (granted, denied, ended) = sum(answered);
    assert!(granted > u64::from(KILLS) && ended > 0, "{granted} {denied} {ended}");
    println!(
        "{KILLS} kills of a conferencing node: {granted} grants, {denied} denials and {ended} ends answered; \
         0 lost, 0 invented, every leg that runs has its lease"
    );
    deployment.stop().await;
}
