//! What a state of the model is made of: three legs, two nodes, the pool, and the network between them.

use std::fmt;

use crate::message::{Message, Reply, Request, Verdict};

/// How many nodes there are.
pub const NODES: usize = 2;
/// How many legs there are in all.
pub const LEGS: usize = 3;

/// The node that a leg belongs to: the first node has two legs, the second has one.
#[must_use]
pub const fn node_of(leg: usize) -> usize {
    leg / 2
}

/// A set of legs.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Legs(u8);

impl Legs {
    /// The legs that fulfil a condition.
    pub fn which(condition: impl Fn(usize) -> bool) -> Self {
        Self((0..LEGS).filter(|leg| condition(*leg)).fold(0, |bits, leg| bits | 1 << leg))
    }

    /// One leg.
    #[must_use]
    pub const fn one(leg: usize) -> Self {
        Self(1 << leg)
    }

    /// The legs of a node.
    #[must_use]
    pub fn of(node: usize) -> Self {
        Self::which(|leg| node_of(leg) == node)
    }

    /// Whether a leg is among them.
    #[must_use]
    pub const fn has(self, leg: usize) -> bool {
        self.0 >> leg & 1 == 1
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, those: Self) -> Self {
        Self(self.0 | those.0)
    }

    /// These that are not among those.
    #[must_use]
    pub const fn but(self, those: Self) -> Self {
        Self(self.0 & !those.0)
    }

    /// These that are among those.
    #[must_use]
    pub const fn among(self, those: Self) -> Self {
        Self(self.0 & those.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn none(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = usize> {
        (0..LEGS).filter(move |leg| self.has(*leg))
    }

    /// The same with the first node's two legs exchanged.
    #[must_use]
    pub const fn exchanged(self) -> Self {
        Self(self.0 & !3 | self.0 >> 1 & 1 | (self.0 & 1) << 1)
    }
}

impl fmt::Debug for Legs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.each()).finish()
    }
}

/// A leg in its node's books.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    /// Nobody has asked for it.
    #[default]
    New,
    /// Its media server waits for a decision.
    Asking,
    /// It runs; the pool is believed to hold a lease for it, or the node has yet to have it adopted.
    Running {
        /// The pool is believed to hold its lease.
        held: bool,
    },
    /// It runs although an administrator has taken its lease back.
    Revoked,
    /// It has ended, and the pool is to hear of that.
    Ending {
        /// The pool is believed to hold its lease.
        held: bool,
    },
    /// It has ended or was denied, and something that is under way may yet give it a lease.
    Ended,
    /// It is over, and nothing is under way that could give it a lease.
    Released,
}

impl Leg {
    /// Whether it runs and may go on.
    #[must_use]
    pub const fn runs(self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// Whether the pool is believed to hold its lease.
    #[must_use]
    pub const fn held(self) -> bool {
        matches!(self, Self::Running { held: true } | Self::Ending { held: true })
    }
}

/// A session as the pool knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Session {
    /// It has lapsed.
    Lapsed,
    /// The node is to say which legs it runs.
    Reporting {
        /// The chunk that is due.
        next: u8,
        /// The legs named so far.
        legs: Legs,
    },
    /// Mutations are taken.
    Active,
}

/// What the pool knows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Number of its highest opening, which names the session.
    pub open: u8,
    /// The session.
    pub session: Session,
    /// Number of the last mutation.
    pub sequence: u8,
    /// What became of it.
    pub last: Option<Verdict>,
    /// Its legs that hold a lease.
    pub held: Legs,
    /// Its legs whose lease an administrator took back, until they are known to have ended.
    pub buried: Legs,
}

/// The pool's books, one holder a node.
pub type Books = [Holder; NODES];

/// The pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pool {
    /// Units that the licenses permit.
    pub capacity: u8,
    /// The books with all that was decided.
    pub books: Books,
    /// What a restart finds, when that is less.
    pub durable: Option<Books>,
    /// Replies that wait until what they say is durable.
    pub unsent: Vec<Reply>,
}

impl Pool {
    /// What a restart would find.
    #[must_use]
    pub fn on_disk(&self) -> &Books {
        self.durable.as_ref().unwrap_or(&self.books)
    }

