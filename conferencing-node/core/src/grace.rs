//! How long the node has been out of contact, measured so that nobody shortens it by a clock.
//!
//! Within one boot only the time since boot counts; the wall clock is not looked at. Across boots
//! the time powered off is the wall clock at boot minus the wall clock last saved, never less than
//! 0, and believed only once the kernel calls its clock synchronized or after an hour up, because
//! many machines start with a wrong clock. What nothing can measure (a reverted snapshot, a paused
//! machine whose boot clock stood still) is not counted.
//!
//! The wall clock that is saved must be believed too: measured from 1970, or from a clock that somebody
//! set back, the time powered off would be years, and every call refused. So a clock that is not
//! synchronized never takes the saved one back, and contact in a boot whose clock is not believed yet
//! leaves no wall clock to measure from, until one is synchronized, or has run for an hour and shows no time
//! that is certainly over.

use headroom_core::time::BootId;
use headroom_core::{Millis, Now};
use minicbor::{Decode, Encode};

/// After so long up, the wall clock is taken as it is.
const TRUSTED_AFTER: Millis = Millis::HOUR;
/// The beginning of 2026: no clock that shows an earlier time is right.
const EARLIEST: Millis = Millis(1_767_225_600_000);

/// The clocks at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Which boot.
    pub boot_id: BootId,
    /// Time since boot.
    pub boot: Millis,
    /// The wall clock.
    pub wall: Millis,
    /// The kernel calls its clock synchronized.
    pub synchronized: bool,
}

/// The age of the last contact, with the clocks at which it was that old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Grace {
    /// Time out of contact at the reading.
    #[n(0)]
    pub age: Millis,
    /// Boot of the reading.
    #[n(1)]
    pub boot_id: BootId,
    /// Time since boot at the reading.
    #[n(2)]
    pub boot: Millis,
    /// The wall clock at the reading, as far as it is believed: an unsynchronized one that was set back is
    /// carried on from before.
    #[n(3)]
    pub wall: Millis,
    /// Wall clock from which time powered off is still to be counted, once the clock is trusted.
    #[n(4)]
    pub off_since: Option<Millis>,
    /// The pool answered at least once.
    #[n(5)]
    pub had_contact: bool,
    /// The pool said that this node no longer belongs to it.
    #[n(6)]
    pub refused: bool,
    /// No wall clock was believed since the last contact, so that time powered off cannot be measured from
    /// the reading.
    #[n(7)]
    #[cbor(default)]
    pub wall_unknown: bool,
}

impl Grace {
    /// The same age, carried on to a later reading. The age never falls.
    #[must_use]
    pub fn at(&self, r: &Reading) -> Self {
        let mut next = Self { boot_id: r.boot_id, boot: r.boot, ..*self };
        if r.boot_id == self.boot_id && r.boot >= self.boot {
            let passed = r.boot.since(self.boot);
            next.age = self.age.plus(passed);
            next.wall = self.wall.plus(passed);
        } else {
            next.age = self.age.plus(r.boot);
            // Time that the boot before ran is in the age already; only its time off remains open.
            let off_since = self.off_since.map_or(self.wall, |from| from.plus(self.boot));
            next.off_since = Some(off_since).filter(|_| !self.wall_unknown);
            next.wall = off_since.plus(r.boot);
        }
        let believed = r.synchronized || r.boot >= TRUSTED_AFTER;
        if let Some(from) = next.off_since.filter(|_| believed) {
            let booted_at = Now { wall: r.wall, boot: r.boot }.booted_at();
            next.age = next.age.plus(booted_at.since(from));
            next.off_since = None;
        }
        let possible = r.wall >= next.wall.max(EARLIEST);
        if r.synchronized || (believed && possible && self.wall_unknown) {
            (next.wall, next.wall_unknown) = (r.wall, false);
        } else if next.off_since.is_none() && !next.wall_unknown {
            next.wall = next.wall.max(r.wall);
        }
        next
    }

    /// The pool answered: the age begins again.
    #[must_use]
    pub fn contact(&self, r: &Reading) -> Self {
        let next = self.at(r);
        Self {
            age: Millis(0),
            off_since: None,
            // Time off that is not counted yet must not be counted later, as if it came after this.
            wall_unknown: next.wall_unknown || next.off_since.is_some(),
            had_contact: true,
            refused: false,
            ..next
        }
    }

