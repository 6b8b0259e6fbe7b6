//! In contact: every leg asks, one pool answers.

use serde_json::{Value, json};

use super::{CONTACT, SOON, Story, denied, granted, in_contact, said};
use crate::Result;
use crate::agent::{Agent, call_of, leg_of, media, simple_call};
use crate::pool::Pool;
use crate::wait::Look;

pub(super) async fn play(story: &mut Story<'_>) -> Result<()> {
    story.chapter("10 calls are licensed; nodes A and B share them");
    for agent in [story.a.clone(), story.b.clone()] {
        let title = format!("{} finds the pool", agent.name);
        story.until(&title, "in contact", CONTACT, async || in_contact(&agent).await).await?;
    }
    fill(story).await?;
    gateway(story).await?;
    ratings(story).await
}

async fn admit_all(agent: &Agent, names: impl Iterator<Item = String>) -> Look<String> {
    let mut count = 0;
    for name in names {
        granted(agent.admit(&simple_call(&name, &name)).await, 1, false)?;
        count += 1;
    }
    Ok(format!("{count} granted"))
}

async fn fill(story: &mut Story<'_>) -> Result<()> {
    let (a, b, pool) = (story.a.clone(), story.b.clone(), story.pool.clone());
    let six = admit_all(&a, (1..=6).map(|n| format!("a-{n}"))).await;
    story.once("6 legs on A", "6 granted", six)?;
    let four = admit_all(&b, (1..=4).map(|n| format!("b-{n}"))).await;
    story.once("4 legs on B", "4 granted", four)?;
    story.in_use("the pool's books", 10).await?;
    for (agent, name) in [(&a, "a-11th"), (&b, "b-11th")] {
        let answer = agent.admit(&simple_call(name, name)).await;
        let title = format!("the 11th leg, on {}", agent.name);
        story.once(&title, "denied, insufficient_licenses", denied(answer, "insufficient_licenses"))?;
        let title = "the denial list names it";
        story
            .until(title, "call, node and reason", SOON, async || listed(&pool, name, &agent.name).await)
            .await?;
    }
    story.once("end one of A's legs", "ended", ended(a.end_leg("a-6").await))?;
    story.in_use("its unit comes back", 9).await?;
    let next = granted(b.admit(&simple_call("b-5", "b-5")).await, 1, false);
    story.once("the next one, on B", "granted", next)
}

/// Is the denial of a call listed?
async fn listed(pool: &Pool, call: &str, node: &str) -> Look<String> {
    let denials = pool.denials().await.map_err(said)?;
    let found = denials.iter().find(|d| d.call.as_ref().is_some_and(|c| c.call == call) && d.node == node);
    match found {
        Some(d) if d.reason() == headroom_proto::common::DenialReason::InsufficientLicenses => {
            let at = d.pool.unwrap_or_default();
            Ok(format!("{call} on {node}, with {} of {} in use", at.in_use, at.capacity))
        }
        Some(d) => Err(format!("{call} with reason {}", d.reason().as_str_name())),
        None => Err(format!("{} denials, none of {call}", denials.len())),
    }
}

pub(super) fn ended(answer: Result<crate::agent::Answer>) -> Look<String> {
    let answer = answer.map_err(said)?;
    if (200..300).contains(&answer.status) { Ok("ended".into()) } else { Err(answer.told()) }
}

/// A gateway call: both of its legs or neither.
fn gateway_call(call: &str, other_owner: Option<&str>) -> Value {
    let mut out = leg_of(&format!("{call}-out"), "sip", "out", media(true, true));
    if let Some(owner) = other_owner {
        out["owner"] = json!(owner);
    }
    call_of(call, "gateway", vec![leg_of(&format!("{call}-in"), "sip", "in", media(true, true)), out])
}

