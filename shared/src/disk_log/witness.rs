//! Which record was the last one acknowledged, noted outside the records.
//!
//! Damage at the end of the records looks like a write that was cut short by a crash. The note here is
//! written after a record has become durable and before it is acknowledged, so a store that ends before it
//! has lost something.
//!
//! Notes are not synced one by one, only when a store is opened, a file of records or a snapshot is begun,
//! and at the end: after a power cut the witness may stand behind the store, never before it. There are two
//! places. One holds a note that is durable and stays as it is; notes go to the other one until they are synced,
//! then the places change their parts. So a cut that spoils whatever is not durable leaves one note.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use headroom_core::record::Link;

use super::{checked, unchecked};
use crate::log::LogError;

const NAME: &str = "witness";
/// Where the two notes begin: in blocks of their own.
const PLACES: [u64; 2] = [0, 4096];
/// A length, then what [`checked`] makes of a link.
const NOTE: usize = 128;

pub(super) struct Witness {
    path: PathBuf,
    file: File,
    turn: Mutex<Turn>,
}

/// Where notes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Turn {
    place: usize,
    /// So many went there since the places changed their parts.
    notes: u64,
}

impl Witness {
    /// Makes the witness of an empty store.
    pub(super) fn create(dir: &Path) -> Result<(), LogError> {
        let path = dir.join(NAME);
        let file = File::create_new(&path).map_err(|error| LogError::io("create", &path, error))?;
        let made = Self { path, file, turn: Mutex::default() };
        made.note(Link::default())?;
        made.make_durable()
    }

    pub(super) fn open(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join(NAME);
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) => return Err(LogError::Witness { path, why: error.to_string() }),
        };
        let opened = Self { path, file, turn: Mutex::default() };
        // A process that was killed leaves a note that is not durable: none goes over the other one before.
        opened.make_durable()?;
        opened.turn().place = 1 - opened.newest()?.0;
        Ok(opened)
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        // No code panics between two changes that belong together.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a record that has become durable.
    pub(super) fn note(&self, link: Link) -> Result<(), LogError> {
        let content = checked(&link);
        let mut note = [0; NOTE];
        note[0] = u8::try_from(content.len()).unwrap_or(u8::MAX);
        note[1..=content.len()].copy_from_slice(&content);
        let mut turn = self.turn();
        turn.notes += 1;
        let written = self.file.write_all_at(&note, PLACES[turn.place]);
        written.map_err(|error| LogError::io("note the last record in", &self.path, error))
    }

    /// Makes the notes so far durable.
    pub(super) fn make_durable(&self) -> Result<(), LogError> {
        let before = *self.turn();
        self.file.sync_all().map_err(|error| LogError::io("sync", &self.path, error))?;
        let mut turn = self.turn();
        // A note that came meanwhile may not be durable: its place cannot be the one that stays.
        if *turn == before && before.notes > 0 {
            *turn = Turn { place: 1 - before.place, notes: 0 };
        }
        Ok(())
    }

    fn read(&self, place: u64) -> Result<Link, String> {
        let mut note = [0; NOTE];
        self.file.read_exact_at(&mut note, place).map_err(|error| error.to_string())?;
        unchecked(note[1..].get(..usize::from(note[0])).unwrap_or_default())
    }

    /// The last record that was acknowledged.
    pub(super) fn last(&self) -> Result<Link, LogError> {
        self.newest().map(|(_, link)| link)
    }

    /// The newest note, and its place.
    fn newest(&self) -> Result<(usize, Link), LogError> {
        match PLACES.map(|place| self.read(place)) {
            [Ok(one), Ok(other)] if other.sequence > one.sequence => Ok((1, other)),
            [Ok(one), _] => Ok((0, one)),
            [Err(_), Ok(other)] => Ok((1, other)),
            [Err(why), Err(_)] => Err(LogError::Witness { path: self.path.clone(), why }),
        }
    }
}
