//! Numbers from a seed. Everything that happens by chance in a simulated world comes from here, so that
//! a seed is the whole world.

use headroom_core::Millis;

/// Numbers from a seed.
#[derive(Debug)]
pub struct Dice(fastrand::Rng);

impl Dice {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.0.u64(..limit) }
    }

    /// An index below `limit`; 0 when that is 0.
    pub fn index(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { self.0.usize(..limit) }
    }

    /// Whether something happens that happens so often in a thousand times.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.0.u64(..1000) < per_mille
    }

    /// A span from `least` to `most`.
    pub fn span(&mut self, least: i64, most: i64) -> Millis {
        Millis(if least >= most { least } else { self.0.i64(least..=most) })
    }

    /// A span that is `mean` on average, short ones more often than long ones, at most ten times the mean.
    pub fn about(&mut self, mean: Millis) -> Millis {
        let unit = self.0.f64().max(1e-5);
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let span = (-unit.ln() * mean.0 as f64) as i64;
        Millis(span.clamp(1, mean.0.saturating_mul(10).max(1)))
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.0.usize(..all.len())]
    }

    /// Sixteen bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        self.0.u128(..).to_be_bytes()
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.u64(..)
    }
}
