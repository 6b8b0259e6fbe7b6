//! The configurations that are explored: how many licenses, which legs, and what may go wrong.

use crate::state::{Chances, Legs};

/// A configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// Units that the licenses permit at first: one a license.
    pub capacity: u8,
    /// The legs that can be asked for.
    pub legs: Legs,
    /// What may go wrong.
    pub chances: Chances,
    /// States that differ only by the names of the first node's legs count as one.
    pub symmetric: bool,
}

impl Case {
    /// Two licenses and three legs, with nothing but the network against them.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let legs = Legs::which(|_| true);
        Self { name, capacity: 2, legs, chances: Chances::default(), symmetric: true }
    }

    /// Two licenses, three legs and two nodes, and one kill at most: what is explored to the end.
    #[must_use]
    pub fn full() -> Vec<Self> {
        let none = Chances::default();
        let case = |name, chances| Self { chances, ..Self::new(name) };
        vec![
            case("sessions end", Chances { sessions: 3, ..none }),
            case("licenses and force", Chances { sessions: 2, licenses: 1, force: 1, ..none }),
            case("pool killed", Chances { sessions: 2, licenses: 1, pool_kills: 1, ..none }),
            case("pool killed, force", Chances { sessions: 1, licenses: 1, force: 1, pool_kills: 1, ..none }),
            case("node killed", Chances { sessions: 1, licenses: 1, node_kills: 1, ..none }),
            case("node killed, force", Chances { licenses: 1, force: 1, node_kills: 1, ..none }),
        ]
    }

    /// What takes minutes and gigabytes: a node is killed while all else goes wrong once.
    #[must_use]
    pub fn long() -> Vec<Self> {
        let chances = Chances { sessions: 1, licenses: 1, force: 1, node_kills: 1, pool_kills: 0 };
        vec![Self { chances, ..Self::new("node killed, all else") }]
    }

    /// One leg a node: all that may go wrong does once, with a kill of the pool or of a node.
    #[must_use]
    pub fn small() -> Vec<Self> {
        let all = Chances { sessions: 1, licenses: 1, force: 1, ..Chances::default() };
        let legs = Legs::one(0).and(Legs::one(2));
        let case = |name, chances| Self { chances, legs, symmetric: false, ..Self::new(name) };
        vec![
            case("small, pool killed", Chances { pool_kills: 1, ..all }),
            case("small, node killed", Chances { node_kills: 1, ..all }),
        ]
    }
}
