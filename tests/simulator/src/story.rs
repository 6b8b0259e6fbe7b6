//! What happened, as text.

use headroom_core::Millis;

/// What a story tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// Nothing: only the figures count.
    Nothing,
    /// Only what changes something for somebody: no routine, no attempts without an answer.
    News,
    /// Everything.
    Everything,
}

/// The lines of a story.
pub struct Story {
    telling: Telling,
    /// The lines so far, each with its time.
    pub lines: Vec<(Millis, String)>,
}

impl Story {
    /// A story that has not begun.
    #[must_use]
    pub const fn new(telling: Telling) -> Self {
        Self { telling, lines: Vec::new() }
    }

    /// Whether it has a line that belongs to every story, or only to one of a kind.
    #[must_use]
    pub fn has(&self, only_in: Option<Telling>) -> bool {
        self.telling != Telling::Nothing && only_in.is_none_or(|kind| kind == self.telling)
    }

    /// Adds a line. News are not news a second time.
    pub fn add(&mut self, at: Millis, line: String) {
        let known = self.lines.last().is_some_and(|(_, last)| *last == line);
        if self.telling == Telling::Everything || !known {
            self.lines.push((at, line));
        }
    }
}

/// Time since the beginning of the world: days, hours, minutes, seconds.
#[must_use]
pub fn clock(at: Millis) -> String {
    let (seconds, millis) = (at.0 / 1_000, at.0 % 1_000);
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    format!("{days:>2}d {hours:02}:{:02}:{:02}.{millis:03}", seconds / 60 % 60, seconds % 60)
}
