//! What can go wrong on the way between a node and the pool, and with their processes.

use std::time::Duration;

use headroom_simulator::dice::Dice;

/// A way to the pool that is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Nothing passes.
    Cut,
    /// What the node sends is lost.
    RequestsLost,
    /// What the pool sends is lost.
    AnswersLost,
    /// Everything is held back, and delivered afterwards.
    Held,
    /// Once in so many messages the way breaks, until some of what follows has been lost too.
    Lossy {
        /// One in so many.
        one_in: u32,
    },
    /// Messages take up to so long.
    Slow {
        /// The longest.
        most: Duration,
    },
}

impl Fault {
    /// Any of them.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        match dice.below(6) {
            0 => Self::Cut,
            1 => Self::RequestsLost,
            2 => Self::AnswersLost,
            3 => Self::Held,
            4 => Self::Lossy { one_in: *dice.pick(&[10, 40, 200]) },
            _ => Self::Slow { most: Duration::from_millis(*dice.pick(&[200, 700, 3_000])) },
        }
    }
}
