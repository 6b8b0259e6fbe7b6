//! The pool over the lease contract: allocate and release, one call a request and in batches.

use std::time::Duration;

use anyhow::{Result, ensure};
use headroom_tests::peer::{Peer, granted, one_leg};

use crate::measure::{Rounds, Samples, Worker, closed_loop};
use crate::rig::{Echo, Rig, peers};

/// A node that asks for some calls in one request, and gives them back in the next.
pub(crate) struct Asker {
    peer: Peer,
    number: u64,
    calls: usize,
}

impl Asker {
    pub(crate) fn all(peers: Vec<Peer>, calls: usize) -> Vec<Self> {
        peers.into_iter().map(|peer| Self { peer, number: 0, calls }).collect()
    }
}

impl Worker for Asker {
    async fn step(&mut self, samples: &mut Samples) -> Result<()> {
        self.number += 1;
        let names: Vec<_> = (0..self.calls).map(|call| format!("call-{}-{call}", self.number)).collect();
        let calls = names.iter().map(|name| one_leg(name)).collect();
        let answer = samples.time(self.calls, self.peer.allocate(calls)).await?;
        ensure!(granted(&answer).count() == self.calls, "not granted: {answer:?}");
        samples.time(self.calls, self.peer.release(names)).await?;
        Ok(())
    }
}

/// Throughput against the echo's.
pub(crate) struct Ratios {
    /// By requests in flight.
    pub(crate) unary: Vec<(usize, f64)>,
    /// In batches of 16, 64 in flight.
    pub(crate) batches: f64,
}

/// Measures unary requests and batches, pool and echo in turn.
///
/// # Errors
/// Whatever goes wrong.
pub(crate) async fn measure(rig: &mut Rig, echo: &Echo, rounds: usize, time: Duration) -> Result<Ratios> {
    const IN_FLIGHT: [usize; 4] = [1, 16, 64, 256];
    println!("lease contract over mutual TLS: allocate and release, durable before they are answered");
    let bundles = rig.nodes(256).await?;
    let mut unary = Vec::new();
    let mut askers = Asker::all(peers(&bundles, rig.fleet.management_address()).await?, 1);
    let mut echoed = Asker::all(peers(&bundles, echo.lease).await?, 1);
    for count in IN_FLIGHT {
        let (ours, theirs) = in_turn(&mut askers, &mut echoed, count, rounds, time).await?;
        println!("{}", theirs.line(&format!("echo, {count} in flight")));
        println!("{}   ratio {:.3}", ours.line(&format!("pool, {count} in flight")), ours.ratio(&theirs));
        unary.push((count, ours.ratio(&theirs)));
    }
    for asker in askers.iter_mut().chain(&mut echoed) {
        asker.calls = 16;
    }
    let (ours, theirs) = in_turn(&mut askers, &mut echoed, 64, rounds, time).await?;
    println!("{}", theirs.line("echo, 64 in flight, 16 calls a request"));
    println!("{}   ratio {:.3}", ours.line("pool, 64 in flight, 16 calls a request"), ours.ratio(&theirs));
    Ok(Ratios { unary, batches: ours.ratio(&theirs) })
}

/// Two kinds of workers in turn, after a short round of each that does not count.
pub(crate) async fn in_turn<A: Worker, B: Worker>(
    ones: &mut Vec<A>,
    others: &mut Vec<B>,
    count: usize,
    rounds: usize,
    time: Duration,
) -> Result<(Rounds, Rounds)> {
    let (mut one, mut other) = (Rounds::default(), Rounds::default());
    closed_loop(ones, count, time / 4).await?;
    closed_loop(others, count, time / 4).await?;
    for _ in 0..rounds {
        other.add(closed_loop(others, count, time).await?);
        one.add(closed_loop(ones, count, time).await?);
    }
    Ok((one, other))
}
