//! `sow`: sows each fault, runs simulated worlds until one breaks a promise, and prints which and how fast.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Parser;
use headroom_sown::field::{Field, Found};

/// Sows faults into a copy of the machines (under target/sown), one after the other, and runs simulated
/// worlds until one breaks a promise. Prints a table; ends with 1 when a fault was not found.
#[derive(Debug, Parser)]
struct Cli {
    /// Only these faults; when none is named, all that must be found.
    faults: Vec<String>,
    /// Worlds of its kind that a fault must be found within.
    #[arg(long, default_value_t = 2000)]
    worlds: u64,
    /// The top of the tree.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let mut faults: Vec<_> = headroom_sown::all().collect();
    if !cli.faults.is_empty() {
        faults.extend(headroom_sown::redundant());
        let known = |name: &&String| faults.iter().any(|(_, fault)| fault.name == **name);
        let unknown: Vec<_> = cli.faults.iter().filter(|name| !known(name)).collect();
        ensure!(unknown.is_empty(), "there are no such faults: {unknown:?}");
        faults.retain(|(_, fault)| cli.faults.iter().any(|name| name == fault.name));
    }
    let field = Field::lay_out(&cli.root.canonicalize()?)?;
    let mut out = std::io::stdout().lock();
    let mut missed = Vec::new();
    writeln!(out, "| fault | what it does | promise | worlds | world | seconds |")?;
    writeln!(out, "| --- | --- | --- | --- | ---: | ---: |")?;
    for (kind, fault) in &faults {
        let harvest = field.sow(fault, *kind, cli.worlds)?;
        let seconds = harvest.seconds.1;
        let (promise, seed) = match harvest.found {
            Some(Found { seed, promise }) => (promise, seed.to_string()),
            None => {
                missed.push(fault.name);
                ("not found".to_owned(), format!("of {}", cli.worlds))
            }
        };
        writeln!(
            out,
            "| {} | {} | {promise} | {} | {seed} | {seconds:.1} |",
            fault.name,
            fault.what,
            kind.unwrap_or("any")
        )?;
        out.flush()?;
    }
    writeln!(
        out,
        "\n{} faults sown, {} found; not found: {missed:?}",
        faults.len(),
        faults.len() - missed.len()
    )?;
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
