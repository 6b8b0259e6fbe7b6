//! The real pool and two real nodes, as pure machines on a hostile network: requests and answers are
//! lost, repeated and late, processes restart, sessions lapse. At rest the books of all agree, and no
//! grant that a media server was promised is ever lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use conferencing_core::{
    AskId, BootId, Command as NodeCommand, Decision, Failure, Next, Node, Options, Outcome,
    Reply as NodeReply, Request as NodeRequest, RequestId, Response,
};
use headroom_core::machine::Bench;
use headroom_core::{
    Call, CallId, CallInfo, Direction, Interop, Leg, LegId, Media, Millis, NodeName, Now, Position, Protocol,
    Service, SourceId, Text,
};
use headroom_simulator::{licenses, wire};
use management_core as pool;
use management_core::{CertificateHash, Command, PoolMachine, Reply};
use proptest::prelude::*;

const NODES: [&str; 2] = ["a", "b"];
const CAPACITY: u32 = 4;

fn leg_id(name: &str) -> LegId {
    LegId::new(name).expect("a leg id")
}

/// One conferencing node, with what is on the wire between it and the pool.
struct Agent {
    bench: Bench<Node>,
    caller: CertificateHash,
    processes: u8,
    /// Every request ever sent: any may arrive, at any time, more than once.
    sent: Vec<Arc<NodeRequest>>,
    /// Requests whose answer this process still takes.
    pending: Vec<(RequestId, Arc<NodeRequest>)>,
    answers: Vec<(RequestId, Result<Response, Failure>)>,
    promised: BTreeSet<LegId>,
    asks: std::collections::BTreeMap<AskId, Vec<LegId>>,
}

