//! Who asks: nodes with the agent and the uplink of a real one and their journals in memory, and media
//! servers that place calls on them at a pace, whether they are answered or not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use conferencing_core::{BootId, Decision, Event, Node, Nonce, Options};
use conferencing_node::agent::{Agent, AgentError};
use conferencing_node::running::{Running, Surroundings};
use conferencing_node::uplink;
use headroom_core::LegId;
use headroom_shared::clock::{self, SystemClock};
use headroom_shared::committer::{self, SubmitError};
use headroom_shared::convert::decode;
use headroom_shared::memory_log::MemoryLog;
use headroom_shared::rpc::Shutdown;
use headroom_shared::tls::NodeBundle;
use headroom_tests::peer::one_leg;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::HOLD;
use super::tally::{Answer, Second};

/// How often new calls are placed.
const PACE: Duration = Duration::from_millis(5);
/// How often is looked how late tasks run.
const LAG: Duration = Duration::from_millis(20);
/// How long a media server waits for a decision.
const BUDGET: Duration = Duration::from_millis(900);

/// What all tasks add to.
struct Noted {
    begun: Instant,
    seconds: Mutex<Vec<Second>>,
    /// Legs whose end was told to a node and has not been taken back by the pool.
    owed: Mutex<HashMap<LegId, Instant>>,
    placed: AtomicU64,
    unanswered: AtomicU64,
}

impl Noted {
    /// The second of a moment.
    fn at(&self, moment: Instant) -> usize {
        usize::try_from(moment.duration_since(self.begun).as_secs()).unwrap_or(usize::MAX)
    }

    /// Adds to what happened in the second of a moment.
    fn note(&self, moment: Instant, add: impl FnOnce(&mut Second)) {
        let at = self.at(moment);
        let mut seconds = lock(&self.seconds);
        if seconds.len() <= at {
            seconds.resize_with(at + 1, Second::default);
        }
        add(&mut seconds[at]);
    }

