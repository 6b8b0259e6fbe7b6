//! Measures Headroom on this machine, in one run, beside echoes that serve the same contracts with the same
//! settings and do nothing: so what is printed are mostly ratios, which a busy machine disturbs least.

#![expect(clippy::print_stdout, reason = "what was measured is this program's output")]

mod beats;
mod echo;
mod held;
mod lease;
mod measure;
mod node;
mod overload;
mod peers;
mod rig;
mod space;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

/// Measures Headroom beside echoes that do nothing. The last line is one JSON object.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    /// Measure only these parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Measure Redis, PostgreSQL and etcd too, as Debian packages bring them (redis-server, postgresql,
    /// etcd-server).
    #[arg(long)]
    peers: bool,
    /// Rounds of each measurement; of their results the medians count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: u8,
    /// Seconds a round takes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=60))]
    seconds: u8,
    /// Allocate-release cycles while the size of the store is watched.
    #[arg(long, default_value_t = 10_000_000)]
    cycles: u32,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Offer a slowed pool three times what it sustains; fails unless what is promised of that is kept.
    Overload(overload::Options),
    /// Serve the echoes.
    #[command(hide = true)]
    Echo {
        /// The folder with the certificates.
        folder: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The lease contract.
    Lease,
    /// Admission through a conferencing node.
    Node,
    /// Many leases held: cost, memory, restart, snapshots.
    Held,
    /// Heartbeats of 10 000 nodes.
    Beats,
    /// The store's size.
    Space,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    headroom_shared::tls::install_provider();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match &cli.role {
            Some(Role::Echo { folder }) => echo::serve(folder).await.map(|()| ExitCode::SUCCESS),
            Some(Role::Overload(options)) => {
                let kept = overload::measure(options).await?;
                Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            None => run(&cli).await.map(|()| ExitCode::SUCCESS),
        }
    })
}

async fn run(cli: &Cli) -> Result<()> {
    let asked = |part| cli.only.is_empty() || cli.only.contains(&part);
    let (rounds, time) = (usize::from(cli.rounds), Duration::from_secs(cli.seconds.into()));
    let mut found = Map::new();
    if asked(Part::Lease) || asked(Part::Node) {
        let mut rig = rig::Rig::start().await?;
        let echo = rig::Echo::start(&rig).await?;
        if asked(Part::Lease) {
            let ratios = lease::measure(&mut rig, &echo, rounds, time).await?;
            let unary = ratios.unary.iter().map(|(count, ratio)| (count.to_string(), rounded(*ratio)));
            found.insert("ratio_to_echo".into(), Value::Object(unary.collect()));
            found.insert("batch16_ratio".into(), rounded(ratios.batches));
        }
        if asked(Part::Node) {
            let ratios = node::measure(&mut rig, &echo, rounds, time).await?;
            found.insert("via_node_ratio".into(), rounded(ratios.contact));
            found.insert("offline_ratio".into(), rounded(ratios.offline));
        }
    }
    if cli.peers {
        let ratios = peers::measure(&mut rig::Rig::start().await?, rounds, time).await?;
        let ratios = ratios.into_iter().map(|(name, ratio)| (name.to_owned(), rounded(ratio)));
        found.insert("ratio_to_peers".into(), Value::Object(ratios.collect()));
    }
    if asked(Part::Held) {
        let costs = held::measure(&[1_000, 100_000, 1_000_000], rounds, time).await?;
        found.insert("cost_1m_over_1k".into(), rounded(costs.most_over_fewest));
        found.insert("rss_1m_mib".into(), rounded(costs.resident));
        found.insert("restart_1m_s".into(), rounded(costs.restart));
        found.insert("p99_snapshot_over_quiet".into(), rounded(costs.snapshot));
    }
    if asked(Part::Beats) {
        found.insert("beats_10k_core_share".into(), rounded(beats::measure(10_000).await?));
    }
    if asked(Part::Space) {
        found.insert("store_most_mib".into(), rounded(space::measure(cli.cycles as usize).await?));
    }
    println!("{}", Value::Object(found));
    Ok(())
}

fn rounded(number: f64) -> Value {
    json!((number * 1000.0).round() / 1000.0)
}
