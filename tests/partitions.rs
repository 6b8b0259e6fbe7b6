//! Networks that break, with real packets: namespaces joined by cables, and a firewall that loses or rejects
//! what should arrive, one way or both. Calls go on, nothing is cut, and afterwards the books agree.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headroom_deploy::agent::{Agent, Answer, simple_call};
use headroom_deploy::fleet::Options;
use headroom_deploy::pool::Pool;
use headroom_proto::admin::OverCommitCause;
use headroom_proto::admission::Contact;
use headroom_tests::network::{Fate, Network, Way};
use headroom_tests::{Deployment, stands, until};
use tokio::time::{Instant, sleep};

/// Units that are licensed, with the overdraft.
const LIMIT: usize = 22;
const CAPACITY: &str = "20+2";
/// Of sessions: short enough to lapse during a test.
const TTL: &str = "4s";
const BUDGET: &str = "600ms";
/// A partition that every session outlives.
const SHORT: Duration = Duration::from_millis(2500);
/// Between two things that a media server does.
const PAUSE: Duration = Duration::from_millis(60);
/// The node whose network breaks, and the one whose does not.
const CUT: &str = "node-a";
const WHOLE: &str = "node-b";

/// A media server: what it knows for certain, because it was answered.
struct Caller {
    agent: Agent,
    held: VecDeque<String>,
    asked: usize,
    /// Calls that the node granted by itself.
    alone: usize,
}

impl Caller {
    async fn of(deployment: &Deployment, node: &str) -> Self {
        Self { agent: deployment.agent(node).await, held: VecDeque::new(), asked: 0, alone: 0 }
    }

    /// Asks for one more call.
    async fn ask(&mut self) -> Answer {
        self.asked += 1;
        let name = format!("{}-{}", self.agent.name, self.asked);
        let answer = self.agent.admit(&simple_call(&name, &name)).await.expect("an answer");
        if answer.granted() {
            self.alone += usize::from(answer.optimistic());
            self.held.push_back(name);
        }
        answer
    }

    /// One more call, for which there is room or nobody who could say otherwise.
    async fn call(&mut self) {
        let answer = self.ask().await;
        assert!(answer.granted(), "{}: {}", self.agent.name, answer.told());
    }

    /// Ends the oldest call.
    async fn hang_up(&mut self) {
        let Some(oldest) = self.held.pop_front() else { return };
        let answer = self.agent.end_leg(&oldest).await.expect("an answer");
        assert_eq!(answer.status, 200, "{oldest}: {answer:?}");
    }

    /// Holds so many calls; which ones changes all the time, until that is enough.
    async fn churn(&mut self, held: usize, enough: impl Fn() -> bool) {
        let mut steps = 0_usize;
        while !enough() {
            // Three calls begin while two end, until there are so many.
            if self.held.len() < held && (steps % 5 < 3 || self.held.is_empty()) {
                self.call().await;
            } else {
                self.hang_up().await;
            }
            steps += 1;
            sleep(PAUSE).await;
        }
        while self.held.len() < held {
            self.call().await;
        }
        while self.held.len() > held {
            self.hang_up().await;
        }
    }
}

/// Looks at the pool again and again: what it granted was never more than is licensed.
struct Watch {
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Watch {
    fn begin(pool: Pool) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let over = Arc::clone(&over);
            async move {
                let (mut looks, mut wrong) = (0, Vec::new());
                while !over.load(Ordering::Relaxed) {
                    let legs = pool.legs().await.expect("the pool's legs");
                    let granted = legs.iter().filter(|leg| !leg.adopted).count();
                    if granted > LIMIT {
                        wrong.push(format!("{granted} legs were granted by the pool"));
                    }
                    let calls = pool.calls_pool().await.expect("the pool");
                    let above = (calls.in_use as usize).saturating_sub(LIMIT);
                    if above != calls.over_commit as usize
                        || (above > 0 && calls.cause() != OverCommitCause::AdoptedLegs)
                    {
                        wrong.push(format!("{calls:?}"));
                    }
                    looks += 1;
                    sleep(PAUSE).await;
                }
                (looks, wrong)
            }
        });
        Self { over, task }
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        let (looks, wrong) = self.task.await.expect("the watch ends");
        assert!(looks > 0 && wrong.is_empty(), "in {looks} looks: {wrong:?}");
    }
}

/// Both books say what was answered to the media servers: no leg is cut, lost or invented.
async fn agree(deployment: &Deployment, callers: [&Caller; 2]) {
    until("the books to agree", async || {
        let leased = deployment.pool().legs().await.map_err(|error| error.to_string())?;
        for Caller { agent, held, .. } in callers {
            let held: BTreeSet<&str> = held.iter().map(String::as_str).collect();
            let running = agent.legs().await.map_err(|error| error.to_string())?;
            let names: Vec<&str> = running.iter().map(|leg| leg.leg.as_str()).collect();
            // Not waited for: what a media server was answered holds at once, and as long as it lasts.
            assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), held, "{}", agent.name);
            assert!(names.len() == held.len() && !running.iter().any(|leg| leg.revoked), "{running:?}");
            stands(agent, Contact::In).await?;
            let status = agent.status().await.map_err(|error| error.to_string())?;
            if status.optimistic + status.outbox + status.past_events > 0 {
                return Err(format!("{status:?}"));
            }
            let mine: Vec<&str> =
                leased.iter().filter(|leg| leg.node == agent.name).map(|leg| leg.leg.as_str()).collect();
            if mine.len() != held.len() || mine.iter().any(|leg| !held.contains(leg)) {
                return Err(format!("{} runs {held:?}, and the pool holds {mine:?}", agent.name));
            }
        }
        let (calls, running) = (deployment.pool().calls_pool().await, callers.map(|c| c.held.len()));
        let in_use = calls.map_err(|error| error.to_string())?.in_use as usize;
        if in_use == running.iter().sum::<usize>() {
            Ok(())
        } else {
            Err(format!("{in_use} in use, {running:?} run"))
        }
    })
    .await;
}

