//! The services as processes: started with a log file, watched, ended; only those started here.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::{Child, Command};

use crate::{Error, Result, wait};

/// How long a service may take to serve or to end; generous, for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a service says about how it is reached: `endpoints.json` in its state folder.
#[derive(Debug, Clone, Deserialize)]
pub struct Endpoints {
    /// The process that wrote it.
    pub pid: u32,
    /// Addresses by name: `grpc`, `http`, `socket`.
    pub addresses: std::collections::BTreeMap<String, String>,
}

impl Endpoints {
    /// Reads the file; an error is a description of what is there instead.
    ///
    /// # Errors
    /// When it is missing or unreadable.
    pub fn read(file: &Path) -> std::result::Result<Self, String> {
        let text = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// The TCP address of the service.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        let named = ["grpc", "http", "local"].iter().filter_map(|name| self.addresses.get(*name));
        named.chain(self.addresses.values()).find_map(|address| address.parse().ok())
    }
}

/// How a service is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its name in messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables besides the inherited ones.
    pub env: Vec<(String, OsString)>,
    /// The network namespace it runs in, when that is not this one.
    pub namespace: Option<PathBuf>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A command with the inherited environment, less Headroom's own settings: what a deployment does
/// must not depend on the shell it was started from.
#[must_use]
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEADROOM_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// [`Error::Command`] with all it printed, unless it succeeded.
pub async fn run(program: &Path, args: &[OsString]) -> Result<String> {
    let shown = || shown(program, args);
    let mut command = command(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let Ok(output) = ended else {
        return Err(Error::Timeout { what: shown(), waited: PATIENCE, seen: "it did not end".into() });
    };
    let output = output.map_err(Error::io(shown()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Command { command: shown(), status: output.status.to_string(), output: all })
}

fn shown(program: &Path, args: &[OsString]) -> String {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    args.iter().fold(name, |all, arg| format!("{all} {}", arg.to_string_lossy()))
}

/// A running service. Dropping it kills it.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Service {
    /// Starts a service; its log is appended to.
    ///
    /// # Errors
    /// When the program is missing or the log cannot be written.
    pub fn spawn(launch: &Launch) -> Result<Self> {
        if !launch.program.exists() {
            return Err(Error::NotBuilt { program: launch.program.clone() });
        }
        let doing = || format!("starting {}", launch.name);
        if let Some(folder) = launch.log.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(doing()))?;
        }
        let log = File::options().create(true).append(true).open(&launch.log).map_err(Error::io(doing()))?;
        let both = log.try_clone().map_err(Error::io(doing()))?;
        let mut command = match &launch.namespace {
            None => command(&launch.program),
            // It becomes the program: the process id is the same.
            Some(namespace) => {
                let mut command = command(Path::new("nsenter"));
                let mut net = OsString::from("--net=");
                net.push(namespace);
                command.arg(net).arg("--").arg(&launch.program);
                command
            }
        };
        command.args(&launch.args).stdin(Stdio::null()).stdout(log).stderr(both).kill_on_drop(true);
        command.envs(launch.env.iter().map(|(name, value)| (name, value)));
        // a group of its own: Ctrl-C in the terminal reaches the supervisor, which ends all in order
        command.process_group(0);
        let child = command.spawn().map_err(Error::io(doing()))?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { name: launch.name.clone(), child, pid, log: launch.log.clone() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it says how it is reached.
    ///
    /// # Errors
    /// When it ends before, or takes too long.
    pub async fn ready(&mut self, endpoints: &Path) -> Result<Endpoints> {
        let what = format!("{} to serve", self.name);
        let limit = PATIENCE;
        let (pid, log) = (self.pid, self.log.clone());
        let found = wait::until(what, limit, async || {
            if let Some(status) = self.ended() {
                return Ok(Err(status));
            }
            match Endpoints::read(endpoints) {
                Ok(found) if found.pid == pid => Ok(Ok(found)),
                // an earlier process was killed and could not take its file away
                Ok(old) => Err(format!("{} is of process {}", endpoints.display(), old.pid)),
                Err(problem) => Err(format!("{problem}; log: {}", tail(&log))),
            }
        })
        .await?;
        found.map_err(|status| Error::Died {
            service: self.name.clone(),
            status: status.to_string(),
            tail: tail(&self.log),
            log: self.log.clone(),
        })
    }

    /// Asks it to end and waits; kills it when it takes too long. True when it ended by itself, well.
    pub async fn stop(mut self) -> bool {
        if self.ended().is_none() {
            signal(self.pid, rustix::process::Signal::TERM);
        }
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) => status.success(),
            _ => {
                let _ = self.child.kill().await;
                false
            }
        }
    }

    /// Kills it without warning, as a crash would.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }
}

/// Sends a signal to one process; a process that is gone is no error.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
