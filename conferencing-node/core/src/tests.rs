//! The machine against a reference pool: the story step by step, then at random.

mod budget;
mod fair;
mod feeds;
mod history;
mod lists;
mod pool;
mod random;
mod refusal;
mod revoked;
mod running;
mod story;
mod unlike;

use headroom_core::call::{CallInfo, Leg};
use headroom_core::machine::Bench;
use headroom_core::{Call, CallId, Direction, LegId, Media, Millis, Now, Protocol, Service, SourceId, Text};

use crate::{AskId, BootId, Command, Decision, Next, Node, Nonce, Options, Outcome, Reply};
use pool::Pool;

fn leg_id(name: &str) -> LegId {
    LegId::new(name).expect("a leg id")
}

fn call_id(name: &str) -> CallId {
    CallId::new(name).expect("a call id")
}

fn leg(name: &str) -> Leg {
    Leg {
        leg: leg_id(name),
        participant: Text::default(),
        protocol: Protocol::Sip,
        direction: Direction::In,
        media: Media::AUDIO_VIDEO,
        owner: None,
        replaces: None,
        subjects: Vec::new(),
        needs: Vec::new(),
    }
}

fn call(name: &str, legs: &[&str]) -> Call {
    let info = CallInfo {
        call: call_id(name),
        service: Service::Vmr,
        interop: None,
        conference: Text::default(),
        destination: Text::default(),
        tenant: Text::default(),
        source: SourceId::default(),
    };
    Call { info, legs: legs.iter().map(|name| leg(name)).collect() }
}

/// A node on the bench with a clock, beside a pool.
struct Rig {
    bench: Bench<Node>,
    pool: Pool,
    now: Now,
    asks: u64,
    processes: u8,
    /// Whether requests reach the pool.
    connected: bool,
    answers: Vec<(AskId, Outcome)>,
}

impl Rig {
    fn new(capacity: u32) -> Self {
        let mut rig = Self {
            bench: Bench::default(),
            pool: Pool::new(capacity),
            now: Now { wall: Millis(1_700_000_000_000), boot: Millis(1_000_000) },
            asks: 0,
            processes: 0,
            connected: true,
            answers: Vec::new(),
        };
        rig.start();
        rig
    }

    fn start(&mut self) {
        self.processes += 1;
        let started = Command::Started {
            nonce: Nonce([self.processes; 16]),
            boot_id: BootId([1; 16]),
            node: None,
            synchronized: true,
            options: Options::default(),
        };
        self.run(started);
    }

    fn restart(&mut self) {
        self.bench.restart();
        self.start();
    }

    fn run(&mut self, command: Command) -> Reply {
        let reply = self.bench.run(self.now, command);
        match &reply {
            Reply::Uplink { outcomes, .. } | Reply::Outcomes(outcomes) | Reply::Ended { outcomes, .. } => {
                self.answers.extend(outcomes.clone());
            }
            _ => {}
        }
        reply
    }

    fn pass(&mut self, span: Millis) {
        self.now.wall = self.now.wall.plus(span);
        self.now.boot = self.now.boot.plus(span);
    }

    /// Lets time pass while the node runs.
    fn tick(&mut self, span: Millis) {
        let end = self.now.boot.plus(span);
        while self.now.boot < end {
            self.pass(Millis(5_000).min(end.since(self.now.boot)));
            self.run(Command::Tick { synchronized: true });
        }
    }

    /// Lets the uplink run until it has nothing to say.
    fn settle(&mut self) {
        let mut reply = self.run(Command::Poll);
        for _ in 0..200 {
            let Reply::Uplink { next: Next::Send { id, request, .. }, .. } = reply else { return };
            let outcome = if self.connected {
                self.pool.serve(&request)
            } else {
                Err(crate::Failure::Undecided { retry_after: None })
            };
            reply = self.run(Command::Answered { request: id, outcome, jitter: 500 });
        }
        panic!("the uplink does not come to rest");
    }

    /// Asks, lets the pool answer, and expires the question if it does not.
    fn admit(&mut self, call: Call) -> Decision {
        self.asks += 1;
        let ask = AskId(self.asks);
        let legs: Vec<_> = call.legs.iter().map(|leg| leg.leg.clone()).collect();
        let decision = match self.run(Command::Admit { ask, call }) {
            Reply::Decided(decision) => decision,
            Reply::Waiting { .. } => {
                self.settle();
                self.run(Command::Expire { asks: vec![ask] });
                let at = self.answers.iter().position(|(id, _)| *id == ask).expect("an answer");
                match self.answers.remove(at).1 {
                    Outcome::Call(decision) => decision,
                    Outcome::Leg(_) => panic!("an answer about a leg"),
                }
            }
            other => panic!("{other:?}"),
        };
        self.settle();
        if matches!(decision, Decision::Granted(_)) {
            self.run(Command::Delivered { legs });
        }
        decision
    }

    fn end(&mut self, legs: &[&str]) {
        self.run(Command::EndLegs { legs: legs.iter().map(|name| leg_id(name)).collect() });
        self.settle();
    }

    /// The books of both sides agree, and what is kept incrementally is right.
    fn check_rest(&self) {
        let state = &self.bench.state;
        let running: Vec<_> = state
            .legs
            .values()
            .filter(|r| !r.revoked)
            .map(|r| (r.id().clone(), (r.call().clone(), r.running.charge.clone())))
            .collect();
        let held: Vec<_> = self.pool.held.clone().into_iter().collect();
        assert_eq!(running, held, "legs that run and leases held");
        assert!(state.unsettled.is_empty(), "unsettled: {:?}", state.unsettled);
        assert!(state.ending.is_empty(), "outbox: {:?}", state.ending);
        assert_eq!(state.held_set, self.pool.set());
        assert_eq!(state.held_set, state.running_set);
        assert!(self.pool.tombstones.keys().eq(&state.revoked), "{:?}", self.pool.tombstones);
    }

    /// A snapshot rebuilds the state.
    fn check_snapshot(&self) {
        let mut rebuilt = crate::State::default();
        for event in self.bench.state.snapshot() {
            rebuilt.apply(&event);
        }
        assert!(rebuilt == self.bench.state, "a snapshot rebuilds the state");
    }
}
