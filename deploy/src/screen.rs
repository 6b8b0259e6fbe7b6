//! The live screen: 80 columns by 24 lines, more when there is room.

use headroom_core::Units;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::picture::{Decision, NodeLine, Picture, PoolLine, span, time_of_day};

/// What to try, from a second terminal.
const TRY: [(&str, &str); 5] = [
    ("deploy/call start node-a", "one more call (also: end, fill)"),
    ("deploy/cut node-a", "the node loses contact, calls go on"),
    ("deploy/heal node-a", "contact again, the books come right"),
    ("deploy/explain last", "why the last request was decided so"),
    ("curl localhost:7500/v1/status", "what the node says of itself"),
];

const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().fg(Color::DarkGray);
const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Red);
const WARN: Style = Style::new().fg(Color::Yellow);

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, picture: &Picture, state: &str) {
    let area = frame.area();
    let nodes = u16::try_from(picture.nodes.len()).unwrap_or(u16::MAX);
    let tries = u16::try_from(TRY.len()).unwrap_or(0);
    let rows = [1, 2, 2, nodes.saturating_add(2), 0, tries + 1, 1];
    let mut limits = rows.map(Constraint::Length);
    limits[4] = Constraint::Fill(1);
    let [title, pool, license, node_rows, decisions, tries, foot] = Layout::vertical(limits).areas(area);
    frame.render_widget(
        Paragraph::new(Line::styled(" Headroom, a demonstration on this machine", TITLE)),
        title,
    );
    frame.render_widget(Paragraph::new(pool_lines(picture.pool.as_ref(), area.width)), pool);
    let license_line = picture.licenses.first().cloned().unwrap_or_else(|| "none installed".into());
    frame.render_widget(Paragraph::new(line("license", license_line, Style::new())), license);
    frame.render_widget(Paragraph::new(node_lines(&picture.nodes)), node_rows);
    draw_decisions(frame, decisions, picture);
    frame.render_widget(Paragraph::new(try_lines()), tries);
    frame.render_widget(Paragraph::new(foot_line(picture, state, usize::from(area.width))), foot);
}

fn line(label: &str, text: String, style: Style) -> Line<'static> {
    Line::from(vec![Span::styled(format!(" {label:<9}"), DIM), Span::styled(text, style)])
}

/// The bar: use, then what is free, then the overdraft; use above all of it in red.
fn pool_lines(pool: Option<&PoolLine>, width: u16) -> Vec<Line<'static>> {
    let Some(pool) = pool else {
        return vec![line("calls", "the management node does not answer; the nodes go on".into(), BAD)];
    };
    let limit = pool.capacity.saturating_add(pool.overdraft);
    let scale = pool.in_use.max(limit).max(1);
    let room = u32::from(width.saturating_sub(36).max(10));
    let cells = |units: u32| usize::try_from(units.saturating_mul(room) / scale).unwrap_or(0);
    let used = cells(pool.in_use.min(limit));
    let (free, over) = (cells(limit) - used, cells(pool.in_use) - used);
    let over = if pool.in_use > limit { over } else { 0 };
    let style = if pool.in_use >= limit { WARN } else { GOOD };
    let use_text = format!("  {} in use of {}", pool.in_use, Units(pool.capacity));
    let bar = Line::from(vec![
        Span::styled(format!(" {:<9}", "calls"), DIM),
        Span::styled("█".repeat(used), style),
        Span::styled("·".repeat(free), DIM),
        Span::styled("▓".repeat(over), BAD),
        Span::styled(use_text, TITLE),
    ]);
    let cause = if pool.cause.is_empty() { String::new() } else { format!(" ({})", pool.cause) };
    let numbers = format!(
        "overdraft {}   over-commit {}{cause}   peak {}   denials {}",
        pool.overdraft, pool.over_commit, pool.peak, pool.denials
    );
    let style = if pool.over_commit > 0 { BAD } else { Style::new() };
    vec![bar, line("", numbers, style)]
}