struct World {
    pool: Bench<PoolMachine>,
    agents: Vec<Agent>,
    now: Now,
    asked: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            pool: Bench::default(),
            agents: Vec::new(),
            now: Now { wall: Millis(1_700_000_000_000), boot: Millis(1_000_000) },
            asked: 0,
        };
        world.start_pool();
        let installed =
            pool::Installed::from_file(licenses::document(CAPACITY, 0, None), Vec::new(), Millis(0));
        let reply = world.ask_pool(Command::InstallLicense(Box::new(installed)));
        assert!(matches!(reply, Reply::Installed(Ok(()))), "{reply:?}");
        for (number, name) in (1..).zip(NODES) {
            let caller = CertificateHash([number; 32]);
            let node = NodeName::new(name).expect("a name");
            world.ask_pool(Command::AddNode { node, certificate: caller });
            world.agents.push(Agent {
                bench: Bench::default(),
                caller,
                processes: number,
                sent: Vec::new(),
                pending: Vec::new(),
                answers: Vec::new(),
                promised: BTreeSet::new(),
                asks: Default::default(),
            });
            world.start_agent(usize::from(number) - 1);
        }
        world
    }

    fn start_pool(&mut self) {
        let settings = pool::Settings::default();
        self.ask_pool(Command::Start {
            settings,
            fingerprint: licenses::fingerprint(),
            boot_id: pool::BootId([1; 16]),
        });
    }

    fn ask_pool(&mut self, command: Command) -> Reply {
        self.pool.run(self.now, command)
    }

    fn start_agent(&mut self, at: usize) {
        let agent = &mut self.agents[at];
        agent.processes += 2;
        let started = NodeCommand::Started {
            nonce: conferencing_core::Nonce([agent.processes; 16]),
            boot_id: BootId([1; 16]),
            node: Some(NodeName::new(NODES[at]).expect("a name")),
            synchronized: true,
            options: Options::default(),
        };
        self.ask_agent(at, started);
    }

    /// Runs a command on a node and takes care of what it wants sent and who was answered.
    fn ask_agent(&mut self, at: usize, command: NodeCommand) {
        let agent = &mut self.agents[at];
        let outcomes = match agent.bench.run(self.now, command) {
            NodeReply::Uplink { outcomes, next } => {
                if let Next::Send { id, request, .. } = next {
                    agent.sent.push(Arc::clone(&request));
                    agent.pending.push((id, request));
                }
                outcomes
            }
            NodeReply::Outcomes(outcomes) | NodeReply::Ended { outcomes, .. } => outcomes,
            _ => Vec::new(),
        };
        for (ask, outcome) in outcomes {
            if let Outcome::Call(decision) = outcome {
                self.decided(at, ask, &decision);
            }
        }
    }

    fn decided(&mut self, at: usize, ask: AskId, decision: &Decision) {
        let agent = &mut self.agents[at];
        agent.asks.remove(&ask);
        if let Decision::Granted(granted) = decision {
            let own = granted.legs.iter().filter(|leg| leg.owner.is_none());
            let legs: Vec<_> = own.map(|leg| leg.leg.clone()).collect();
            agent.promised.extend(legs.iter().cloned());
            agent.bench.run(self.now, NodeCommand::Delivered { legs });
        }
    }

    fn admit(&mut self, at: usize, call: Call) {
        self.asked += 1;
        let ask = AskId(self.asked);
        let legs = call.legs.iter().map(|leg| leg.leg.clone()).collect();
        self.agents[at].asks.insert(ask, legs);
        if let NodeReply::Decided(decision) =
            self.agents[at].bench.run(self.now, NodeCommand::Admit { ask, call })
        {
            self.decided(at, ask, &decision);
        }
    }

    fn pass(&mut self, span: Millis) {
        // The pool ticks often; what a node notices it notices when it is asked.
        let mut left = span.0;
        while left > 0 {
            let step = left.min(1000);
            left -= step;
            self.now.wall = self.now.wall.plus(Millis(step));
            self.now.boot = self.now.boot.plus(Millis(step));
            self.ask_pool(Command::Tick { around: Vec::new() });
        }
        for at in 0..NODES.len() {
            self.ask_agent(at, NodeCommand::Tick { synchronized: true });
        }
    }

    fn serve(&mut self, at: usize, request: &NodeRequest) -> Result<Response, Failure> {
        let command = wire::command(self.agents[at].caller, request);
        let reply = self.ask_pool(command);
        wire::response(reply, Position { generation: 7, sequence: self.pool.events.len() as u64 }, Millis(0))
    }

    /// Lets a node talk to the pool, without faults, until it has nothing to say.
    fn settle(&mut self, at: usize) {
        self.ask_agent(at, NodeCommand::Poll);
        for _ in 0..500 {
            let Some((id, request)) = self.agents[at].pending.pop() else { return };
            self.agents[at].pending.clear();
            let outcome = self.serve(at, &request);
            self.ask_agent(at, NodeCommand::Answered { request: id, outcome, jitter: 0 });
        }
        panic!("node {at} does not come to rest");
    }

    fn come_to_rest(&mut self) {
        for at in 0..NODES.len() {
            let asks = self.agents[at].bench.volatile.asks.keys().copied().collect();
            self.ask_agent(at, NodeCommand::Expire { asks });
        }
        for _ in 0..6 {
            self.pass(Millis(16_000));
            for at in 0..NODES.len() {
                self.settle(at);
            }
        }
    }

    fn check_promises(&mut self) {
        for agent in &mut self.agents {
            // A transfer ends the leg whose unit it took.
            let state = &agent.bench.state;
            agent.promised.retain(|leg| state.legs.contains_key(leg) || !state.dead.contains(leg));
            for leg in &agent.promised {
                assert!(agent.bench.state.legs.contains_key(leg), "{leg} was granted and is lost");
            }
        }
    }

    fn check_rest(&self) {
        for (agent, name) in self.agents.iter().zip(NODES) {
            let state = &agent.bench.state;
            let node = NodeName::new(name).expect("a name");
            let holder = self.pool.state.holder_of(&node).expect("enrolled");
            let running: Vec<_> = state
                .legs
                .values()
                .filter(|record| !record.revoked)
                .map(|record| (record.id().clone(), record.call().clone(), record.running.charge.clone()))
                .collect();
            let held = self.pool.state.leases.of_holder(holder);
            let held: Vec<_> =
                held.map(|(key, lease)| (key.leg, lease.info.call.clone(), lease.charge)).collect();
            let why = format!("{:?} {:?}", self.pool.state.tombstones, agent.bench.volatile.phase);
            assert_eq!(running, held, "legs that run on {name} and leases it holds; {why}");
            assert!(state.ending.is_empty() && state.unsettled.is_empty());
            let set = self.pool.state.holders.get(&holder).expect("enrolled").set;
            assert_eq!((state.held_set, state.running_set), (set, set));
            let buried = self.pool.state.tombstones_of(holder).map(|(key, _)| &key.leg);
            assert!(buried.eq(&state.revoked), "{name} runs {:?} to be ended; {why}", state.revoked);
        }
        assert!(self.pool.volatile.drift.is_empty(), "a heartbeat found the books apart");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Admit { node: usize, call: u8, legs: Vec<u8>, kind: u8, split: bool, replaces: Option<u8>, media: bool },
    End { node: usize, leg: u8 },
    Change { node: usize, leg: u8, media: bool },
    Expire { node: usize },
    Poll { node: usize },
    Serve { node: usize, which: prop::sample::Index },
    Answer { node: usize, which: prop::sample::Index },
    TimeOut { node: usize },
    RestartNode { node: usize },
    RestartPool,
    Revoke { node: usize, leg: u8 },
    Pass(i64),
    Sync { node: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES.len();
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (node(), 0..5u8, prop::collection::btree_set(0..10u8, 1..3), 0..4u8, any::<bool>(),
              prop::option::weighted(0.2, 0..10u8), any::<bool>())
            .prop_map(|(node, call, legs, kind, split, replaces, media)| Step::Admit {
                node, call, legs: legs.into_iter().collect(), kind, split, replaces, media
            }),
        4 => (node(), 0..10u8).prop_map(|(node, leg)| Step::End { node, leg }),
        2 => (node(), 0..10u8, any::<bool>()).prop_map(|(node, leg, media)| Step::Change { node, leg, media }),
        2 => node().prop_map(|node| Step::Expire { node }),
        8 => node().prop_map(|node| Step::Poll { node }),
        8 => (node(), index()).prop_map(|(node, which)| Step::Serve { node, which }),
        8 => (node(), index()).prop_map(|(node, which)| Step::Answer { node, which }),
        1 => node().prop_map(|node| Step::TimeOut { node }),
        1 => node().prop_map(|node| Step::RestartNode { node }),
        1 => Just(Step::RestartPool),
        1 => (node(), 0..10u8).prop_map(|(node, leg)| Step::Revoke { node, leg }),
        2 => prop::sample::select(vec![10, 5_000, 31_000, 61_000, 121_000]).prop_map(Step::Pass),
        1 => node().prop_map(|node| Step::Sync { node }),
    ]
}

