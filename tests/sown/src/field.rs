//! A copy of the tree to sow faults into, and worlds that run there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};

use crate::{Edit, Fault};

/// What the worlds said of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The first world that broke a promise.
    pub seed: u64,
    /// The promise.
    pub promise: String,
}

/// What came of sowing a fault.
#[derive(Debug)]
pub struct Harvest {
    /// What was found, if anything.
    pub found: Option<Found>,
    /// Seconds to build, and to search.
    pub seconds: (f64, f64),
}

/// A copy of the tree, with its own folder for what is built.
pub struct Field {
    tree: PathBuf,
    built: PathBuf,
}

impl Field {
    /// Copies the sources under `root`: only what changed, so that what was built there stays good.
    ///
    /// # Errors
    /// A file could not be read or written; git does not list the files.
    pub fn lay_out(root: &Path) -> anyhow::Result<Self> {
        let place = root.join("target/sown");
        let field = Self { tree: place.join("tree"), built: place.join("target") };
        // What git knows or would take: no build results, no copies of copies.
        let mut list = Command::new("git");
        list.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = list.output().context("git ls-files")?;
        ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let names = String::from_utf8(listed.stdout).context("file names")?;
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            // One that is deleted and not yet committed is still listed.
            if let Ok(text) = fs::read(root.join(name)) {
                write_changed(&field.tree.join(name), &text)?;
            }
        }
        Ok(field)
    }

    /// Sows a fault, runs up to so many worlds until one breaks a promise, and takes it out again.
    ///
    /// # Errors
    /// The fault does not fit the sources; the copy does not build; the worlds did not run to their end.
    pub fn sow(&self, fault: &Fault, kind: Option<&str>, worlds: u64) -> anyhow::Result<Harvest> {
        let mut before = BTreeMap::new();
        for Edit { file, .. } in fault.edits {
            let path = self.tree.join(file);
            before.insert(path.clone(), fs::read_to_string(&path).with_context(|| format!("read {file}"))?);
        }
        let mut after = before.clone();
        for edit in fault.edits {
            let text = after.entry(self.tree.join(edit.file)).or_default();
            *text = edit.sow(text).map_err(|why| anyhow!("{}: {why}", fault.name))?;
        }
        let write = |texts: &BTreeMap<PathBuf, String>| {
            texts.iter().try_for_each(|(path, text)| write_changed(path, text.as_bytes()))
        };
        write(&after)?;
        let harvest = self.worlds(kind, worlds).with_context(|| fault.name);
        write(&before)?;
        harvest
    }

    /// Builds the copy and runs its worlds, of any kind or of this one.
    ///
    /// # Errors
    /// The copy does not build; the worlds did not run to their end.
    pub fn worlds(&self, kind: Option<&str>, worlds: u64) -> anyhow::Result<Harvest> {
        let began = Instant::now();
        let built = Command::new("cargo")
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.built)
            .args(["build", "--quiet", "--locked", "--package", "headroom-simulator", "--bin", "simulate"])
            .output()
            .context("cargo")?;
        ensure!(built.status.success(), "it does not build: {}", String::from_utf8_lossy(&built.stderr));
        let build = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let ran = Command::new(self.built.join("debug/simulate"))
            .args(["--first-seed", "0", "--lines", "1", "--seeds", &worlds.to_string()])
            .args(kind.map(|kind| format!("--only={kind}")))
            .output()
            .context("simulate")?;
        Ok(Harvest { found: found(&ran)?, seconds: (build, began.elapsed().as_secs_f64()) })
    }
}

/// Writes a file that is not so already.
fn write_changed(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let folder = path.parent().ok_or_else(|| anyhow!("{} is in no folder", path.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// What `simulate` said: `seed 31 broke I15 at …`.
fn found(ran: &Output) -> anyhow::Result<Option<Found>> {
    let text = String::from_utf8_lossy(&ran.stdout);
    let broke = text.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(" broke "));
    match broke {
        Some((seed, rest)) => {
            let seed = seed.parse().with_context(|| format!("the seed {seed}"))?;
            let promise = rest.split(' ').next().unwrap_or_default().to_owned();
            Ok(Some(Found { seed, promise }))
        }
        None if ran.status.success() => Ok(None),
        None => Err(anyhow!("simulate: {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr))),
    }
}
