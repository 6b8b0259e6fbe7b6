//! A machine's clocks, and how far they are from the truth.

use headroom_core::time::BootId;
use headroom_core::{Millis, Now};

/// The wall clock at the beginning of a simulated world.
pub const EPOCH: i64 = 1_790_000_000_000;

/// A machine. True time counts from the beginning of the world.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its present boot.
    pub boot_id: BootId,
    /// How far the wall clock is from the truth.
    pub wrong_by: i64,
    /// The kernel calls its clock synchronized.
    pub synchronized: bool,
    /// How long its clocks stood still since the wall clock was last right.
    pub stood_still: Millis,
    /// True time of the boot, moved by every pause since.
    booted_at: Millis,
    boots: u64,
    number: u64,
}

impl Host {
    /// A machine that was booted a while ago.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let mut host = Self {
            boot_id: BootId::default(),
            wrong_by: 0,
            synchronized: true,
            stood_still: Millis(0),
            booted_at: Millis(-1_000_000),
            boots: 0,
            number,
        };
        host.name_boot();
        host
    }

    fn name_boot(&mut self) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.number.to_be_bytes());
        id[8..].copy_from_slice(&self.boots.to_be_bytes());
        self.boot_id = BootId(id);
    }

    /// The clocks as the machine shows them.
    #[must_use]
    pub fn now(&self, time: Millis) -> Now {
        Now { wall: Millis(EPOCH + time.0 + self.wrong_by), boot: Millis(time.0 - self.booted_at.0) }
    }

    /// It is switched on again.
    pub fn boot(&mut self, time: Millis) {
        self.boots += 1;
        self.booted_at = time;
        self.name_boot();
    }

    /// When it was switched on, by true time; later by what its clocks stood still since.
    #[must_use]
    pub const fn booted_at(&self) -> Millis {
        self.booted_at
    }

    /// Its clocks stood still for so long, as a paused virtual machine's do.
    pub fn paused(&mut self, span: Millis) {
        self.booted_at = self.booted_at.plus(span);
        self.stood_still = self.stood_still.plus(span);
        self.wrong_by -= span.0;
    }

    /// Its wall clock is set right.
    pub fn synchronize(&mut self) {
        (self.wrong_by, self.synchronized, self.stood_still) = (0, true, Millis(0));
    }

    /// How far behind the truth a wall clock can be that the machine has to believe: one that says that it
    /// is synchronized, or that ran for an hour where no better one is known, or that was carried on by a boot clock
    /// that stood still.
    #[must_use]
    pub fn behind(&self, time: Millis, unknown: bool) -> Millis {
        let believed = self.synchronized || (unknown && self.now(time).boot >= Millis::HOUR);
        let shown = if believed { (-self.wrong_by).max(0) } else { 0 };
        self.stood_still.max(Millis(shown))
    }
}