/// Leg ids are a node's own; both nodes use the same names.
fn name(leg: u8) -> LegId {
    leg_id(&format!("leg{leg}"))
}

fn asked_call(node: usize, step: &Step) -> Call {
    let Step::Admit { call, legs, kind, split, replaces, media, .. } = step else {
        unreachable!("only calls are asked for")
    };
    let (service, interop) = match kind {
        0 => (Service::Gateway, None),
        1 => (Service::Gateway, Some(Interop::Teams)),
        _ => (Service::Vmr, None),
    };
    let media = if *media { Media::AUDIO_VIDEO } else { Media::CONTROL_ONLY };
    let mut legs: Vec<_> = legs
        .iter()
        .map(|leg| Leg {
            leg: name(*leg),
            participant: Text::default(),
            protocol: Protocol::Sip,
            direction: Direction::In,
            media,
            owner: None,
            replaces: None,
            subjects: Vec::new(),
            needs: Vec::new(),
        })
        .collect();
    if *split && legs.len() > 1 {
        legs[1].owner = Some(NodeName::new(NODES[1 - node]).expect("a name"));
    }
    legs[0].replaces = replaces.map(name).filter(|old| legs.iter().all(|leg| leg.leg != *old));
    let call = CallId::new(&format!("call{call}.{kind}")).expect("a call id");
    let (conference, destination, tenant) = (Text::default(), Text::default(), Text::default());
    let source = SourceId::default();
    Call { info: CallInfo { call, service, interop, conference, destination, tenant, source }, legs }
}