fn node_lines(nodes: &[NodeLine]) -> Vec<Line<'static>> {
    let head = format!(
        " {:<12}{:<17}{:<17}{:>5}{:>12}{:>13}",
        "node", "local API", "contact", "legs", "optimistic", "grace left"
    );
    let mut lines = vec![Line::styled(head, DIM)];
    for node in nodes {
        let contact = if node.cut { format!("{} (cut)", node.contact) } else { node.contact.clone() };
        let style = if node.contact == "in contact" { GOOD } else { BAD };
        let legs = node.legs.map_or("-".to_owned(), |n| n.to_string());
        let grace = node.grace_left_ms.map_or("-".to_owned(), span);
        lines.push(Line::from(vec![
            Span::raw(format!(" {:<12}{:<17}", clip(&node.name, 11), clip(&node.address, 16))),
            Span::styled(format!("{:<17}", clip(&contact, 16)), style),
            Span::raw(format!("{legs:>5}")),
            Span::styled(
                format!("{:>12}", node.optimistic),
                if node.optimistic > 0 { WARN } else { Style::new() },
            ),
            Span::raw(format!("{grace:>13}")),
        ]));
    }
    lines
}

fn draw_decisions(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let mut lines = vec![Line::styled(" last decisions, and what the caller was told", DIM)];
    if picture.decisions.is_empty() {
        lines.push(Line::raw("   none yet"));
    }
    let room = usize::from(area.width);
    lines.extend(
        picture.decisions.iter().take(usize::from(area.height).saturating_sub(2)).map(|d| decision(d, room)),
    );
    frame.render_widget(Paragraph::new(lines), area);
}

fn decision(decision: &Decision, room: usize) -> Line<'static> {
    let head = format!(
        " {} {:<8}{:<10}",
        time_of_day(decision.at_ms),
        clip(&decision.node, 7),
        clip(&decision.call, 9)
    );
    let told = clip(&decision.told, room.saturating_sub(head.chars().count() + 1));
    let style = if decision.refused() { BAD } else { GOOD };
    Line::from(vec![Span::raw(head), Span::styled(told, style)])
}

fn try_lines() -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled(" try, from a second terminal", DIM)];
    lines.extend(TRY.iter().map(|(command, what)| {
        Line::from(vec![Span::raw(format!("   {command:<31}")), Span::styled(*what, DIM)])
    }));
    lines
}

fn foot_line(picture: &Picture, state: &str, room: usize) -> Line<'static> {
    match picture.alarms.first() {
        Some(alarm) => {
            let more = match picture.alarms.len() {
                1 => String::new(),
                n => format!(" (+{})", n - 1),
            };
            Line::styled(clip(&format!(" ALARM{more} {alarm}"), room), BAD)
        }
        None => Line::styled(format!(" Ctrl-C ends it. State: {state}"), DIM),
    }
}

/// At most `room` characters, with a mark where something was left out.
fn clip(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn picture() -> Picture {
        let node = |name: &str, port: u16, legs| NodeLine {
            name: name.into(),
            address: format!("127.0.0.1:{port}"),
            contact: "in contact".into(),
            legs: Some(legs),
            grace_left_ms: Some(14 * 86_400_000),
            ..NodeLine::default()
        };
        let told =
            "insufficient_licenses: You cannot join now: all of the system's call licenses are in use.";
        let decisions = (1..=11).rev().map(|n| Decision {
            at_ms: 0,
            node: "node-b".into(),
            call: format!("call-{n}"),
            told: if n == 11 { told.into() } else { "granted, 1 unit".into() },
        });
        Picture {
            pool: Some(PoolLine {
                in_use: 13,
                capacity: 10,
                over_commit: 3,
                cause: "adopted legs",
                peak: 13,
                denials: 1,
                ..PoolLine::default()
            }),
            licenses: vec!["L-1: 10 call, active, no end".into()],
            nodes: vec![node("node-a", 7500, 6), node("node-b", 7501, 4)],
            decisions: decisions.collect(),
            alarms: Vec::new(),
        }
    }

    fn drawn(picture: &Picture) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, picture, "target/demo")).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_an_operator_needs_fits_80_columns_and_24_lines() {
        let text = drawn(&picture());
        for part in [
            "13 in use of 10",
            "over-commit 3 (adopted legs)",
            "peak 13",
            "overdraft 0",
            "L-1: 10 call, active",
            "node-a",
            "127.0.0.1:7501",
            "in contact",
            "14d 00h",
            "insufficient_licenses: You cannot join",
            "granted, 1 unit",
            "deploy/cut node-a",
            "deploy/explain last",
            "Ctrl-C ends it",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_management_node_that_does_not_answer_and_an_alarm_are_said() {
        let mut picture = picture();
        picture.pool = None;
        picture.alarms = vec!["node-a: out_of_contact_5m".into()];
        picture.nodes[0].contact = "OUT 6m 00s".into();
        picture.nodes[0].cut = true;
        let text = drawn(&picture);
        for part in ["does not answer", "ALARM node-a: out_of_contact_5m", "OUT 6m 00s (cut)"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