    /// Whether the wall clock must be saved again: a second has passed, or the boot changed.
    #[must_use]
    pub fn stale(&self, r: &Reading, after: Millis) -> bool {
        self.boot_id != r.boot_id || r.boot < self.boot || r.boot.since(self.boot) >= after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Millis = Millis(14 * Millis::DAY.0);

    fn reading(boot: u8, up: i64, wall: i64, synchronized: bool) -> Reading {
        Reading { boot_id: BootId([boot; 16]), boot: Millis(up), wall: Millis(wall), synchronized }
    }

    #[test]
    fn within_a_boot_the_wall_clock_is_not_looked_at() {
        let start = Grace::default().contact(&reading(1, 1_000, 1_000_000_000, true));
        let forward = start.at(&reading(1, 6_000, 999_999_999_999, true));
        assert_eq!(forward.age, Millis(5_000));
        let back = forward.at(&reading(1, 7_000, 0, true));
        assert_eq!(back.age, Millis(6_000));
    }

    #[test]
    fn time_powered_off_counts_once_the_clock_is_synchronized_or_after_an_hour_up() {
        let day = Millis::DAY.0;
        let start = Grace::default().contact(&reading(1, 0, 100 * day, true));
        // Off for three days, then up for a minute with a clock that starts in 1970.
        let early = start.at(&reading(2, 60_000, 60_000, false));
        assert_eq!(early.age, Millis(60_000));
        let synced = early.at(&reading(2, 120_000, 103 * day + 120_000, true));
        assert_eq!(synced.age, Millis(3 * day + 120_000));
        let hour = early.at(&reading(2, Millis::HOUR.0, 103 * day + Millis::HOUR.0, false));
        assert_eq!(hour.age, Millis(3 * day + Millis::HOUR.0));
        // Counted once only.
        assert_eq!(synced.at(&reading(2, 130_000, 200 * day, true)).age, Millis(3 * day + 130_000));
    }

    #[test]
    fn boots_that_never_synchronized_are_not_counted_twice() {
        let day = Millis::DAY.0;
        let start = Grace::default().contact(&reading(1, 0, 100 * day, true));
        let unsynced = start.at(&reading(2, 1_800_000, 1_800_000, false));
        let synced = unsynced.at(&reading(3, 1_000, 101 * day, true));
        // A day in all: half an hour of it up, the rest off.
        assert_eq!(synced.age, Millis(day));
    }

    #[test]
    fn contact_with_a_clock_that_began_in_1970_lets_no_later_boot_count_the_years() {
        let day = Millis::DAY.0;
        let start = Grace::default().contact(&reading(1, 0, 100 * day, true));
        // Off for ten days; up with a clock without battery, and in contact before it is synchronized.
        let contact =
            start.at(&reading(2, 60_000, 60_000, false)).contact(&reading(2, 61_000, 61_000, false));
        assert_eq!(contact.age, Millis(0));
        let next = contact.at(&reading(3, 1_000, 111 * day, true));
        assert_eq!(next.age, Millis(1_000), "what cannot be measured is not counted");
        // Synchronized in time, the clock is measured from.
        let synced = contact.at(&reading(2, 120_000, 110 * day, true));
        let next = synced.at(&reading(3, 0, 111 * day, true));
        assert_eq!(next.age, Millis(59_000 + day));
    }

    #[test]
    fn a_clock_that_was_set_back_lets_no_later_boot_count_what_it_was_set_back_by() {
        let day = Millis::DAY.0;
        let start = Grace::default().contact(&reading(1, 0, 100 * day, true));
        let back = start.at(&reading(1, 2 * Millis::HOUR.0, 85 * day, false));
        let next = back.at(&reading(2, 0, 100 * day + 3 * Millis::HOUR.0, true));
        assert_eq!(next.age, Millis::HOUR.times(3));
        // A clock that ran an hour in 1970 is believed for want of a better one, but not measured from.
        let old = start.at(&reading(2, Millis::HOUR.0, Millis::HOUR.0, false));
        let next = old.at(&reading(3, 0, 101 * day, true));
        assert_eq!(next.age, Millis(day));
    }

    #[test]
    fn a_clock_in_1970_is_not_measured_from_however_long_it_runs() {
        let day = Millis::DAY.0;
        let known = Grace::default().contact(&reading(1, 0, EARLIEST.0 + 100 * day, true));
        for start in [known, Grace::default()] {
            let contact = start.contact(&reading(2, 61_000, 61_000, false));
            let hour = contact.at(&reading(2, 5 * Millis::HOUR.0, 5 * Millis::HOUR.0, false));
            let again = hour.contact(&reading(2, 6 * Millis::HOUR.0, 6 * Millis::HOUR.0, false));
            let next = again.at(&reading(3, 1_000, EARLIEST.0 + 111 * day, true));
            assert_eq!(next.age, Millis(1_000));
            // A clock that may be right is, where there is no better one.
            let right = contact.at(&reading(2, Millis::HOUR.0, EARLIEST.0 + 110 * day, false));
            let next = right.at(&reading(3, 1_000, EARLIEST.0 + 111 * day, true));
            assert_eq!(next.age, Millis(right.age.0 + day));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Run { span: i64 },
        Reboot { off: i64, up: i64 },
        SetClock { to: i64 },
        Synchronize(bool),
        Save,
    }

    fn step() -> impl Strategy<Value = Step> {
        let day = Millis::DAY.0;
        prop_oneof![
            (0..day).prop_map(|span| Step::Run { span }),
            (0..day, 0..Millis::HOUR.0 * 2).prop_map(|(off, up)| Step::Reboot { off, up }),
            (0..200 * day).prop_map(|to| Step::SetClock { to }),
            any::<bool>().prop_map(Step::Synchronize),
            Just(Step::Save),
        ]
    }

    proptest! {
        #[test]
        fn the_age_never_falls_and_counts_all_time_up(steps in prop::collection::vec(step(), 1..60)) {
            let (mut boot, mut up, mut wall, mut sync) = (1u8, 0i64, 100 * Millis::DAY.0, true);
            let mut grace = Grace::default().contact(&reading(boot, up, wall, sync));
            let mut counted = 0;
            let mut last = Millis(0);
            for step in steps {
                match step {
                    Step::Run { span } => { up += span; wall += span; counted += span; }
                    Step::Reboot { off, up: to } => {
                        // The journal is saved when a service ends.
                        grace = grace.at(&reading(boot, up, wall, sync));
                        boot = boot.wrapping_add(1); up = to; wall += off + to; sync = false; counted += to;
                    }
                    Step::SetClock { to } => wall = to,
                    Step::Synchronize(now) => sync = now,
                    Step::Save => grace = grace.at(&reading(boot, up, wall, sync)),
                }
                let next = grace.at(&reading(boot, up, wall, sync));
                let age = next.age;
                // As the node does: a new boot, and time powered off once it is known, are saved.
                if grace.boot_id != next.boot_id || (grace.off_since.is_some() && next.off_since.is_none()) {
                    grace = next;
                }
                prop_assert!(age >= last, "the age fell from {last} to {age}");
                prop_assert!(age.0 >= counted, "{age} is less than the {counted} ms up");
                last = age;
            }
        }

        #[test]
        fn fourteen_days_of_mixed_restarts_reject(spans in prop::collection::vec((0..Millis::DAY.0, 0..Millis::DAY.0, any::<bool>()), 40..60)) {
            let (mut boot, mut up, mut wall) = (1u8, 5_000i64, 100 * Millis::DAY.0);
            let mut grace = Grace::default().contact(&reading(boot, up, wall, true));
            let began = wall;
            for (run, off, reboot) in spans {
                up += run; wall += run;
                grace = grace.at(&reading(boot, up, wall, true));
                if reboot {
                    boot = boot.wrapping_add(1); up = 0; wall += off;
                } else {
                    up += off; wall += off;
                }
                let age = grace.at(&reading(boot, up, wall, true)).age;
                prop_assert_eq!(age.0, wall - began);
                prop_assert_eq!(age >= GRACE, wall - began >= GRACE.0);
            }
        }
    }
}
