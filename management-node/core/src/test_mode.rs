//! Test mode: everything is licensed without limits for eight hours, so that a laboratory can be tried
//! without licenses. It goes off by command or by itself, any number of times, but on again only when no
//! lease that was taken in it remains: else it could be on for ever.
//!
//! Its time is license time, which no clock change and no restart prolongs; where license time leaps, the
//! end leaps with it, so that eight hours are eight hours.

use headroom_core::{LeaseId, Millis};
use minicbor::{Decode, Encode};

use crate::command::Refusal;
use crate::event::Event;
use crate::machine::PoolTx;
use crate::state::Pool;

/// How long it lasts.
pub const TEST_MODE: Millis = Millis::HOUR.times(8);

/// The test mode that is on, or the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct TestMode {
    /// When it ends, in license time; nothing while it is off.
    #[n(0)]
    pub until: Option<Millis>,
    /// When it went on, by the wall clock.
    #[n(1)]
    pub since: Millis,
    /// The last lease before it.
    #[n(2)]
    pub before: u64,
    /// The last lease in it; nothing while it is on.
    #[n(3)]
    pub last: Option<u64>,
    /// Leases taken in it that are still held.
    #[n(4)]
    pub held: u64,
}

impl TestMode {
    /// Whether it is on.
    #[must_use]
    pub const fn on(&self) -> bool {
        self.until.is_some()
    }

    /// Whether a lease was taken in it.
    #[must_use]
    pub fn took(&self, lease: LeaseId) -> bool {
        lease.0 > self.before && self.last.map_or(self.until.is_some(), |last| lease.0 <= last)
    }
}

impl Pool {
    /// How much longer test mode is on.
    #[must_use]
    pub fn test_mode_left(&self, at: Millis) -> Option<Millis> {
        Some(self.test_mode.until?.since(self.license_time(at)))
    }
}

/// Turns it on.
pub(crate) fn turn_on(tx: &mut PoolTx<'_>, at: Millis) -> Result<(), Refusal> {
    let (test_mode, time) = (tx.state().test_mode, tx.state().license_time(at));
    if let Some(until) = test_mode.until {
        return Err(Refusal::TestModeOn { left: until.since(time) });
    }
    if test_mode.held > 0 {
        return Err(Refusal::TestModeHeld { leases: test_mode.held });
    }
    tx.emit(Event::TestModeOn { at, until: time.plus(TEST_MODE) });
    Ok(())
}

/// Turns it off; that it is off already is no error.
pub(crate) fn turn_off(tx: &mut PoolTx<'_>, at: Millis) {
    if tx.state().test_mode.on() {
        tx.emit(Event::TestModeOff { at, by_itself: false });
    }
}

/// Turns it off when its time is over.
pub(crate) fn watch(tx: &mut PoolTx<'_>, at: Millis) {
    if tx.state().test_mode_left(at) == Some(Millis(0)) {
        tx.emit(Event::TestModeOff { at, by_itself: true });
    }
}
