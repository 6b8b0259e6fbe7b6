//! The management node is killed: the nodes go on. It comes back: the books come right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::contact::ended;
use super::{CONTACT, SOON, Story, denied, granted, in_contact, legs_of, said};
use crate::Result;
use crate::agent::{Agent, simple_call};
use crate::pool::Pool;
use crate::wait::{self, Look};

/// A node denies rather than permits for so long after an answer that said "full".
const FULL_IS_OLD: Duration = Duration::from_secs(15);

pub(super) async fn play(story: &mut Story<'_>) -> Result<()> {
    let before = leases(&story.pool).await?;
    let alone = outage(story).await?;
    recovery(story, &before, &alone).await?;
    under_the_limit(story).await?;
    restart(story).await
}

/// The lease of every leg.
async fn leases(pool: &Pool) -> Result<BTreeMap<String, u64>> {
    Ok(pool.legs().await?.into_iter().map(|leg| (leg.leg, leg.lease)).collect())
}

async fn outage(story: &mut Story<'_>) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let (a, b) = (story.a.clone(), story.b.clone());
    story.chapter("The management node is killed (kill -9) while the pool is full");
    story.fleet.kill_management().await;
    let mut waiting = vec![(&a, "o-1"), (&a, "o-2"), (&b, "o-3")];
    let title = "two new legs on A, one on B (an answer under 15 s old that said \"full\" must age first)";
    let look = async || alone(&mut waiting).await;
    story.until(title, "granted, optimistic", FULL_IS_OLD + SOON, look).await?;
    let mut legs = BTreeMap::new();
    for (agent, count) in [(&a, 2), (&b, 1)] {
        let title = format!("{} marks what it decided alone", agent.name);
        story
            .until(&title, &format!("{count} optimistic"), SOON, async || optimistic(agent, count).await)
            .await?;
        legs.insert(agent.name.clone(), legs_of(agent).await?);
    }
    Ok(legs)
}

/// Each leg that was not granted yet asks once: a leg that was denied may ask again under its id.
async fn alone(waiting: &mut Vec<(&Agent, &str)>) -> Look<String> {
    let mut last = String::new();
    let mut still = Vec::new();
    for (agent, name) in waiting.iter().copied() {
        match granted(agent.admit(&simple_call(name, name)).await, 1, true) {
            Ok(_) => {}
            Err(told) => {
                last = format!("{name} on {}: {told}", agent.name);
                still.push((agent, name));
            }
        }
    }
    *waiting = still;
    if waiting.is_empty() {
        return Ok("3 granted, optimistic".into());
    }
    // a media server would not ask again at once
    tokio::time::sleep(Duration::from_millis(200)).await;
    Err(last)
}

async fn optimistic(agent: &Agent, count: u64) -> Look<String> {
    let status = agent.status().await.map_err(said)?;
    let seen = format!("{} optimistic of {} legs", status.optimistic, status.legs);
    if status.optimistic == count { Ok(seen) } else { Err(seen) }
}

async fn recovery(
    story: &mut Story<'_>,
    before: &BTreeMap<String, u64>,
    running: &BTreeMap<String, BTreeSet<String>>,
) -> Result<()> {
    let (a, b, pool) = (story.a.clone(), story.b.clone(), story.pool.clone());
    story.chapter("The management node comes back");
    story.fleet.start_management().await?;
    let title = "its state is what was acknowledged";
    let expected = format!("all {} leases, with their numbers", before.len());
    story.until(title, &expected, SOON, async || kept(&pool, before).await).await?;
    for agent in [&a, &b] {
        let title = format!("{} finds it again", agent.name);
        story.until(&title, "in contact", CONTACT, async || in_contact(agent).await).await?;
    }
    let title = "the nodes' legs are adopted, above the limit";
    let expected = "13 of 10 in use, over-commit 3 by adopted legs, alarm";
    story.until(title, expected, CONTACT, async || over_committed(&pool).await).await?;
    for agent in [&a, &b] {
        let title = format!("nothing is left to settle on {}", agent.name);
        story.until(&title, "0 optimistic", CONTACT, async || optimistic(agent, 0).await).await?;
        let title = format!("no call was cut on {}", agent.name);
        let expected = running.get(&agent.name).cloned().unwrap_or_default();
        let now = legs_of(agent).await?;
        let look = if now == expected { Ok(format!("{} legs", now.len())) } else { Err(format!("{now:?}")) };
        story.once(&title, &format!("{} legs", expected.len()), look)?;
    }
    Ok(())
}

