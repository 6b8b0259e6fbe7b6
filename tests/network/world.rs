//! A pool and its nodes on a simulated network, and what is checked of them after every step.
//!
//! turmoil gives each host a runtime of its own with a clock that stands still between steps, and carries
//! what hosts send each other, late, or not at all. A connection that lost a segment stays silent until
//! HTTP/2's keepalive ends it: nothing is sent again below TLS. Everything above is the product's: tonic,
//! rustls, the lease service with its committer, the uplink with its time-outs and pauses. Logs are in memory
//! and outlive processes; a log that does not block is written to where the committer runs, so that simulated
//! time has a place for it.
//!
//! A seed decides who calls when, which faults strike when, how long messages take and how long nodes pause.
//! What it does not decide are TLS's random numbers and the order in which tokio polls what is ready at the
//! same instant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headroom_core::{Call, CallId, Feature, LegId, SourceId};
use headroom_shared::tls;
use headroom_simulator::caller::{incoming, meeting};
use headroom_simulator::dice::Dice;
use management_core::Phase;
use turmoil::Sim;

use crate::fault::Fault;
use crate::ledger::{Broken, Ledger};
use crate::node::NodeHost;
use crate::pool::{License, POOL, PoolHost};

/// One step; what hosts send each other arrives between two.
pub(crate) const STEP: Duration = Duration::from_millis(5);
/// How long messages take when nothing is wrong.
const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(30));
/// How long after the last fault the books may differ: a dead connection is given up after 10 s, the longest
/// pause between two probes is 5 s, and a grant whose answer died with its process is dropped after a minute.
const AGREE_WITHIN: Duration = Duration::from_secs(90);
/// Lines of the story that a broken promise is told with.
const LINES: usize = 60;

/// Seconds, for stories.
pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Calls that come by themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    /// Mean time between two calls of a node.
    pub(crate) every: Duration,
    /// How long a call lasts on average.
    pub(crate) length: Duration,
    /// Most legs of a call.
    pub(crate) legs: usize,
}

/// How a world begins.
pub(crate) struct Shape {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) license: License,
}

/// The world.
pub(crate) struct World {
    sim: Sim<'static>,
    pub(crate) pool: Arc<PoolHost>,
    pub(crate) nodes: Vec<Arc<NodeHost>>,
    pub(crate) ledger: Ledger,
    pub(crate) dice: Dice,
    seed: u64,
    pool_runs: bool,
    traffic: Option<Traffic>,
    /// When each node's next call comes.
    coming: Vec<Duration>,
    /// When calls end.
    ends: BTreeMap<(Duration, usize, String), Vec<LegId>>,
    calls: u64,
    story: Vec<String>,
}

impl World {
    /// A world in which every node has had contact.
    pub(crate) fn new(shape: Shape) -> Self {
        tls::install_provider();
        let Shape { seed, nodes, license } = shape;
        let mut dice = Dice::new(seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(dice.any())
            .tick_duration(STEP)
            .min_message_latency(LATENCY.0)
            .max_message_latency(LATENCY.1)
            // how much is lost once a lossy way has broken
            .repair_rate(0.3)
            .tcp_capacity(1024)
            .enable_random_order()
            .build();
        let (pool, bundles) = PoolHost::new(license, nodes);
        let host = Arc::clone(&pool);
        sim.host(POOL, move || Arc::clone(&host).run());
        let nodes: Vec<_> = bundles.into_iter().map(|bundle| NodeHost::new(bundle, dice.any())).collect();
        for node in &nodes {
            let host = Arc::clone(node);
            sim.host(node.name.as_str(), move || Arc::clone(&host).run());
        }
        let coming = vec![Duration::ZERO; nodes.len()];
        let mut world = Self {
            sim,
            pool,
            nodes,
            ledger: Ledger::default(),
            dice,
            seed,
            pool_runs: true,
            traffic: None,
            coming,
            ends: BTreeMap::new(),
            calls: 0,
            story: Vec::new(),
        };
        world.agree("contact");
        world
    }

    /// Time since the world began.
    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// A line of the story.
    pub(crate) fn tell(&mut self, line: impl AsRef<str>) {
        self.story.push(format!("{:>9.3} {}", self.now().as_secs_f64(), line.as_ref()));
    }

    /// Ends the test, with what is needed to see it again.
    fn broken(&self, (promise, text): Broken) -> ! {
        let skipped = self.story.len().saturating_sub(LINES);
        panic!(
            "seed {seed} broke {promise} at {now:.3} s: {text}\n\
             (again: HEADROOM_TEST_NETWORK_SEED={seed} cargo test -p headroom-network)\n{story}",
            seed = self.seed,
            now = self.now().as_secs_f64(),
            story = self.story[skipped..].join("\n"),
        )
    }

    /// Calls come by themselves from now on, or no longer.
    pub(crate) fn traffic(&mut self, traffic: Option<Traffic>) {
        self.traffic = traffic;
        self.coming = vec![self.now(); self.nodes.len()];
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, span: Duration) {
        let until = self.now() + span;
        while self.now() < until {
            self.step();
        }
    }

    /// Lets time pass until it is so. Says how long that took.
    pub(crate) fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut so: impl FnMut(&Self) -> Result<(), String>,
    ) -> Duration {
        let began = self.now();
        while let Err(why) = so(self) {
            if self.now() - began >= within {
                self.broken(("I9", format!("no {what} within {within:?}: {why}")));
            }
            // Looking at everything after every step would be most of the work.
            self.run(STEP * 20);
        }
        self.now() - began
    }

