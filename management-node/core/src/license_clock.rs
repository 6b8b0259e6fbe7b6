//! License time: what decides whether a license has begun or ended.
//!
//! It is the wall clock as long as that can be believed, and never goes back. While the machine is up,
//! the boot clock says how far it should have gone:
//!
//! - A wall clock that is behind is not followed; license time goes on by the boot clock.
//! - One that is at most an hour ahead is followed at once: clocks are corrected.
//! - One that is further ahead is followed only after it has been so for 24 hours with the machine up, so
//!   that a minute with a wrong clock ends no license for good.
//! - A time that the licensing server signed raises it at once, and lowers it when it was signed just now,
//!   over the network. An answer that was carried as a file does not lower it: it may be old.
//!
//! Time that the machine was off is not seen by the boot clock. It counts when the wall clock is at most an
//! hour ahead after the start, when it is still ahead after 24 hours up, or by a signed time.

use headroom_core::time::BootId;
use headroom_core::{Millis, Now};
use minicbor::{Decode, Encode};

/// A wall clock that is no more apart from the boot clock than this since the last mark goes as usual.
const USUAL: Millis = Millis::SECOND;
/// A wall clock may be corrected forward by so much at once.
pub const CORRECTION: Millis = Millis::HOUR;
/// One that is further ahead is believed after so long.
pub const BELIEVED_AFTER: Millis = Millis::DAY;
/// How often the mark is renewed while the clock goes as usual.
const MARK_EVERY: Millis = Millis::MINUTE.times(10);

/// License time at a mark, and how the clocks stood then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LicenseClock {
    /// License time at the mark.
    #[n(0)]
    pub mark: Millis,
    /// The boot clock at the mark.
    #[n(1)]
    pub boot: Millis,
    /// The boot it is of.
    #[n(2)]
    pub boot_id: BootId,
    /// License time less the wall clock.
    #[n(3)]
    pub offset: Millis,
    /// Since when, by the boot clock, the wall clock has been too far ahead to be followed.
    #[n(4)]
    pub ahead_since: Option<Millis>,
}

impl LicenseClock {
    /// License time when the wall clock shows `wall`.
    #[must_use]
    pub const fn time(&self, wall: Millis) -> Millis {
        wall.plus(self.offset)
    }

    /// A first mark.
    #[must_use]
    pub const fn first(now: Now, boot_id: BootId) -> Self {
        Self { mark: now.wall, boot: now.boot, boot_id, offset: Millis(0), ahead_since: None }
    }

    /// What license time should be by the boot clock.
    fn expected(&self, now: Now) -> Millis {
        self.mark.plus(now.boot.since(self.boot))
    }

    fn marked(self, now: Now, time: Millis, ahead_since: Option<Millis>) -> Self {
        let offset = Millis(time.0.saturating_sub(now.wall.0));
        Self { mark: time, boot: now.boot, offset, ahead_since, ..self }
    }

    /// The clock from now on, if it has to be marked anew, and by how much license time leaps beyond
    /// what has passed.
    #[must_use]
    pub fn look(&self, now: Now) -> Option<(Self, Millis)> {
        let (expected, shown) = (self.expected(now), self.time(now.wall));
        let apart = Millis(shown.0.saturating_sub(expected.0));
        let usual = apart.0.abs() <= USUAL.0;
        let believed = self.ahead_since.is_some_and(|since| now.boot.since(since) >= BELIEVED_AFTER);
        if usual && !believed {
            let due = now.boot.since(self.boot) >= MARK_EVERY;
            // Small differences are the clock's usual corrections; backward ones are not followed.
            let time = shown.max(expected);
            return due.then(|| (self.marked(now, time, self.ahead_since), Millis(0)));
        }
        Some(self.settle(now, expected, believed))
    }

    /// Decides anew whether the wall clock is followed.
    fn settle(&self, now: Now, expected: Millis, believed: bool) -> (Self, Millis) {
        let ahead = now.wall.since(expected);
        let followed = now.wall >= expected && (ahead <= CORRECTION || believed);
        if followed {
            return (self.marked(now, now.wall, None), ahead);
        }
        let ahead_since = (ahead > CORRECTION).then(|| self.ahead_since.unwrap_or(now.boot));
        (self.marked(now, expected, ahead_since), Millis(0))
    }

    /// The clock after the machine was booted: what it was off is not known, only how long it is up.
    #[must_use]
    pub fn rebooted(&self, now: Now, boot_id: BootId) -> (Self, Millis) {
        let here = Self { boot: Millis(0), boot_id, ahead_since: None, ..*self };
        let (clock, leap) = here.settle(now, here.expected(now), false);
        // Up since the boot, and ahead since then.
        (Self { ahead_since: clock.ahead_since.map(|_| Millis(0)), ..clock }, leap)
    }

