//! What the store takes on the disk while leases come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use headroom_tests::peer::{Peer, granted, one_leg};

use crate::rig::{Rig, on_disk};

/// Leases that stay.
const HELD: usize = 10_000;
/// Nodes whose legs come and go.
const NODES: usize = 4;
/// Legs that come and go in one request.
const BATCH: usize = 500;
/// MiB that a store may take however little it holds.
const FLOOR: f64 = 64.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Has so many leases come and go, and gives the most that the store took, in MiB.
///
/// # Errors
/// Whatever goes wrong.
pub(crate) async fn measure(cycles: usize) -> Result<f64> {
    let mut rig = Rig::start().await?;
    rig.fill(HELD, HELD).await?;
    println!("{cycles} allocate-release cycles on {HELD} leases that stay");
    let store = rig.store();
    let done = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch(store, Arc::clone(&done)));
    let begun = Instant::now();
    let peers = rig.peers(NODES).await?;
    let tasks: Vec<_> = peers.into_iter().map(|peer| tokio::spawn(turn(peer, cycles / NODES))).collect();
    for task in tasks {
        task.await??;
    }
    done.store(true, Ordering::Relaxed);
    let sizes = watching.await??;
    let seconds = begun.elapsed().as_secs_f64();
    println!("  done in {seconds:.0} s, {:.0} cycles a second", cycles as f64 / seconds);
    for (second, size) in sizes.iter().step_by((sizes.len() / 12).max(1)) {
        println!("  after {second:>6.0} s the store takes {size:>7.1} MiB");
    }
    let most = sizes.iter().map(|(_, size)| *size).fold(0.0, f64::max);
    println!("  at most {most:.1} MiB; {FLOOR:.0} MiB are allowed");
    Ok(most)
}

async fn turn(mut peer: Peer, cycles: usize) -> Result<()> {
    for round in 0..cycles.div_ceil(BATCH) {
        let names: Vec<_> = (0..BATCH).map(|leg| format!("turn-{round}-{leg}")).collect();
        let answer = peer.allocate(names.iter().map(|name| one_leg(name)).collect()).await?;
        ensure!(granted(&answer).count() == BATCH, "not granted: {answer:?}");
        peer.release(names).await?;
    }
    Ok(())
}

async fn watch(store: std::path::PathBuf, done: Arc<AtomicBool>) -> Result<Vec<(f64, f64)>> {
    let (begun, mut sizes) = (Instant::now(), Vec::new());
    let mut pause = tokio::time::interval(Duration::from_millis(500));
    while !done.load(Ordering::Relaxed) {
        pause.tick().await;
        sizes.push((begun.elapsed().as_secs_f64(), on_disk(&store)? as f64 / MIB));
    }
    Ok(sizes)
}
