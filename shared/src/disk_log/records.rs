//! The records, in files of their own: one write and one sync for each.
//!
//! A file is named by the number of its first record and takes about 4 MiB; the records follow
//! each other in frames. At most the last one can have been cut short, by a crash while it
//! was written; it was not acknowledged then, and goes. Whatever else is not as it was written is damage.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use headroom_core::record::Link;

use super::files::sync;
use super::frame::{Frame, more_than_one};
use crate::log::{AppendError, Item, LogError, Part, Sealed, Visitor};

/// A file that has so many bytes is followed by another. Small beside what a store may take, since only
/// whole files are removed.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

pub(super) struct Records {
    dir: PathBuf,
    tail: Mutex<Tail>,
}

/// The file that is written to.
struct Tail {
    file: File,
    length: u64,
    head: Head,
    broken: Option<String>,
}

impl Tail {
    /// Whether the next record begins another file.
    fn is_full(&self) -> bool {
        self.length >= FILE_BYTES
    }
}

/// Where the history stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) link: Link,
    pub(super) generation: u64,
}

impl Records {
    /// Makes the folder of an empty history.
    pub(super) fn create(dir: &Path) -> Result<(), LogError> {
        let failed = |error| LogError::io("create", dir, error);
        fs::create_dir(dir).map_err(failed)?;
        File::create_new(named(dir, 1)).map_err(failed)?.sync_all().map_err(failed)?;
        sync(dir)
    }

    /// Opens the records of a history that had an identity at its beginning, of which a record was the last
    /// one acknowledged, and of which there may be a snapshot. Nothing is changed before all of it is checked.
    pub(super) fn open(
        dir: &Path,
        generation: u64,
        acknowledged: Link,
        snapshot: Option<Link>,
    ) -> Result<Self, LogError> {
        let files = files(dir)?;
        let Some((&newest, before)) = files.split_last() else {
            return Err(LogError::damaged(Item::Head, "there are no files of records"));
        };
        let mut end = End::of(dir, newest)?;
        let mut begun = None;
        if let (None, Some(&older)) = (end.last, before.last()) {
            // Begun for a record that never was written whole.
            begun = Some(end.path);
            end = End::of(dir, older)?;
            if end.cut.is_some() || end.next != newest {
                let why = end.cut.unwrap_or("it is missing");
                return Err(LogError::damaged(Item::Record(end.next), why));
            }
        }
        let head = match end.last {
            Some((head, _)) => head,
            None if newest == 1 => Head { link: Link::default(), generation },
            None => return Err(LogError::damaged(Item::Record(newest - 1), "it is missing")),
        };
        confirm(head.link, acknowledged, end.cut)?;
        // A snapshot stands at a record that was durable.
        if let Some(at) = snapshot.filter(|at| at.sequence > head.link.sequence) {
            let why =
                format!("there is a snapshot of it, and the store ends at record {}", head.link.sequence);
            return Err(LogError::damaged(Item::Record(at.sequence), why));
        }
        if let Some(path) = begun {
            fs::remove_file(&path).map_err(|error| LogError::io("remove", &path, error))?;
        }
        let file = end.settle()?;
        sync(dir)?;
        let tail = Tail { file, length: end.whole as u64, head, broken: None };
        Ok(Self { dir: dir.to_owned(), tail: Mutex::new(tail) })
    }

    pub(super) fn head(&self) -> Head {
        self.tail().head
    }

