//! What happened, as text.

use headroom_core::Millis;

/// The lines of a story.
pub struct Story {
    told: bool,
    /// The lines so far.
    pub lines: Vec<String>,
}

impl Story {
    /// A story; nothing is kept unless it is told.
    #[must_use]
    pub const fn new(told: bool) -> Self {
        Self { told, lines: Vec::new() }
    }

    /// Adds a line.
    pub fn add(&mut self, at: Millis, line: impl FnOnce() -> String) {
        if self.told {
            self.lines.push(format!("{}  {}", clock(at), line()));
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
