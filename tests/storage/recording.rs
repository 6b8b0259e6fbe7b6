//! What a program did on disk under load, from beginning to end, and the history that it made there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headroom_core::machine::Machine;
use headroom_core::record::{self, Link};
use headroom_deploy::fleet::Options;
use headroom_shared::committer::recover;
use headroom_shared::disk_log::DiskLog;
use headroom_tests::askers::{CAPACITY, Node as Asker, Worker, all_ask, all_work, nodes, workers};
use headroom_tests::licensing::copy;
use headroom_tests::write_log::{self, Entry, Marks, Step};
use headroom_tests::{Deployment, until};

use super::disk::{Cut, Disk};
use super::load::{self, Shape, Which};
use super::shim::{Shim, When};

/// Where a load's store is, below the folder that is watched.
const STORE: &str = "state/log";

/// The steps of a program, on a disk that held something before.
pub(super) struct Recording<M: Machine> {
    pub(super) name: &'static str,
    pub(super) base: Disk,
    pub(super) entries: Vec<Entry>,
    /// Where the store is, below the folder that was watched.
    pub(super) store: PathBuf,
    pub(super) history: History<M>,
}

/// Every state that a history went through.
pub(super) struct History<M: Machine> {
    first: u64,
    states: Vec<(Link, M::State)>,
}

impl<M: Machine> History<M> {
    /// From the records that were written, on top of what a store held before.
    fn of(before: (Link, M::State), entries: &[Entry], store: &Path) -> Result<Self, String> {
        let mut records = BTreeMap::new();
        for entry in entries {
            if let Step::Written { data, .. } = &entry.step
                && let Some((sequence, record)) = written(entry, store, data)
            {
                let known = records.insert(sequence, record);
                if known.is_some_and(|known| known != record) {
                    return Err(format!("two records have the number {sequence}"));
                }
            }
        }
        let first = before.0.sequence;
        let mut states = vec![before];
        for (_, record) in records.range(first + 1..) {
            let (link, mut state) = states[states.len() - 1].clone();
            let (link, _, events) = record::open::<M::Event>(link, record).map_err(|e| e.to_string())?;
            events.iter().for_each(|event| M::apply(&mut state, event));
            states.push((link, state));
        }
        Ok(Self { first, states })
    }

    /// Where it stood, and the state, after a record.
    pub(super) fn at(&self, sequence: u64) -> Option<&(Link, M::State)> {
        self.states.get(usize::try_from(sequence.checked_sub(self.first)?).ok()?)
    }

    /// The first record that it has.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn records(&self) -> usize {
        self.states.len() - 1
    }
}

/// The record that a write to a store's records wrote, with its number.
pub(super) fn written<'d>(entry: &Entry, store: &Path, data: &'d [u8]) -> Option<(u64, &'d [u8])> {
    let is_record = Path::new(&entry.path).parent() == Some(&store.join("records"));
    is_record.then(|| frame(data).expect("a whole record is written at once"))
}

/// The number and the bytes of a record in its frame: `HRF`, a version, length, number, further fields.
fn frame(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    let sequence = u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?);
    let record = bytes.get(64..)?;
    (bytes.starts_with(b"HRF") && record.len() == usize::try_from(length).ok()?).then_some((sequence, record))
}

impl<M: Machine> Recording<M> {
    fn read(
        name: &'static str,
        base: Disk,
        before: (Link, M::State),
        log: &Path,
        root: &Path,
        store: &str,
    ) -> Self {
        let entries = write_log::read(log).expect("the log of the steps");
        let mut disk = base.clone();
        for entry in &entries {
            disk.step(entry).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
        // What the model says is on the disk is what is on the disk: no step went by unseen.
        let folder = tempfile::tempdir().expect("a folder");
        disk.as_it_is(folder.path());
        same(folder.path(), root);
        let store = PathBuf::from(store);
        let history = History::of(before, &entries, &store).unwrap_or_else(|why| panic!("{name}: {why}"));
        Self { name, base, entries, store, history }
    }
}

/// Fails unless all files of a folder are as in the other one.
fn same(folder: &Path, other: &Path) {
    let listed = |folder: &Path| -> BTreeMap<PathBuf, bool> {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
        let kinds = entries.map(|entry| (entry.path(), entry.file_type().expect("its kind")));
        let known = kinds.filter(|(_, kind)| kind.is_dir() || kind.is_file());
        known
            .map(|(path, kind)| (path.strip_prefix(folder).expect("inside").to_owned(), kind.is_dir()))
            .collect()
    };
    let here = listed(folder);
    assert_eq!(here, listed(other), "{}", other.display());
    for (name, is_folder) in here {
        let (one, another) = (folder.join(&name), other.join(&name));
        if is_folder {
            same(&one, &another);
        } else {
            let read = |path| std::fs::read(path).expect("a file");
            assert!(read(&one) == read(&another), "{} is not what its steps make it", another.display());
        }
    }
}

/// A machine by itself, from the making of its store on, killed and started again after so many steps.
pub(super) fn of_load<M: Machine>(
    name: &'static str,
    which: Which,
    shape: Shape,
    steps: &[u32],
) -> Recording<M> {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    std::fs::create_dir(&root).expect("a folder");
    of_load_on(&root, (Link::default(), M::State::default()), name, which, shape, steps)
}

/// The same in a folder that may have a store, which holds this.
fn of_load_on<M: Machine>(
    root: &Path,
    before: (Link, M::State),
    name: &'static str,
    which: Which,
    shape: Shape,
    steps: &[u32],
) -> Recording<M> {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let base = Disk::of(root);
    for step in steps {
        let shim = Shim::over(root).log(&log).kill(*step, When::After);
        load::run(which, shape, &root.join(STORE), &log, shim);
    }
    Recording::read(name, base, before, &log, root, STORE)
}

/// A machine on what a power cut left, while it recovers and a little after.
pub(super) fn of_load_after<M: Machine>(recording: &Recording<M>, cut: Cut, which: Which) -> Recording<M> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut disk = recording.base.clone();
    for entry in &recording.entries[..cut.at] {
        disk.step(entry).expect("it was taken before");
    }
    disk.after(cut, recording.entries.get(cut.at), folder.path());
    let has_store = folder.path().join(STORE).exists();
    let before = if has_store { held::<M>(folder.path(), STORE) } else { Default::default() };
    of_load_on(folder.path(), before, "after a cut", which, Shape::Snapshots, &[25, 80])
}

