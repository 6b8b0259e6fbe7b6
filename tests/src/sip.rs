//! Real SIP: a Kamailio with the configuration in `deploy/kamailio`, and callers and callees played by sipp.

mod kamailio;
mod scenario;

use std::net::UdpSocket;
use std::process::{ExitStatus, Stdio};

use headroom_deploy::process;
use tempfile::TempDir;
use tokio::process::Child;

pub use kamailio::Kamailio;
pub use scenario::{Media, Scenario};

use crate::PATIENCE;
use crate::programs::system;

/// A UDP port that nobody has now. Programs that are told their port on the command line cannot choose it themselves.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    socket.local_addr().expect("its number").port()
}

/// How many calls sipp makes, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Calls.
    pub calls: u32,
    /// Calls that begin in a second.
    pub rate: u32,
    /// How the Call-IDs begin; the first one ends in `-1`.
    pub call_ids: &'static str,
}

/// Milliseconds after which a call is lost in which nothing more is heard.
const SILENT: &str = "150000";

/// One call.
pub const ONE: Load = Load { calls: 1, rate: 10, call_ids: "call" };

/// A sipp that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Sipp {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Sipp {
    /// Somebody who is called at this port. It ends after so many calls, or never.
    #[must_use]
    pub fn callee(port: u16, scenario: &Scenario, calls: Option<u32>) -> Self {
        let most = calls.map(|calls| vec!["-m".to_owned(), calls.to_string()]).unwrap_or_default();
        Self::spawn(port, scenario, most)
    }

    /// Somebody who calls `user` by way of this port.
    #[must_use]
    pub fn caller(by: u16, user: &str, scenario: &Scenario, load: Load) -> Self {
        let Load { calls, rate, call_ids } = load;
        let words = [
            format!("127.0.0.1:{by}"),
            "-s".into(),
            user.into(),
            "-m".into(),
            calls.to_string(),
            "-r".into(),
            rate.to_string(),
            "-cid_str".into(),
            format!("{call_ids}-%u"),
        ];
        Self::spawn(free_port(), scenario, words.into())
    }

    fn spawn(port: u16, scenario: &Scenario, more: Vec<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("scenario.xml");
        std::fs::write(&file, scenario.xml()).expect("the scenario is written");
        let log = std::fs::File::create(folder.path().join("screen")).expect("a log");
        let mut command = process::command(&system("sipp"));
        command.current_dir(folder.path()).args(more).arg("-sf").arg(file);
        command.args([
            "-i",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-nostdin",
            "-l",
            "5000",
            "-recv_timeout",
            SILENT,
        ]);
        command.args([
            "-trace_err",
            "-error_file",
            "errors",
            "-trace_stat",
            "-stf",
            "statistics",
            "-fd",
            "1",
        ]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log).kill_on_drop(true);
        command.env("TERM", "dumb");
        Self { child: command.spawn().expect("sipp starts"), port, folder }
    }

    /// The port it has.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Waits until all its calls are over.
    ///
    /// # Panics
    /// When one of them did not go as its scenario says, or it takes too long.
    pub async fn done(self) -> Tally {
        let (status, tally, told) = self.over().await;
        assert!(status.success(), "sipp ended with {status}: {tally:?}\n{told}");
        tally
    }

    /// Waits until all its calls are over, however they went.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn over(mut self) -> (ExitStatus, Tally, String) {
        let status = tokio::time::timeout(PATIENCE * 4, self.child.wait()).await;
        let status =
            status.unwrap_or_else(|_| panic!("sipp does not end: {}", self.told())).expect("sipp's end");
        let tally = Tally { good: self.counted("SuccessfulCall(C)"), failed: self.counted("FailedCall(C)") };
        (status, tally, self.told())
    }

    /// Calls that have reached it so far.
    #[must_use]
    pub fn called(&self) -> u64 {
        self.counted("IncomingCall(C)")
    }

    /// Ends it at once, as somebody who vanishes.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub async fn vanish(mut self) {
        self.child.kill().await.expect("sipp ends");
    }

    /// What sipp wrote last in a column of its statistics; it writes each second.
    fn counted(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.folder.path().join("statistics")).unwrap_or_default();
        let mut lines = text.lines();
        let mut names = lines.next().unwrap_or_default().split(';');
        let last = lines.last().unwrap_or_default();
        let number =
            names.position(|found| found == name).and_then(|at| last.split(';').nth(at)?.parse().ok());
        number.unwrap_or_default()
    }

    fn told(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let cut = |text: String| text.chars().take(6000).collect::<String>();
        format!("{}\n{}", cut(read("errors")), cut(read("screen")))
    }
}

/// What sipp counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Calls that went as the scenario says.
    pub good: u64,
    /// Calls that did not.
    pub failed: u64,
}
