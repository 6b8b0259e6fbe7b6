//! The simulated world: what there is, and what happens next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};

use headroom_core::{Machine, Millis};

use crate::dice::Dice;
use crate::fault::{Fault, Who};
use crate::node::{NodeEvent, NodeSide};
use crate::oracle::Oracle;
use crate::plan::{Plan, Profile};
use crate::pool::{PoolEvent, PoolSide};
use crate::process::Answers;
use crate::scene::Scene;
use crate::story::{Story, Telling};
use crate::vendor::{VendorEvent, VendorSide};

/// Something that happens at its time.
pub enum Event {
    /// At the management node.
    Pool(PoolEvent),
    /// At a conferencing node.
    Node(usize, NodeEvent),
    /// At the licensing server, or on the way to and from it.
    Vendor(VendorEvent),
    /// A misfortune.
    Fault(Fault),
    /// Something that was written, not drawn.
    Scene(Scene),
    /// The faults are over.
    Heal,
    /// Are the books in line?
    Look,
}

struct Scheduled {
    at: Millis,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise, as listed in [`crate::oracle`].
    pub promise: &'static str,
    /// What was seen.
    pub text: String,
    /// When.
    pub at: Millis,
}

/// The world of a seed.
pub struct World {
    /// What was decided beforehand.
    pub plan: Plan,
    /// Everything by chance.
    pub dice: Dice,
    /// True time.
    pub time: Millis,
    /// The management node.
    pub pool: PoolSide,
    /// The conferencing nodes; clones behind them.
    pub nodes: Vec<NodeSide>,
    /// The licensing server.
    pub vendor: VendorSide,
    /// What is known to be true.
    pub oracle: Oracle,
    /// What is told.
    pub story: Story,
    /// Faults by name, and other figures.
    pub counts: BTreeMap<&'static str, u64>,
    /// Events carried out.
    pub steps: u64,
    /// The first promise that was not kept.
    pub violation: Option<Violation>,
    /// Since when there are no faults.
    pub healed: Option<Millis>,
    /// Everything is in line.
    pub rested: bool,
    trace: DefaultHasher,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
}

/// What became of a seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The first promise that was not kept.
    pub violation: Option<Violation>,
    /// Hash of everything that happened.
    pub trace: u64,
    /// Events carried out.
    pub steps: u64,
    /// True time that passed, times nodes.
    pub node_time: Millis,
    /// Faults by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// The story, if it was told: lines, each with its time.
    pub story: Vec<(Millis, String)>,
}

/// How often the books are looked at once the faults are over.
const LOOK_EVERY: Millis = Millis::SECOND.times(5);