async fn deploy(network: &Network) -> Deployment {
    let change = |options| Options {
        capacity: CAPACITY.into(),
        session_ttl: Some(TTL.into()),
        budget: Some(BUDGET.into()),
        places: network.places(),
        ..options
    };
    Deployment::start_with(change).await
}

fn after(time: Duration) -> impl Fn() -> bool {
    let end = Instant::now() + time;
    move || Instant::now() >= end
}

/// A partition that every session outlives, then one in which the cut node's session lapses and the other
/// takes all that the pool has.
async fn partitions(way: Way, fate: Fate) {
    let network = Network::new(&[CUT, WHOLE]);
    let deployment = deploy(&network).await;
    let (mut cut, mut whole) = (Caller::of(&deployment, CUT).await, Caller::of(&deployment, WHOLE).await);
    let watch = Watch::begin(deployment.pool().clone());
    tokio::join!(cut.churn(4, || true), whole.churn(4, || true));
    agree(&deployment, [&cut, &whole]).await;

    network.cut(CUT, way, fate);
    let alone = cut.alone;
    tokio::join!(cut.churn(6, after(SHORT)), whole.churn(4, after(SHORT)));
    assert!(cut.alone > alone, "the network was not cut");
    network.heal();
    agree(&deployment, [&cut, &whole]).await;

    network.cut(CUT, way, fate);
    let full = AtomicBool::new(false);
    let takes_all = async {
        until("the other node to have all units", async || {
            let answer = whole.ask().await;
            if whole.held.len() >= LIMIT { Ok(()) } else { Err(answer.told()) }
        })
        .await;
        // While the other is out of contact, one more is one too many.
        assert_eq!(whole.ask().await.reason(), "insufficient_licenses");
        full.store(true, Ordering::Relaxed);
    };
    tokio::join!(cut.churn(16, || full.load(Ordering::Relaxed)), takes_all);
    network.heal();
    let healed = Instant::now();
    agree(&deployment, [&cut, &whole]).await;
    eprintln!("{way:?} {fate:?}: the books agreed {:?} after the end of the partition", healed.elapsed());
    let calls = deployment.pool().calls_pool().await.expect("the pool");
    assert_eq!((calls.in_use as usize, calls.over_commit as usize), (LIMIT + 16, 16), "{calls:?}");
    for caller in [&mut cut, &mut whole] {
        assert_eq!(caller.ask().await.reason(), "insufficient_licenses", "{}", caller.agent.name);
    }
    cut.churn(2, || true).await;
    whole.churn(4, || true).await;
    agree(&deployment, [&cut, &whole]).await;
    assert!(!cut.ask().await.optimistic() && cut.held.len() == 3, "there is room, and the pool says so");
    agree(&deployment, [&cut, &whole]).await;
    watch.end().await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_and_the_books_agree_when_only_what_a_node_sends_is_lost() {
    partitions(Way::ToPool, Fate::Dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_and_the_books_agree_when_only_what_the_pool_answers_is_lost() {
    partitions(Way::ToNode, Fate::Dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_and_the_books_agree_when_all_is_lost() {
    partitions(Way::Both, Fate::Dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_and_the_books_agree_when_a_firewall_resets_what_a_node_sends() {
    partitions(Way::ToPool, Fate::Reset).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_and_the_books_agree_when_a_firewall_resets_what_the_pool_answers() {
    partitions(Way::ToNode, Fate::Reset).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_and_the_books_agree_when_a_firewall_rejects_all() {
    partitions(Way::Both, Fate::Unreachable).await;
}

/// Milliseconds for which a cable is out, and then in again: shorter and longer than an attempt, a budget, a
/// heartbeat, and the life of a session.
const FLAPS: [(u64, u64); 8] =
    [(200, 300), (700, 150), (1500, 400), (90, 60), (150, 1100), (4800, 250), (300, 2500), (1200, 100)];

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_and_the_books_agree_while_a_cable_is_pulled_again_and_again() {
    let network = Network::new(&[CUT, WHOLE]);
    let deployment = deploy(&network).await;
    let (mut cut, mut whole) = (Caller::of(&deployment, CUT).await, Caller::of(&deployment, WHOLE).await);
    let watch = Watch::begin(deployment.pool().clone());
    let over = AtomicBool::new(false);
    let flaps = async {
        for (out, again) in FLAPS {
            network.plugged(CUT, false);
            sleep(Duration::from_millis(out)).await;
            network.plugged(CUT, true);
            sleep(Duration::from_millis(again)).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let enough = || over.load(Ordering::Relaxed);
    tokio::join!(cut.churn(6, enough), whole.churn(6, enough), flaps);
    assert!(cut.alone > 0, "the cable was not out");
    agree(&deployment, [&cut, &whole]).await;
    watch.end().await;
    deployment.stop().await;
}
