//! Proof that the simulator sees: faults of the kinds that people make in protocols and in durability, sown
//! one at a time into a copy of the machines. Simulated worlds must break a promise for each.
//!
//! A fault is a change of the text of one place or a few, so no trace of it is in the product, and it says
//! by itself when the place is not there any more.

pub mod faults;
pub mod field;
pub mod rare;

/// A fault to sow.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// One word for it.
    pub name: &'static str,
    /// What the machine does wrong with it.
    pub what: &'static str,
    /// What is changed, all of it together.
    pub edits: &'static [Edit],
}

type Kind = Option<&'static str>;

fn of_kinds(kinds: &'static [(&'static str, &'static [Fault])]) -> impl Iterator<Item = (Kind, Fault)> {
    kinds.iter().flat_map(|(kind, faults)| faults.iter().map(move |fault| (Some(*kind), *fault)))
}

/// Every fault that is found, with the kind of world that shows it if that is not one as chance makes them.
pub fn all() -> impl Iterator<Item = (Kind, Fault)> {
    faults::FAULTS.iter().map(|fault| (None, *fault)).chain(of_kinds(rare::RARE))
}

/// Those that make no difference by themselves, with the kind of world that comes nearest.
pub fn redundant() -> impl Iterator<Item = (Kind, Fault)> {
    of_kinds(rare::REDUNDANT)
}

/// A change of one place.
#[derive(Debug, Clone, Copy)]
pub struct Edit {
    /// The file, from the top of the tree.
    pub file: &'static str,
    /// What stands there, exactly once.
    pub find: &'static str,
    /// What stands there with the fault.
    pub replace: &'static str,
}

impl Edit {
    /// The text of the file with this fault.
    ///
    /// # Errors
    /// The place is not in the text, or more than once.
    pub fn sow(&self, text: &str) -> Result<String, String> {
        match text.matches(self.find).count() {
            1 => Ok(text.replacen(self.find, self.replace, 1)),
            count => Err(format!("{} has {count} times, not once: {}", self.file, self.find)),
        }
    }
}