    /// Units in use.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.books.iter().map(|holder| holder.held.count()).sum()
    }
}

/// A node's side of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// A session is asked for.
    Opening,
    /// The pool is being told which legs run.
    Reporting {
        /// The legs that ran when the report began.
        snapshot: Legs,
        /// Those the pool has taken.
        taken: Legs,
        /// Those the pool wants ended.
        revoked: Legs,
    },
    /// Mutations are sent.
    Active {
        /// Number of the last one that was answered.
        sequence: u8,
    },
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Number of its last opening, which names its session; durable.
    pub open: u8,
    /// The session.
    pub phase: Phase,
    /// The one request that is under way, repeated as it is until it is answered.
    pub flight: Option<Request>,
    /// Legs that the pool wants ended and that do not run here.
    pub unknown: Legs,
    /// What a restart finds of its legs, when that is not what is decided.
    pub journal: Option<[Leg; LEGS]>,
}

/// Misfortunes that may still happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chances {
    /// A node gives up its session, or the pool has one lapse.
    pub sessions: u8,
    /// A license expires or is returned.
    pub licenses: u8,
    /// An administrator takes a lease back by force.
    pub force: u8,
    /// The pool's process is killed and starts again.
    pub pool_kills: u8,
    /// A node's process is killed and starts again.
    pub node_kills: u8,
}

/// A promise that a single step can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breach {
    /// More was granted than the licenses permit.
    AboveLimit,
    /// A session that was over changed something.
    Fence,
    /// A mutation was carried out twice.
    CarriedOutTwice,
    /// A retry was answered otherwise.
    AnsweredOtherwise,
    /// A report took the lease of a leg that runs.
    Cut,
}

/// All there is, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The legs, in their nodes' books.
    pub legs: [Leg; LEGS],
    /// The legs that truly run: their media servers were told that they may and have not ended them.
    pub talking: Legs,
    /// The nodes.
    pub nodes: [Node; NODES],
    /// The pool.
    pub pool: Pool,
    /// What was sent and can arrive at any time, any number of times, or never; in order.
    pub network: Vec<Message>,
    /// Misfortunes left.
    pub chances: Chances,
    /// A promise that was broken by the step that led here.
    pub breach: Option<Breach>,
}

impl State {
    /// Puts a message into the network.
    pub fn send(&mut self, message: Message) {
        if let Err(place) = self.network.binary_search(&message) {
            self.network.insert(place, message);
        }
    }

    /// The legs of a node that are in a certain state.
    pub fn legs_of(&self, node: usize, condition: impl Fn(Leg) -> bool) -> Legs {
        Legs::which(|leg| node_of(leg) == node && condition(self.legs[leg]))
    }

    /// Whether a node's session is the one that the pool keeps with it, as far as is durable there.
    #[must_use]
    pub fn session_is_kept(&self, node: usize) -> bool {
        let holder = &self.pool.on_disk()[node];
        holder.open == self.nodes[node].open && holder.session != Session::Lapsed
    }

    /// The number of the last answered mutation, if both sides hold the node's session active.
    #[must_use]
    pub fn shared(&self, node: usize) -> Option<u8> {
        let holder = &self.pool.books[node];
        match self.nodes[node].phase {
            Phase::Active { sequence }
                if holder.open == self.nodes[node].open && holder.session == Session::Active =>
            {
                Some(sequence)
            }
            _ => None,
        }
    }

    /// Whether nothing is left to do: both sessions are active, and nobody waits for anything.
    #[must_use]
    pub fn rests(&self) -> bool {
        let settled = |leg| matches!(leg, Leg::New | Leg::Released | Leg::Running { held: true });
        self.pool.durable.is_none()
            && self.legs.iter().all(|leg| settled(*leg))
            && Legs::which(|leg| self.legs[leg].runs()).but(self.talking).none()
            && (0..NODES).all(|node| {
                let (holder, n) = (&self.pool.books[node], &self.nodes[node]);
                self.shared(node).is_some()
                    && n.flight.is_none()
                    && n.journal.is_none()
                    && n.unknown.none()
                    && holder.buried.none()
            })
    }
}
