//! `simulate`: runs simulated worlds by their seeds, and tells the story of one that breaks a promise.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::{Parser, ValueEnum as _};
use headroom_simulator::plan::Profile;
use headroom_simulator::run::{self, Failed, Figures, Progress, Worlds};
use headroom_simulator::story::{Telling, clock};

/// Runs the machines of all three services in simulated worlds: virtual time, a hostile network, failing
/// disks, wrong clocks, dying processes. After every step the promises are checked.
///
/// A seed is a world. One that breaks a promise replays exactly:
/// `simulate --first-seed SEED --seeds 1 --story`.
#[derive(Debug, Parser)]
struct Cli {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Worlds of this kind only; else as chance decides, without those that it never makes (unruly, feeds, clocks).
    #[arg(long)]
    only: Option<Profile>,
    /// Seeds at the same time; as many as there are processors when not given.
    #[arg(long)]
    threads: Option<usize>,
    /// End after so many seeds that broke a promise.
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// With `--seeds 1`: tell everything that happens, from the beginning; else the last lines of a seed that failed.
    #[arg(long)]
    story: bool,
    /// Lines of the story of a seed that failed.
    #[arg(long, default_value_t = 120)]
    lines: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let mut out = std::io::stdout().lock();
    if cli.story && cli.seeds == 1 {
        let outcome = run::seed(cli.first_seed, cli.only, Telling::Everything);
        for (at, line) in &outcome.story {
            writeln!(out, "{}  {line}", clock(*at))?;
        }
        writeln!(out, "trace {:016x}, {} steps", outcome.trace, outcome.steps)?;
        return Ok(if outcome.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // A panic is told as a broken promise, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let threads = cli.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let began = Instant::now();
    let shown = AtomicU64::new(0);
    let progress = |Progress { done, failed }: Progress<'_>| {
        let seconds = began.elapsed().as_secs();
        if let Some(Failed { seed, violation }) = failed {
            // At once: whoever ends a long run early has seen it.
            let _ = writeln!(std::io::stderr(), "seed {seed} broke {}", violation.promise);
        }
        if shown.fetch_max(seconds / 10, Ordering::Relaxed) < seconds / 10 {
            // Who does not listen does not need to know.
            let _ = writeln!(std::io::stderr(), "{done} of {} seeds, {seconds} s", cli.seeds);
        }
    };
    let worlds = Worlds { only: cli.only, first: cli.first_seed, count: cli.seeds };
    let (figures, failed) = run::seeds(worlds, threads, cli.failures, progress);
    print_figures(&mut out, &figures, began.elapsed().as_secs_f64())?;
    for failure in &failed {
        print_failure(&mut out, failure, &cli)?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_figures(out: &mut impl std::io::Write, figures: &Figures, seconds: f64) -> std::io::Result<()> {
    for (name, count) in &figures.counts {
        writeln!(out, "{count:>12}  {name}")?;
    }
    #[allow(clippy::cast_precision_loss)]
    let years = figures.node_time.0 as f64 / 1000.0 / 86_400.0 / 365.25;
    writeln!(
        out,
        "{} seeds, {years:.2} node-years, {} steps, {} seeds run twice with the same trace, {seconds:.1} s",
        figures.seeds, figures.steps, figures.repeated
    )
}

fn print_failure(out: &mut impl std::io::Write, failed: &Failed, cli: &Cli) -> std::io::Result<()> {
    let Failed { seed, violation } = failed;
    writeln!(
        out,
        "\nseed {seed} broke {} at {}: {}",
        violation.promise,
        clock(violation.at),
        violation.text
    )?;
    let story = run::seed(*seed, cli.only, Telling::Everything).story;
    let skipped = story.len().saturating_sub(cli.lines);
    if skipped > 0 {
        writeln!(
            out,
            "… {skipped} lines before; all of them: simulate {}--first-seed {seed} --seeds 1 --story",
            cli.only
                .and_then(|only| only.to_possible_value())
                .map_or_else(String::new, |only| format!("--only {} ", only.get_name()))
        )?;
    }
    for (at, line) in &story[skipped..] {
        writeln!(out, "{}  {line}", clock(*at))?;
    }
    Ok(())
}