    /// Whether the next record begins a file.
    pub(super) fn begins_file(&self) -> bool {
        self.tail().is_full()
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // No code panics between two changes that belong together.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record and waits until it is durable.
    pub(super) fn append(&self, record: &Sealed) -> Result<(), AppendError> {
        let sequence = record.link.sequence;
        // Held to the end: a second writer meets the head that this record leaves.
        let mut tail = self.tail();
        if tail.head.link != record.after {
            return Err(AppendError::Fenced { wanted: sequence, head: tail.head.link });
        }
        if let Some(why) = &tail.broken {
            return Err(AppendError::Failed { sequence, cause: LogError::Broken { why: why.clone() } });
        }
        let generation = record.generation.unwrap_or(tail.head.generation);
        let head = Head { link: record.link, generation };
        let written = self.write(&mut tail, head, &record.bytes);
        if let Err(AppendError::Failed { cause, .. } | AppendError::Unknown { cause, .. }) = &written {
            tail.broken = Some(cause.to_string());
        }
        written
    }

    fn write(&self, tail: &mut Tail, head: Head, record: &[u8]) -> Result<(), AppendError> {
        let sequence = head.link.sequence;
        let failed = |cause| AppendError::Failed { sequence, cause };
        let frame = Frame { link: head.link, generation: head.generation, record };
        let bytes = frame.bytes().ok_or_else(|| {
            failed(LogError::io("write", &self.dir, format!("{} bytes are too many", record.len())))
        })?;
        if tail.is_full() {
            tail.file = self.begin(sequence).map_err(failed)?;
            tail.length = 0;
        }
        let wrote = tail.file.write_all_at(&bytes, tail.length);
        wrote.map_err(|error| failed(LogError::io("write to", &self.dir, error)))?;
        tail.file.sync_data().map_err(|error| AppendError::Unknown {
            sequence,
            cause: LogError::io("sync", &self.dir, error),
        })?;
        tail.length += bytes.len() as u64;
        tail.head = head;
        Ok(())
    }

    /// Begins a file.
    fn begin(&self, first: u64) -> Result<File, LogError> {
        let path = named(&self.dir, first);
        let file = File::create_new(&path).map_err(|error| LogError::io("create", &path, error))?;
        sync(&self.dir)?;
        Ok(file)
    }

    /// Hands out the records after one, up to the head.
    pub(super) fn load(&self, after: u64, visit: &mut Visitor<'_>) -> Result<(), LogError> {
        let head = self.head().link.sequence;
        let mut due = after + 1;
        let files = files(&self.dir)?;
        let begin = files.partition_point(|first| *first <= due).saturating_sub(1);
        for &first in &files[begin..] {
            if first > due || due > head {
                break;
            }
            let bytes = read(&named(&self.dir, first))?;
            let (mut number, mut rest) = (first, &bytes[..]);
            while number <= head && !rest.is_empty() {
                let frame = numbered_frame(rest, number)?;
                if number >= due && visit(Part::Record(frame.record)) == ControlFlow::Break(()) {
                    return Ok(());
                }
                number += 1;
                rest = &rest[frame.length()..];
            }
            due = due.max(number);
        }
        if due > head { Ok(()) } else { Err(LogError::damaged(Item::Record(due), "it is missing")) }
    }

    /// Removes the files of which no record is needed: all up to this one.
    pub(super) fn trim(&self, last: u64) -> Result<(), LogError> {
        for pair in files(&self.dir)?.windows(2) {
            if pair[1] > last + 1 {
                break;
            }
            let path = named(&self.dir, pair[0]);
            fs::remove_file(&path).map_err(|error| LogError::io("remove", &path, error))?;
        }
        Ok(())
    }
}

/// How a file of records ends.
struct End {
    path: PathBuf,
    /// The last whole record, and where its frame begins.
    last: Option<(Head, usize)>,
    /// The number after it.
    next: u64,
    /// Bytes of the whole records.
    whole: usize,
    /// What is wrong with what follows them, when anything does.
    cut: Option<&'static str>,
    bytes: Vec<u8>,
}

impl End {
    fn of(dir: &Path, first: u64) -> Result<Self, LogError> {
        let path = named(dir, first);
        let bytes = read(&path)?;
        let (mut last, mut next, mut at, mut cut) = (None, first, 0, None);
        while at < bytes.len() {
            match Frame::first(&bytes[at..]) {
                Ok(frame) if frame.link.sequence == next => {
                    last = Some((Head { link: frame.link, generation: frame.generation }, at));
                    next += 1;
                    at += frame.length();
                }
                Ok(frame) => return Err(misplaced(next, frame)),
                // One record at a time is written: with another one after it, this one was acknowledged.
                Err(why) if more_than_one(&bytes[at..]) => {
                    return Err(LogError::damaged(Item::Record(next), why));
                }
                Err(why) => {
                    cut = Some(why);
                    break;
                }
            }
        }
        Ok(Self { path, last, next, whole: at, cut, bytes })
    }

    /// Takes off what was cut short, and makes the rest durable.
    fn settle(&self) -> Result<File, LogError> {
        let failed = |error| LogError::io("settle", &self.path, error);
        let file = File::options().read(true).write(true).open(&self.path).map_err(failed)?;
        file.set_len(self.whole as u64).map_err(failed)?;
        if let Some((_, at)) = self.last {
            // Written anew: after a sync that failed, the kernel shows what the disk may not have.
            file.write_all_at(&self.bytes[at..self.whole], at as u64).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        Ok(file)
    }
}

/// Checks that a history which ends at `head` has lost nothing.
fn confirm(head: Link, acknowledged: Link, cut: Option<&str>) -> Result<(), LogError> {
    let item = Item::Record(acknowledged.sequence);
    if head.sequence < acknowledged.sequence {
        let mut why = format!("it was acknowledged, and the store ends at record {}", head.sequence);
        if let Some(cut) = cut {
            why = format!("{why}; of the next one, {cut}");
        }
        return Err(LogError::damaged(item, why));
    }
    if head.sequence == acknowledged.sequence && head.hash != acknowledged.hash {
        return Err(LogError::damaged(item, "its hash is not the one that was acknowledged"));
    }
    Ok(())
}

/// The frame of the record with this number.
fn numbered_frame(bytes: &[u8], number: u64) -> Result<Frame<'_>, LogError> {
    let frame = Frame::first(bytes).map_err(|why| LogError::damaged(Item::Record(number), why))?;
    if frame.link.sequence == number { Ok(frame) } else { Err(misplaced(number, frame)) }
}

fn misplaced(number: u64, found: Frame<'_>) -> LogError {
    let why = format!("record {} is in its place", found.link.sequence);
    LogError::damaged(Item::Record(number), why)
}

fn named(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}"))
}

fn read(path: &Path) -> Result<Vec<u8>, LogError> {
    fs::read(path).map_err(|error| LogError::io("read", path, error))
}

/// The numbers of the files' first records, in order.
fn files(dir: &Path) -> Result<Vec<u64>, LogError> {
    let failed = |error| LogError::io("look into", dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().filter(|name| name.len() == 20).and_then(|name| name.parse().ok());
        let strange = || LogError::io("look into", dir, format!("{} is none of its files", name.display()));
        found.push(number.ok_or_else(strange)?);
    }
    found.sort_unstable();
    Ok(found)
}
