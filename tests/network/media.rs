//! A media server beside a conferencing node: what it was told to do, and what it knows of its legs. It
//! outlives the node's process, as a process of its own would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conferencing_core::Decision;
use conferencing_node::agent::Agent;
use headroom_core::{Call, DenialReason, LegId, SourceId};
use tokio::sync::Notify;

/// The budget of a decision, and what it takes to answer.
const BUDGET: Duration = Duration::from_millis(950);
/// How often it says which legs run, and the first time when it meets a new process of its node.
const LIFE: Duration = Duration::from_secs(30);

/// What it is told to do.
enum Order {
    Admit(Call),
    End(Vec<LegId>),
}

/// What it knows of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It may begin or not.
    Asked,
    /// It runs.
    Runs {
        /// By the node's own decision.
        optimistic: bool,
        /// How long the decision took.
        took: Duration,
    },
    /// It did not begin.
    Denied(DenialReason),
    /// The node's process ended before it answered.
    Unanswered,
    /// It ran.
    Over,
}

#[derive(Default)]
struct Known {
    orders: VecDeque<Order>,
    legs: BTreeMap<LegId, Fate>,
    /// Those of them that run.
    running: BTreeSet<LegId>,
    /// What no media server expects of its node.
    surprises: Vec<String>,
}

impl Known {
    fn note(&mut self, legs: &[LegId], fate: &Fate) {
        for leg in legs {
            match fate {
                Fate::Runs { .. } => self.running.insert(leg.clone()),
                _ => self.running.remove(leg),
            };
            self.legs.insert(leg.clone(), fate.clone());
        }
    }
}

/// The media server.
#[derive(Default)]
pub(crate) struct Media {
    known: Mutex<Known>,
    ordered: Notify,
}

impl Media {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        self.known().orders.push_back(order);
        self.ordered.notify_one();
    }

    /// Asks for a call.
    pub(crate) fn admit(&self, call: Call) {
        let legs: Vec<LegId> = call.legs.iter().map(|leg| leg.leg.clone()).collect();
        self.known().note(&legs, &Fate::Asked);
        self.order(Order::Admit(call));
    }

    /// Ends legs. From now on they do not run, whether or not the node has heard of it.
    pub(crate) fn end(&self, legs: Vec<LegId>) {
        self.known().note(&legs, &Fate::Over);
        self.order(Order::End(legs));
    }

    /// What it knows of a leg.
    pub(crate) fn fate(&self, leg: &LegId) -> Option<Fate> {
        self.known().legs.get(leg).cloned()
    }

    /// The legs that run.
    pub(crate) fn running(&self) -> Vec<LegId> {
        self.known().running.iter().cloned().collect()
    }

    /// A leg that runs and is not like this.
    pub(crate) fn runs_unlike(&self, like: impl Fn(&LegId) -> bool) -> Option<LegId> {
        self.known().running.iter().find(|leg| !like(leg)).cloned()
    }

    /// How many legs wait for a decision.
    pub(crate) fn asking(&self) -> usize {
        self.known().legs.values().filter(|fate| **fate == Fate::Asked).count()
    }

    /// How many decisions turned out like this.
    pub(crate) fn count(&self, like: impl Fn(&Fate) -> bool) -> usize {
        self.known().legs.values().filter(|fate| like(fate)).count()
    }

    /// What it did not expect.
    pub(crate) fn surprise(&self) -> Option<String> {
        self.known().surprises.first().cloned()
    }

    /// The node's process is gone, and with it every question that it had not answered.
    pub(crate) fn forsaken(&self) {
        let mut known = self.known();
        known.orders.clear();
        for fate in known.legs.values_mut().filter(|fate| **fate == Fate::Asked) {
            *fate = Fate::Unanswered;
        }
    }

    /// Uses a node until its process ends.
    pub(crate) async fn serve(self: Arc<Self>, agent: Arc<Agent>) {
        let mut lists = tokio::time::interval(LIFE);
        loop {
            let order = self.known().orders.pop_front();
            let (media, node) = (Arc::clone(&self), Arc::clone(&agent));
            match order {
                Some(Order::Admit(call)) => drop(tokio::spawn(media.ask(node, call))),
                Some(Order::End(legs)) => drop(tokio::spawn(media.tell(node, legs))),
                None => tokio::select! {
                    () = self.ordered.notified() => {}
                    _ = lists.tick() => drop(tokio::spawn(media.list(node))),
                },
            }
        }
    }

    /// Says which legs run.
    async fn list(self: Arc<Self>, agent: Arc<Agent>) {
        let as_of = agent.view().state.counters.revision;
        let answered = agent.sync(SourceId::default(), as_of, self.running()).await;
        let runs = |leg: &LegId| matches!(self.fate(leg), Some(Fate::Runs { .. }));
        let amiss = match &answered {
            // One that has ended since is rightly unknown.
            Ok((ended, unknown)) => ended.iter().chain(unknown).any(runs),
            Err(_) => true,
        };
        if amiss {
            self.known().surprises.push(format!("its list was answered {answered:?}"));
        }
    }

    async fn ask(self: Arc<Self>, agent: Arc<Agent>, call: Call) {
        let began = tokio::time::Instant::now();
        let legs: Vec<LegId> = call.legs.iter().map(|leg| leg.leg.clone()).collect();
        let decision = agent.admit(call).await;
        let took = began.elapsed();
        let fate = match decision {
            Ok(Decision::Granted(granted)) if took <= BUDGET => {
                Fate::Runs { optimistic: granted.optimistic, took }
            }
            Ok(Decision::Denied(reason)) if took <= BUDGET => Fate::Denied(reason),
            other => {
                self.known().surprises.push(format!("{legs:?} were answered {other:?} after {took:?}"));
                return;
            }
        };
        self.known().note(&legs, &fate);
        if matches!(fate, Fate::Runs { .. }) {
            agent.delivered(legs);
        }
    }

    async fn tell(self: Arc<Self>, agent: Arc<Agent>, legs: Vec<LegId>) {
        if let Err(error) = agent.end_legs(legs.clone()).await {
            self.known().surprises.push(format!("the end of {legs:?} was answered {error}"));
        }
    }
}
