//! `model`: explores the lease contract to the end, and shows that each of its rules is needed.

#![expect(clippy::print_stdout, reason = "what was found is this program's output")]

use std::process::ExitCode;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use headroom_model::explore::{AT_REST, counterexample, every_promise, explore};
use headroom_model::{Case, Rule, story};

/// Explores a model of the lease contract: every state of a pool with two licenses, two nodes and three legs
/// under loss, repetition, delay and kills. Then leaves out one rule at a time, which must break a promise.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Explore only the configurations whose name has this in it
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Tell the shortest way to a broken promise without this rule, and nothing else
    #[arg(long, value_name = "RULE", value_parser = PossibleValuesParser::new(Rule::ALL.map(Rule::name)))]
    story: Option<String>,
    /// Explore what takes minutes and gigabytes too
    #[arg(long)]
    long: bool,
    /// How many threads look at the promises; one more looks for the way to rest
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let kept = match &cli.story {
        Some(name) => Rule::ALL.into_iter().filter(|rule| rule.name() == name).all(tell),
        None => {
            let cases = explore_all(&cli);
            cases && (cli.only.is_some() || leave_out_each())
        }
    };
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(head);
    table
}

/// Explores the configurations, and says whether all promises were kept.
fn explore_all(cli: &Cli) -> bool {
    let named = |case: &Case| cli.only.as_ref().is_none_or(|part| case.name.contains(part.as_str()));
    let mut table = table([
        "configuration",
        "unique states",
        "states of rest",
        "max depth",
        "seconds",
        "promises",
        "broken",
    ]);
    let mut kept = true;
    let long = if cli.long { Case::long() } else { Vec::new() };
    for case in Case::small().into_iter().chain(Case::full()).chain(long).filter(named) {
        let found = explore(case, cli.threads.into());
        let mut broken: Vec<_> = found.broken.iter().map(|broken| broken.promise.to_owned()).collect();
        for broken in &found.broken {
            println!("{}: {}", case.name, broken.promise);
            println!("{}\n", story::tell(&broken.steps).join("\n"));
        }
        if found.stuck > 0 {
            broken.push(format!("no rest reachable from {} states", found.stuck));
        }
        kept &= broken.is_empty();
        table.add_row([
            case.name.to_owned(),
            found.states.to_string(),
            found.rests.to_string(),
            found.depth.to_string(),
            format!("{:.1}", found.took.as_secs_f64()),
            found.promises.to_string(),
            if broken.is_empty() { "none".to_owned() } else { broken.join(", ") },
        ]);
    }
    println!("{table}");
    kept
}

/// Leaves out each rule, and says whether that broke a promise each time.
fn leave_out_each() -> bool {
    let head =
        ["rule left out", "what is done instead", "steps", "broken promise", "steps to wrong books at rest"];
    let (mut table, mut all) = (table(head), true);
    for rule in Rule::ALL {
        let found = counterexample(rule, &every_promise());
        let (steps, promise) = match &found {
            Some(broken) => (broken.steps.len().to_string(), broken.promise),
            None => ("-".to_owned(), "none: the model did not notice"),
        };
        let wrong = counterexample(rule, &[AT_REST]);
        let wrong = wrong.map_or_else(|| "they come right again".to_owned(), |w| w.steps.len().to_string());
        table.add_row([rule.name(), rule.without(), &steps, promise, &wrong]);
        all &= found.is_some();
    }
    println!("{table}");
    all
}

fn tell(rule: Rule) -> bool {
    let Some(broken) = counterexample(rule, &every_promise()) else {
        println!("no promise is broken");
        return false;
    };
    println!("without the rule, {}. Broken: {}", rule.without(), broken.promise);
    println!("{}", story::tell(&broken.steps).join("\n"));
    true
}
