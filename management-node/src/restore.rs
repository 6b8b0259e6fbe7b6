//! Says beforehand what a restored or moved state folder will be on this machine.
//!
//! It reads a copy of the log, because opening a log settles what an interrupted process left at its end,
//! and here nothing may change.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use headroom_core::fingerprint::Fingerprint;
use headroom_core::time::Clock;
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::recover;
use headroom_shared::disk_log::DiskLog;
use headroom_shared::print;
use management_core::{Installed, LicenseState, Pool, PoolMachine};
use serde_json::json;

use crate::check;
use crate::config::Config;
use crate::deployment::{self, Deployment};

/// A folder that goes away.
struct Copy(PathBuf);

impl Copy {
    fn of(log: &Path) -> io::Result<Self> {
        let copy = Self(std::env::temp_dir().join(format!("headroom-check-{}", std::process::id())));
        let _ = std::fs::remove_dir_all(&copy.0);
        copy_folder(log, &copy.0)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// What a license would be here.
fn verdict(pool: &Pool, installed: &Installed, here: &Fingerprint) -> (&'static str, String) {
    match pool.license_state(installed, SystemClock.now().wall) {
        LicenseState::ReturnPending => ("return_pending", "is being returned: it counts nothing".into()),
        LicenseState::Corrupt => {
            let differ = check::differences(installed, here);
            let way = if installed.activated() { "`license repair`" } else { "have it issued anew" };
            ("corrupt", format!("does not match this machine ({differ} differ); serve, then {way}"))
        }
        LicenseState::Expired => ("expired", "its time is over".into()),
        LicenseState::NotYetValid => ("not_yet_valid", "its time has not begun".into()),
        LicenseState::Active | LicenseState::Grace => ("active", "matches this machine".into()),
    }
}

/// Checks a state folder that no service uses.
///
/// # Errors
/// When it cannot be read; the log's own words for what is wrong with it.
pub(crate) fn folder(state: &Path, machine_root: Option<PathBuf>, json: bool) -> anyhow::Result<()> {
    if std::os::unix::net::UnixStream::connect(state.join(deployment::SOCKET)).is_ok() {
        bail!("a service runs with this state folder: ask it with `license check`");
    }
    Deployment::open(state)?;
    let config = Config::load(state, &json!({}))?;
    let root = machine_root.unwrap_or(config.machine_root);
    let here = deployment::fingerprint(state, &root, config.machine_identity)?;
    let copy = Copy::of(&state.join(deployment::LOG)).context("cannot copy the log to look at it")?;
    let log = DiskLog::open(&copy.0)?;
    let mut pool = recover::<PoolMachine>(&log)?.state;
    pool.fingerprint = Some(here.clone());
    let found: Vec<_> = pool
        .licenses
        .iter()
        .map(|(id, installed)| (id.to_string(), verdict(&pool, installed, &here)))
        .collect();
    if json {
        let licenses: Vec<_> = found
            .iter()
            .map(|(license, (state, text))| json!({"license": license, "state": state, "text": text}))
            .collect();
        return Ok(print::line(json!({ "licenses": licenses }).to_string())?);
    }
    if found.is_empty() {
        print::line("the folder can be read; it holds no license")?;
    }
    for (license, (state, text)) in &found {
        print::line(format!("{license}  {state:<13}  {text}"))?;
    }
    if found.iter().any(|(_, (state, _))| *state == "corrupt") {
        print::line("until they are repaired, `test-mode on` serves without limits for 8 hours")?;
    }
    Ok(())
}
