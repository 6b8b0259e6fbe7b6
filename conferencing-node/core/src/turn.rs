//! Whose turn it is on the one request in flight.
//!
//! What settles the books and what somebody waits for alternate, and the kinds of each take turns.
//! By urgency alone, whatever arrives fast enough would keep all the rest waiting: a steady stream of
//! ends would leave every call to the node's own decision.

use crate::volatile::Kind;

/// Something that mutations are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Legs that ended.
    Release,
    /// Legs that run and are not held as they run.
    Adopt,
    /// Legs that need less than they hold.
    Decrease,
    /// Questions about legs' media.
    Change,
    /// Questions about calls.
    Allocate,
}

const SETTLE: [Turn; 3] = [Turn::Release, Turn::Adopt, Turn::Decrease];
const ASK: [Turn; 2] = [Turn::Change, Turn::Allocate];

impl Turn {
    /// The kind of request that it takes.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Release => Kind::Release,
            Self::Adopt => Kind::Adopt,
            Self::Decrease | Self::Change => Kind::Update,
            Self::Allocate => Kind::Allocate,
        }
    }
}

/// Who was served last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turns {
    /// Questions come before what settles the books.
    ask_first: bool,
    /// Where to begin among what settles the books.
    settle: usize,
    /// Where to begin among questions.
    ask: usize,
}

impl Turns {
    /// Everything, in the order in which it is to be tried.
    pub fn order(self) -> impl Iterator<Item = Turn> {
        let settle = SETTLE.into_iter().cycle().skip(self.settle).take(SETTLE.len());
        let ask = ASK.into_iter().cycle().skip(self.ask).take(ASK.len());
        let (first, last) = if self.ask_first { (None, Some(settle.clone())) } else { (Some(settle), None) };
        first.into_iter().flatten().chain(ask).chain(last.into_iter().flatten())
    }

    /// This is sent now.
    pub fn sent(&mut self, turn: Turn) {
        let next = |all: &[Turn]| all.iter().position(|one| *one == turn).map(|at| (at + 1) % all.len());
        if let Some(next) = next(&SETTLE) {
            (self.settle, self.ask_first) = (next, true);
        }
        if let Some(next) = next(&ASK) {
            (self.ask, self.ask_first) = (next, false);
        }
    }
}
