//! More than a pool can do at once: what is refused is told so and not decided, and it keeps nobody from
//! giving back what ended. How much a pool bears, and how soon it is well again, `tests/bench overload` tells.

use std::sync::Arc;
use std::time::Duration;

use headroom_core::time::Clock;
use headroom_core::{LegId, LegSet, NodeName};
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::{self, Done, Handle, Options, SubmitError};
use headroom_shared::convert::decode;
use headroom_shared::faulty_log::FaultyLog;
use headroom_shared::memory_log::MemoryLog;
use headroom_simulator::licenses;
use headroom_tests::peer::{one_leg, running};
use management_core::{
    BootId, CertificateHash, Change, Command, Heartbeat, Nonce, OpenRequest, PoolMachine, Reply, Request,
    Settings,
};
use tokio::task::JoinHandle;

/// Longer than this test takes: only the length of the queue is to refuse anything.
const LIMIT: Duration = Duration::from_secs(600);

type Asked = JoinHandle<Result<Done<Reply>, SubmitError>>;

/// A node that enrolled and opened a session.
#[derive(Clone)]
struct Node {
    pool: Handle<PoolMachine>,
    caller: CertificateHash,
    session: u64,
}

impl Node {
    async fn open(pool: &Handle<PoolMachine>, number: u8) -> Self {
        let caller = CertificateHash([number; 32]);
        let node = NodeName::new(&format!("node-{number}")).expect("a name");
        pool.submit(Command::AddNode { node, certificate: caller }).await.expect("it is enrolled");
        let request = OpenRequest {
            nonce: Nonce([number; 16]),
            predecessor: None,
            open_number: 1,
            legs: LegSet::default(),
        };
        let opened = pool.submit(Command::Open { caller, request }).await.expect("a session").reply;
        let Reply::Opened(Ok(opened)) = opened else { panic!("{opened:?}") };
        Self { pool: pool.clone(), caller, session: opened.session }
    }

    /// Says something as the lease contract's service has it said, and waits for the answer elsewhere.
    fn say(&self, request: Request) -> Asked {
        let Self { pool, caller, session } = self.clone();
        let command = Command::Speak { caller, generation: 0, session, request };
        tokio::spawn(async move { pool.submit_within(command, LIMIT).await })
    }

    fn change(&self, sequence: u64, change: Change) -> Asked {
        self.say(Request::Mutate { sequence, change })
    }

    fn ask(&self, sequence: u64) -> Asked {
        let name = format!("call-{}-{sequence}", self.session);
        self.change(sequence, Change::Allocate(vec![decode::call(&one_leg(&name)).expect("a call")]))
    }
}

/// Lets every other task run until it waits: here is one thread, and the tasks take turns.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_queue_full_of_questions_refuses_the_next_one_and_takes_and_answers_ends_and_signs_of_life_first() {
    let log = Arc::new(FaultyLog::new(Arc::new(MemoryLog::new(7))));
    let options = Options { queue_limit: 256, batch_commands: 64, ..Options::default() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (pool, committer) =
        committer::start::<PoolMachine>(Arc::clone(&log) as _, clock, options.clone()).expect("a pool");
    let fingerprint = licenses::fingerprint();
    let start = Command::Start { settings: Settings::default(), fingerprint, boot_id: BootId([1; 16]) };
    pool.submit(start).await.expect("it starts");
    let (many, one) = (Node::open(&pool, 1).await, Node::open(&pool, 2).await);
    let leg = decode::running_leg(&running("held", 1)).expect("a leg");
    one.change(1, Change::Adopt(vec![leg])).await.expect("a task").expect("it is recorded");
    assert_eq!(pool.view().state.leases.len(), 1);

    // The disk does nothing: one record is under way, the next batch is full, and the queue too.
    log.stall();
    let mut asked = vec![many.ask(1)];
    log.held().await;
    for sequence in 2..2 + options.batch_commands as u64 {
        asked.push(many.ask(sequence));
    }
    settle().await;
    assert_eq!(pool.waiting(), 0);
    let first = 2 + options.batch_commands as u64;
    for sequence in first..first + options.queue_limit as u64 {
        asked.push(many.ask(sequence));
    }
    settle().await;
    assert_eq!(pool.waiting(), options.queue_limit);
    let refused = many.ask(1000).await.expect("a task").expect_err("too many wait");
    assert!(matches!(refused, SubmitError::Overloaded { waiting: 256, limit: 256, .. }), "{refused}");
    assert_eq!(pool.refused().overloaded, 1);

    let end = one.change(2, Change::Release(vec![LegId::new("held").expect("a leg")]));
    let quiet =
        Heartbeat { sequence: 0, legs: LegSet::default(), told: Vec::new(), past: Vec::new(), optimistic: 0 };
    let beat = one.say(Request::Heartbeat(quiet));
    settle().await;
    assert_eq!(pool.waiting(), options.queue_limit + 2);
    log.resume();
    let end = end.await.expect("a task").expect("an end is taken");
    assert!(matches!(end.reply, Reply::Mutated(Ok(_))), "{:?}", end.reply);
    let beat = beat.await.expect("a task").expect("a sign of life is taken");
    assert!(matches!(beat.reply, Reply::Beat(Ok(_))), "{:?}", beat.reply);
    let mut last = 0;
    for asked in asked {
        last = asked.await.expect("a task").expect("what was taken is answered").position.sequence;
    }
    // The first batch that had room for them, and several batches before the last of the questions.
    assert_eq!(end.position.sequence, beat.position.sequence);
    assert!(end.position.sequence + 3 <= last, "{} of {last}", end.position.sequence);
    assert!(pool.view().state.leases.is_empty());
    committer.stop().await.expect("it ends well");
}