    /// The clock after the licensing server signed the time, and how far license time leaps, which may
    /// be back. `just_now`: the answer came at once, over the network.
    #[must_use]
    pub fn signed(&self, now: Now, at: Millis, just_now: bool) -> Option<(Self, Millis)> {
        let shown = self.time(now.wall).max(self.expected(now));
        let leap = Millis(at.0.saturating_sub(shown.0));
        // The time that an answer takes, or a server's clock that is behind by seconds, lowers nothing.
        let lowers = just_now && leap.0 < -Millis::MINUTE.0;
        if leap.0 <= 0 && !lowers {
            return None;
        }
        Some((self.marked(now, at, None), leap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Millis = Millis(1_800_000_000_000);
    const BOOT: BootId = BootId([1; 16]);

    /// The clocks of a machine, and what license time it shows.
    struct Machine {
        now: Now,
        clock: LicenseClock,
        leaps: i64,
    }

    impl Machine {
        fn new() -> Self {
            let now = Now { wall: START, boot: Millis(5_000) };
            Self { now, clock: LicenseClock::first(now, BOOT), leaps: 0 }
        }

        fn look(&mut self) -> i64 {
            if let Some((clock, leap)) = self.clock.look(self.now) {
                self.clock = clock;
                self.leaps += leap.0;
            }
            self.clock.time(self.now.wall).0 - START.0
        }

        /// Lets time pass in steps, as ticks do.
        fn pass(&mut self, span: Millis) -> i64 {
            let step = Millis::MINUTE.0.min(span.0.max(1));
            for _ in 0..span.0 / step {
                self.now.wall = self.now.wall.plus(Millis(step));
                self.now.boot = self.now.boot.plus(Millis(step));
                self.look();
            }
            self.look()
        }

        fn shift(&mut self, by: Millis) -> i64 {
            self.now.wall = self.now.wall.plus(by);
            self.look()
        }
    }

    fn back(span: Millis) -> Millis {
        Millis(-span.0)
    }

    #[test]
    fn it_goes_with_the_clock_and_never_back() {
        let mut machine = Machine::new();
        assert_eq!(machine.pass(Millis::HOUR), Millis::HOUR.0);
        assert_eq!(machine.shift(back(Millis::DAY.times(30))), Millis::HOUR.0);
        assert_eq!(machine.pass(Millis::HOUR), Millis::HOUR.times(2).0, "it goes on by the boot clock");
        assert_eq!(machine.shift(Millis::DAY.times(30)), Millis::HOUR.times(2).0, "the clock is right again");
        assert_eq!(machine.clock.offset, Millis(0));
        assert_eq!(machine.leaps, 0);
    }

    #[test]
    fn a_clock_that_creeps_back_in_small_steps_gains_nothing() {
        let mut machine = Machine::new();
        for _ in 0..10_000 {
            machine.shift(Millis(-900));
            machine.pass(Millis::SECOND);
        }
        let lost = Millis::SECOND.times(10_000).0 - machine.look();
        assert!(lost <= 20 * USUAL.0, "{lost} ms");
    }

    #[test]
    fn a_correction_within_an_hour_is_followed_and_ten_years_are_not() {
        let mut machine = Machine::new();
        assert_eq!(machine.shift(Millis::MINUTE.times(50)), Millis::MINUTE.times(50).0);
        assert_eq!(machine.leaps, Millis::MINUTE.times(50).0);
        let before = machine.look();
        let years = Millis::DAY.times(3650);
        assert_eq!(machine.shift(years), before);
        assert_eq!(machine.pass(Millis::MINUTE), before + Millis::MINUTE.0);
        assert_eq!(machine.shift(back(years)), before + Millis::MINUTE.0, "nothing has ended for good");
    }

    #[test]
    fn a_clock_that_stays_ahead_is_believed_after_a_day_up() {
        let mut machine = Machine::new();
        let ahead = Millis::DAY.times(40);
        machine.shift(ahead);
        assert_eq!(machine.pass(Millis(BELIEVED_AFTER.0 - 60_000)), BELIEVED_AFTER.0 - 60_000);
        assert_eq!(machine.pass(Millis::MINUTE.times(2)), ahead.plus(BELIEVED_AFTER).0 + 60_000);
    }

    #[test]
    fn a_reboot_counts_the_time_up_and_short_time_off() {
        let mut machine = Machine::new();
        machine.pass(Millis::HOUR);
        let mark = machine.clock.mark;
        for (off, counts) in [(Millis::MINUTE.times(5), true), (Millis::DAY.times(3), false)] {
            let now = Now { wall: mark.plus(off), boot: Millis::MINUTE };
            let (clock, _) = machine.clock.rebooted(now, BootId([2; 16]));
            let expected = if counts { now.wall } else { mark.plus(Millis::MINUTE) };
            assert_eq!(clock.time(now.wall), expected);
            let day = Now { wall: now.wall.plus(Millis::DAY), boot: Millis::DAY.plus(Millis::MINUTE) };
            let (later, _) = clock.look(day).expect("marked");
            assert_eq!(later.time(day.wall), day.wall, "believed after a day");
        }
        let past = Now { wall: START, boot: Millis::MINUTE };
        let (clock, _) = machine.clock.rebooted(past, BootId([3; 16]));
        assert_eq!(clock.time(past.wall), mark.plus(Millis::MINUTE), "never back");
    }

    #[test]
    fn a_signed_time_raises_and_only_a_fresh_one_lowers() {
        let mut machine = Machine::new();
        let at = START.plus(Millis::DAY.times(9));
        let (clock, leap) = machine.clock.signed(machine.now, at, false).expect("raised");
        assert_eq!((clock.time(machine.now.wall), leap), (at, Millis::DAY.times(9)));
        machine.clock = clock;
        assert_eq!(machine.pass(Millis::DAY.times(2)), Millis::DAY.times(11).0, "and goes on from there");
        let now = machine.now;
        assert_eq!(machine.clock.signed(now, START, false), None, "an old file");
        let (clock, leap) = machine.clock.signed(now, START, true).expect("lowered");
        assert_eq!((clock.time(now.wall), leap), (START, back(Millis::DAY.times(11))));
        let soon = clock.time(now.wall).plus(Millis(40_000));
        let (later, _) = clock.signed(now, soon, false).expect("a license that begins now is valid now");
        assert_eq!(later.time(now.wall), soon);
        assert_eq!(later.signed(now, soon.plus(Millis(-30_000)), true), None, "an answer takes its time");
    }
}
