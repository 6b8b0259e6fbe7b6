//! What can go wrong while a deployment is started, watched or ended.

use std::path::PathBuf;
use std::time::Duration;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a deployment could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, folder or socket.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program that is missing.
    #[error("{program} is not built: run `cargo build --workspace --bins`, or deploy/up, which does")]
    NotBuilt {
        /// Where it was looked for.
        program: PathBuf,
    },
    /// A command that failed.
    #[error("`{command}` ended with {status}:\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Its end.
        status: String,
        /// What it printed.
        output: String,
    },
    /// A service that ended before it served.
    #[error("{service} ended ({status}) before it served; the end of {log}:\n{tail}")]
    Died {
        /// The service.
        service: String,
        /// Its end.
        status: String,
        /// Where its log is.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Something that did not come about in time.
    #[error("waited {waited:.0?} for {what}; last seen: {seen}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// What was seen instead.
        seen: String,
    },
    /// A port somebody else has.
    #[error(
        "port {port} on 127.0.0.1 ({used_for}) is taken{holder}. Nothing was started or changed. \
         End that program, or run deploy/down if it is an earlier deployment."
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// What it is wanted for.
        used_for: String,
        /// Who has it, as far as can be seen.
        holder: String,
    },
    /// A state folder with something else in it.
    #[error(
        "{dir} is not empty and is no deployment of ours ({marker} is missing). Nothing was changed. \
         Name another folder with --state DIR."
    )]
    ForeignState {
        /// The folder.
        dir: PathBuf,
        /// The file that would mark it as ours.
        marker: &'static str,
    },
    /// A state folder whose set-up did not finish.
    #[error(
        "{dir} holds a deployment whose set-up did not finish. Nothing was changed. \
         Remove the folder, or name another with --state DIR."
    )]
    HalfMade {
        /// The folder.
        dir: PathBuf,
    },
    /// A deployment that runs already.
    #[error(
        "a deployment runs in {dir} already ({who}). End it with deploy/down, or name another folder with --state DIR."
    )]
    Running {
        /// The folder.
        dir: PathBuf,
        /// Its processes.
        who: String,
    },
    /// No deployment to speak to.
    #[error("no deployment runs in {dir} ({why}). Start one with deploy/up.")]
    NotRunning {
        /// The folder.
        dir: PathBuf,
        /// How that was seen.
        why: String,
    },
    /// A path too long for a Unix socket.
    #[error(
        "the state folder's path is too long: {path} has {length} bytes, a Unix socket may have {limit}. Name a shorter one with --state DIR."
    )]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// The most there may be.
        limit: usize,
    },
    /// No node of that name.
    #[error("there is no node `{name}`; there are: {known}")]
    NoNode {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// An HTTP request that got no answer.
    #[error("{request}: {problem}")]
    Http {
        /// Method and path.
        request: String,
        /// What went wrong.
        problem: String,
    },
    /// A gRPC request that was refused.
    #[error("{request}: {status}")]
    Rpc {
        /// The method.
        request: &'static str,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// An answer that is not understood.
    #[error("{what} is not understood: {problem}")]
    Unreadable {
        /// What it is.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The supervisor refused a request.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Wraps an I/O error with what was being done.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
