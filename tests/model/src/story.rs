//! What happened, in words.

use crate::contract::Action;
use crate::message::{Answer, Change, Message, Reply, Request, Wish};
use crate::state::{Legs, State};

/// One line for each step of a way through the states.
#[must_use]
pub fn tell(steps: &[(Action, State)]) -> Vec<String> {
    let lines = steps.iter().enumerate();
    lines
        .map(|(number, (action, state))| format!("{:>3}. {:<66} {}", number + 1, step(*action), books(state)))
        .collect()
}

/// What an action is.
#[must_use]
pub fn step(action: Action) -> String {
    match action {
        Action::Ask(leg) => format!("the media server asks for leg {leg}"),
        Action::Decide(leg) => format!("the question of leg {leg} runs out: its node lets it run"),
        Action::End(leg) => format!("leg {leg} ends"),
        Action::Tell(leg) => format!("the media server is told that leg {leg} may run"),
        Action::Send(node, change) => format!("node {node} sends {}", said(change)),
        Action::Beat(node) => format!("node {node} sends a heartbeat"),
        Action::Reopen(node) => format!("node {node} gives its session up and opens another"),
        Action::Sync(node) => format!("the journal of node {node} is durable"),
        Action::Arrive { message: Message::Request(request), .. } => asked(request),
        Action::Arrive { message: Message::Reply(reply), .. } => answered(reply),
        Action::Commit => "the pool's commit is durable".into(),
        Action::Lapse(node) => format!("the pool has the session of node {node} lapse"),
        Action::Expire => "a license expires".into(),
        Action::Force(leg) => format!("an administrator takes the lease of leg {leg} back"),
        Action::KillPool => "the pool is killed and starts again".into(),
        Action::KillNode(node) => format!("node {node} is killed and starts again"),
    }
}

const fn said(change: Change) -> &'static str {
    match change {
        Change::Allocate => "Allocate",
        Change::Adopt => "Adopt",
        Change::Release => "Release",
    }
}

fn asked(request: Request) -> String {
    let Request { node, session, wish } = request;
    let what = match wish {
        Wish::Open { legs } => format!("OpenSession with {}", named(legs)),
        Wish::Report { chunk, legs, last } => {
            format!("{}chunk {chunk} of a report with {}", if last { "the last " } else { "" }, named(legs))
        }
        Wish::Mutation { sequence, change, legs } => {
            format!("mutation {sequence}, {} {}", said(change), named(legs))
        }
        Wish::Heartbeat => "a heartbeat".into(),
    };
    format!("node {node}, session {session} -> pool: {what}")
}

fn answered(reply: Reply) -> String {
    let Reply { node, session, answer } = reply;
    let what = match answer {
        Answer::Opened { report: true } => "the session is open, a report is due".into(),
        Answer::Opened { report: false } => "the session is active".into(),
        Answer::Reported { chunk, .. } => format!("chunk {chunk} is taken"),
        Answer::Mutated { sequence, verdict } => match verdict.change {
            Change::Allocate => format!("mutation {sequence} granted {}", named(verdict.granted)),
            Change::Adopt => format!("mutation {sequence} adopted {}", named(verdict.granted)),
            Change::Release => format!("mutation {sequence} is done"),
        },
        Answer::Beaten { revoked } => format!("to be ended: {}", named(revoked)),
    };
    format!("pool -> node {node}, session {session}: {what}")
}

fn named(legs: Legs) -> String {
    let names: Vec<_> = legs.each().map(|leg| leg.to_string()).collect();
    match names.len() {
        0 => "no leg".into(),
        1 => format!("leg {}", names[0]),
        _ => format!("legs {}", names.join(", ")),
    }
}

/// What runs and what is held, after a step.
fn books(state: &State) -> String {
    let held = state.pool.books.iter().fold(Legs::default(), |all, holder| all.and(holder.held));
    format!("runs: {:?}, held: {held:?} of {}", state.talking, state.pool.capacity)
}
