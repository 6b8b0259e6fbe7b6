//! What the shim in `tests/storage/shim.c` writes down, and the marks of those who ask the service
//! meanwhile: one file, one order.
//!
//! A mark is made after an answer came, and so after all that the answer rests on; what was asked is marked
//! before it is sent. So the order never flatters the service.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::known::Asked;

/// Bytes of an entry's head.
const HEAD: usize = 24;
const MARK: &[u8; 3] = b"HRW";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file or folder, as named below the folder that was watched; empty for a mark.
    pub path: String,
    /// What happened.
    pub step: Step,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A file was made.
    Created,
    /// Bytes were written.
    Written {
        /// Where in the file.
        at: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A file was given this length.
    Length(u64),
    /// A sync began, by this number.
    SyncBegun(u64),
    /// It succeeded.
    SyncDone(u64),
    /// Writing was hurried; nothing became durable by it.
    Ranged,
    /// A folder was made.
    Folder,
    /// A file or folder was removed.
    Removed,
    /// It was renamed, to this.
    Renamed(String),
    /// A client is about to ask.
    Asked(Vec<Claim>),
    /// A client was answered.
    Answered {
        /// The record that the answer rests on; 0 where answers do not say.
        sequence: u64,
        /// What is so since then.
        claims: Vec<Claim>,
    },
}

/// A leg, and whether it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The leg.
    pub leg: String,
    /// It runs, or ended.
    pub runs: bool,
}

/// Reads a log.
///
/// # Errors
/// When it cannot be read, or holds a step that is not understood.
pub fn read(file: &Path) -> Result<Vec<Entry>, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (mut rest, mut entries) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let read = entry(&mut rest).ok_or_else(|| format!("entry {} is cut short", entries.len() + 1))?;
        entries.push(read.map_err(|why| format!("entry {}: {why}", entries.len() + 1))?);
    }
    Ok(entries)
}

/// Takes one entry off; `None` when it is not whole.
fn entry(rest: &mut &[u8]) -> Option<Result<Entry, String>> {
    let head = take(rest, HEAD)?;
    let (kind, path_length) = (head[3], u32::from_ne_bytes(head[4..8].try_into().ok()?));
    let number = u64::from_ne_bytes(head[8..16].try_into().ok()?);
    let data_length = u64::from_ne_bytes(head[16..24].try_into().ok()?);
    let path = String::from_utf8_lossy(take(rest, path_length as usize)?).into_owned();
    let data = take(rest, usize::try_from(data_length).ok()?)?;
    if !head.starts_with(MARK) {
        return Some(Err("it does not begin as one".into()));
    }
    let text = || String::from_utf8_lossy(data).into_owned();
    let step = match kind {
        b'c' => Step::Created,
        b'w' => Step::Written { at: number, data: data.to_vec() },
        b't' => Step::Length(number),
        b'b' => Step::SyncBegun(number),
        b'e' => Step::SyncDone(number),
        b's' => Step::Ranged,
        b'm' => Step::Folder,
        b'u' => Step::Removed,
        b'r' => Step::Renamed(text()),
        b'?' => Step::Asked(claims(&text())),
        b'!' => Step::Answered { sequence: number, claims: claims(&text()) },
        b'x' => {
            return Some(Err(format!("{path} was changed by {}, which nothing here understands", text())));
        }
        other => return Some(Err(format!("its kind is {other}"))),
    };
    Some(Ok(Entry { path, step }))
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn claims(text: &str) -> Vec<Claim> {
    let lines = text.lines().filter_map(|line| line.split_at_checked(1));
    lines.map(|(sign, leg)| Claim { leg: leg.to_owned(), runs: sign == "+" }).collect()
}

/// Appends the marks of one who asks.
#[derive(Debug)]
pub struct Marks(File);

impl Marks {
    /// Marks in this log.
    ///
    /// # Errors
    /// When it cannot be appended to.
    pub fn open(log: &Path) -> std::io::Result<Self> {
        File::options().create(true).append(true).open(log).map(Self)
    }

    /// Marks what is about to be asked.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn asked(&self, asked: &Asked) -> std::io::Result<()> {
        let (names, runs) = match asked {
            Asked::Calls(names) => (names, true),
            Asked::Ends(names) => (names, false),
        };
        self.mark(b'?', 0, names.iter().map(|name| (name, runs)))
    }

    /// Marks what was answered, and the record that the answer rests on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn answered(&self, sequence: u64, asked: &Asked, granted: &BTreeSet<String>) -> std::io::Result<()> {
        let (Asked::Calls(names) | Asked::Ends(names)) = asked;
        self.mark(b'!', sequence, names.iter().map(|name| (name, granted.contains(name))))
    }

    fn mark<'n>(
        &self,
        kind: u8,
        number: u64,
        claims: impl Iterator<Item = (&'n String, bool)>,
    ) -> std::io::Result<()> {
        let data: String =
            claims.map(|(leg, runs)| format!("{}{leg}\n", if runs { '+' } else { '-' })).collect();
        let mut entry = [&MARK[..], &[kind]].concat();
        entry.extend(0_u32.to_ne_bytes());
        entry.extend(number.to_ne_bytes());
        entry.extend((data.len() as u64).to_ne_bytes());
        entry.extend(data.as_bytes());
        // one write, so that it stays in one piece beside the shim's
        (&self.0).write_all(&entry)
    }
}
