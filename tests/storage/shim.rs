//! The library that stands between a real program and its files: compiled once, and what a program is told
//! to be started with it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use headroom_tests::repository;

/// The compiled library.
fn library() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(folder).expect("the tests' folder");
        let (made, library) =
            (folder.join(format!("storage-shim.{}.so", std::process::id())), folder.join("storage-shim.so"));
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread", "-o"]);
        cc.arg(&made).arg(repository().join("tests/storage/shim.c"));
        let output = cc.output().expect("cc runs");
        assert!(
            output.status.success(),
            "the shim does not compile:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        // in one step: another run of the tests may load it right now
        std::fs::rename(made, &library).expect("the library in its place");
        library
    })
}

/// When a program is to be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    Middle,
    After,
}

/// What a program is started with, so that the files below one folder are watched.
#[derive(Debug, Clone)]
pub(super) struct Shim {
    env: Vec<(String, OsString)>,
}

impl Shim {
    /// Watches the files below `root`.
    pub(super) fn over(root: &Path) -> Self {
        let root = root.canonicalize().expect("the folder to watch");
        Self {
            env: vec![("LD_PRELOAD".into(), library().into()), ("SHIM_ROOT".into(), root.into_os_string())],
        }
    }

    /// Writes down what happens to them.
    pub(super) fn log(self, log: &Path) -> Self {
        self.with("SHIM_LOG", log)
    }

    /// Kills the program at a step, counted from 1.
    pub(super) fn kill(self, step: u32, when: When) -> Self {
        let when = match when {
            When::Before => "before",
            When::Middle => "middle",
            When::After => "after",
        };
        self.with("SHIM_KILL", format!("{step}:{when}"))
    }

    /// Every sync takes so many milliseconds longer as this file says.
    pub(super) fn delay(self, file: &Path) -> Self {
        self.with("SHIM_DELAY", file)
    }

    fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// As variables of the program's environment.
    pub(super) fn env(self) -> Vec<(String, OsString)> {
        self.env
    }
}
