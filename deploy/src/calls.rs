//! Calls placed from the command line: `deploy/call start`, `end` and `fill`, as a media server
//! would, over the nodes' HTTP/JSON interface.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::SocketAddr;

use serde_json::Value;

use crate::agent::{Agent, Answer, call_of, leg_of, media};
use crate::control::{self, Request};
use crate::layout::Layout;
use crate::process::Endpoints;
use crate::record::Record;
use crate::{Error, Result};

/// No demonstration's pool is larger; ends a `fill` that never meets a denial.
const MOST: u32 = 1000;

/// The nodes of the deployment in a state folder.
///
/// # Errors
/// When none runs there.
pub fn nodes(layout: &Layout) -> Result<Vec<Agent>> {
    let not_running = |why: &str| Error::NotRunning { dir: layout.root().to_owned(), why: why.into() };
    let record = Record::read(layout)?.ok_or_else(|| not_running("there is no deployment in it"))?;
    let nodes =
        record.services.iter().filter(|s| s.name != "licensing" && s.name != "management" && s.alive());
    let agents: Vec<Agent> = nodes
        .filter_map(|s| Some((s.name.as_str(), Endpoints::read(&layout.endpoints(&s.name)).ok()?.tcp()?)))
        .map(|(name, address): (&str, SocketAddr)| Agent::new(name, address))
        .collect::<Result<_>>()?;
    if agents.is_empty() { Err(not_running("no node runs")) } else { Ok(agents) }
}

/// The node of a name, or the first.
///
/// # Errors
/// [`Error::NoNode`] with the names there are.
pub fn choose(mut nodes: Vec<Agent>, name: Option<&str>) -> Result<Agent> {
    let known = nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ");
    let at = match name {
        None => Some(0),
        Some(name) => nodes.iter().position(|n| n.name == name),
    };
    match at {
        Some(at) if at < nodes.len() => Ok(nodes.swap_remove(at)),
        _ => Err(Error::NoNode { name: name.unwrap_or_default().to_owned(), known }),
    }
}

/// A call id that was not used before in this state folder: `call-12`.
///
/// # Errors
/// When the counter cannot be kept.
pub fn fresh_id(layout: &Layout) -> Result<String> {
    let path = layout.root().join("last-call");
    let doing = || format!("counting in {}", path.display());
    let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = options.map_err(Error::io(doing()))?;
    // two terminals may ask at the same time
    file.lock().map_err(Error::io(doing()))?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(Error::io(doing()))?;
    let next = text.trim().parse::<u64>().unwrap_or(0) + 1;
    file.seek(SeekFrom::Start(0)).map_err(Error::io(doing()))?;
    file.write_all(next.to_string().as_bytes()).map_err(Error::io(doing()))?;
    Ok(format!("call-{next}"))
}

/// A call as `deploy/call` places it. A gateway call has its inbound leg first.
#[must_use]
pub fn describe(call: &str, service: &str, legs: u32) -> Value {
    let legs = (1..=legs).map(|n| {
        let direction = if service == "gateway" && n > 1 { "out" } else { "in" };
        leg_of(&format!("{call}/{n}"), "sip", direction, media(true, true))
    });
    call_of(call, service, legs.collect())
}

/// Places a call and lets the live screen know.
///
/// # Errors
/// When the node does not answer.
pub async fn start(layout: &Layout, agent: &Agent, call: &str, service: &str, legs: u32) -> Result<Answer> {
    let answer = agent.admit(&describe(call, service, legs)).await?;
    let note = Request::Note { node: agent.name.clone(), call: call.into(), told: answer.told() };
    // the screen is a convenience: the call was decided either way
    let _ = control::ask(layout, &note).await;
    Ok(answer)
}

/// Ends a call, or the newest one, wherever it runs: its name and the nodes it ran on.
///
/// # Errors
/// When there is none, or a node does not answer.
pub async fn end(nodes: &[Agent], call: Option<&str>) -> Result<(String, Vec<String>)> {
    let mut running: Vec<(i64, String, &Agent)> = Vec::new();
    for agent in nodes {
        running.extend(agent.legs().await?.into_iter().map(|leg| (leg.admitted_at_ms, leg.call, agent)));
    }
    let newest = running.iter().max_by_key(|(at, _, _)| *at).map(|(_, call, _)| call.clone());
    let Some(call) = call.map(str::to_owned).or(newest) else {
        return Err(Error::Refused("no call runs".into()));
    };
    let mut ended = Vec::new();
    for agent in nodes {
        if running.iter().any(|(_, c, a)| *c == call && a.name == agent.name) {
            let answer = agent.end_call(&call).await?;
            if answer.status >= 300 {
                return Err(Error::Refused(format!("{}: {}", agent.name, answer.told())));
            }
            ended.push(agent.name.clone());
        }
    }
    if ended.is_empty() { Err(Error::Refused(format!("no call `{call}` runs"))) } else { Ok((call, ended)) }
}

/// Starts one call after the other, on all nodes in turn, until one is refused: how many were
/// granted, and what the last caller was told.
///
/// # Errors
/// When a node does not answer.
pub async fn fill(layout: &Layout, nodes: &[Agent]) -> Result<(u32, String)> {
    let mut count = 0;
    for agent in nodes.iter().cycle() {
        let call = fresh_id(layout)?;
        let answer = start(layout, agent, &call, "vmr", 1).await?;
        if !answer.granted() {
            return Ok((count, format!("{} on {}: {}", call, agent.name, answer.told())));
        }
        count += 1;
        if count >= MOST {
            break;
        }
    }
    Ok((count, "none was refused".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_ids_are_never_used_twice() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let ids: Vec<String> = (0..11).map(|_| fresh_id(&layout).unwrap()).collect();
        assert_eq!((ids[0].as_str(), ids[10].as_str()), ("call-1", "call-11"));
    }
}
