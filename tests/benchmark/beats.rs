//! Heartbeats of many nodes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use headroom_tests::Bundle;
use headroom_tests::peer::Peer;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::rig::{Echo, Rig, cpu_seconds, peers, resident};

/// How often a node beats, as a session of the usual length has it.
const EVERY: Duration = Duration::from_secs(10);

/// Measures what heartbeats of so many nodes, each over a connection of its own, take of one core, and what
/// an echo takes that only answers them.
///
/// # Errors
/// Whatever goes wrong.
pub(crate) async fn measure(nodes: usize) -> Result<f64> {
    let mut rig = Rig::start().await?;
    println!("heartbeats of {nodes} nodes, one each {EVERY:?}");
    let bundles = rig.nodes(nodes).await?;
    let echo = Echo::start(&rig).await?;
    let echoed = share("an echo", echo.pid()?, &bundles, echo.lease).await?;
    let ours = share("the pool", rig.pid()?, &bundles, rig.fleet.management_address()).await?;
    println!("  the pool takes {:.2} times what an echo takes", ours / echoed);
    Ok(ours)
}

/// The part of one core that the heartbeats of these nodes take of a process.
async fn share(name: &str, pid: u32, bundles: &[Bundle], address: SocketAddr) -> Result<f64> {
    let nodes = bundles.len();
    let mut connected = Vec::with_capacity(nodes);
    for some in bundles.chunks(100) {
        connected.extend(peers(some, address).await?);
    }
    println!("  resident with {nodes} connections, {name}: {:.0} MiB", resident(pid)?);
    let begin = Instant::now() + Duration::from_secs(1);
    let rounds = 3;
    let tasks: Vec<_> = connected
        .into_iter()
        .enumerate()
        .map(|(number, peer)| tokio::spawn(beat(peer, begin, number, nodes, rounds)))
        .collect();
    tokio::time::sleep_until(begin + EVERY / 2).await;
    let (before, since) = (cpu_seconds(pid)?, Instant::now());
    tokio::time::sleep_until(begin + EVERY / 2 + 2 * EVERY).await;
    let share = (cpu_seconds(pid)? - before) / since.elapsed().as_secs_f64();
    let mut beaten = 0;
    for task in tasks {
        beaten += task.await??;
    }
    ensure!(beaten == nodes * rounds, "{beaten} heartbeats were answered");
    println!(
        "  {:.0} heartbeats a second take {:.1} % of one core, {name}",
        nodes as f64 / EVERY.as_secs_f64(),
        share * 100.0
    );
    Ok(share)
}

/// Beats a few times; the nodes' beats are spread evenly.
async fn beat(mut peer: Peer, begin: Instant, number: usize, nodes: usize, rounds: usize) -> Result<usize> {
    let offset = EVERY.mul_f64(number as f64 / nodes as f64);
    let mut turn = interval_at(begin + offset, EVERY);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..rounds {
        turn.tick().await;
        peer.beat().await?;
    }
    Ok(rounds)
}
