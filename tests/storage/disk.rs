//! A disk that loses power: what of the steps that a program took is there afterwards.
//!
//! - What was written to a file before a sync of it began that ended before the cut is there. Of every
//!   other write, independently, all may be there, or nothing, or its beginning, or some of its sectors, or only
//!   the length that it gave the file. `sync_file_range` makes nothing durable.
//! - Names (made, removed, renamed) are on an *ordered* disk as a journal keeps them, ext4's for example: a
//!   beginning of all of them, at least up to the last one that a sync concerned, be it of the folder or of the
//!   file that is named. A *harsh* disk keeps or drops each on its own, until its folder was synced; a
//!   sync of the file is not enough.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::AddAssign;
use std::path::Path;
use std::sync::Arc;

use headroom_simulator::dice::Dice;
use headroom_tests::write_log::{Entry, Step};

type Id = usize;
const ROOT: Id = 0;
/// Where a name stands: folder, name.
type Place = (Id, String);

/// The disk after so many steps.
#[derive(Clone)]
pub(super) struct Disk {
    nodes: Vec<Node>,
    /// Names at the beginning, all durable.
    base: BTreeMap<Place, Id>,
    /// Names as the program sees them.
    names: BTreeMap<Place, Id>,
    changes: Vec<Naming>,
    /// On an ordered disk, so many of the changes are certain.
    certain: usize,
    syncs: HashMap<u64, Sync>,
    steps: u64,
}

#[derive(Clone)]
enum Node {
    Folder,
    File(File),
}

#[derive(Clone, Default)]
struct File {
    durable: Arc<Vec<u8>>,
    pending: Vec<(u64, Change)>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, data: Arc<[u8]> },
    Length(usize),
}

/// A change of names: a node leaves a place, comes to one, or both.
#[derive(Clone)]
struct Naming {
    node: Id,
    from: Option<Place>,
    to: Option<Place>,
    /// The folder was synced since.
    synced: bool,
}

#[derive(Clone, Copy)]
struct Sync {
    node: Id,
    step: u64,
    changes: usize,
}

/// How the power goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// The step that is in the middle, counted from 0; those before are done.
    pub(super) at: usize,
    /// Names are kept or dropped one by one.
    pub(super) harsh: bool,
    /// Of a hundred writes that are not durable, so many are there, and so many are there in part.
    pub(super) kept: usize,
    pub(super) torn: usize,
    pub(super) dice: u64,
}

/// What was lost, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) dropped: u64,
    pub(super) torn: u64,
    pub(super) hollow: u64,
    pub(super) names: u64,
}

impl AddAssign for Losses {
    fn add_assign(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.torn += other.torn;
        self.hollow += other.hollow;
        self.names += other.names;
    }
}

impl Disk {
    /// With what a folder holds, all of it durable.
    pub(super) fn of(folder: &Path) -> Self {
        let mut disk = Self {
            nodes: vec![Node::Folder],
            base: BTreeMap::new(),
            names: BTreeMap::new(),
            changes: Vec::new(),
            certain: 0,
            syncs: HashMap::new(),
            steps: 0,
        };
        disk.scan(folder, ROOT);
        disk.names.clone_from(&disk.base);
        disk
    }

