//! A Kamailio as an operator would set it up, in a folder and on ports of its own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use headroom_deploy::process;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::process::Child;

use super::free_port;
use crate::programs::{repository, system};
use crate::until;

/// A running Kamailio. Dropping it kills it; on a failing test its log is printed.
#[derive(Debug)]
pub struct Kamailio {
    folder: TempDir,
    port: u16,
    media_server: u16,
    gateway: u16,
    main: Option<Child>,
}

impl Kamailio {
    /// One that asks this conferencing node, with further settings as lines of `headroom-local.cfg`.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn start(node: SocketAddr, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ours = repository().join("deploy/kamailio");
        for name in ["kamailio.cfg", "headroom.cfg"] {
            fs::copy(ours.join(name), folder.path().join(name)).expect("the configuration is copied");
        }
        let (port, media_server, gateway) = (free_port(), free_port(), free_port());
        let mut local = format!(
            "#!define LISTEN udp:127.0.0.1:{port}\n\
             #!define MEDIA_SERVER \"sip:127.0.0.1:{media_server}\"\n\
             #!define GATEWAY \"sip:127.0.0.1:{gateway}\"\n\
             #!substdef \"!HEADROOM_NODE!http://{node}!g\"\n"
        );
        for setting in settings {
            local.push_str(setting);
            local.push('\n');
        }
        fs::write(folder.path().join("headroom-local.cfg"), local).expect("the settings are written");
        let mut kamailio = Self { folder, port, media_server, gateway, main: None };
        kamailio.start_again().await;
        kamailio
    }

    /// The port it listens at.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The port to which it sends calls into conferences.
    #[must_use]
    pub const fn media_server(&self) -> u16 {
        self.media_server
    }

    /// The port to which it sends gateway calls.
    #[must_use]
    pub const fn gateway(&self) -> u16 {
        self.gateway
    }

    /// Starts it, again if it was killed.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn start_again(&mut self) {
        let folder = self.folder.path();
        let seen =
            fs::read_to_string(self.log()).unwrap_or_default().matches("legs go on from before").count();
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = process::command(&system("kamailio"));
        command.current_dir(folder).args(["-DD", "-E", "-w"]).arg(folder).arg("-Y").arg(folder);
        command.arg("-f").arg(folder.join("kamailio.cfg")).arg("-P").arg(folder.join("pid"));
        // Its processes end with their group.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        self.main = Some(command.spawn().expect("kamailio starts"));
        until("kamailio to serve", async || {
            if let Ok(Some(status)) = self.main.as_mut().expect("just started").try_wait() {
                panic!("kamailio ended with {status}: {}", process::tail(&self.log()));
            }
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            if log.matches("legs go on from before").count() > seen {
                Ok(())
            } else {
                Err(process::tail(&self.log()))
            }
        })
        .await;
    }

    /// Kills all its processes at once.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill(&mut self) {
        let mut main = self.main.take().expect("it runs");
        kill_group(&main);
        main.wait().await.expect("its end");
    }

    /// What it has logged.
    #[must_use]
    pub fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("kamailio.log")
    }
}

fn kill_group(main: &Child) {
    let group = main.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        if let Some(main) = &self.main {
            kill_group(main);
        }
        if std::thread::panicking() {
            eprintln!("--- kamailio:\n{}", self.logged());
        }
    }
}
