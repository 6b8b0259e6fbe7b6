//! What is known to be true, and the promises that are checked against it after every step.
//!
//! | promise | what it says | where it is checked |
//! | --- | --- | --- |
//! | I1 | a grant of more than 0 units commits only within capacity and overdraft | each command of the pool |
//! | I2 | use is above the limit only with a recorded cause | each command of the pool |
//! | I3 | what was acknowledged survives a crash | each start of a process, each answer that a node has |
//! | I4 | the same request twice: the same answer, one effect | each numbered request |
//! | I5 | an explicit release is final | each lease that is granted, each leg that begins |
//! | I6 | a fenced session changes nothing | each request in a session |
//! | I7 | reconciliation never cuts a running call | each leg that a node ends |
//! | I8 | out of contact beyond the grace every new call is refused | each grant that a node makes alone |
//! | I9 | faults over: the books agree within a bounded time | each heartbeat, each tick of a node, after the last fault |
//! | I10 | entitlement = valid activations − returns, each once | each answer of the licensing machine and in the pool, after the last fault |
//! | I11 | recovery is exact or refuses | each start of a process |
//! | I12 | a grant or contact answer proves a commit made after its request | each answer of the pool, each contact of a node |
//! | I13 | no answer precedes the records it saw | each answer of any process |
//! | I14 | a leg that runs is leased, or queued to be adopted | each command of a node |
//! | I15 | the age of grace errs by no more than what cannot be measured, and never upwards | each command of a node |
//! | I16 | a clone never lowers the units in use | each command of the pool |

mod node;
mod pool;
mod recovery;
mod rest;
mod vendor;

use std::collections::{BTreeMap, BTreeSet};

use conferencing_core::{Grace, RequestId};
use headroom_core::{Charge, LegId, Millis, Shared};
use management_core::{HolderId, LeaseKey, Mutation};

use crate::host::Host;
use crate::world::World;

pub use node::NodeStep;
pub use pool::PoolStep;