    fn scan(&mut self, folder: &Path, id: Id) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("its kind");
            let name = entry.file_name().to_string_lossy().into_owned();
            let node = self.nodes.len();
            if kind.is_dir() {
                self.nodes.push(Node::Folder);
                self.scan(&entry.path(), node);
            } else if kind.is_file() {
                let durable = Arc::new(fs::read(entry.path()).expect("a file"));
                self.nodes.push(Node::File(File { durable, pending: Vec::new() }));
            } else {
                continue;
            }
            self.base.insert((id, name), node);
        }
    }

    /// The folder and name that a path says.
    fn place(&self, path: &str) -> Option<Place> {
        let mut names = path.split('/').peekable();
        let mut folder = ROOT;
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                return Some((folder, name.to_owned()));
            }
            folder = *self.names.get(&(folder, name.to_owned()))?;
        }
        None
    }

    fn find(&self, path: &str) -> Option<Id> {
        if path.is_empty() { Some(ROOT) } else { self.names.get(&self.place(path)?).copied() }
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// When it does not fit to those before: something was not seen.
    pub(super) fn step(&mut self, entry: &Entry) -> Result<(), String> {
        self.steps += 1;
        self.take(entry).ok_or_else(|| {
            let mut shown = format!("{:?}", entry.step);
            shown.truncate(80);
            format!("step {}, {shown} of {}, does not fit to those before", self.steps, entry.path)
        })
    }

    /// A name that is not known is a socket's, which is made by nothing that is a step.
    fn take(&mut self, Entry { path, step }: &Entry) -> Option<()> {
        match step {
            Step::Asked(_) | Step::Answered { .. } | Step::Ranged => {}
            Step::Written { at, data } => {
                let at = usize::try_from(*at).ok()?;
                self.change(path, Change::Write { at, data: data.as_slice().into() })?;
            }
            Step::Length(length) => self.change(path, Change::Length(usize::try_from(*length).ok()?))?,
            Step::SyncBegun(number) => {
                let node = self.find(path)?;
                self.syncs.insert(*number, Sync { node, step: self.steps, changes: self.changes.len() });
            }
            Step::SyncDone(number) => {
                let sync = self.syncs.remove(number)?;
                self.synced(sync);
            }
            Step::Created | Step::Folder => {
                let made = if *step == Step::Folder { Node::Folder } else { Node::File(File::default()) };
                let place = self.place(path)?;
                self.nodes.push(made);
                self.name(self.nodes.len() - 1, None, Some(place));
            }
            Step::Removed => {
                let place = self.place(path)?;
                if let Some(node) = self.names.get(&place).copied() {
                    self.name(node, Some(place), None);
                }
            }
            Step::Renamed(target) => {
                let (from, to) = self.place(path).zip(self.place(target))?;
                if let Some(node) = self.names.get(&from).copied() {
                    self.name(node, Some(from), Some(to));
                }
            }
        }
        Some(())
    }

    fn change(&mut self, path: &str, change: Change) -> Option<()> {
        let id = self.find(path)?;
        let Node::File(file) = &mut self.nodes[id] else { return None };
        file.pending.push((self.steps, change));
        Some(())
    }

    fn name(&mut self, node: Id, from: Option<Place>, to: Option<Place>) {
        let naming = Naming { node, from, to, synced: false };
        naming.apply(&mut self.names);
        self.changes.push(naming);
    }

    fn synced(&mut self, sync: Sync) {
        if let Node::File(file) = &mut self.nodes[sync.node] {
            let done = file.pending.partition_point(|(step, _)| *step < sync.step);
            let durable = Arc::make_mut(&mut file.durable);
            file.pending.drain(..done).for_each(|(_, change)| change.apply(durable));
        }
        let concerns = |change: &Naming| change.node == sync.node || change.is_in(sync.node);
        if let Some(last) = self.changes[..sync.changes].iter().rposition(concerns) {
            self.certain = self.certain.max(last + 1);
        }
        let inside = self.changes[..sync.changes].iter_mut().filter(|change| change.is_in(sync.node));
        inside.for_each(|change| change.synced = true);
    }

    /// Makes the folder that is found after the power came back.
    pub(super) fn after(&self, cut: Cut, entry: Option<&Entry>, folder: &Path) -> Losses {
        let mut dice = Dice::new(cut.dice);
        let mut losses = Losses::default();
        let mut disk = std::borrow::Cow::Borrowed(self);
        if let Some(Entry { path, step: Step::Written { at, data } }) = entry {
            // The program came no further than this with it.
            let data: Arc<[u8]> = data[..dice.index(data.len() + 1)].into();
            let at = usize::try_from(*at).unwrap_or_default();
            let _ = disk.to_mut().change(path, Change::Write { at, data });
        }
        let names = disk.names_after(cut, &mut dice, &mut losses);
        disk.write_folder(ROOT, folder, &names, &mut |file| file.after(cut, &mut dice, &mut losses));
        losses
    }

    /// Makes the folder as the program sees it.
    pub(super) fn as_it_is(&self, folder: &Path) {
        self.write_folder(ROOT, folder, &self.names, &mut |file| {
            let mut bytes = file.durable.to_vec();
            file.pending.iter().for_each(|(_, change)| change.apply(&mut bytes));
            bytes
        });
    }

    fn names_after(&self, cut: Cut, dice: &mut Dice, losses: &mut Losses) -> BTreeMap<Place, Id> {
        let mut names = self.base.clone();
        let begun = self.certain + dice.index(self.changes.len() - self.certain + 1);
        // Often all or nothing of them: in between there are too many ways to meet the ends by chance.
        let (all, chance) = (cut.kept == 100, dice.index(101));
        for (number, change) in self.changes.iter().enumerate() {
            let is_there = match (cut.harsh, change.synced) {
                (false, _) => number < begun || all,
                (true, true) => true,
                (true, false) => all || dice.index(100) < chance,
            };
            if is_there {
                change.apply(&mut names);
            } else {
                losses.names += 1;
            }
        }
        names
    }

    fn write_folder(
        &self,
        id: Id,
        folder: &Path,
        names: &BTreeMap<Place, Id>,
        content: &mut impl FnMut(&File) -> Vec<u8>,
    ) {
        for ((_, name), node) in names.range((id, String::new())..(id + 1, String::new())) {
            let path = folder.join(name);
            match &self.nodes[*node] {
                Node::Folder => {
                    fs::create_dir(&path).expect("a folder");
                    self.write_folder(*node, &path, names, content);
                }
                Node::File(file) => fs::write(&path, content(file)).expect("a file"),
            }
        }
    }
}

