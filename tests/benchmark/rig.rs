//! What is measured: a fleet of real processes, and echoes that serve with the same certificates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use headroom_deploy::fleet::{Fleet, Options};
use headroom_deploy::pool::unix_channel;
use headroom_deploy::process::Endpoints;
use headroom_proto::admin::AddNodeRequest;
use headroom_proto::admin::admin_service_client::AdminServiceClient;
use headroom_tests::Bundle;
use headroom_tests::peer::{Peer, connect, one_leg};
use tempfile::TempDir;
use tonic::transport::Channel;

/// How long a node may be silent: nobody beats during a measurement.
const TTL: &str = "24h";
/// Calls that are licensed: more than are ever asked for.
const CAPACITY: &str = "3000000";
/// Legs in one request while a pool is filled.
const FILL: usize = 512;

/// A management node with its nodes' identities.
pub(crate) struct Rig {
    pub(crate) fleet: Fleet,
    enrolled: usize,
    // after the fleet, so that the services end before their folder goes
    _folder: TempDir,
}

impl Rig {
    /// A pool in a new folder, with sessions that need no heartbeat.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(Some(TTL)).await
    }

    /// A pool in a new folder; sessions live as long as usual, unless it is said how long.
    pub(crate) async fn start_with(session_ttl: Option<&str>) -> Result<Self> {
        let binaries =
            std::env::current_exe()?.ancestors().nth(2).context("a folder of programs")?.to_owned();
        let folder = tempfile::tempdir()?;
        let options = Options {
            nodes: Vec::new(),
            capacity: CAPACITY.into(),
            session_ttl: session_ttl.map(str::to_owned),
            ..Options::standard(binaries, folder.path().join("state")).on_free_ports()
        };
        Ok(Self { fleet: Fleet::start(options).await?, enrolled: 0, _folder: folder })
    }

    /// The identities of so many new nodes.
    pub(crate) async fn nodes(&mut self, count: usize) -> Result<Vec<Bundle>> {
        Ok(self.bundles(count).await?.iter().map(|text| Bundle::parse(text)).collect())
    }

    /// The same, as they are written into files.
    pub(crate) async fn bundles(&mut self, count: usize) -> Result<Vec<String>> {
        let channel = unix_channel(&self.fleet.layout().admin_socket());
        let mut enrolling = tokio::task::JoinSet::new();
        for number in self.enrolled..self.enrolled + count {
            let mut admin = AdminServiceClient::new(channel.clone());
            let request = AddNodeRequest { node: format!("peer-{number}"), ..AddNodeRequest::default() };
            enrolling.spawn(async move { admin.add_node(request).await });
        }
        self.enrolled += count;
        let mut bundles = Vec::with_capacity(count);
        while let Some(added) = enrolling.join_next().await {
            bundles.push(added??.into_inner().bundle);
        }
        Ok(bundles)
    }

    /// So many new nodes in sessions, every one with a connection of its own.
    pub(crate) async fn peers(&mut self, count: usize) -> Result<Vec<Peer>> {
        let address = self.fleet.management_address();
        peers(&self.nodes(count).await?, address).await
    }

    /// Has the pool hold so many leases more, spread over some nodes, of which each runs at most `each`.
    pub(crate) async fn fill(&mut self, leases: usize, each: usize) -> Result<()> {
        let count = leases.div_ceil(each);
        let peers = self.peers(count).await?;
        let mut filling = tokio::task::JoinSet::new();
        for (number, mut peer) in peers.into_iter().enumerate() {
            let mine = each.min(leases - number * each);
            if filling.len() >= 8 {
                filling.join_next().await.transpose()?.transpose()?;
            }
            filling.spawn(async move {
                let names: Vec<_> = (0..mine).map(|leg| format!("held-{number}-{leg}")).collect();
                for some in names.chunks(FILL) {
                    let answer = peer.allocate(some.iter().map(|name| one_leg(name)).collect()).await?;
                    if headroom_tests::peer::granted(&answer).count() != some.len() {
                        bail!("not granted: {answer:?}");
                    }
                }
                Ok(())
            });
        }
        while let Some(filled) = filling.join_next().await {
            filled??;
        }
        Ok(())
    }

    /// The process of the management node.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.fleet.management_pid().context("the management node does not run")
    }

    /// Where its metrics are.
    pub(crate) fn metrics(&self) -> Result<SocketAddr> {
        self.endpoints()?
            .addresses
            .get("metrics")
            .context("no metrics")?
            .parse()
            .context("the metrics' address")
    }

    fn endpoints(&self) -> Result<Endpoints> {
        Endpoints::read(&self.fleet.layout().endpoints("management")).map_err(anyhow::Error::msg)
    }

    /// The folder of its store.
    pub(crate) fn store(&self) -> PathBuf {
        self.fleet.layout().service("management").join("log")
    }
}

/// A peer in a session for each node.
pub(crate) async fn peers(bundles: &[Bundle], address: SocketAddr) -> Result<Vec<Peer>> {
    let mut peers = Vec::with_capacity(bundles.len());
    for bundle in bundles {
        peers.push(Peer::open(channel(bundle, address).await?).await?);
    }
    Ok(peers)
}

/// A connection with a node's identity.
pub(crate) async fn channel(bundle: &Bundle, address: SocketAddr) -> Result<Channel> {
    connect(address, bundle.tls()).await.map_err(anyhow::Error::msg)
}

/// The echoes, in a process of their own.
pub(crate) struct Echo {
    /// The lease contract.
    pub(crate) lease: SocketAddr,
    /// A conferencing node's interface.
    pub(crate) node: SocketAddr,
    process: tokio::process::Child,
}

impl Echo {
    /// Starts them with the certificates of a rig.
    pub(crate) async fn start(rig: &Rig) -> Result<Self> {
        let folder = rig.fleet.layout().service("management");
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.arg("echo").arg(&folder).stdin(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().context("the echoes")?;
        let file = folder.join(crate::echo::ADDRESSES);
        let patience = Duration::from_secs(30);
        let text = headroom_deploy::wait::until("the echoes to serve", patience, async || {
            std::fs::read_to_string(&file).map_err(|error| error.to_string())
        })
        .await?;
        let (lease, node) = text.split_once(' ').context("two addresses")?;
        Ok(Self { lease: lease.parse()?, node: node.parse()?, process })
    }

    /// The process of the echoes.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.id().context("the echoes do not run")
    }
}

/// Seconds of processor time that a process has used.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after) = text.rsplit_once(')').context("the name of a process")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// MiB of memory that a process keeps resident.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// Bytes that the files of a folder take on the disk.
pub(crate) fn on_disk(folder: &std::path::Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A file may go between the listing and the look.
        let Ok(about) = entry.metadata() else { continue };
        total += if about.is_dir() { on_disk(&entry.path())? } else { about.blocks() * 512 };
    }
    Ok(total)
}