impl World {
    /// The world of a seed, of any kind or of this one.
    #[must_use]
    pub fn new(seed: u64, only: Option<Profile>, telling: Telling) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::new(only, &mut dice);
        Self::planned(plan, dice, telling)
    }

    /// The world of a plan.
    #[must_use]
    pub fn planned(plan: Plan, mut dice: Dice, telling: Telling) -> Self {
        let nodes = (0..plan.nodes).map(|number| NodeSide::new(number, plan.servers, &mut dice)).collect();
        let (faults, scenes) = (plan.faults.clone(), plan.scenes.clone());
        let active = plan.active;
        let mut world = Self {
            pool: PoolSide::new(&mut dice),
            nodes,
            vendor: VendorSide::new(&mut dice),
            oracle: Oracle::default(),
            story: Story::new(telling),
            counts: BTreeMap::new(),
            steps: 0,
            violation: None,
            healed: None,
            rested: false,
            trace: DefaultHasher::new(),
            queue: BinaryHeap::new(),
            scheduled: 0,
            time: Millis(0),
            plan,
            dice,
        };
        world.begin();
        for (at, fault) in faults {
            world.schedule_at(at, Event::Fault(fault));
        }
        for (at, scene) in scenes {
            world.schedule_at(at, Event::Scene(scene));
        }
        world.schedule_at(active, Event::Heal);
        world
    }

    fn begin(&mut self) {
        self.vendor_start();
        self.pool_start();
        for node in 0..self.nodes.len() {
            let after = self.dice.span(0, 3_000);
            self.schedule(after, Event::Node(node, NodeEvent::Start));
            self.begin_servers(node);
        }
    }

    /// Runs until everything is in line, or a promise is broken.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        while self.violation.is_none() && !self.rested {
            if !self.step() {
                self.violate("I9", "nothing happens any more, and the books are not in line".into());
            }
        }
        let nodes = i64::try_from(self.nodes.len()).unwrap_or(i64::MAX);
        self.pool.disk.head().hash.0.hash(&mut self.trace);
        for node in &self.nodes {
            node.disk.head().hash.0.hash(&mut self.trace);
        }
        Outcome {
            violation: self.violation,
            trace: self.trace.finish(),
            steps: self.steps,
            node_time: self.time.times(nodes),
            counts: self.counts,
            story: self.story.lines,
        }
    }

    /// Has the next event happen; `false` when there is none.
    fn step(&mut self) -> bool {
        let Some(Reverse(Scheduled { at, number, event })) = self.queue.pop() else { return false };
        self.time = at;
        self.steps += 1;
        (at.0, number).hash(&mut self.trace);
        match event {
            Event::Pool(event) => self.at_pool(event),
            Event::Node(node, event) => self.at_node(node, event),
            Event::Vendor(event) => self.at_vendor(event),
            Event::Fault(fault) => self.strike(fault),
            Event::Scene(scene) => self.play(scene),
            Event::Heal => self.heal(),
            Event::Look => self.look(),
        }
        true
    }

    fn look(&mut self) {
        match self.at_rest() {
            Ok(()) => {
                self.tell(|_| "all books agree".into());
                self.rested = true;
            }
            Err(why) => {
                let since = self.time.since(self.healed.unwrap_or(self.time));
                if since > self.bound() {
                    self.violate("I9", format!("{since} after the last fault {why}"));
                }
                self.schedule(LOOK_EVERY, Event::Look);
            }
        }
    }

    /// Within what the books are in line once the faults are over: sessions lapse, probes come rarely,
    /// ids of ended legs rest, silent sources are given up.
    fn bound(&self) -> Millis {
        let rest = self.plan.ttl.times(3).plus(Millis::MINUTE.times(5));
        if matches!(self.plan.profile, Profile::Weeks | Profile::Clocks) { rest.times(2) } else { rest }
    }

    /// Whether people stay in their calls as they are, so that the books can be in line in time: where hundreds
    /// are in calls, somebody always leaves.
    pub(crate) fn is_still(&self) -> bool {
        self.healed.is_some_and(|healed| self.time.since(healed).plus(Millis::MINUTE) > self.bound())
    }

    fn heal(&mut self) {
        self.tell(|_| "*** the faults are over".into());
        self.healed = Some(self.time);
        self.mend();
        self.schedule(LOOK_EVERY, Event::Look);
    }

    /// Whether calls still begin.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.healed.is_none()
    }

    /// Has something happen after a while.
    pub fn schedule(&mut self, after: Millis, event: Event) {
        self.schedule_at(self.time.plus(after), event);
    }

    fn schedule_at(&mut self, at: Millis, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at, number: self.scheduled, event }));
    }

    /// Notes a promise that was not kept; the first counts.
    pub fn violate(&mut self, promise: &'static str, text: String) {
        self.tell(|_| format!("!!! {promise}: {text}"));
        let at = self.time;
        self.violation.get_or_insert(Violation { promise, text, at });
    }

    /// Notes a promise that was not kept, if there is one.
    pub fn check(&mut self, result: Result<(), (&'static str, String)>) {
        if let Err((promise, text)) = result {
            self.violate(promise, text);
        }
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Adds a line to the story, if one is told.
    pub fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        self.tell_in(None, line);
    }

    /// Adds a line to a story that tells everything.
    pub fn detail(&mut self, line: impl FnOnce(&Self) -> String) {
        self.tell_in(Some(Telling::Everything), line);
    }

    /// Adds a line to a story that tells only what is new.
    pub fn news(&mut self, line: impl FnOnce(&Self) -> String) {
        self.tell_in(Some(Telling::News), line);
    }

    /// Most worlds tell nothing: then no line is made.
    fn tell_in(&mut self, only_in: Option<Telling>, line: impl FnOnce(&Self) -> String) {
        if self.story.has(only_in) {
            let line = line(self);
            self.story.add(self.time, line);
        }
    }

    /// Makes everything that follows depend on this.
    pub fn mark(&mut self, what: impl Hash) {
        what.hash(&mut self.trace);
    }

    /// How long a write to a disk takes now.
    pub fn write_takes(&mut self, who: Who) -> Millis {
        let ordinary = self.dice.span(0, self.plan.write);
        let stalled = match who {
            Who::Pool => self.pool.stalled_until,
            Who::Node(node) => self.nodes[node].stalled_until,
            Who::Vendor => Millis(0),
        };
        ordinary.plus(stalled.since(self.time))
    }

    /// The answers of a record that still go out, and whether the process dies before the others do.
    pub fn until_death<M: Machine, A>(
        &mut self,
        whose: &str,
        answers: Answers<M, A>,
    ) -> (Vec<(A, M::Reply)>, bool) {
        let Answers { mut answers, early, .. } = answers;
        if early > 0 {
            self.violate("I13", format!("{early} answers of {whose} precede what they depend on"));
        }
        let deadly = self.is_deadly();
        let count = answers.len();
        if deadly {
            answers.truncate(self.dice.index(count));
        }
        (answers, deadly && count > 0)
    }

    /// Whether a committer dies at this of its steps.
    pub fn is_deadly(&mut self) -> bool {
        let deadly = self.plan.deadly;
        self.is_active() && self.dice.chance(deadly)
    }
}