/// Most bytes that were written to sled's file between two syncs, once the store was made. Zeros do not
/// count: with them sled, when it opens, clears segments that hold nothing.
pub(super) fn most_unsynced(entries: &[Entry]) -> usize {
    let (mut unsynced, mut most) = (0, 0);
    for Entry { step, .. } in entries.iter().filter(|entry| entry.path == format!("{STORE}/snapshots/db")) {
        match step {
            Step::Written { data, .. } if data.iter().any(|byte| *byte != 0) => unsynced += data.len(),
            Step::SyncBegun(_) => unsynced = 0,
            _ => {}
        }
        most = most.max(unsynced);
    }
    most
}

/// What a store holds that nobody has open.
fn held<M: Machine>(root: &Path, store: &str) -> (Link, M::State) {
    let folder = tempfile::tempdir().expect("a folder");
    let copied = folder.path().join("log");
    copy(&root.join(store), &copied);
    let recovered = recover::<M>(&DiskLog::open(&copied).expect("a store")).expect("its state");
    (recovered.head, recovered.state)
}

/// Waits until a service was killed by its shim.
pub(super) async fn gone(deployment: &mut Deployment, service: &str) {
    until("the kill", async || {
        let ended = deployment.ended();
        if ended == [service] { Ok(()) } else { Err(format!("{ended:?} ended")) }
    })
    .await;
}

/// The real management node under load, killed and started again after so many steps.
pub(super) async fn of_management<M: Machine>(steps: &[u32]) -> Recording<M> {
    let capacity = CAPACITY.to_string();
    let change = |options| Options { nodes: Vec::new(), capacity, ..options };
    let mut deployment = Deployment::start_with(change).await;
    let mut nodes = nodes(&deployment).await;
    deployment.kill_management().await;
    let root = deployment.layout().service("management");
    let log = deployment.layout().root().join("steps");
    let (base, before) = (Disk::of(&root), held::<M>(&root, "log"));
    let marked = |node: &mut Asker| node.known.marks = Some(Marks::open(&log).expect("the marks"));
    nodes.iter_mut().for_each(marked);
    for step in steps {
        deployment.management_env = Shim::over(&root).log(&log).kill(*step, When::After).env();
        deployment.start_management().await.expect("it starts");
        all_ask(&mut nodes, false, gone(&mut deployment, "management")).await;
        deployment.kill_management().await;
    }
    Recording::read("management-node", base, before, &log, &root, "log")
}

/// The real conferencing node under load, killed and started again after so many steps.
pub(super) async fn of_conferencing<M: Machine>(steps: &[u32]) -> Recording<M> {
    const NODE: &str = "node-a";
    let (nodes, capacity) = (vec![(NODE.to_owned(), 0)], CAPACITY.to_string());
    let mut deployment = Deployment::start_with(|options| Options { nodes, capacity, ..options }).await;
    deployment.agent(NODE).await;
    deployment.kill_node(NODE).await.expect("the node");
    let root = deployment.layout().service(NODE);
    let log = deployment.layout().root().join("steps");
    let (base, before) = (Disk::of(&root), held::<M>(&root, "log"));
    let mut workers = workers();
    let marked = |worker: &mut Worker| worker.known.marks = Some(Marks::open(&log).expect("the marks"));
    workers.iter_mut().for_each(marked);
    for step in steps {
        let env = Shim::over(&root).log(&log).kill(*step, When::After).env();
        deployment.node_mut(NODE).expect("the node").env = env;
        deployment.start_node(NODE).await.expect("it starts");
        let agent = deployment.node(NODE).expect("the node").agent.clone();
        all_work(&mut workers, &agent, gone(&mut deployment, NODE)).await;
        deployment.kill_node(NODE).await.expect("the node");
    }
    Recording::read("conferencing-node", base, before, &log, &root, "log")
}