async fn gateway(story: &mut Story<'_>) -> Result<()> {
    let (a, b, pool) = (story.a.clone(), story.b.clone(), story.pool.clone());
    story.chapter("A gateway call needs two units: both or neither");
    story.once("end a leg, so that one unit is free", "ended", ended(a.end_leg("a-5").await))?;
    story.in_use("one unit is free", 9).await?;
    let whole = denied(a.admit(&gateway_call("g-1", None)).await, "insufficient_licenses");
    story.once("a gateway call on A", "denied whole, insufficient_licenses", whole)?;
    story
        .until("nothing was taken", "9 in use, no leg of it", SOON, async || nothing_of(&pool, "g-1").await)
        .await?;
    story.once("end another, so that two are free", "ended", ended(b.end_leg("b-5").await))?;
    story.in_use("two units are free", 8).await?;
    let both = granted(a.admit(&gateway_call("g-2", None)).await, 2, false);
    story.once("a gateway call on A", "granted, 2 units", both)?;
    story.in_use("both legs count", 10).await?;
    story.once("end it", "ended", ended(a.end_call("g-2").await))?;
    story.in_use("both units come back", 8).await?;
    let asked = granted(a.admit(&gateway_call("g-3", Some("node-b"))).await, 2, false);
    story.once("a gateway call with its legs on A and B: A asks for both", "granted, 2 units", asked)?;
    let claim = call_of("g-3", "gateway", vec![leg_of("g-3-out", "sip", "out", media(true, true))]);
    let claimed = granted(b.admit(&claim).await, 1, false);
    story.once("B claims the leg reserved for it", "granted, 1 unit", claimed)?;
    let expected = "g-3-in on node-a, g-3-out on node-b";
    story.until("the pool's list of calls", expected, SOON, async || owners(&pool, expected).await).await?;
    story.in_use("each leg counts once", 10).await
}

async fn nothing_of(pool: &Pool, call: &str) -> Look<String> {
    let taken = pool.calls().await.map_err(said)?.iter().filter(|c| c.call == call).count();
    let seen = super::use_of(pool, 9).await?;
    if taken == 0 {
        Ok(format!("{seen}, no leg of {call}"))
    } else {
        Err(format!("{seen}, {call} is listed"))
    }
}

async fn owners(pool: &Pool, expected: &str) -> Look<String> {
    let calls = pool.calls().await.map_err(said)?;
    let call = calls.into_iter().find(|c| c.call == "g-3").ok_or("g-3 is not listed")?;
    let legs = call.legs.iter().map(|leg| {
        let reserved = if leg.reserved { " (reserved)" } else { "" };
        format!("{} on {}{reserved}", leg.leg, leg.node)
    });
    let seen = legs.collect::<Vec<_>>().join(", ");
    if seen == expected { Ok(seen) } else { Err(seen) }
}

async fn ratings(story: &mut Story<'_>) -> Result<()> {
    let (a, b) = (story.a.clone(), story.b.clone());
    story.chapter("What a leg costs depends on its media");
    let slides = json!({ "audio": false, "video": false, "presentation": "slides", "presenting": false });
    let control = call_of("c-1", "vmr", vec![leg_of("c-1", "webrtc", "in", slides)]);
    let free = granted(a.admit(&control).await, 0, false);
    story.once("a control-only leg while the pool is full", "granted, 0 units", free)?;
    let video = denied(a.update("c-1", &media(true, true)).await, "insufficient_licenses");
    story.once("it turns video on", "denied, insufficient_licenses", video)?;
    let title = "it stays control-only";
    story.until(title, "0 units", SOON, async || units_of(&a, "c-1", 0).await).await?;
    story.in_use("nothing was taken", 10).await?;

    story.once("end one of A's legs", "ended", ended(a.end_leg("a-4").await))?;
    story.in_use("one unit is free", 9).await?;
    let skype = call_of("s-1", "vmr", vec![leg_of("s-1", "skype", "in", media(true, false))]);
    story.once(
        "a Skype leg on B, with audio",
        "granted, 1 unit",
        granted(b.admit(&skype).await, 1, false),
    )?;
    story.once("end another of A's legs", "ended", ended(a.end_leg("a-3").await))?;
    story.in_use("one unit is free", 9).await?;
    let presents = json!({ "audio": true, "video": false, "presentation": "standard", "presenting": true });
    let answer = b.update("s-1", &presents).await.map_err(said);
    let two = answer.and_then(|x| if x.status == 200 { Ok(x.body.to_string()) } else { Err(x.told()) });
    story.once("the Skype leg starts presenting", "granted", two)?;
    story.until("it costs one more", "2 units", SOON, async || units_of(&b, "s-1", 2).await).await?;
    story.in_use("the pool's books", 10).await
}

/// Does the node's list say that a leg holds so many units?
async fn units_of(agent: &Agent, leg: &str, units: u32) -> Look<String> {
    let legs = agent.legs().await.map_err(said)?;
    match legs.iter().find(|l| l.leg == leg) {
        Some(l) if l.units == units => Ok(format!("{leg}: {units} units")),
        Some(l) => Err(format!("{leg}: {} units", l.units)),
        None => Err(format!("{leg} is not listed")),
    }
}
