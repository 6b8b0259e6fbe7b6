//! Which nodes may bring their books in line now. After an outage all want to at once; a few do, and the
//! others are told to come back, before anything of theirs changes.

use std::collections::BTreeMap;

use headroom_core::Millis;

use crate::command::Refusal;
use crate::state::HolderId;

/// Nodes that may report at once.
pub const MAX_REPORTS: usize = 32;
/// A node that says nothing of its report for so long has given it up.
const REPORT_TIME: Millis = Millis::SECOND.times(10);

/// Who reports and who waits to, by the pool's own clock.
#[derive(Debug, Default)]
pub struct Slots {
    /// When each one that reports last said something of its report.
    taken: BTreeMap<HolderId, Millis>,
    /// Until when each one that was told to come back is expected.
    waiting: BTreeMap<HolderId, Millis>,
}

impl Slots {
    /// Whether a holder may report now; one that does already may go on.
    ///
    /// # Errors
    /// [`Refusal::Busy`]; from then on it is one of those who wait.
    pub(crate) fn room(&mut self, holder: HolderId, clock: Millis) -> Result<(), Refusal> {
        self.taken.retain(|_, last| clock.since(*last) < REPORT_TIME);
        if self.taken.contains_key(&holder) || self.taken.len() < MAX_REPORTS {
            return Ok(());
        }
        self.waiting.retain(|_, until| clock < *until);
        // As long as it may have been told to stay away, and once more.
        let turns = i64::try_from(self.waiting.len() / MAX_REPORTS + 2).unwrap_or(i64::MAX);
        self.waiting.insert(holder, clock.plus(REPORT_TIME.times(turns)));
        let (reporting, waiting) = (self.taken.len(), self.waiting.len());
        Err(Refusal::Busy { reporting, waiting, limit: MAX_REPORTS })
    }

    /// A holder reports, for which there was room.
    pub(crate) fn occupy(&mut self, holder: HolderId, clock: Millis) {
        self.waiting.remove(&holder);
        self.taken.insert(holder, clock);
    }

    /// A holder reports, or goes on to.
    ///
    /// # Errors
    /// As [`Self::room`].
    pub(crate) fn take(&mut self, holder: HolderId, clock: Millis) -> Result<(), Refusal> {
        self.room(holder, clock)?;
        self.occupy(holder, clock);
        Ok(())
    }

    /// A holder has reported, or is gone.
    pub(crate) fn free(&mut self, holder: HolderId) {
        self.taken.remove(&holder);
        self.waiting.remove(&holder);
    }
}
