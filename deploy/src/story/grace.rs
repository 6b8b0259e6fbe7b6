//! A node is cut off: its leases lapse, its grace runs out, contact comes back. Meanwhile an
//! administrator releases a leg by force.

use std::time::Duration;

use headroom_proto::admin::SessionState;
use headroom_proto::admission::Contact;
use hyper::Method;

use super::contact::ended;
use super::outage::same_legs;
use super::{CONTACT, SOON, Story, contact_word, denied, granted, in_contact, legs_of, said};
use crate::Result;
use crate::agent::{Agent, simple_call};
use crate::pool::Pool;
use crate::wait::Look;

/// The grace runs out after this long at the latest, with room for a busy machine.
const GRACE_IS_OVER: Duration = Duration::from_secs(60);

pub(super) async fn play(story: &mut Story<'_>) -> Result<()> {
    let (b, pool) = (story.b.clone(), story.pool.clone());
    story.chapter("Node B is cut off");
    let running = legs_of(&b).await?;
    let held: u32 = b.legs().await?.iter().map(|leg| leg.units).sum();
    story.fleet.node("node-b")?.link.cut();
    let title = "its leases lapse after the session TTL of 5 s";
    let look = async || lapsed(&pool, 10 - held).await;
    story.until(title, &format!("lapsed, {} of 10 in use", 10 - held), SOON, look).await?;
    story.once("its calls go on", "all of its legs", same_legs(&b, &running).await)?;

    force_release(story).await?;

    story.chapter("B's grace of 20 s runs out");
    let expired = async || stands(&b, Contact::GraceExpired).await;
    story.until("no contact for 20 s", "grace expired", GRACE_IS_OVER, expired).await?;
    let refused = denied(b.admit(&simple_call("late-1", "late-1")).await, "grace_expired");
    story.once("a new call on B", "denied, grace_expired", refused)?;
    story.once("running calls stay", "all of its legs", same_legs(&b, &running).await)?;

    story.chapter("Contact comes back");
    story.fleet.node("node-b")?.link.heal();
    story.until("B finds the pool again", "in contact", CONTACT, async || in_contact(&b).await).await?;
    let a_units: u32 = story.a.legs().await?.iter().map(|leg| leg.units).sum();
    story.in_use("its legs are adopted again", a_units + held).await?;
    let next = granted(b.admit(&simple_call("again-1", "again-1")).await, 1, false);
    story.once("a new call on B", "granted", next)?;
    let title = "the denial that B decided alone reaches the pool's list";
    story.until(title, "late-1, grace_expired, by the node", SOON, async || uploaded(&pool).await).await?;
    all_ends(story).await
}

async fn lapsed(pool: &Pool, units: u32) -> Look<String> {
    let nodes = pool.nodes().await.map_err(said)?;
    let node = nodes.iter().find(|n| n.node == "node-b").ok_or("node-b is not listed")?;
    let now = pool.calls_pool().await.map_err(said)?;
    let state = node.session().as_str_name().trim_start_matches("SESSION_STATE_").to_lowercase();
    let seen =
        format!("{state} ({} leases returned), {} of {} in use", node.lapsed, now.in_use, now.capacity);
    let right = node.session() == SessionState::Lapsed && now.in_use == units && node.lapsed > 0;
    if right { Ok(seen) } else { Err(seen) }
}

async fn force_release(story: &mut Story<'_>) -> Result<()> {
    let (a, pool) = (story.a.clone(), story.pool.clone());
    story.chapter("Meanwhile an administrator releases n-3 on A by force");
    let before = pool.calls_pool().await?.in_use;
    let done = pool.force_release("node-a", "n-3").await;
    story.once("force-release node-a n-3", "released", done.map(|()| "released".into()).map_err(said))?;
    story.in_use("its unit comes back", before.saturating_sub(1)).await?;
    let title = "the media server's side is told";
    story.until(title, "n-3 is marked revoked", SOON, async || revoked(&a, "n-3").await).await?;
    story.once("the media server ends it", "ended", ended(a.end_leg("n-3").await))
}

/// As the media server reads it, who thereby counts as told.
async fn revoked(agent: &Agent, leg: &str) -> Look<String> {
    let listed = agent.json(Method::GET, "/v1/legs", None).await.map_err(said)?;
    match listed.body["legs"].as_array().into_iter().flatten().find(|l| l["leg"] == leg) {
        Some(l) if l["revoked"] == true => Ok(format!("{leg}: revoked")),
        Some(_) => Err(format!("{leg}: not revoked")),
        None => Err(format!("{leg} is not listed")),
    }
}

async fn stands(agent: &Agent, contact: Contact) -> Look<String> {
    let status = agent.status().await.map_err(said)?;
    let seen = contact_word(status.contact()).to_owned();
    if status.contact() == contact { Ok(seen) } else { Err(seen) }
}

async fn uploaded(pool: &Pool) -> Look<String> {
    let denials = pool.denials().await.map_err(said)?;
    let found = denials.iter().find(|d| d.call.as_ref().is_some_and(|c| c.call == "late-1"));
    let denial = found.ok_or_else(|| format!("{} denials, none of late-1", denials.len()))?;
    let seen = format!("late-1, {}, by_node {}", crate::picture::reason_word(denial.reason), denial.by_node);
    if denial.by_node && seen.contains("grace_expired") { Ok(seen) } else { Err(seen) }
}

async fn all_ends(story: &mut Story<'_>) -> Result<()> {
    let pool = story.pool.clone();
    story.chapter("Every call ends");
    for agent in [story.a.clone(), story.b.clone()] {
        for leg in legs_of(&agent).await? {
            ended(agent.end_leg(&leg).await).map_err(crate::Error::Refused)?;
        }
    }
    story
        .until("no lease is left behind", "0 of 10 in use, 0 leases", SOON, async || empty(&pool).await)
        .await
}

async fn empty(pool: &Pool) -> Look<String> {
    let status = pool.status().await.map_err(said)?;
    let in_use: u32 = status.pools.iter().map(|p| p.in_use).sum();
    let seen = format!("{in_use} of 10 in use, {} leases", status.leases);
    if in_use == 0 && status.leases == 0 { Ok(seen) } else { Err(seen) }
}
