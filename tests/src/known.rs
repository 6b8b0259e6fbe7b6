//! What those who ask a service know for certain, because it was answered, and the comparison of that with
//! what the service holds after it was killed.

use std::collections::BTreeSet;
use std::time::Duration;

use headroom_simulator::dice::Dice;

use crate::write_log::Marks;

/// An asker that holds so much gives something back.
const MOST: usize = 8;

/// Waits up to a sixth of a second.
pub async fn moment(dice: &mut Dice) {
    tokio::time::sleep(Duration::from_micros(500 + dice.below(150_000))).await;
}

/// A number that a variable of the environment sets, or the usual one.
///
/// # Panics
/// When the variable is no number.
#[must_use]
pub fn number_from(variable: &str, usual: u32) -> u32 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")),
        Err(_) => usual,
    }
}

/// What somebody asked for, and has no answer to.
#[derive(Debug, Clone)]
pub enum Asked {
    /// Calls of one leg each, by name.
    Calls(Vec<String>),
    /// The end of such.
    Ends(Vec<String>),
}

/// What somebody knows for certain, because it was answered.
#[derive(Debug, Default)]
pub struct Known {
    /// What was granted and not given back.
    pub held: BTreeSet<String>,
    /// Grants.
    pub granted: u64,
    /// Denials.
    pub denied: u64,
    /// Ends.
    pub ended: u64,
    names: usize,
    /// What has no answer.
    pub pending: Option<Asked>,
    /// Where it is marked what was asked and answered, if anywhere.
    pub marks: Option<Marks>,
}

impl Known {
    /// Nothing yet; what is asked and answered is marked, if anywhere.
    #[must_use]
    pub fn marked(marks: Option<Marks>) -> Self {
        Self { marks, ..Self::default() }
    }

    /// What to ask next: what has no answer yet, again, or something new.
    ///
    /// # Panics
    /// When it cannot be marked.
    pub fn next(&mut self, dice: &mut Dice, whose: &str, at_once: usize) -> Asked {
        if let Some(pending) = &self.pending {
            return pending.clone();
        }
        let count = 1 + dice.index(at_once);
        let asked = if self.held.len() >= MOST || (!self.held.is_empty() && dice.below(3) == 0) {
            let skip = dice.index(self.held.len());
            Asked::Ends(self.held.iter().skip(skip).take(count).cloned().collect())
        } else {
            let names = self.names..self.names + count;
            self.names = names.end;
            Asked::Calls(names.map(|number| format!("{whose}-{number}")).collect())
        };
        if let Some(marks) = &self.marks {
            marks.asked(&asked).expect("a mark");
        }
        self.pending = Some(asked.clone());
        asked
    }

    /// Takes an answer, which rests on a record; 0 where answers do not say.
    ///
    /// # Panics
    /// When it cannot be marked.
    pub fn answered(&mut self, asked: &Asked, granted: &BTreeSet<String>, sequence: u64) {
        if let Some(marks) = &self.marks {
            marks.answered(sequence, asked, granted).expect("a mark");
        }
        match asked {
            Asked::Calls(names) => {
                self.granted += granted.len() as u64;
                self.denied += (names.len() - granted.len()) as u64;
                self.held.extend(granted.iter().cloned());
            }
            Asked::Ends(names) => {
                self.ended += names.len() as u64;
                self.held.retain(|name| !names.contains(name));
            }
        }
        self.pending = None;
    }

    /// Compares what is held after a restart: all that was acknowledged, and nothing but that and what
    /// was asked for without an answer.
    ///
    /// # Errors
    /// What differs.
    pub fn compare(&self, found: &BTreeSet<String>) -> Result<(), String> {
        let (may_be_more, may_be_less) = match &self.pending {
            Some(Asked::Calls(names)) => (names.as_slice(), [].as_slice()),
            Some(Asked::Ends(names)) => ([].as_slice(), names.as_slice()),
            None => ([].as_slice(), [].as_slice()),
        };
        let lost: Vec<_> = self.held.difference(found).filter(|name| !may_be_less.contains(name)).collect();
        let invented: Vec<_> =
            found.difference(&self.held).filter(|name| !may_be_more.contains(name)).collect();
        if lost.is_empty() && invented.is_empty() {
            return Ok(());
        }
        Err(format!("lost {lost:?}, invented {invented:?}, unanswered {:?}", self.pending))
    }
}

/// Counts of all who asked, in one line.
pub fn sum<'k>(all: impl IntoIterator<Item = &'k Known>) -> (u64, u64, u64) {
    all.into_iter().fold((0, 0, 0), |(granted, denied, ended), known| {
        (granted + known.granted, denied + known.denied, ended + known.ended)
    })
}
