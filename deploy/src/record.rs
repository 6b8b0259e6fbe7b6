//! The record of a deployment: what it is made of and which processes it started, so that it can be
//! ended, resumed and recognised later.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::{Error, Result};

/// One process, recognised again by its start time: ids are given out anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What it is.
    pub name: String,
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

impl Process {
    /// Describes a process that runs now.
    #[must_use]
    pub fn of(name: &str, pid: u32) -> Self {
        Self { name: name.to_owned(), pid, started: start_time(pid).unwrap_or_default() }
    }

    /// Does this very process still run?
    #[must_use]
    pub fn alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// The start time of a process that runs and is no zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name, in parentheses, may hold anything
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    // state is the third field of the line, the start time the 22nd
    let started = fields.nth(18)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(started)
}

/// What is known of a deployment between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Was everything set up: keys, license, nodes?
    pub complete: bool,
    /// The boot of the machine the processes belong to.
    pub boot: String,
    /// The supervisor, while it runs.
    pub supervisor: Option<Process>,
    /// The services it started.
    pub services: Vec<Process>,
}

impl Record {
    /// A record of this boot.
    #[must_use]
    pub fn new() -> Self {
        Self { boot: this_boot(), ..Self::default() }
    }

    /// Reads the record of a state folder; nothing when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(layout: &Layout) -> Result<Option<Self>> {
        let file = layout.marker();
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { doing: format!("reading {}", file.display()), source }),
        };
        let record = serde_json::from_slice(&text)
            .map_err(|e| Error::Unreadable { what: file.display().to_string(), problem: e.to_string() })?;
        Ok(Some(record))
    }

    /// Writes the record, as a whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let file = layout.marker();
        let new = file.with_extension("json.new");
        let doing = || format!("writing {}", file.display());
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Unreadable { what: "the record".into(), problem: e.to_string() })?;
        std::fs::write(&new, text).map_err(Error::io(doing()))?;
        std::fs::rename(&new, &file).map_err(Error::io(doing()))
    }

    /// The processes that still run.
    #[must_use]
    pub fn alive(&self) -> Vec<Process> {
        if self.boot != this_boot() {
            return Vec::new();
        }
        self.supervisor.iter().chain(&self.services).filter(|p| p.alive()).cloned().collect()
    }

    /// Does the supervisor still run?
    #[must_use]
    pub fn supervised(&self) -> bool {
        self.boot == this_boot() && self.supervisor.as_ref().is_some_and(Process::alive)
    }
}

fn this_boot() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_time_not_only_by_its_id() {
        let me = Process::of("me", std::process::id());
        assert!(me.alive());
        let other = Process { started: me.started + 1, ..me };
        assert!(!other.alive());
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        assert_eq!(Record::read(&layout).unwrap(), None);
        let mut record = Record::new();
        record.services.push(Process::of("me", std::process::id()));
        record.write(&layout).unwrap();
        assert_eq!(Record::read(&layout).unwrap(), Some(record.clone()));
        assert_eq!(record.alive().len(), 1);
        record.boot = "another".into();
        assert!(record.alive().is_empty());
    }
}
