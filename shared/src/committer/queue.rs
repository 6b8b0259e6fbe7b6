//! What waits to be decided: a queue for each class, most urgent first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headroom_core::machine::{Class, Machine};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::{Done, OVERLOAD_RETRY, Refused, SubmitError};

/// Number of classes.
pub(super) const CLASSES: usize = Class::ALL.len();

/// How an asker gets its answer.
pub(super) type Reply<M> = oneshot::Sender<Result<Done<<M as Machine>::Reply>, SubmitError>>;

/// A command that waits.
pub(super) struct Waiting<M: Machine> {
    pub(super) command: M::Command,
    pub(super) reply: Reply<M>,
    since: Instant,
    limit: Option<Duration>,
}

impl<M: Machine> Waiting<M> {
    fn expired(&self, now: Instant) -> bool {
        self.limit.is_some_and(|limit| now - self.since > limit)
    }

    fn refuse(self, now: Instant) {
        let waited = now - self.since;
        // The asker may have gone; then nobody needs to know.
        let _ = self.reply.send(Err(SubmitError::Expired { waited, limit: self.limit.unwrap_or_default() }));
    }
}

/// The commands that wait, and the way to wake the committer.
pub(super) struct Queue<M: Machine> {
    inner: Mutex<Inner<M>>,
    arrival: Notify,
    limit: usize,
    overloaded: AtomicU64,
    expired: AtomicU64,
}

struct Inner<M: Machine> {
    classes: [VecDeque<Waiting<M>>; CLASSES],
    closed: bool,
}

/// How many commands one take may hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Of all classes.
    pub(super) commands: usize,
    /// Of these, reports.
    pub(super) reports: usize,
}

impl<M: Machine> Queue<M> {
    pub(super) fn new(limit: usize) -> Self {
        let inner = Inner { classes: std::array::from_fn(|_| VecDeque::new()), closed: false };
        let (overloaded, expired) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { inner: Mutex::new(inner), arrival: Notify::new(), limit, overloaded, expired }
    }

    /// Adds a command. One with a time limit is refused when `limit` commands would be decided
    /// before it; so a flood of less urgent ones does not shut out the more urgent.
    pub(super) fn push(
        &self,
        command: M::Command,
        limit: Option<Duration>,
        reply: Reply<M>,
    ) -> Result<(), SubmitError> {
        let class = M::class(&command) as usize;
        let mut inner = self.lock();
        if inner.closed {
            return Err(SubmitError::Stopped);
        }
        if limit.is_some() {
            let waiting = inner.classes[..=class].iter().map(VecDeque::len).sum();
            if waiting >= self.limit {
                let limit = self.limit;
                self.overloaded.fetch_add(1, Ordering::Relaxed);
                return Err(SubmitError::Overloaded { waiting, limit, retry_after: OVERLOAD_RETRY });
            }
        }
        inner.classes[class].push_back(Waiting { command, reply, since: Instant::now(), limit });
        drop(inner);
        self.arrival.notify_one();
        Ok(())
    }

    /// Takes what may be decided now, most urgent first, into `taken`. What waited beyond its limit
    /// is refused on the way and does not count.
    pub(super) fn take(&self, room: Room, taken: &mut VecDeque<Waiting<M>>) {
        let now = Instant::now();
        let mut inner = self.lock();
        let waiting = std::array::from_fn(|class| inner.classes[class].len());
        for (queue, share) in inner.classes.iter_mut().zip(shares(waiting, room)) {
            let mut left = share;
            while left > 0
                && let Some(next) = queue.pop_front()
            {
                if next.expired(now) {
                    next.refuse(now);
                    self.expired.fetch_add(1, Ordering::Relaxed);
                } else {
                    taken.push_back(next);
                    left -= 1;
                }
            }
        }
    }

    /// Refuses whatever has waited beyond its limit, here and in what was taken from here.
    pub(super) fn sweep(&self, taken: &mut VecDeque<Waiting<M>>) {
        let late: u64 = self.lock().classes.iter_mut().map(refuse_late).sum();
        self.expired.fetch_add(late, Ordering::Relaxed);
        self.sweep_taken(taken);
    }

    /// Refuses whatever has waited beyond its limit in what was taken from here.
    pub(super) fn sweep_taken(&self, taken: &mut VecDeque<Waiting<M>>) {
        self.expired.fetch_add(refuse_late(taken), Ordering::Relaxed);
    }

    /// How much was refused so far.
    pub(super) fn refused(&self) -> Refused {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Refused { overloaded: count(&self.overloaded), expired: count(&self.expired) }
    }

    /// Nothing is accepted from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrival.notify_one();
    }

    /// Forgets all that waits: the askers learn that the committer stopped.
    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.classes.iter_mut().for_each(VecDeque::clear);
    }

    pub(super) fn closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn finished(&self) -> bool {
        let inner = self.lock();
        inner.closed && inner.classes.iter().all(VecDeque::is_empty)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().classes.iter().map(VecDeque::len).sum()
    }

    /// Resolves once something has changed since it last resolved. One waiter only.
    pub(super) async fn arrival(&self) {
        self.arrival.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner<M>> {
        // Queues are moved, not changed in steps: a panic leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses whatever has waited beyond its limit. Answers how much that was.
fn refuse_late<M: Machine>(waiting: &mut VecDeque<Waiting<M>>) -> u64 {
    let now = Instant::now();
    let mut count = 0;
    if waiting.iter().any(|next| next.expired(now)) {
        let (late, timely) = std::mem::take(waiting).into_iter().partition(|next| next.expired(now));
        *waiting = timely;
        for next in VecDeque::<Waiting<M>>::into_iter(late) {
            next.refuse(now);
            count += 1;
        }
    }
    count
}

/// How many of each class are taken. First a thirty-second part of the room for every class, so
/// that none starves while more urgent ones keep coming; the rest goes by urgency.
fn shares(waiting: [usize; CLASSES], room: Room) -> [usize; CLASSES] {
    let mut most = waiting;
    most[Class::Report as usize] = most[Class::Report as usize].min(room.reports);
    let mut shares = most.map(|most| most.min(room.commands / 32));
    let mut left = room.commands - shares.iter().sum::<usize>();
    for (share, most) in shares.iter_mut().zip(most) {
        let more = left.min(most - *share);
        *share += more;
        left -= more;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_fill_the_room_respect_the_report_limit_and_starve_nobody(
            waiting in prop::array::uniform7(0..5000usize), commands in 0..2000usize, reports in 0..600usize,
        ) {
            let shares = shares(waiting, Room { commands, reports });
            let report = Class::Report as usize;
            let total: usize = shares.iter().sum();
            let available: usize =
                (0..CLASSES).map(|c| if c == report { waiting[c].min(reports) } else { waiting[c] }).sum();
            prop_assert_eq!(total, available.min(commands));
            prop_assert!(shares[report] <= reports);
            for class in 0..CLASSES {
                prop_assert!(shares[class] <= waiting[class]);
                let most = if class == report { waiting[class].min(reports) } else { waiting[class] };
                prop_assert!(shares[class] >= most.min(commands / 32));
                // A class beyond its guaranteed part means that every more urgent one has all it can.
                if shares[class] > commands / 32 {
                    for urgent in (0..class).filter(|urgent| *urgent != report) {
                        prop_assert_eq!(shares[urgent], waiting[urgent]);
                    }
                }
            }
        }
    }
}