    fn step(&mut self) {
        self.calls_come();
        self.calls_end();
        if let Err(error) = self.sim.step() {
            self.broken(("no host ends", error.to_string()));
        }
        if let Err(broken) = self.look() {
            self.broken(broken);
        }
    }

    /// What must be true at every instant.
    fn look(&mut self) -> Result<(), Broken> {
        let limit = self.pool.limit();
        self.ledger.follow(&self.pool.log, limit)?;
        if let Some(pool) = self.pool.view()
            && pool.position.sequence == self.ledger.records()
        {
            let (pooled, read) = (pool.state.in_use(&Feature::Call).0, self.ledger.in_use());
            if pooled != read {
                return Err(("I11", format!("the pool counts {pooled} units, its records {read}")));
            }
        }
        for node in &self.nodes {
            if let Some(surprise) = node.media.surprise() {
                return Err(("a media server is answered", format!("{}: {surprise}", node.name)));
            }
            let Some(view) = node.view() else { continue };
            if let Some(leg) = node.media.runs_unlike(|leg| view.state.legs.contains_key(leg)) {
                return Err(("I7", format!("{leg} runs, and {} does not know of it", node.name)));
            }
        }
        Ok(())
    }

    fn calls_come(&mut self) {
        let Some(traffic) = self.traffic else { return };
        for at in 0..self.nodes.len() {
            if self.coming[at] > self.now() {
                continue;
            }
            let length = self.about(traffic.length);
            self.coming[at] = self.now() + self.about(traffic.every);
            let legs = 1 + self.dice.index(traffic.legs);
            let (name, legs) = self.call(at, legs);
            self.ends.insert((self.now() + length, at, name), legs);
        }
    }

    fn about(&mut self, mean: Duration) -> Duration {
        let mean = headroom_core::Millis(i64::try_from(mean.as_millis()).expect("minutes"));
        Duration::from_millis(self.dice.about(mean).0.unsigned_abs())
    }

    fn calls_end(&mut self) {
        while let Some(first) = self.ends.first_entry() {
            if first.key().0 > self.sim.elapsed() {
                return;
            }
            let ((_, at, name), legs) = first.remove_entry();
            let media = &self.nodes[at].media;
            let undecided = legs.iter().any(|leg| media.fate(leg) == Some(crate::media::Fate::Asked));
            if undecided {
                // A media server knows of no end before it knows of a beginning.
                self.ends.insert((self.now() + secs(1), at, name), legs);
                continue;
            }
            self.end(at, legs);
        }
    }

    /// Asks a node for a call of so many legs.
    pub(crate) fn call(&mut self, at: usize, legs: usize) -> (String, Vec<LegId>) {
        self.calls += 1;
        let name = format!("c{}", self.calls);
        let legs: Vec<LegId> =
            (0..legs).map(|leg| LegId::new(&format!("{name}.{leg}")).expect("a short id")).collect();
        self.nodes[at].media.admit(call(&name, &legs));
        (name, legs)
    }

    /// Ends those of a node's legs that run.
    pub(crate) fn end(&mut self, at: usize, legs: Vec<LegId>) {
        let running = self.nodes[at].media.running();
        let legs: Vec<_> = legs.into_iter().filter(|leg| running.contains(leg)).collect();
        if !legs.is_empty() {
            self.nodes[at].media.end(legs);
        }
    }

    /// Ends every call.
    pub(crate) fn hang_up(&mut self) {
        self.tell("all calls end");
        self.ends.clear();
        for at in 0..self.nodes.len() {
            self.end(at, self.nodes[at].media.running());
        }
    }

    /// Something goes wrong between a node and the pool.
    pub(crate) fn strike(&mut self, at: usize, fault: Fault) {
        let node = self.nodes[at].name.to_string();
        self.tell(format!("{node}: {fault:?}"));
        match fault {
            Fault::Cut => self.sim.partition(node, POOL),
            Fault::RequestsLost => self.sim.partition_oneway(node, POOL),
            Fault::AnswersLost => self.sim.partition_oneway(POOL, node),
            Fault::Held => self.sim.hold(node, POOL),
            Fault::Lossy { one_in } => self.sim.set_link_fail_rate(node, POOL, 1.0 / f64::from(one_in)),
            Fault::Slow { most } => self.sim.set_link_max_message_latency(node, POOL, most),
        }
    }

