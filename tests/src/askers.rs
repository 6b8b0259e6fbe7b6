//! Those who ask a real service under load, and keep what they know: nodes of a pool, and the workers of a
//! media server.

use std::collections::BTreeSet;

use headroom_deploy::agent::{Agent, simple_call};
use headroom_proto::common::Call;
use headroom_simulator::dice::Dice;
use tonic::transport::ClientTlsConfig;
use tonic::{Code, Status};

use crate::known::{Asked, Known};
use crate::peer::{Peer, connect_lazily, granted, one_leg, undecided};
use crate::{Deployment, until};

/// Less than is asked for, so that some is denied all the time.
pub const CAPACITY: usize = 24;
/// How many ask at once.
pub const ASKERS: usize = 6;

/// A node that asks a pool.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it knows.
    pub known: Known,
    peer: Peer,
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
                    self.peer.allocate(calls).await.map(|answer| {
                        let names = granted(&answer).map(str::to_owned).collect();
                        (names, answer.position.unwrap_or_default().sequence)
                    })
                }
                Asked::Ends(names) => self.peer.release(names.clone()).await.map(|()| (BTreeSet::new(), 0)),
            };
            match answer {
                Ok((granted, sequence)) => {
                    if let (Some(found), Asked::Calls(names)) = (self.found.take(), &asked) {
                        // what was done before the kill is answered as it was done
                        let done: BTreeSet<_> =
                            names.iter().filter(|n| found.contains(*n)).cloned().collect();
                        assert!(done.is_empty() || done == granted, "did {done:?}, answered {granted:?}");
                    }
                    self.known.answered(&asked, &granted, sequence);
                }
                // A busy service says so: it was not killed yet.
                Err(status) if status.code() == Code::ResourceExhausted => {}
                Err(status) => {
                    assert!(undecided(&status), "{}: {asked:?} was refused: {status:?}", self.name);
                    return self;
                }
            }
        }
    }
}

/// A node that may ask: its name, and TLS as it speaks it.
pub type Enrolled = (String, ClientTlsConfig);

/// Enrols nodes.
///
/// # Panics
/// When the pool does not take them.
pub async fn enrol(deployment: &Deployment, count: usize) -> Vec<Enrolled> {
    let mut enrolled = Vec::new();
    for number in 0..count {
        let name = format!("peer-{number}");
        let tls = deployment.enrol(&name).await.tls();
        enrolled.push((name, tls));
    }
    enrolled
}

/// Opens the first sessions of nodes.
///
/// # Errors
/// What the pool says to it.
///
/// # Panics
/// When their TLS settings are unusable.
pub async fn open(deployment: &Deployment, enrolled: &[Enrolled]) -> Result<Vec<Node>, Status> {
    let mut nodes = Vec::new();
    for (number, (name, tls)) in (0..).zip(enrolled) {
        let channel = connect_lazily(deployment.management_address(), tls.clone()).expect("a channel");
        let (peer, name) = (Peer::open(channel).await?, name.clone());
        nodes.push(Node { name, peer, known: Known::default(), dice: Dice::new(number), found: None });
    }
    Ok(nodes)
}

/// Enrols the nodes that ask, and opens their sessions.
///
/// # Panics
/// When the pool does not let them in.
pub async fn nodes(deployment: &Deployment) -> Vec<Node> {
    let enrolled = enrol(deployment, ASKERS).await;
    open(deployment, &enrolled).await.expect("sessions")
}

/// All ask, until answers stay away or once only.
///
/// # Panics
/// When one is answered what it must not be.
pub async fn all_ask(nodes: &mut Vec<Node>, once: bool, meanwhile: impl Future<Output = ()>) {
    let asking: Vec<_> = nodes.drain(..).map(|node| tokio::spawn(node.ask(once))).collect();
    meanwhile.await;
    for node in asking {
        nodes.push(node.await.expect("an asker"));
    }
}

