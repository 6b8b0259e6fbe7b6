//! Standard output, for whoever started the program. A reader that went away is no reason to stop.

use std::io::Write as _;

use crate::fleet::Fleet;
use crate::story::Told;

/// Prints a line.
pub fn say(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Prints what the story tells.
pub fn story(told: &Told<'_>) {
    match told {
        Told::Chapter(heading) => say(format!("\n{heading}")),
        Told::Step(step) => {
            let mark = if step.passed { "ok  " } else { "FAIL" };
            let took = step.took.as_secs_f64();
            let took = if took >= 0.5 { format!("   ({took:.1} s)") } else { String::new() };
            say(format!("  {mark} {}", step.title));
            say(format!("       expected: {}", step.expected));
            say(format!("       seen:     {}{took}", step.seen));
        }
    }
}

/// Prints how everything is reached.
pub fn addresses(fleet: &Fleet) {
    say(format!("  management node   {}  (gRPC with mutual TLS)", fleet.management_address()));
    for node in fleet.nodes() {
        say(format!("  {:<17} {}  (HTTP/JSON and gRPC)", node.name, node.agent.address()));
    }
    say(format!("  state and logs    {}", fleet.layout().root().display()));
}
