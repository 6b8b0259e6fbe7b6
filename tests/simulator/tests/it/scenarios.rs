//! What an operator asks about, told as text: each scenario is a small world that is written down, and the
//! story of what the machines do in it. `UPDATE_EXPECT=1 cargo test -p headroom-simulator` writes the stories
//! anew; whoever changes one reads it.

mod administration;
mod calls;
mod contact;
mod machines;

use std::fmt::Write as _;

use expect_test::expect_file;
use headroom_core::Millis;
use headroom_simulator::fault::Fault;
use headroom_simulator::scene::Scenario;

const A: usize = 0;
const B: usize = 1;

const fn s(seconds: i64) -> Millis {
    Millis::SECOND.times(seconds)
}

const fn min(minutes: i64) -> Millis {
    Millis::MINUTE.times(minutes)
}

/// Both ways between a node, or all, and the pool.
const fn cut(node: Option<usize>, span: Millis) -> Fault {
    Fault::Partition { node, to_pool: true, to_node: true, span }
}

/// Time without its milliseconds, which mean nothing to anybody.
fn clock(at: Millis) -> String {
    let seconds = at.0 / 1_000;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let days = if days > 0 { format!("{days}d ") } else { String::new() };
    format!("{days}{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
}

/// Runs a scenario: every promise is kept, and the story is the one that was read.
fn tells(name: &str, about: &str, scenario: Scenario) {
    let outcome = scenario.run();
    let mut text = format!("{about}\n\n");
    for (at, line) in &outcome.story {
        let _ = writeln!(text, "{}  {line}", clock(*at));
    }
    let file = format!("{}/tests/scenarios/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    expect_file![file].assert_eq(&text);
    assert_eq!(outcome.violation, None);
}
