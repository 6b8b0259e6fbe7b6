//! Time as an argument.

use std::fmt;

use minicbor::{Decode, Encode};

/// A point in time or a span, in milliseconds. Wall-clock points count from 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Millis(#[n(0)] pub i64);

impl Millis {
    /// Milliseconds in a second.
    pub const SECOND: Self = Self(1_000);
    /// Milliseconds in a minute.
    pub const MINUTE: Self = Self(60_000);
    /// Milliseconds in an hour.
    pub const HOUR: Self = Self(3_600_000);
    /// Milliseconds in a day.
    pub const DAY: Self = Self(86_400_000);

    /// So many times this span.
    #[must_use]
    pub const fn times(self, n: i64) -> Self {
        Self(self.0.saturating_mul(n))
    }

    /// The span from `earlier` to this point, 0 when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0).max(0))
    }

    /// The span in minutes, as it is told to people: one that has begun counts.
    #[must_use]
    pub const fn minutes_begun(self) -> i64 {
        self.0.saturating_add(Self::MINUTE.0 - 1).div_euclid(Self::MINUTE.0)
    }

    /// This point and a span.
    #[must_use]
    pub const fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// Random identity of one boot of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct BootId(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

/// The clocks at the moment a batch is decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, since 1970. Can jump; used for what people read and for license validity.
    pub wall: Millis,
    /// Time since boot, sleep included. Never jumps while the machine runs.
    pub boot: Millis,
}

impl Now {
    /// What the wall clock would have shown at boot. It moves when somebody sets the wall clock.
    #[must_use]
    pub const fn booted_at(self) -> Millis {
        Millis(self.wall.0.saturating_sub(self.boot.0))
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Both clocks, now.
    fn now(&self) -> Now;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_that_has_begun_counts_and_a_whole_one_counts_once() {
        let begun = |ms| Millis(ms).minutes_begun();
        assert_eq!([begun(0), begun(1), begun(59_999), begun(60_000), begun(60_001)], [0, 1, 1, 1, 2]);
    }
}
