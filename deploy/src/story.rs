//! The story: what Headroom promises, told with real processes step by step. `deploy/up --story`
//! prints it, the tests run it; it is written once.
//!
//! It wants a fresh fleet of 10 calls with nodes `node-a` and `node-b`, a session TTL of 5 s and a
//! grace of 20 s, so that lapsing and running out of grace can be waited for.

mod contact;
mod grace;
mod outage;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use headroom_proto::admission::Contact;

use crate::agent::{Agent, Answer};
use crate::fleet::{Fleet, Options};
use crate::pool::Pool;
use crate::wait::{self, Look};
use crate::{Error, Result};

/// The session TTL of the demonstration; 120 s otherwise.
pub const SESSION_TTL: &str = "5s";
/// The grace of the demonstration; 14 days otherwise.
pub const GRACE: &str = "20s";

/// How long a step may take that only needs the services to talk.
const SOON: Duration = Duration::from_secs(30);
/// How long contact may take to return: probes are up to 5 s apart.
const CONTACT: Duration = Duration::from_secs(60);

/// One step as it was told.
#[derive(Debug, Clone)]
pub struct Step {
    /// What was done.
    pub title: String,
    /// What had to come of it.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Was it as expected?
    pub passed: bool,
    /// How long it took.
    pub took: Duration,
}

/// What the story tells: a chapter's heading or a step.
#[derive(Debug, Clone)]
pub enum Told<'a> {
    /// A heading.
    Chapter(&'a str),
    /// A step.
    Step(&'a Step),
}

/// The options of a fleet the story can be played on.
#[must_use]
pub fn options(mut base: Options) -> Options {
    base.session_ttl = Some(SESSION_TTL.into());
    base.grace = Some(GRACE.into());
    base.capacity = "10".into();
    base
}

/// Plays the story on a fresh fleet.
///
/// # Errors
/// At the first step that is not as expected.
pub async fn play(fleet: &mut Fleet, tell: &mut (dyn FnMut(Told<'_>) + Send)) -> Result<()> {
    let mut story = Story::new(fleet, tell)?;
    contact::play(&mut story).await?;
    outage::play(&mut story).await?;
    grace::play(&mut story).await
}

/// A story being told.
struct Story<'a> {
    fleet: &'a mut Fleet,
    pool: Pool,
    a: Agent,
    b: Agent,
    tell: &'a mut (dyn FnMut(Told<'_>) + Send),
}

impl<'a> Story<'a> {
    fn new(fleet: &'a mut Fleet, tell: &'a mut (dyn FnMut(Told<'_>) + Send)) -> Result<Self> {
        let (pool, a, b) =
            (fleet.pool().clone(), fleet.node("node-a")?.agent.clone(), fleet.node("node-b")?.agent.clone());
        Ok(Self { fleet, pool, a, b, tell })
    }

    fn chapter(&mut self, heading: &str) {
        (self.tell)(Told::Chapter(heading));
    }

    /// One step: looks until what is expected is seen, at most for `limit`.
    async fn until(
        &mut self,
        title: &str,
        expected: &str,
        limit: Duration,
        look: impl AsyncFnMut() -> Look<String>,
    ) -> Result<()> {
        let began = Instant::now();
        let found = wait::until(title, limit, look).await;
        let (seen, passed) = match &found {
            Ok(seen) => (seen.clone(), true),
            Err(Error::Timeout { seen, .. }) => (seen.clone(), false),
            Err(other) => (other.to_string(), false),
        };
        self.told(title, expected, seen, passed, began.elapsed());
        found.map(drop)
    }

    /// One step that is seen at once or not at all.
    fn once(&mut self, title: &str, expected: &str, look: Look<String>) -> Result<()> {
        let passed = look.is_ok();
        let seen = match look {
            Ok(seen) | Err(seen) => seen,
        };
        self.told(title, expected, seen.clone(), passed, Duration::ZERO);
        let failed = || Error::Timeout { what: format!("{title}: {expected}"), waited: Duration::ZERO, seen };
        if passed { Ok(()) } else { Err(failed()) }
    }

    fn told(&mut self, title: &str, expected: &str, seen: String, passed: bool, took: Duration) {
        let step = Step { title: title.into(), expected: expected.into(), seen, passed, took };
        (self.tell)(Told::Step(&step));
    }

    /// The pool comes to hold so many units.
    async fn in_use(&mut self, title: &str, units: u32) -> Result<()> {
        let pool = self.pool.clone();
        self.until(title, &format!("{units} of 10 in use"), SOON, async || use_of(&pool, units).await).await
    }
}

/// Does the pool hold so many units?
async fn use_of(pool: &Pool, units: u32) -> Look<String> {
    let now = pool.calls_pool().await.map_err(said)?;
    let seen = format!("{} of {} in use", now.in_use, now.capacity);
    if now.in_use == units && now.capacity == 10 { Ok(seen) } else { Err(seen) }
}

/// Is the node in contact?
async fn in_contact(agent: &Agent) -> Look<String> {
    let status = agent.status().await.map_err(said)?;
    let seen = format!("{}: {}", agent.name, contact_word(status.contact()));
    if status.contact() == Contact::In { Ok(seen) } else { Err(seen) }
}

fn contact_word(contact: Contact) -> &'static str {
    match contact {
        Contact::In => "in contact",
        Contact::Out => "out of contact",
        Contact::GraceExpired => "grace expired",
        Contact::NotEnrolled => "not enrolled",
        Contact::Unspecified => "unknown",
    }
}

/// The ids of the legs a node runs.
async fn legs_of(agent: &Agent) -> Result<BTreeSet<String>> {
    Ok(agent.legs().await?.into_iter().map(|leg| leg.leg).collect())
}

/// Was it granted, with so many units, by the pool or by the node itself?
fn granted(answer: Result<Answer>, units: u64, optimistic: bool) -> Look<String> {
    let answer = answer.map_err(said)?;
    let right = answer.granted() && answer.units() == units && answer.optimistic() == optimistic;
    if right { Ok(answer.told()) } else { Err(answer.told()) }
}

/// Was it denied for this reason, with a sentence for the participant?
fn denied(answer: Result<Answer>, reason: &str) -> Look<String> {
    let answer = answer.map_err(said)?;
    let text = answer.body["text"].as_str().is_some_and(|t| !t.is_empty());
    let right = answer.status == 403 && answer.reason() == reason && text;
    if right { Ok(answer.told()) } else { Err(answer.told()) }
}

/// An error as a sight.
fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
