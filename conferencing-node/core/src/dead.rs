//! Ids of legs that have ended. For a while nothing begins under them: a question can come after the end of
//! its leg.

use headroom_core::{LegId, Millis};
use imbl::{OrdMap, OrdSet};

use crate::event::Why;

/// How long the id of a leg that ended is refused.
pub const DEAD_FOR: Millis = Millis::MINUTE;
/// Most ids refused of legs that never ran here: of more the oldest go. A question that is overtaken by the end of
/// its leg comes within a fraction of a second.
pub const MAX_STRANGERS: usize = 10_000;

/// The end of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    /// When it was, since boot.
    pub at: Millis,
    /// Nothing ran here under its id: its end overtook the question, or came after a denial.
    pub stranger: bool,
    /// Nobody said that it ended: its media server was silent, or nobody had heard of its grant.
    pub supposed: bool,
}

/// All ids that are refused for a while.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeadIds {
    ids: OrdMap<LegId, Dead>,
    /// Those of legs that ran, by the time of their end.
    ran: OrdSet<(Millis, LegId)>,
    /// The others.
    strangers: OrdSet<(Millis, LegId)>,
}

impl DeadIds {
    /// Whether an id is still refused at this time since boot.
    #[must_use]
    pub fn refuses(&self, leg: &LegId, boot: Millis) -> bool {
        self.ids.get(leg).is_some_and(|dead| boot.since(dead.at) < DEAD_FOR)
    }

    /// Whether an id is refused because somebody said that its leg has ended.
    #[must_use]
    pub fn told(&self, leg: &LegId, boot: Millis) -> bool {
        self.refuses(leg, boot) && self.ids.get(leg).is_some_and(|dead| !dead.supposed)
    }

    /// Whether it is remembered that a leg of this id has ended.
    #[must_use]
    pub fn contains(&self, leg: &LegId) -> bool {
        self.ids.contains_key(leg)
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// None is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The ids with their ends.
    pub fn iter(&self) -> impl Iterator<Item = (&LegId, Dead)> {
        self.ids.iter().map(|(leg, dead)| (leg, *dead))
    }

    /// A leg has ended, whether or not it ran here.
    pub(crate) fn ended(&mut self, leg: &LegId, at: Millis, ran: bool, why: Why) {
        self.forget(at);
        let supposed = matches!(why, Why::Orphaned | Why::Unconfirmed);
        let ran = ran || self.ids.get(leg).is_some_and(|dead| !dead.stranger);
        self.put(leg, Dead { at, stranger: !ran, supposed });
    }

    pub(crate) fn put(&mut self, leg: &LegId, dead: Dead) {
        if let Some(before) = self.ids.insert(leg.clone(), dead) {
            self.by_time(before.stranger).remove(&(before.at, leg.clone()));
        }
        self.by_time(dead.stranger).insert((dead.at, leg.clone()));
        if self.strangers.len() > MAX_STRANGERS {
            self.forget_first(true);
        }
    }

    fn by_time(&mut self, stranger: bool) -> &mut OrdSet<(Millis, LegId)> {
        if stranger { &mut self.strangers } else { &mut self.ran }
    }

    fn forget_first(&mut self, stranger: bool) {
        if let Some((_, leg)) = self.by_time(stranger).remove_min() {
            self.ids.remove(&leg);
        }
    }

    fn forget(&mut self, boot: Millis) {
        for stranger in [false, true] {
            while self.by_time(stranger).get_min().is_some_and(|(at, _)| boot.since(*at) >= DEAD_FOR) {
                self.forget_first(stranger);
            }
        }
    }
}
