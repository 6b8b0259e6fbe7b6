//! What was seen, by seconds and by phases.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use headroom_deploy::agent::Agent;
use hyper::Method;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::load::{Load, Offered};
use crate::rig::Rig;

/// How often the pool is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// For how many seconds goodput has to stay, to be back.
const STAYS: usize = 3;

/// How a call was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// By the pool, within the budget of a decision.
    Pool,
    /// By the pool, later.
    Late,
    /// By the node alone.
    Alone,
    /// Not at all: the node has too much to do, and says so.
    Refused,
    /// Otherwise.
    Failed,
}

/// What happened to the calls, and to the ends, that came in one second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Second {
    pool: u64,
    late: u64,
    alone: u64,
    refused: u64,
    failed: u64,
    /// Milliseconds until calls were answered.
    answers: Vec<f64>,
    /// Milliseconds until ends were answered.
    pub(crate) ends: Vec<f64>,
    /// Milliseconds until the pool had taken back what ended.
    pub(crate) taken_back: Vec<f64>,
    /// Milliseconds by which tasks of this program ran late.
    pub(crate) lags: Vec<f64>,
}

impl Second {
    /// A call was answered.
    pub(crate) fn answered(&mut self, answer: Answer, millis: f64) {
        match answer {
            Answer::Pool => self.pool += 1,
            Answer::Late => self.late += 1,
            Answer::Alone => self.alone += 1,
            Answer::Refused => self.refused += 1,
            Answer::Failed => self.failed += 1,
        }
        self.answers.push(millis);
    }
}

/// What is counted beside the calls.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    opened: u64,
    reported: u64,
    connected: usize,
    refused: u64,
}

/// Counts what is counted beside the calls, from outside: in the pool's log, its metrics, and the table of
/// connections. It looks again and again, because a look may take long while the pool is overloaded.
pub(crate) struct Observer {
    looks: Arc<Mutex<Vec<(Instant, Counters)>>>,
    task: AbortHandle,
}

impl Observer {
    /// Looks at the pool of a rig from now on.
    ///
    /// # Errors
    /// When it does not say where its metrics are, or cannot be looked at now.
    pub(crate) async fn begin(rig: &Rig) -> Result<Self> {
        let log = rig.fleet.layout().log("management");
        let metrics = Agent::new("metrics", rig.metrics()?)?;
        let port = rig.fleet.management_address().port();
        let mut connections = connected(port);
        let first = counters(&log, &metrics, connections.len()).await?;
        let looks = Arc::new(Mutex::new(vec![(Instant::now(), first)]));
        let task = tokio::spawn({
            let looks = Arc::clone(&looks);
            async move {
                let mut every = tokio::time::interval(LOOK);
                loop {
                    every.tick().await;
                    connections.extend(connected(port));
                    // One that finds nothing leaves the next to say it.
                    if let Ok(found) = counters(&log, &metrics, connections.len()).await {
                        lock(&looks).push((Instant::now(), found));
                    }
                }
            }
        });
        Ok(Self { looks, task: task.abort_handle() })
    }

    /// What was counted when a moment had come.
    fn at(&self, moment: Instant) -> Counters {
        let looks = lock(&self.looks);
        let first = looks.iter().find(|(look, _)| *look >= moment);
        first.or(looks.last()).map(|(_, counters)| *counters).unwrap_or_default()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn counters(log: &Path, metrics: &Agent, connected: usize) -> Result<Counters> {
    let (_, body) = metrics.raw(Method::GET, "/metrics", "text/plain", Vec::new()).await?;
    let text = String::from_utf8_lossy(&body);
    let count = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|count| count.trim().parse::<u64>().ok()).context("a counter of the pool")
    };
    let refused = count("headroom_refused_overloaded_total")? + count("headroom_refused_expired_total")?;
    let log = std::fs::read_to_string(log).context("the pool's log")?;
    let (mut opened, mut reported) = (0, 0);
    for line in log.lines() {
        let opens = line.contains("session opened");
        opened += u64::from(opens);
        reported += u64::from(opens && line.contains("report=true") || line.contains("the node reports"));
    }
    Ok(Counters { opened, reported, connected, refused })
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of the run with one load.
pub(crate) struct Phase {
    name: &'static str,
    from: Instant,
    to: Instant,
    offered: usize,
    before: Counters,
    after: Counters,
    seconds: Vec<Second>,
}

impl Phase {
    /// Lives through it, with no pause before or after.
    pub(crate) async fn of(name: &'static str, offered: impl Future<Output = Offered>) -> Self {
        let from = Instant::now();
        let offered = offered.await.count();
        let (before, after) = Default::default();
        Self { name, from, to: Instant::now(), offered, before, after, seconds: Vec::new() }
    }