impl Naming {
    fn is_in(&self, folder: Id) -> bool {
        [&self.from, &self.to].into_iter().flatten().any(|(id, _)| *id == folder)
    }

    fn apply(&self, names: &mut BTreeMap<Place, Id>) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.node);
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write { at, data } => write_at(bytes, *at, data),
        }
    }
}

fn write_at(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    if data.is_empty() {
        return;
    }
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(data);
}

impl File {
    fn after(&self, cut: Cut, dice: &mut Dice, losses: &mut Losses) -> Vec<u8> {
        let mut bytes = self.durable.to_vec();
        for (_, change) in &self.pending {
            let fate = dice.index(100);
            match change {
                _ if fate < cut.kept => change.apply(&mut bytes),
                Change::Write { at, data } if fate < cut.kept + cut.torn && data.len() > 1 => {
                    tear(&mut bytes, *at, data, dice, losses);
                }
                _ => losses.dropped += 1,
            }
        }
        bytes
    }
}

/// Writes a part: the beginning, or some sectors, or nothing but the length.
fn tear(bytes: &mut Vec<u8>, at: usize, data: &[u8], dice: &mut Dice, losses: &mut Losses) {
    losses.torn += 1;
    let end = at + data.len();
    match dice.index(4) {
        0 => write_at(bytes, at, &data[..dice.index(data.len())]),
        1 if bytes.len() < end => {
            losses.hollow += 1;
            bytes.resize(end, 0);
        }
        how => {
            let sector = if how == 2 { 512 } else { 4096 };
            let mut from = at;
            while from < end {
                let to = ((from / sector + 1) * sector).min(end);
                if dice.index(2) == 0 {
                    write_at(bytes, from, &data[from - at..to - at]);
                }
                from = to;
            }
        }
    }
}
