//! A program of somebody else's, in a folder and on a port of its own, that ends with the measurement.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use headroom_tests::PATIENCE;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A running server.
pub(super) struct Process {
    pub(super) address: SocketAddr,
    _child: Child,
    // after the process, which writes there
    _folder: TempDir,
}

impl Process {
    /// Starts a server and waits until it takes connections.
    pub(super) async fn start(mut command: Command, address: SocketAddr, folder: TempDir) -> Result<Self> {
        let log = std::fs::File::create(folder.path().join("output"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("{:?}", command.as_std().get_program()))?;
        let reached = headroom_deploy::wait::until("a server that listens", PATIENCE, async || {
            tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())
        });
        if let Err(error) = reached.await {
            let output = std::fs::read_to_string(folder.path().join("output")).unwrap_or_default();
            bail!("{:?}: {error}\n{output}", command.as_std().get_program());
        }
        Ok(Self { address, _child: child, _folder: folder })
    }
}

/// A loopback address that is free now.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Where a program is that a Debian package brings.
pub(super) fn program(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    // PostgreSQL keeps its server's programs in a folder by version.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    usual
        .chain(versions.into_iter().rev())
        .map(|folder| folder.join(name))
        .find(|file: &PathBuf| file.is_file())
        .with_context(|| format!("{name} is not installed; apt-get install {package} brings it"))
}

/// Runs a program to its end.
pub(super) async fn run(command: &mut Command) -> Result<()> {
    let output = command.output().await.with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
