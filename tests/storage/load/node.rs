//! A conferencing node on a store, with a pool in memory that answers it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use conferencing_core::{
    AskId, BootId, Command, Decision, Next, Node, Nonce, Options, Outcome, Reply, RequestId,
};
use headroom_core::machine::Bench;
use headroom_core::time::Clock as _;
use headroom_core::{LegId, Millis, NodeName, Position};
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::{self, Handle, recover};
use headroom_shared::convert::decode;
use headroom_simulator::dice::Dice;
use headroom_simulator::licenses::{document, fingerprint};
use headroom_simulator::wire;
use headroom_tests::known::{Asked, Known};
use headroom_tests::peer::one_leg;
use headroom_tests::write_log::Marks;
use management_core::{self as pool, CertificateHash, PoolMachine};

use super::Shape;

const NODE: &str = "node";
const CALLER: CertificateHash = CertificateHash([1; 32]);
const CAPACITY: u32 = 1_000_000;

/// A node whose journal is on a store, and the pool behind it.
struct Served {
    node: Handle<Node>,
    pool: Bench<PoolMachine>,
    known: Known,
    dice: Dice,
    name: String,
    asks: u64,
    /// What was decided, and the record that this rests on.
    decided: BTreeMap<AskId, (Decision, u64)>,
}

impl Served {
    async fn begin(node: Handle<Node>, name: String, marks: Option<Marks>) -> Self {
        let began = node.view().position.sequence;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&began.to_be_bytes());
        let started = Command::Started {
            nonce: Nonce(nonce),
            boot_id: BootId([1; 16]),
            node: Some(NodeName::new(NODE).expect("a name")),
            synchronized: true,
            options: Options::default(),
        };
        node.submit(started).await.expect("it begins");
        let known = Known::marked(marks);
        let (pool, decided) = (Bench::default(), BTreeMap::new());
        let mut served = Self { node, pool, known, dice: Dice::new(began), name, asks: 0, decided };
        let settings = pool::Settings::default();
        let boot_id = pool::BootId([1; 16]);
        served.ask_pool(pool::Command::Start { settings, fingerprint: fingerprint(), boot_id });
        let license = pool::Installed::from_file(document(CAPACITY, 0, None), Vec::new(), Millis(0));
        served.ask_pool(pool::Command::InstallLicense(Box::new(license)));
        let node = NodeName::new(NODE).expect("a name");
        served.ask_pool(pool::Command::AddNode { node, certificate: CALLER });
        served.talk().await;
        served
    }

    fn ask_pool(&mut self, command: pool::Command) -> pool::Reply {
        self.pool.run(SystemClock.now(), command)
    }

    async fn submit(&mut self, command: Command) -> (Reply, u64) {
        let done = self.node.submit(command).await.expect("an answer");
        let sequence = done.position.sequence;
        if let Reply::Uplink { outcomes, .. } | Reply::Outcomes(outcomes) | Reply::Ended { outcomes, .. } =
            &done.reply
        {
            for (ask, outcome) in outcomes {
                if let Outcome::Call(decision) = outcome {
                    self.decided.insert(*ask, (decision.clone(), sequence));
                }
            }
        }
        (done.reply, sequence)
    }

    /// Lets the node talk to the pool until it has nothing to say.
    async fn talk(&mut self) {
        let mut command = Command::Poll;
        while let (Reply::Uplink { next: Next::Send { id, request, .. }, .. }, _) = self.submit(command).await
        {
            command = self.answer(id, &request);
        }
    }

    fn answer(&mut self, request: RequestId, asked: &conferencing_core::Request) -> Command {
        let reply = self.ask_pool(wire::command(CALLER, asked));
        let position = Position { generation: 7, sequence: self.pool.events.len() as u64 };
        Command::Answered { request, outcome: wire::response(reply, position, Millis(0)), jitter: 0 }
    }

    /// Asks for calls, or ends some; each is answered on its own.
    async fn ask(&mut self, at_once: usize) {
        let asked = self.known.next(&mut self.dice, &self.name, at_once);
        match &asked {
            Asked::Calls(names) => self.admit(names).await,
            Asked::Ends(names) => {
                let legs = names.iter().map(|name| LegId::new(name).expect("a leg")).collect();
                let (_, sequence) = self.submit(Command::EndLegs { legs }).await;
                self.known.answered(&asked, &BTreeSet::new(), sequence);
                self.talk().await;
            }
        }
    }

    async fn admit(&mut self, names: &[String]) {
        let mut asks = Vec::new();
        for name in names {
            self.asks += 1;
            let ask = AskId(self.asks);
            let call = decode::call(&one_leg(name)).expect("a call");
            if let (Reply::Decided(decision), sequence) = self.submit(Command::Admit { ask, call }).await {
                self.decided.insert(ask, (decision, sequence));
            }
            asks.push((ask, name));
        }
        self.talk().await;
        let (mut granted, mut last) = (BTreeSet::new(), 0);
        for (ask, name) in asks {
            let (decision, sequence) = self.decided.remove(&ask).expect("a decision");
            assert!(matches!(decision, Decision::Granted(_)), "{name}: {decision:?}");
            granted.insert(name.clone());
            last = last.max(sequence);
        }
        self.known.answered(&Asked::Calls(names.to_vec()), &granted, last);
        let legs = granted.iter().map(|name| LegId::new(name).expect("a leg")).collect();
        self.submit(Command::Delivered { legs }).await;
    }
}

/// Asks round after round; then the store is opened again.
pub(super) async fn work(shape: Shape, store: &Path, marks: &dyn Fn() -> Option<Marks>, rounds: usize) {
    let log = Arc::new(super::open(store).expect("a store"));
    let (node, committer) =
        committer::start::<Node>(log, Arc::new(SystemClock), shape.options()).expect("it recovers");
    let began = node.view().position.sequence;
    let mut served = Served::begin(node.clone(), shape.names(0, began), marks()).await;
    for _ in 0..rounds {
        served.ask(shape.at_once()).await;
    }
    let view = node.view();
    drop((node, served));
    committer.stop().await.expect("it ends well");
    let log = super::open(store).expect("the store again");
    let recovered = recover::<Node>(&log).expect("its state");
    assert_eq!(recovered.head.sequence, view.position.sequence);
    assert_eq!(recovered.state, view.state);
}