    /// Takes what was seen, once the last of its calls has ended.
    pub(crate) fn close(&mut self, load: &Load, observer: &Observer) {
        self.seconds = load.between(self.from, self.to);
        (self.before, self.after) = (observer.at(self.from), observer.at(self.to));
    }

    fn time(&self) -> f64 {
        self.seconds.len().max(1) as f64
    }

    fn sum(&self, of: impl Fn(&Second) -> u64) -> f64 {
        self.seconds.iter().map(of).sum::<u64>() as f64
    }

    /// Calls a second that the pool decided within the budget.
    pub(crate) fn goodput(&self) -> f64 {
        self.sum(|second| second.pool) / self.time()
    }

    /// After how many seconds the goodput is so high, and stays so for a while.
    pub(crate) fn seconds_until(&self, wanted: f64) -> Option<u64> {
        let good: Vec<bool> = self.seconds.iter().map(|second| second.pool as f64 >= wanted).collect();
        good.windows(STAYS).position(|some| some.iter().all(|good| *good)).map(|at| at as u64)
    }

    /// Sessions opened.
    pub(crate) fn opened(&self) -> u64 {
        self.after.opened - self.before.opened
    }

    /// Reports that the pool asked for.
    pub(crate) fn reported(&self) -> u64 {
        self.after.reported - self.before.reported
    }

    /// Connections made.
    pub(crate) fn connected(&self) -> usize {
        self.after.connected - self.before.connected
    }

    /// Milliseconds that so large a share of what ended waited at most until the pool had taken it back.
    pub(crate) fn taken_back(&self, share: f64) -> f64 {
        quantile(&self.seconds, share, |second| &second.taken_back)
    }

    /// Milliseconds by which nine tenths of this program's tasks ran late at most.
    pub(crate) fn lag(&self) -> f64 {
        quantile(&self.seconds, 0.9, |second| &second.lags)
    }

    /// The most seconds in a row in which the pool took nothing back of what ended in them.
    pub(crate) fn starved(&self) -> usize {
        let empty = |second: &Second| !second.ends.is_empty() && second.taken_back.is_empty();
        let runs = self.seconds.split(|second| !empty(second)).map(<[Second]>::len);
        runs.max().unwrap_or_default()
    }

    /// All of it in a few lines.
    pub(crate) fn lines(&self) -> String {
        let rate = |of: fn(&Second) -> u64| self.sum(of) / self.time();
        let calls = |share| quantile(&self.seconds, share, |second| &second.answers);
        let ends = |share| quantile(&self.seconds, share, |second| &second.ends);
        let per_second = |count: u64| count as f64 / self.time();
        format!(
            "  {:<9} {:>6.0}/s offered: {:>6.0} by the pool in time, {:.0} late, {:.0} by nodes alone, {:.0} refused, {:.0} failed\n\
             {:12}calls answered   p50 {:>7.1} ms  p99 {:>7.1} ms\n\
             {:12}ends answered    p50 {:>7.1} ms  p99 {:>7.1} ms;  taken back by the pool  p50 {:>7.1} ms  p99 {:>7.1} ms  most {:.1} ms\n\
             {:12}requests refused by the pool {:.1}/s, sessions opened {:.2}/s, reports {:.2}/s, connections made {:.2}/s",
            self.name,
            self.offered as f64 / (self.to - self.from).as_secs_f64(),
            rate(|s| s.pool),
            rate(|s| s.late),
            rate(|s| s.alone),
            rate(|s| s.refused),
            rate(|s| s.failed),
            "",
            calls(0.5),
            calls(0.99),
            "",
            ends(0.5),
            ends(0.99),
            self.taken_back(0.5),
            self.taken_back(0.99),
            self.taken_back(1.0),
            "",
            per_second(self.after.refused - self.before.refused),
            per_second(self.opened()),
            per_second(self.reported()),
            per_second(self.connected() as u64),
        )
    }

    /// What each second brought, decided by the pool in time.
    pub(crate) fn course(&self) -> String {
        self.seconds.iter().map(|second| second.pool.to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// The value that so large a share of all does not exceed; 0 of none.
fn quantile(seconds: &[Second], share: f64, of: impl Fn(&Second) -> &Vec<f64>) -> f64 {
    let mut all: Vec<f64> = seconds.iter().flat_map(|second| of(second).iter().copied()).collect();
    all.sort_by(f64::total_cmp);
    // A position in a list fits, and a share is not negative.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = (all.len() as f64 * share) as usize;
    all.get(at.min(all.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The own ports of established connections to a port.
fn connected(port: u16) -> BTreeSet<u16> {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    let ports = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port_of = |at: usize| u16::from_str_radix(fields.get(at)?.rsplit(':').next()?, 16).ok();
        (port_of(2)? == port && *fields.get(3)? == ESTABLISHED).then(|| port_of(1))?
    });
    ports.collect()
}