/// A promise that was not kept, and how.
pub type Broken = (&'static str, String);

/// The id of a leg that has ended is dead for a minute: almost so long, by when the node had answered.
const DEAD_FOR: Millis = Millis(50_000);

/// What is known to be true.
#[derive(Default)]
pub struct Oracle {
    /// Of each node's legs.
    nodes: BTreeMap<usize, NodeTruth>,
    /// The leases, by what the pool said happened.
    books: BTreeMap<LeaseKey, Charge>,
    /// Each holder's session.
    sessions: BTreeMap<HolderId, u64>,
    /// The last numbered answer of a session.
    answers: BTreeMap<u64, (u64, Shared<Mutation>)>,
    /// Leases released by their node; with the time when its media server had said so, if it had.
    released: BTreeMap<LeaseKey, Option<Millis>>,
    /// Commands since the books were added up.
    since_sum: u64,
    /// The store was reverted: a difference between books can be its fault.
    pub reverted: bool,
}

/// What is true of a node.
#[derive(Default)]
struct NodeTruth {
    /// When each leg was last asked for.
    asked: BTreeMap<LegId, Millis>,
    /// When each leg was over.
    over: BTreeMap<LegId, Millis>,
    /// When the node had heard of it.
    heard: BTreeMap<LegId, Millis>,
    /// Legs that another was to take over from.
    replaced: BTreeMap<LegId, Millis>,
    /// The process that granted a leg last.
    granted: BTreeMap<LegId, u64>,
    /// The process that heard a leg's name last.
    named: BTreeMap<LegId, u64>,
    /// Requests of the process whose answers prove a commit.
    proofs: BTreeSet<RequestId>,
    /// When contact was last had.
    contact: Option<Millis>,
    /// The contact that was last had and durably noted.
    noted: Option<Contact>,
    /// Contacts that may not be durable yet.
    noting: Vec<Contact>,
    /// Time since the last contact that no clock of the machine has seen: it was off, or stood still.
    unseen: Millis,
    /// ... of which its clocks stood still, and not even a right wall clock can tell.
    stood_still: Millis,
    /// Contact was last had with a right wall clock, and no wrong one was shown to the machine since: the time that
    /// it was off can be measured.
    measured: bool,
    /// No wall clock was known since one was synchronized, so that one that may be right has to be believed.
    unknown: bool,
    /// Time by which wall clocks that ran ahead, or had to be believed, can have lengthened the age so far.
    misled: Millis,
}

/// Contact with the pool.
#[derive(Clone, Copy)]
struct Contact {
    /// As the node notes it.
    grace: Grace,
    /// When it was.
    at: Millis,
    /// How far behind the wall clock can be that time off is measured from.
    behind: Millis,
    /// What could have lengthened ages until then.
    misled: Millis,
}

impl World {
    /// Whether a question may be one that came a second time, when the id was no longer dead.
    fn may_be_late(&self, heard: Millis) -> bool {
        self.plan.unruly() && self.time.since(heard) >= DEAD_FOR
    }
}

impl Oracle {
    fn node(&mut self, at: usize) -> &mut NodeTruth {
        self.nodes.entry(at).or_default()
    }

    /// A media server asks for a leg.
    pub fn asked(&mut self, at: usize, leg: &LegId, replaces: Option<&LegId>, time: Millis) {
        let node = self.node(at);
        node.asked.insert(leg.clone(), time);
        if let Some(old) = replaces {
            node.replaced.insert(old.clone(), time);
        }
    }

    /// A leg is over at its media server.
    pub fn over(&mut self, at: usize, leg: &LegId, time: Millis) {
        self.node(at).over.insert(leg.clone(), time);
    }

    /// The node has answered that it knows of a leg's end.
    pub fn end_heard(&mut self, at: usize, leg: &LegId, time: Millis) {
        self.node(at).heard.insert(leg.clone(), time);
    }

    /// Whether a leg is over that was asked for then.
    #[must_use]
    pub fn is_over(&self, at: usize, leg: &LegId, asked: Millis) -> bool {
        self.nodes.get(&at).and_then(|node| node.over.get(leg)).is_some_and(|over| *over >= asked)
    }

    /// What an answer that arrives at a node proves.
    pub fn proved(&mut self, at: usize, request: RequestId, proves: bool) {
        let proofs = &mut self.node(at).proofs;
        if proves {
            proofs.insert(request)
        } else {
            proofs.remove(&request)
        };
    }

    /// A machine was off or stood still; what passed since its clocks were saved last is lost too.
    pub fn unseen(&mut self, at: usize, span: Millis) {
        let node = self.node(at);
        node.unseen = node.unseen.plus(span).plus(Millis::MINUTE);
    }

    /// A machine's clocks stood still.
    pub fn stood_still(&mut self, at: usize, span: Millis) {
        self.unseen(at, span);
        let node = self.node(at);
        node.stood_still = node.stood_still.plus(span);
    }

    /// A node's clock can lengthen the age by so much more.
    pub fn misled(&mut self, at: usize, by: Millis) {
        let node = self.node(at);
        node.misled = node.misled.plus(by);
    }

    /// A machine has a wrong clock from now on, so far ahead.
    pub fn wrong_clock(&mut self, at: usize, ahead: Millis) {
        self.misled(at, ahead);
        self.node(at).measured = false;
    }

    /// How far behind the truth a node's wall clock can be that it has to believe.
    #[must_use]
    pub fn behind(&self, at: usize, host: &Host, time: Millis) -> Millis {
        host.behind(time, self.nodes.get(&at).is_some_and(|truth| truth.unknown))
    }

    /// A node's journal is gone, and with it all that it knew.
    pub fn journal_lost(&mut self, at: usize) {
        self.nodes.remove(&at);
    }

    /// A process of the pool begins.
    pub fn pool_began(&mut self) {
        self.books.clear();
        self.sessions.clear();
        self.answers.clear();
    }
}