/// Asks until everything asked is answered.
///
/// # Panics
/// When that takes too long.
pub async fn all_answered(nodes: &mut Vec<Node>) {
    until("every request answered", async || {
        all_ask(nodes, true, async {}).await;
        let waiting = nodes.iter().filter(|node| node.known.pending.is_some()).count();
        if waiting == 0 { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await;
}

/// Compares what the pool holds for each with what each knows.
///
/// # Panics
/// When anything is lost or invented.
pub async fn compare_all(deployment: &Deployment, nodes: &mut [Node], when: &str) {
    for node in nodes {
        let found = leased(deployment, &node.name).await;
        node.known.compare(&found).unwrap_or_else(|why| panic!("{when}, {}: {why}", node.name));
        node.found = Some(found);
    }
    let calls =
        until("the pool", async || deployment.pool().calls_pool().await.map_err(|e| e.to_string())).await;
    assert!(calls.in_use as usize <= CAPACITY, "{when}: {calls:?}");
}

/// The legs of a node that hold a lease.
///
/// # Panics
/// When the pool does not say for too long.
pub async fn leased(deployment: &Deployment, node: &str) -> BTreeSet<String> {
    let pool = deployment.pool();
    let legs = until("the leases", async || pool.legs().await.map_err(|error| error.to_string())).await;
    legs.into_iter().filter(|leg| leg.node == node).map(|leg| leg.leg).collect()
}

/// A media server's worker.
#[derive(Debug)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// What it knows.
    pub known: Known,
    dice: Dice,
}

impl Worker {
    /// Asks until an answer stays away, or once only.
    ///
    /// # Panics
    /// When it is answered what it must not be.
    pub async fn ask(mut self, agent: Agent, once: bool) -> Self {
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
            // A busy node says so: it was not killed yet.
            if answer.status == 503 && answer.body["error"] == "overloaded" {
                continue;
            }
            let granted = match (&asked, answer.status, answer.reason()) {
                (Asked::Calls(names), 200, _) => names.iter().cloned().collect(),
                (Asked::Calls(_), 403, "insufficient_licenses") | (Asked::Ends(_), 200, _) => BTreeSet::new(),
                other => panic!("{}: {other:?} {answer:?}", self.name),
            };
            self.known.answered(&asked, &granted, 0);
        }
    }
}

/// The workers that ask.
#[must_use]
pub fn workers() -> Vec<Worker> {
    let worker =
        |number| Worker { name: format!("w{number}"), known: Known::default(), dice: Dice::new(number) };
    (0..ASKERS as u64).map(worker).collect()
}

/// All ask a node, until answers stay away.
///
/// # Panics
/// When one is answered what it must not be.
pub async fn all_work(workers: &mut Vec<Worker>, agent: &Agent, meanwhile: impl Future<Output = ()>) {
    let asking: Vec<_> =
        workers.drain(..).map(|worker| tokio::spawn(worker.ask(agent.clone(), false))).collect();
    meanwhile.await;
    for worker in asking {
        workers.push(worker.await.expect("a worker"));
    }
}

/// The legs that run on a node.
///
/// # Panics
/// When it does not say for too long.
pub async fn running(agent: &Agent) -> BTreeSet<String> {
    let legs = until("the legs", async || agent.legs().await.map_err(|error| error.to_string())).await;
    legs.into_iter().map(|leg| leg.leg).collect()
}

/// Compares what runs on a node with what each worker knows.
///
/// # Panics
/// When anything is lost or invented.
pub async fn compare_work(agent: &Agent, workers: &[Worker], when: &str) {
    let found = running(agent).await;
    let mut nobodys = found.clone();
    for worker in workers {
        let mine = |leg: &&String| leg.starts_with(&format!("{}-", worker.name));
        let found: BTreeSet<_> = found.iter().filter(mine).cloned().collect();
        worker.known.compare(&found).unwrap_or_else(|why| panic!("{when}, {}: {why}", worker.name));
        nobodys.retain(|leg| !found.contains(leg));
    }
    assert_eq!(nobodys, BTreeSet::new(), "{when}: legs nobody asked for");
}