    fn taken_back(&self, leg: &LegId) {
        if let Some(ended) = lock(&self.owed).remove(leg) {
            self.note(ended, |second| second.taken_back.push(millis(ended.elapsed())));
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Calls that were placed.
pub(crate) struct Offered(Vec<JoinHandle<Answer>>);

impl Offered {
    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits for all answers: the part that the pool gave within the budget.
    pub(crate) async fn part_in_time(self) -> f64 {
        let (count, mut in_time) = (self.count().max(1), 0_u32);
        for asked in self.0 {
            in_time += u32::from(asked.await.is_ok_and(|answer| answer == Answer::Pool));
        }
        f64::from(in_time) / count as f64
    }
}

/// Nodes and the calls that are placed on them.
pub(crate) struct Load {
    nodes: Vec<Running>,
    shutdown: Shutdown,
    noted: Arc<Noted>,
}

impl Load {
    /// A node for each bundle, all in contact.
    pub(crate) async fn start(bundles: &[String], management: SocketAddr) -> Result<Self> {
        let noted = Arc::new(Noted {
            begun: Instant::now(),
            seconds: Mutex::default(),
            owed: Mutex::default(),
            placed: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
        });
        let shutdown = Shutdown::default();
        let mut nodes = Vec::with_capacity(bundles.len());
        for (number, bundle) in bundles.iter().enumerate() {
            nodes.push(start_node(number, bundle, management, &shutdown, &noted).await?);
        }
        tokio::spawn(lag(Arc::clone(&noted), shutdown.clone()));
        let load = Self { nodes, shutdown, noted };
        headroom_deploy::wait::until("contact of all nodes", Duration::from_secs(60), async || {
            if load.quiet() { Ok(()) } else { Err(load.rest()) }
        })
        .await?;
        Ok(load)
    }

    /// Places so many calls a second for a time; does not wait for their answers.
    pub(crate) async fn offer(&self, rate: f64, time: Duration) -> Offered {
        let begun = Instant::now();
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut placed, mut asking) = (0_u64, Vec::new());
        while begun.elapsed() < time {
            pace.tick().await;
            // Due by now, however late this task itself is: a load that waits for its asker is none.
            while (placed as f64) < rate * begun.elapsed().min(time).as_secs_f64() {
                let due = begun + Duration::from_secs_f64(placed as f64 / rate);
                let number = self.noted.placed.fetch_add(1, Ordering::Relaxed);
                let at = usize::try_from(number).unwrap_or_default() % self.nodes.len();
                let call = place(self.nodes[at].agent(), Arc::clone(&self.noted), number, due);
                asking.push(tokio::spawn(call));
                placed += 1;
            }
        }
        Offered(asking)
    }

    /// What happened from one moment to another, by seconds: from the first that is whole.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<Second> {
        let seconds = lock(&self.noted.seconds);
        let (from, to) = (self.noted.at(from) + 1, self.noted.at(to));
        seconds.get(from..to.min(seconds.len())).unwrap_or_default().to_vec()
    }

    /// Ends that were told and not answered.
    pub(crate) fn ends_unanswered(&self) -> u64 {
        self.noted.unanswered.load(Ordering::Relaxed)
    }

    /// Ended legs that the pool may still hold.
    pub(crate) fn owed(&self) -> usize {
        self.nodes.iter().map(|node| node.agent().view().state.ending.len()).sum()
    }

    /// Legs that run.
    pub(crate) fn running(&self) -> usize {
        self.nodes.iter().map(|node| node.agent().view().state.legs.len()).sum()
    }

    /// No call runs, nothing is owed to the pool, and it is in contact with all.
    pub(crate) fn quiet(&self) -> bool {
        let had_contact = |node: &Running| node.agent().view().state.counters.grace.had_contact;
        self.running() == 0 && self.owed() == 0 && self.nodes.iter().all(had_contact)
    }

    /// What keeps it from being quiet.
    pub(crate) fn rest(&self) -> String {
        format!("{} legs run, {} ends are owed to the pool", self.running(), self.owed())
    }

    /// Ends all nodes.
    pub(crate) async fn stop(self) -> Result<()> {
        self.shutdown.trigger();
        for node in self.nodes {
            node.stop(true).await.context("a node's committer")?;
        }
        Ok(())
    }
}

/// A node as its service starts it, less the local interface.
async fn start_node(
    number: usize,
    bundle: &str,
    management: SocketAddr,
    shutdown: &Shutdown,
    noted: &Arc<Noted>,
) -> Result<Running> {
    let bundle = NodeBundle::from_toml(bundle)?;
    let pool = uplink::endpoint(&bundle, Some(&format!("https://{management}")))?.connect_lazy();
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let around = Surroundings {
        journal: Arc::new(MemoryLog::new(1)),
        clock: Arc::new(SystemClock),
        boot_id: BootId(clock::boot_id(Path::new(clock::BOOT_ID_PATH))?),
        nonce: Nonce(nonce),
        node: bundle.node()?,
        pool,
        jitter: Box::new(uplink::jitter),
        committing: committer::Options { watch_records: 1 << 16, ..committer::Options::default() },
    };
    let running = Running::start(around, Options::default(), shutdown).await?;
    tokio::spawn(watch(running.agent().handle().events(), Arc::clone(noted)));
    Ok(running)
}

/// Notes how late tasks of this program run.
async fn lag(noted: Arc<Noted>, shutdown: Shutdown) {
    while !shutdown.triggered() {
        let due = Instant::now() + LAG;
        sleep_until(due).await;
        noted.note(due, |second| second.lags.push(millis(due.elapsed())));
    }
}

type Events = tokio::sync::broadcast::Receiver<Arc<committer::Committed<Node>>>;

/// Notes when the pool has taken back what ended.
async fn watch(mut events: Events, noted: Arc<Noted>) {
    loop {
        match events.recv().await {
            Ok(committed) => {
                for event in &committed.events {
                    if let Event::Released { legs } = event {
                        legs.iter().for_each(|which| noted.taken_back(&which.leg));
                    }
                }
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// A call from its beginning to its end. Answers how it was decided, as soon as it is.
async fn place(agent: Arc<Agent>, noted: Arc<Noted>, number: u64, due: Instant) -> Answer {
    let name = format!("call-{number}");
    let Ok(call) = decode::call(&one_leg(&name)) else { return Answer::Failed };
    let legs: Vec<_> = call.legs.iter().map(|leg| leg.leg.clone()).collect();
    let decided = agent.admit(call).await;
    let waited = due.elapsed();
    let answer = match decided {
        // The node decides when the budget is over; what the pool decided comes before that.
        Ok(Decision::Granted(granted)) if granted.optimistic => Answer::Alone,
        Ok(Decision::Granted(_)) if waited > BUDGET => Answer::Late,
        Ok(Decision::Granted(_)) => Answer::Pool,
        Err(AgentError::Submit(SubmitError::Overloaded { .. } | SubmitError::Expired { .. })) => {
            Answer::Refused
        }
        _ => Answer::Failed,
    };
    noted.note(due, |second| second.answered(answer, millis(waited)));
    if matches!(answer, Answer::Pool | Answer::Alone | Answer::Late) {
        agent.delivered(legs.clone());
        tokio::spawn(run(agent, noted, legs));
    }
    answer
}

/// The call runs, and ends.
async fn run(agent: Arc<Agent>, noted: Arc<Noted>, legs: Vec<LegId>) {
    sleep(HOLD).await;
    let ended = Instant::now();
    lock(&noted.owed).extend(legs.iter().map(|leg| (leg.clone(), ended)));
    let answered = agent.end_legs(legs.clone()).await;
    match answered {
        Ok(_) => noted.note(ended, |second| second.ends.push(millis(ended.elapsed()))),
        Err(_) => drop(noted.unanswered.fetch_add(1, Ordering::Relaxed)),
    }
    // A leg that ended before the pool heard of it leaves nothing to take back.
    let state = &agent.view().state;
    lock(&noted.owed).retain(|leg, _| !legs.contains(leg) || state.ending.contains_key(leg));
}