fn carry_out(world: &mut World, step: &Step) {
    match step {
        Step::Admit { node, .. } => world.admit(*node, asked_call(*node, step)),
        Step::End { node, leg } => {
            world.agents[*node].promised.remove(&name(*leg));
            world.ask_agent(*node, NodeCommand::EndLegs { legs: vec![name(*leg)] });
        }
        Step::Change { node, leg, media } => {
            world.asked += 1;
            let media = if *media { Media::AUDIO_VIDEO } else { Media::CONTROL_ONLY };
            let legs = vec![(AskId(world.asked), name(*leg), media)];
            world.ask_agent(*node, NodeCommand::UpdateLegs { legs });
        }
        Step::Expire { node } => {
            let asks = world.agents[*node].bench.volatile.asks.keys().copied().collect();
            world.ask_agent(*node, NodeCommand::Expire { asks });
        }
        Step::Poll { node } => world.ask_agent(*node, NodeCommand::Poll),
        Step::Serve { node, which } => {
            let sent = &world.agents[*node].sent;
            // Half of the time the newest request, else any one that was ever sent.
            let Some(newest) = sent.last() else { return };
            let request = Arc::clone(if which.index(2) == 0 { newest } else { which.get(sent) });
            let answer = world.serve(*node, &request);
            let agent = &mut world.agents[*node];
            if let Some((id, _)) = agent.pending.iter().find(|(_, sent)| Arc::ptr_eq(sent, &request)) {
                agent.answers.push((*id, answer));
            }
        }
        Step::Answer { node, which } => {
            if world.agents[*node].answers.is_empty() {
                return;
            }
            let (request, outcome) = which.get(&world.agents[*node].answers).clone();
            world.ask_agent(*node, NodeCommand::Answered { request, outcome, jitter: 0 });
        }
        Step::TimeOut { node } => {
            let request = RequestId(world.agents[*node].bench.volatile.requests);
            let outcome = Err(Failure::Undecided { retry_after: None });
            world.ask_agent(*node, NodeCommand::Answered { request, outcome, jitter: 0 });
        }
        Step::RestartNode { node } => {
            let agent = &mut world.agents[*node];
            // Connections end with the process; what was sent may still arrive at the pool.
            (agent.pending, agent.answers, agent.asks) = Default::default();
            agent.bench.restart();
            world.start_agent(*node);
        }
        Step::RestartPool => {
            world.pool.restart();
            world.start_pool();
        }
        Step::Revoke { node, leg } => {
            let node = NodeName::new(NODES[*node]).expect("a name");
            world.ask_pool(Command::ForceRelease { node, leg: name(*leg) });
        }
        Step::Pass(span) => world.pass(Millis(*span)),
        Step::Sync { node } => {
            let agent = &world.agents[*node];
            let legs = agent.promised.iter().cloned().collect();
            let as_of = agent.bench.state.counters.revision;
            world.ask_agent(*node, NodeCommand::Sync { source: SourceId::default(), as_of, legs });
        }
    }
}

#[test]
fn a_leg_that_ended_before_its_node_heard_of_its_release_by_force_leaves_no_tombstone() {
    let (admit, revoke) = (
        Step::Admit { node: 0, call: 0, legs: vec![1], kind: 2, split: false, replaces: None, media: true },
        Step::Revoke { node: 0, leg: 1 },
    );
    let mut world = World::new();
    world.settle(0);
    carry_out(&mut world, &admit);
    world.settle(0);
    carry_out(&mut world, &revoke);
    assert_eq!(world.pool.state.tombstones.len(), 1);
    // The session that its node opens next agrees with the pool's books, which no longer have the leg.
    carry_out(&mut world, &Step::End { node: 0, leg: 1 });
    carry_out(&mut world, &Step::RestartNode { node: 0 });
    world.come_to_rest();
    assert!(world.pool.state.tombstones.is_empty(), "{:?}", world.pool.state.tombstones);
    // The id can be used again.
    carry_out(&mut world, &admit);
    world.settle(0);
    assert!(world.agents[0].promised.contains(&name(1)));
    world.check_rest();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pool_and_nodes_agree_at_rest_whatever_the_network_did(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        world.settle(0);
        world.settle(1);
        for step in &steps {
            carry_out(&mut world, step);
            world.check_promises();
        }
        world.come_to_rest();
        world.check_rest();
        world.check_promises();
        world.pool.restart();
        world.start_pool();
        world.come_to_rest();
        world.check_rest();
    }
}
