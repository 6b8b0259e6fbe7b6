//! How much a log has grown since its last snapshot, and when the next one is due.

use super::Options;

/// Counted from the last snapshot on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Growth {
    events: u64,
    bytes: u64,
    /// Bytes of the last snapshot itself.
    snapshot: u64,
}

impl Growth {
    /// A record. One without events counts too: heartbeats alone must not let a log grow for ever.
    pub(super) fn record(&mut self, events: usize, bytes: usize) {
        self.events += events.max(1) as u64;
        self.bytes += bytes as u64;
    }

    /// A chunk of the snapshot that a state was read from.
    pub(super) fn chunk(&mut self, bytes: usize) {
        self.snapshot += bytes as u64;
    }

    /// Whether a snapshot is due: after so many events, since they cost time at the next start, or when the
    /// records take more of the disk than the snapshot they follow, and enough to be worth it.
    pub(super) fn is_due(&self, options: &Options) -> bool {
        self.events >= options.snapshot_after || self.bytes >= options.snapshot_bytes.max(self.snapshot)
    }

    /// A snapshot of what is there is begun.
    pub(super) fn begun(&mut self) {
        (self.events, self.bytes) = (0, 0);
    }

    /// It was written, with so many bytes.
    pub(super) fn written(&mut self, bytes: u64) {
        self.snapshot = bytes;
    }

    /// It was not written and is tried again sooner than usual: somebody may make room.
    pub(super) fn postponed(&mut self, options: &Options) {
        self.events += options.snapshot_after / 4 * 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_by_events_or_when_the_records_outgrow_the_last_one() {
        let options = Options { snapshot_after: 4, snapshot_bytes: 100, ..Options::default() };
        let due = |records: &[(usize, usize)], snapshot: u64| {
            let mut growth = Growth::default();
            growth.written(snapshot);
            records.iter().for_each(|(events, bytes)| growth.record(*events, *bytes));
            growth.is_due(&options)
        };
        assert!(!due(&[(3, 10)], 0));
        assert!(due(&[(4, 10)], 0));
        assert!(due(&[(0, 1); 4], 0), "records without events count");
        assert!(due(&[(1, 100)], 0));
        assert!(!due(&[(1, 100)], 101));
        assert!(due(&[(1, 100), (1, 1)], 101));
        let mut growth = Growth::default();
        growth.record(9, 900);
        growth.begun();
        assert!(!growth.is_due(&options));
        growth.postponed(&options);
        growth.record(1, 1);
        assert!(growth.is_due(&options));
    }
}
