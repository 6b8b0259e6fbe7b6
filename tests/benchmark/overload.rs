//! Overload: real agents and uplinks of many conferencing nodes ask a real management node for three times
//! what it can sustain, and its promises are judged: releases go on, nobody opens sessions or reports for it,
//! and soon after its end everything is as it was.
//!
//! The pool runs a small part of the time only: so it is the pool that is overloaded, as in a deployment, and
//! not this program beside it on the same machine. What is measured is therefore not how much a pool bears,
//! but what becomes of it beyond that.

mod load;
mod slow;
mod tally;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use crate::rig::Rig;
use load::Load;
use slow::Slow;
use tally::{Observer, Phase};

/// How the overload is made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Conferencing nodes.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: u16,
    /// The part of the time in which the pool runs, in percent.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=100))]
    share: u8,
    /// Seconds of overload.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(10..=3600))]
    seconds: u16,
    /// How many times the sustainable load is offered.
    #[arg(long, default_value_t = 3.0)]
    times: f64,
    /// Calls a second that can be sustained, where it is known already; else it is looked for.
    #[arg(long)]
    sustainable: Option<f64>,
}

/// How long a call runs.
const HOLD: Duration = Duration::from_secs(3);
/// Part of the sustainable load that is offered before and after.
const USUAL: f64 = 0.7;
/// Seconds of usual load that are measured before the overload, and watched after it.
const BEFORE: Duration = Duration::from_secs(15);
const AFTER: Duration = Duration::from_secs(30);
/// Goodput is back when so large a part of the calls is decided by the pool in time again.
const BACK: f64 = 0.95;
/// So soon.
const BACK_WITHIN: u64 = 10;
/// A load is sustained when so large a part of the calls is decided by the pool in time.
const SUSTAINED: f64 = 0.99;
/// How long a load is tried.
const TRIAL: Duration = Duration::from_secs(4);
/// The pool takes back what ended at latest after this, also while it is overloaded.
const RELEASE_WITHIN: Duration = Duration::from_secs(10);

/// A load that runs so late is no load of the pool.
const BUSY_MILLIS: f64 = 100.0;

/// Runs it, prints what was seen, and says whether every promise was kept.
///
/// # Errors
/// Whatever keeps it from running.
pub(crate) async fn measure(options: &Options) -> Result<bool> {
    let mut rig = Rig::start_with(None).await?;
    let bundles = rig.bundles(options.nodes.into()).await?;
    let load = Load::start(&bundles, rig.fleet.management_address()).await?;
    println!(
        "overload: {} nodes of one management node that runs {} % of the time",
        options.nodes, options.share
    );
    let slow = Slow::down(rig.pid()?, options.share);
    let sustainable = match options.sustainable {
        Some(known) => known,
        None => search(&load).await?,
    };
    println!("  sustainable: {sustainable:.0} calls a second, each held for {HOLD:?}");

    settle(&load).await?;
    let observer = Observer::begin(&rig).await?;
    let usual = sustainable * USUAL;
    let seconds = Duration::from_secs(options.seconds.into());
    // The calls of the time before have to end at the usual pace first.
    load.offer(usual, HOLD + Duration::from_secs(2)).await;
    let mut before = Phase::of("before", load.offer(usual, BEFORE)).await;
    let much = sustainable * options.times;
    let mut over = Phase::of("overload", load.offer(much, seconds)).await;
    let mut after = Phase::of("after", load.offer(usual, AFTER)).await;
    let unreleased = drained(&load).await;
    drop(slow);
    for phase in [&mut before, &mut over, &mut after] {
        phase.close(&load, &observer);
        println!("{}", phase.lines());
    }
    println!("  decided by the pool in each second of the overload: {}", over.course());
    println!("  and after it: {}", after.course());
    let lag = before.lag().max(over.lag()).max(after.lag());
    ensure!(
        lag < BUSY_MILLIS,
        "the load itself ran {lag:.0} ms late: this machine, not the pool, was overloaded, and nothing is judged; \
         give the pool less --share, or the machine less to do"
    );
    let mut kept = judge(&load, options, &before, &over, &after);
    kept &= promise(
        "after the last call nothing is left that the pool has not taken back",
        unreleased == 0,
        &format!("{unreleased} left"),
    );
    let (leases, legs) = agreed(&rig, &load).await?;
    kept &= promise("the pool holds what runs", leases == legs, &format!("{leases} leases, {legs} legs"));
    load.stop().await?;
    Ok(kept)
}