async fn kept(pool: &Pool, before: &BTreeMap<String, u64>) -> Look<String> {
    let now = leases(pool).await.map_err(said)?;
    let same = before.iter().filter(|(leg, lease)| now.get(*leg) == Some(lease)).count();
    let seen = format!("{same} of {} leases", before.len());
    if same == before.len() { Ok(seen) } else { Err(seen) }
}

async fn over_committed(pool: &Pool) -> Look<String> {
    let status = pool.status().await.map_err(said)?;
    let calls = status.pools.iter().find(|p| p.feature == "call").cloned().unwrap_or_default();
    let alarm = status.alarms.iter().any(|a| a.name == "over_commit");
    let cause = calls.cause();
    let seen = format!(
        "{} of {} in use, over-commit {} ({}), {}",
        calls.in_use,
        calls.capacity,
        calls.over_commit,
        cause.as_str_name(),
        if alarm { "alarm" } else { "no alarm" }
    );
    let adopted = cause == headroom_proto::admin::OverCommitCause::AdoptedLegs;
    let right = calls.in_use == 13 && calls.capacity == 10 && calls.over_commit == 3 && alarm && adopted;
    if right { Ok(seen) } else { Err(seen) }
}

async fn under_the_limit(story: &mut Story<'_>) -> Result<()> {
    let (a, b) = (story.a.clone(), story.b.clone());
    let refused = denied(a.admit(&simple_call("n-1", "n-1")).await, "insufficient_licenses");
    story.once("a new call on A", "denied, insufficient_licenses", refused)?;
    for leg in ["a-1", "a-2"] {
        story.once(&format!("end {leg}"), "ended", ended(a.end_leg(leg).await))?;
    }
    story.once("end b-1", "ended", ended(b.end_leg("b-1").await))?;
    story.in_use("use is back at the limit", 10).await?;
    let refused = denied(b.admit(&simple_call("n-2", "n-2")).await, "insufficient_licenses");
    story.once("a new call on B", "denied, insufficient_licenses", refused)?;
    story.once("end b-2", "ended", ended(b.end_leg("b-2").await))?;
    story.in_use("use is under the limit", 9).await?;
    let next = granted(a.admit(&simple_call("n-3", "n-3")).await, 1, false);
    story.once("a new call on A", "granted", next)
}

async fn restart(story: &mut Story<'_>) -> Result<()> {
    story.chapter("A conferencing node is killed (kill -9) and started again");
    let before = legs_of(&story.a).await?;
    story.fleet.kill_node("node-a").await?;
    story.fleet.start_node("node-a").await?;
    story.a = story.fleet.node("node-a")?.agent.clone();
    let a = story.a.clone();
    let expected = format!("{} legs", before.len());
    story.until("its legs are still there", &expected, SOON, async || same_legs(&a, &before).await).await?;
    let named = a.prove_life().await.map_err(said);
    let named = named.and_then(|x| if x.status == 200 { Ok(x.body.to_string()) } else { Err(x.told()) });
    story.once("the media server names its legs", "taken", named)?;
    story.until("it finds the pool again", "in contact", CONTACT, async || in_contact(&a).await).await?;
    let still = wait::until("legs", SOON, async || same_legs(&a, &before).await).await.map_err(said);
    story.once("nothing was lost on the way", &expected, still)?;
    story.in_use("the pool's books", 10).await
}

pub(super) async fn same_legs(agent: &Agent, before: &BTreeSet<String>) -> Look<String> {
    let now = legs_of(agent).await.map_err(said)?;
    if now == *before { Ok(format!("{} legs", now.len())) } else { Err(format!("{now:?}")) }
}
