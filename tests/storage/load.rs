//! The real machines on the real log, with snapshots so small and so often that a short run has many, asked
//! by clients who mark what they are answered.
//!
//! A process of its own, because the shim has to be loaded before it: the binary of these tests, told by
//! `HEADROOM_TEST_LOAD` which machine, which shape, where the store lies and where the marks go. It runs
//! until the shim kills it.

mod node;
mod pool;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use headroom_shared::committer::Options;
use headroom_shared::disk_log::DiskLog;
use headroom_shared::log::LogError;
use headroom_tests::write_log::Marks;

use super::shim::Shim;

pub(super) use pool::{fill, snapshot};

const TOLD: &str = "HEADROOM_TEST_LOAD";
/// More than any load gets to before it is killed.
const ROUNDS: usize = 100_000;

/// How much is asked at once, and how often a snapshot is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Small records, and a snapshot every few of them.
    Snapshots,
    /// Snapshots of some hundred KiB, so that sled uses its file over and over.
    Segments,
    /// Records of up to some hundred KiB, so that files of them are full, begun and removed.
    Rotations,
}

impl Shape {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Snapshots, "snapshots"), (Self::Segments, "segments"), (Self::Rotations, "rotations")];

    fn options(self) -> Options {
        match self {
            Self::Snapshots => Options { snapshot_after: 60, chunk_events: 8, ..Options::default() },
            Self::Segments => Options { snapshot_after: 600, ..Options::default() },
            Self::Rotations => Options { snapshot_bytes: 3 << 20, ..Options::default() },
        }
    }

    /// Most calls in one request.
    fn at_once(self) -> usize {
        match self {
            Self::Snapshots => 3,
            Self::Segments => 48,
            Self::Rotations => 128,
        }
    }

    /// How the names of one client begin, in the process that began at this record.
    fn names(self, client: usize, began: u64) -> String {
        let padding = if self == Self::Snapshots { 0 } else { 200 };
        format!("{:-<padding$}", format!("r{began}c{client}"))
    }
}

/// Which machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Pool,
    Node,
}

/// How long a child that another test has just forked may hold what it inherited of a store that was closed.
const INHERITED: Duration = Duration::from_secs(30);

/// Opens the store, or makes it, as a conferencing node does with its journal.
pub(super) fn open(dir: &Path) -> Result<DiskLog, String> {
    let begun = Instant::now();
    loop {
        match if dir.exists() { DiskLog::open(dir) } else { DiskLog::create(dir, 1) } {
            // Between its fork and its exec a child has the lock too.
            Err(LogError::InUse { .. }) if begun.elapsed() < INHERITED => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened.map_err(|error| error.to_string()),
        }
    }
}

/// Runs a load under a shim until it is killed.
pub(super) fn run(which: Which, shape: Shape, store: &Path, log: &Path, shim: Shim) -> ExitStatus {
    let which = if which == Which::Pool { "pool" } else { "node" };
    let shape = Shape::ALL.iter().find(|(one, _)| *one == shape).map_or("", |(_, name)| name);
    let mut told = std::ffi::OsString::from(format!("{which}\n{shape}\n"));
    told.push(store);
    told.push("\n");
    told.push(log);
    let mut child = std::process::Command::new(std::env::current_exe().expect("the path of this test"));
    let name = "storage::load::a_load_with_snapshots_of_small_records_is_recovered_exactly";
    child.args([name, "--exact", "--nocapture"]).env(TOLD, told).envs(shim.env());
    let output = child.output().expect("this test runs again");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !text.contains("panicked"), "the load ended by itself: {text}");
    output.status
}

/// Asks so many times; the state afterwards, as the machine itself shows it, is in the store.
async fn work(which: Which, shape: Shape, store: &Path, marks: &Path, rounds: usize) {
    let marks = || Some(Marks::open(marks).expect("the marks"));
    match which {
        Which::Pool => pool::work(shape, store, &marks, rounds).await,
        Which::Node => node::work(shape, store, &marks, rounds).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_with_snapshots_of_small_records_is_recovered_exactly() {
    if let Ok(told) = std::env::var(TOLD) {
        let [which, shape, store, marks] = told.lines().collect::<Vec<_>>()[..] else { panic!("{told}") };
        let which = if which == "pool" { Which::Pool } else { Which::Node };
        let shape = Shape::ALL.iter().find(|(_, name)| *name == shape).expect("a shape").0;
        return work(which, shape, &PathBuf::from(store), &PathBuf::from(marks), ROUNDS).await;
    }
    for which in [Which::Pool, Which::Node] {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, marks) = (folder.path().join("state/log"), folder.path().join("marks"));
        // the state that is checked at the end of each run is the one that the next run begins with
        for _ in 0..2 {
            work(which, Shape::Snapshots, &store, &marks, 20).await;
        }
        assert!(std::fs::metadata(&marks).expect("the marks").len() > 0);
    }
}
