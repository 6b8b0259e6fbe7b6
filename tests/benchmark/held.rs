//! What it costs that many leases are held: each operation, memory, a restart, and answers while a
//! snapshot is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use headroom_deploy::agent::Agent;
use hyper::Method;

use crate::lease::{Asker, in_turn};
use crate::measure::closed_loop;
use crate::rig::{Rig, cpu_seconds, resident};

/// Most legs on one node.
const EACH: usize = 10_000;
/// Requests in flight.
const IN_FLIGHT: usize = 64;
/// Requests in flight while latency is looked at: few, so that they do not wait for each other.
const QUIET: usize = 8;

/// What it cost.
pub(crate) struct Costs {
    /// Of one operation with the most leases against the fewest.
    pub(crate) most_over_fewest: f64,
    /// MiB that the process with the most leases keeps resident.
    pub(crate) resident: f64,
    /// Seconds until it serves again.
    pub(crate) restart: f64,
    /// 99th percentile of the latency while a snapshot is written, against other times.
    pub(crate) snapshot: f64,
}

/// Measures pools that hold ever more leases; the first and the last in turn.
///
/// # Errors
/// Whatever goes wrong.
pub(crate) async fn measure(leases: &[usize], rounds: usize, time: Duration) -> Result<Costs> {
    let mut fewest = held(leases[0]).await?;
    let mut costs = Costs { most_over_fewest: f64::NAN, resident: 0.0, restart: 0.0, snapshot: f64::NAN };
    for &count in &leases[1..] {
        let mut many = held(count).await?;
        costs.most_over_fewest = cost(&mut fewest, &mut many, rounds, time).await?;
        costs.resident = resident(many.rig.pid()?)?;
        println!("  resident with {count} leases: {:.0} MiB", costs.resident);
        costs.snapshot = during_snapshots(&mut many).await?;
        costs.restart = restart(&mut many.rig).await?;
        println!("  killed, and serving again after {:.2} s", costs.restart);
    }
    Ok(costs)
}

struct Held {
    rig: Rig,
    askers: Vec<Asker>,
    leases: usize,
}

async fn held(leases: usize) -> Result<Held> {
    let mut rig = Rig::start().await?;
    let begun = Instant::now();
    rig.fill(leases, EACH).await?;
    println!("a pool that holds {leases} leases, filled in {:.1} s", begun.elapsed().as_secs_f64());
    println!("  resident: {:.0} MiB", resident(rig.pid()?)?);
    let askers = Asker::all(rig.peers(IN_FLIGHT).await?, 1);
    Ok(Held { rig, askers, leases })
}

/// What an operation costs with many leases against what it costs with few.
async fn cost(few: &mut Held, many: &mut Held, rounds: usize, time: Duration) -> Result<f64> {
    let before = (cpu_seconds(few.rig.pid()?)?, cpu_seconds(many.rig.pid()?)?);
    let (less, more) = in_turn(&mut few.askers, &mut many.askers, IN_FLIGHT, rounds, time).await?;
    let after = (cpu_seconds(few.rig.pid()?)?, cpu_seconds(many.rig.pid()?)?);
    println!("{}", less.line(&format!("{} leases held, {IN_FLIGHT} in flight", few.leases)));
    println!("{}", more.line(&format!("{} leases held, {IN_FLIGHT} in flight", many.leases)));
    let each = |seconds: f64, rounds: &crate::measure::Rounds| seconds * 1e6 / rounds.requests() as f64;
    println!(
        "  processor time of an operation: {:.1} µs and {:.1} µs, cost ratio by throughput {:.3}",
        each(after.0 - before.0, &less),
        each(after.1 - before.1, &more),
        less.ratio(&more)
    );
    Ok(less.ratio(&more))
}

/// Latency while snapshots are written against other times, in one run.
async fn during_snapshots(held: &mut Held) -> Result<f64> {
    let metrics = Agent::new("metrics", held.rig.metrics()?)?;
    let done = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch(metrics, Arc::clone(&done)));
    let time = Duration::from_secs(60);
    let seen = closed_loop(&mut held.askers, QUIET, time).await?;
    done.store(true, Ordering::Relaxed);
    let looks = watching.await??;
    let snapshots = looks.windows(2).filter(|pair| !pair[0].1 && pair[1].1).count();
    // A request counts to a time only where the looks before and after it say the same.
    let at = |ended: Instant| {
        let next = looks.partition_point(|(look, _)| *look < ended);
        let around = (next.checked_sub(1).and_then(|before| looks.get(before)), looks.get(next));
        match around {
            (Some((_, one)), Some((_, other))) if one == other => Some(*one),
            _ => None,
        }
    };
    let (writing, quiet) = (seen.only(|t| at(t) == Some(true)), seen.only(|t| at(t) == Some(false)));
    ensure!(
        writing.requests() > 200 && quiet.requests() > 200,
        "{snapshots} snapshots in {time:?}: {} requests during them, {} outside",
        writing.requests(),
        quiet.requests()
    );
    let (during, outside) = (writing.latency(0.99), quiet.latency(0.99));
    println!(
        "  {snapshots} snapshots: p50 {:.3} ms and p99 {during:.3} ms during them ({} requests), \
         p50 {:.3} ms and p99 {outside:.3} ms outside ({}), ratio {:.2}",
        writing.latency(0.5),
        writing.requests(),
        quiet.latency(0.5),
        quiet.requests(),
        during / outside
    );
    Ok(during / outside)
}

/// When the pool was writing a snapshot, again and again.
async fn watch(metrics: Agent, done: Arc<AtomicBool>) -> Result<Vec<(Instant, bool)>> {
    let mut looks = Vec::new();
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    while !done.load(Ordering::Relaxed) {
        pause.tick().await;
        let (_, body) = metrics.raw(Method::GET, "/metrics", "text/plain", Vec::new()).await?;
        let text = String::from_utf8_lossy(&body);
        let writing = text.lines().any(|line| line == "headroom_snapshot_writing 1");
        looks.push((Instant::now(), writing));
    }
    Ok(looks)
}

/// Seconds from the start of the program until it serves, after it was killed.
async fn restart(rig: &mut Rig) -> Result<f64> {
    rig.fleet.kill_management().await;
    let begun = Instant::now();
    rig.fleet.start_management().await?;
    Ok(begun.elapsed().as_secs_f64())
}