fn promise(what: &str, kept: bool, seen: &str) -> bool {
    println!("  {} {what}: {seen}", if kept { "kept  " } else { "BROKEN" });
    kept
}

fn judge(load: &Load, options: &Options, before: &Phase, over: &Phase, after: &Phase) -> bool {
    let wanted = before.goodput() * BACK;
    let back = after.seconds_until(wanted);
    let told = back.map_or_else(|| format!("not within {AFTER:?}"), |seconds| format!("after {seconds} s"));
    let mut kept = promise(
        &format!("goodput is back at {wanted:.0} a second within {BACK_WITHIN} s"),
        back.is_some_and(|seconds| seconds <= BACK_WITHIN),
        &told,
    );
    let unanswered = load.ends_unanswered();
    kept &= promise("every end was answered", unanswered == 0, &format!("{unanswered} were not"));
    let slowest = over.taken_back(1.0).max(after.taken_back(1.0));
    kept &= promise(
        &format!("the pool takes back what ended within {RELEASE_WITHIN:?}, overloaded or not"),
        slowest <= RELEASE_WITHIN.as_secs_f64() * 1000.0 && over.starved() == 0,
        &format!("the slowest took {slowest:.0} ms"),
    );
    let (opened, reported) = (over.opened() + after.opened(), over.reported() + after.reported());
    // Nobody has a reason for any: no process began, no session was silent for its time.
    let few = u64::from(options.nodes / 10);
    kept &= promise(
        &format!("no storm: at most {few} sessions opened and reports begun"),
        opened <= few && reported <= few,
        &format!(
            "{opened} opened, {reported} reported, {} connections made anew",
            over.connected() + after.connected()
        ),
    );
    kept
}

/// Whether this load is sustained. One that is not at the first try may have been disturbed by what else the
/// machine does.
async fn sustains(load: &Load, rate: f64) -> Result<bool> {
    for _ in 0..2 {
        settle(load).await?;
        // A load that begins shows less than one that goes on.
        load.offer(rate, TRIAL / 4).await;
        let part = load.offer(rate, TRIAL).await.part_in_time().await;
        println!("  tried {rate:>7.0} calls a second: {:.1} % decided by the pool in time", part * 100.0);
        if part >= SUSTAINED {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The highest load that is sustained, to a tenth.
async fn search(load: &Load) -> Result<f64> {
    let mut good = 50.0;
    ensure!(sustains(load, good).await?, "not even {good} calls a second are sustained");
    let mut bad = good;
    while bad <= good {
        bad = good * 2.0;
        ensure!(bad < 100_000.0, "the pool is not to be overloaded from here: give it less --share");
        if sustains(load, bad).await? {
            good = bad;
        }
    }
    while bad / good > 1.1 {
        let middle = (good * bad).sqrt();
        if sustains(load, middle).await? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good)
}

/// Waits until no call runs, the pool has heard of every end, and all nodes are in contact.
async fn settle(load: &Load) -> Result<()> {
    let begun = Instant::now();
    while !load.quiet() {
        ensure!(begun.elapsed() < Duration::from_secs(120), "the nodes do not come to rest: {}", load.rest());
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits a while until the pool has heard of every end; how many are left.
async fn drained(load: &Load) -> usize {
    let begun = Instant::now();
    while !load.quiet() && begun.elapsed() < HOLD + Duration::from_secs(30) {
        sleep(Duration::from_millis(50)).await;
    }
    load.owed()
}

/// Leases that the pool holds, and legs that run.
async fn agreed(rig: &Rig, load: &Load) -> Result<(usize, usize)> {
    let leases = rig.fleet.pool().legs().await.context("the pool's legs")?;
    Ok((leases.len(), load.running()))
}