    /// The way between a node and the pool is as it should be again.
    pub(crate) fn mend(&mut self, at: usize) {
        let node = self.nodes[at].name.to_string();
        self.tell(format!("{node}: mended"));
        self.sim.set_link_fail_rate(node.as_str(), POOL, 0.0);
        self.sim.set_link_max_message_latency(node.as_str(), POOL, LATENCY.1);
        // Delivers what was held, and undoes what was cut.
        self.sim.release(node, POOL);
    }

    /// The pool's process dies.
    pub(crate) fn kill_pool(&mut self) {
        self.tell("the pool's process dies");
        self.pool_runs = false;
        self.sim.crash(POOL);
    }

    /// The pool's machine dies: its process cannot close its connections, and nobody hears of it.
    pub(crate) fn cut_power(&mut self) {
        (0..self.nodes.len()).for_each(|at| self.strike(at, Fault::Cut));
        self.kill_pool();
    }

    /// A new process of the pool begins on its log.
    pub(crate) fn start_pool(&mut self) {
        self.tell("the pool begins again");
        self.pool_runs = true;
        self.sim.bounce(POOL);
    }

    /// A node's process dies, and another begins on its journal.
    pub(crate) fn restart_node(&mut self, at: usize) {
        let node = Arc::clone(&self.nodes[at]);
        self.tell(format!("{}: its process dies, and another begins", node.name));
        self.sim.crash(node.name.as_str());
        node.media.forsaken();
        self.sim.bounce(node.name.as_str());
    }

    /// How often a node has tried to connect since then.
    pub(crate) fn dials(&self, node: &NodeHost, since: Duration) -> usize {
        node.dials.since(since)
    }

    /// Everything is as it should be again.
    pub(crate) fn mend_all(&mut self) {
        for at in 0..self.nodes.len() {
            self.mend(at);
        }
        if !self.pool_runs {
            self.start_pool();
        }
    }

    /// I9: waits until the books of the pool and of all nodes agree. Says how long that took.
    pub(crate) fn agree(&mut self, what: &str) -> Duration {
        let took = self.until(what, AGREE_WITHIN, Self::agreed);
        self.tell(format!("{what}: the books agree after {:.1} s", took.as_secs_f64()));
        took
    }

    /// Ends all calls: then nothing may be held.
    pub(crate) fn nothing_leaks(&mut self) {
        self.traffic(None);
        self.until("end of all questions", secs(10), |world| {
            match world.nodes.iter().map(|node| node.media.asking()).sum::<usize>() {
                0 => Ok(()),
                asking => Err(format!("{asking} legs are neither granted nor denied")),
            }
        });
        self.hang_up();
        self.agree("end of all calls");
        let held = self.ledger.books().len();
        if held > 0 {
            self.broken(("no lease leaks", format!("{held} are held when no call runs")));
        }
    }

    /// Whether the books agree, or where they do not.
    fn agreed(&self) -> Result<(), String> {
        let Some(pool) = self.pool.view() else { return Err("the pool has not begun".into()) };
        let mut units = 0;
        let mut leases = 0;
        for node in &self.nodes {
            let name = &node.name;
            let Some(view) = node.view() else { return Err(format!("{name} has not begun")) };
            let Some(holder) = pool.state.holder_of(name) else { return Err(format!("{name} is unheard")) };
            if !view.state.counters.grace.had_contact {
                return Err(format!("{name} has had no contact"));
            }
            let session = pool.state.holders.get(&holder).and_then(|holder| holder.session.as_ref());
            if session.is_none_or(|session| session.phase != Phase::Active) {
                return Err(format!("{name} has no session"));
            }
            let runs: Vec<LegId> = view.state.legs.keys().cloned().collect();
            let media = node.media.running();
            if runs != media {
                return Err(format!("{name} runs {runs:?}, its media server {media:?}"));
            }
            if !view.state.unsettled.is_empty() || !view.state.ending.is_empty() {
                let (new, old) = (view.state.unsettled.len(), view.state.ending.len());
                return Err(format!("{name} has {new} legs and {old} ends to tell of"));
            }
            let held: Vec<_> = pool.state.leases.of_holder(holder).collect();
            let here = view.state.legs.values().map(|record| (record.id(), &record.running.charge));
            if !held.iter().map(|(key, lease)| (&key.leg, &lease.charge)).eq(here) {
                let held: Vec<_> = held.iter().map(|(key, _)| key.leg.as_str()).collect();
                return Err(format!("{name} runs {runs:?}, the pool holds {held:?}"));
            }
            leases += held.len();
            units += view.state.legs.values().map(|record| record.running.charge.units.0).sum::<u32>();
        }
        let (pooled, read) = (pool.state.in_use(&Feature::Call).0, self.ledger.in_use());
        if (pooled, read, pool.state.leases.len(), self.ledger.books().len())
            != (units, units, leases, leases)
        {
            return Err(format!(
                "{leases} legs of {units} units run; the pool counts {pooled}, its records {read}"
            ));
        }
        Ok(())
    }
}

fn call(name: &str, legs: &[LegId]) -> Call {
    let legs = legs.iter().cloned().map(incoming).collect();
    meeting(CallId::new(name).expect("a short id"), SourceId::default(), legs)
}
