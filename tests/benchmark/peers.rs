//! The same work on what people write their own counters in: Redis with every write synced and one script,
//! PostgreSQL with one hot row and one function, etcd with compare-and-swap. Over loopback without TLS.

mod etcd;
mod postgres;
mod redis;
mod server;

use std::time::Duration;

use anyhow::Result;

use crate::lease::{Asker, in_turn};
use crate::measure::Worker;
use crate::rig::Rig;

/// Workers, each with a connection of its own and one request under way.
const WORKERS: usize = 64;
/// Units that the counters have: more than are ever asked for.
const CAPACITY: i64 = 1_000_000;

/// A worker's legs: every one has a name of its own.
struct Legs {
    worker: usize,
    number: u64,
}

impl Legs {
    fn of(worker: usize) -> Self {
        Self { worker, number: 0 }
    }

    fn next(&mut self) -> String {
        self.number += 1;
        format!("leg-{}-{}", self.worker, self.number)
    }
}

/// How Headroom's throughput stands to each one's.
///
/// # Errors
/// Whatever goes wrong, for example when one of the programs is not installed.
pub(crate) async fn measure(
    rig: &mut Rig,
    rounds: usize,
    time: Duration,
) -> Result<Vec<(&'static str, f64)>> {
    println!("others: allocate and release, durable before they are answered, {WORKERS} workers, no TLS");
    let mut askers = Asker::all(rig.peers(WORKERS).await?, 1);
    let mut ratios = Vec::new();

    let server = redis::Server::start().await?;
    let mut others = server.workers(WORKERS).await?;
    ratios.push(("redis", against("Redis", &mut askers, &mut others, rounds, time).await?));
    server.check().await?;
    drop(server);

    let server = postgres::Server::start().await?;
    let mut others = server.workers(WORKERS).await?;
    ratios.push(("postgresql", against("PostgreSQL", &mut askers, &mut others, rounds, time).await?));
    server.check().await?;
    drop(server);

    let server = etcd::Server::start().await?;
    let mut others = server.workers(WORKERS).await?;
    ratios.push(("etcd", against("etcd", &mut askers, &mut others, rounds, time).await?));
    let lost: u64 = others.iter().map(etcd::Counter::lost).sum();
    println!("    etcd's workers lost the race {lost} times and asked again");
    server.check().await?;
    Ok(ratios)
}

/// The pool and another in turn.
async fn against<W: Worker>(
    name: &str,
    askers: &mut Vec<Asker>,
    others: &mut Vec<W>,
    rounds: usize,
    time: Duration,
) -> Result<f64> {
    let (ours, theirs) = in_turn(askers, others, WORKERS, rounds, time).await?;
    let ratio = ours.ratio(&theirs);
    println!("{}", theirs.line(name));
    println!("{}   {ratio:.2} times {name}", ours.line("pool over mutual TLS"));
    Ok(ratio)
}
