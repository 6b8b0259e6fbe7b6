//! A pool on a store, and clients of its own who ask it without a network.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use headroom_core::machine::Machine;
use headroom_core::{LegId, LegSet, Millis, NodeName};
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::{self, Handle, Options, recover};
use headroom_shared::convert::decode;
use headroom_simulator::dice::Dice;
use headroom_simulator::licenses::{document, fingerprint};
use headroom_tests::known::{Asked, Known};
use headroom_tests::peer::one_leg;
use headroom_tests::write_log::Marks;
use management_core::{
    BootId, CertificateHash, Change, Command, Installed, Mutation, Nonce, OpenRequest, PoolMachine, Reply,
    Request, Settings, Verdict,
};

use super::Shape;

const CLIENTS: usize = 4;
/// More than is ever asked for.
const CAPACITY: u32 = 1_000_000;

/// A node of the pool, in a session.
struct Client {
    pool: Handle<PoolMachine>,
    caller: CertificateHash,
    session: u64,
    mutations: u64,
    known: Known,
    dice: Dice,
    name: String,
}

impl Client {
    /// Enrols a node and opens its session.
    async fn enrol(pool: Handle<PoolMachine>, number: usize, name: String, marks: Option<Marks>) -> Self {
        let began = pool.view().position.sequence;
        let mut caller = [0; 32];
        caller[..8].copy_from_slice(&began.to_be_bytes());
        caller[8..16].copy_from_slice(&(number as u64).to_be_bytes());
        let caller = CertificateHash(caller);
        let node = NodeName::new(&format!("client-{began}-{number}")).expect("a name");
        submit(&pool, Command::AddNode { node, certificate: caller }).await;
        let request =
            OpenRequest { nonce: Nonce([7; 16]), predecessor: None, open_number: 1, legs: LegSet::default() };
        let (reply, _) = submit(&pool, Command::Open { caller, request }).await;
        let Reply::Opened(Ok(opened)) = reply else { panic!("no session: {reply:?}") };
        let known = Known::marked(marks);
        Self { pool, caller, session: opened.session, mutations: 0, known, dice: Dice::new(began), name }
    }

    /// Asks for something; the number of the record that the answer rests on.
    async fn ask(&mut self, at_once: usize) -> u64 {
        let asked = self.known.next(&mut self.dice, &self.name, at_once);
        self.send(&asked).await
    }

    /// Gives back all but a few.
    async fn give_back(&mut self, keep: usize) -> u64 {
        let asked = Asked::Ends(self.known.held.iter().skip(keep).cloned().collect());
        self.send(&asked).await
    }

    async fn send(&mut self, asked: &Asked) -> u64 {
        self.mutations += 1;
        let change = match asked {
            Asked::Calls(names) => {
                let call = |name: &String| decode::call(&one_leg(name)).expect("a call");
                Change::Allocate(names.iter().map(call).collect())
            }
            Asked::Ends(names) => {
                Change::Release(names.iter().map(|name| LegId::new(name).expect("a leg")).collect())
            }
        };
        let request = Request::Mutate { sequence: self.mutations, change };
        let speak = Command::Speak { caller: self.caller, generation: 0, session: self.session, request };
        let (reply, sequence) = submit(&self.pool, speak).await;
        let Reply::Mutated(Ok((mutation, _))) = reply else { panic!("no answer: {reply:?}") };
        let granted: BTreeSet<String> = match &*mutation {
            Mutation::Allocated(answers) => {
                let granted = answers.iter().filter(|answer| matches!(answer.verdict, Verdict::Granted(_)));
                granted.map(|answer| answer.call.to_string()).collect()
            }
            _ => BTreeSet::new(),
        };
        self.known.answered(asked, &granted, sequence);
        sequence
    }
}

async fn submit(pool: &Handle<PoolMachine>, command: Command) -> (Reply, u64) {
    let done = pool.submit(command).await.expect("an answer");
    (done.reply, done.position.sequence)
}

/// Starts the pool's machine as its service does, with a license.
async fn begin(pool: &Handle<PoolMachine>) {
    let start = Command::Start {
        settings: Settings::default(),
        fingerprint: fingerprint(),
        boot_id: BootId([1; 16]),
    };
    submit(pool, start).await;
    if pool.view().state.licenses.is_empty() {
        let license = Installed::from_file(document(CAPACITY, 0, None), Vec::new(), Millis(0));
        let (reply, _) = submit(pool, Command::InstallLicense(Box::new(license))).await;
        assert!(matches!(reply, Reply::Installed(Ok(()))), "{reply:?}");
    }
}

/// All clients ask at once, round after round; then the store is opened again.
pub(super) async fn work(shape: Shape, store: &Path, marks: &dyn Fn() -> Option<Marks>, rounds: usize) {
    let log = Arc::new(super::open(store).expect("a store"));
    let (pool, committer) =
        committer::start::<PoolMachine>(log, Arc::new(SystemClock), shape.options()).expect("it recovers");
    begin(&pool).await;
    let began = pool.view().position.sequence;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let name = shape.names(number, began);
        clients.push(Client::enrol(pool.clone(), number, name, marks()).await);
    }
    let asking = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            for _ in 0..rounds {
                client.ask(shape.at_once()).await;
            }
        })
    });
    for asking in asking.collect::<Vec<_>>() {
        asking.await.expect("a client");
    }
    let view = pool.view();
    drop(pool);
    committer.stop().await.expect("it ends well");
    let log = super::open(store).expect("the store again");
    let recovered = recover::<PoolMachine>(&log).expect("its state");
    assert_eq!(recovered.head.sequence, view.position.sequence);
    assert_eq!(recovered.state, view.state);
    assert!(PoolMachine::snapshot(&recovered.state).count() > 0);
}

/// A committer on a store, for a client of its own.
async fn with_client(store: &Path, options: Options, mut work: impl AsyncFnMut(&mut Client) -> u64) {
    let log = Arc::new(super::open(store).expect("a store"));
    let (pool, committer) =
        committer::start::<PoolMachine>(log, Arc::new(SystemClock), options).expect("it recovers");
    let began = pool.view().position.sequence;
    let mut client = Client::enrol(pool.clone(), 0, Shape::Rotations.names(0, began), None).await;
    let last = work(&mut client).await;
    assert_eq!(pool.view().position.sequence, last);
    drop((pool, client));
    committer.stop().await.expect("it ends well");
}

/// Asks until a store has so many bytes of records more, without a snapshot; a few legs stay.
pub(in crate::storage) async fn fill(store: &Path, bytes: u64) {
    let records = store.join("records");
    let size = || -> u64 {
        let files = std::fs::read_dir(&records).expect("the records").map(|entry| entry.expect("a file"));
        files.map(|file| file.metadata().expect("its size").len()).sum()
    };
    let until = size() + bytes;
    let never = Options { snapshot_after: u64::MAX, snapshot_bytes: u64::MAX, ..Options::default() };
    with_client(store, never, async |client| {
        while size() < until {
            client.ask(Shape::Rotations.at_once()).await;
        }
        client.give_back(4).await
    })
    .await;
}

/// Has a snapshot written.
pub(in crate::storage) async fn snapshot(store: &Path) {
    let at_once = Options { snapshot_after: 1, ..Options::default() };
    with_client(store, at_once, async |client| client.ask(1).await).await;
}
