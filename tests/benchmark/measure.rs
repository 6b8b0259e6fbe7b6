//! Closed loops: so many workers, each with one request under way, and what they see.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Somebody who asks one thing after the other.
pub(crate) trait Worker: Send + 'static {
    /// Asks the next thing, or the next few in turn, and notes each.
    fn step(&mut self, samples: &mut Samples) -> impl Future<Output = Result<()>> + Send;
}

/// What one worker saw.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    items: u64,
    each: Vec<(Instant, u32)>,
}

impl Samples {
    /// Times a request that is about so many items.
    pub(crate) async fn time<T>(&mut self, items: usize, asked: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = asked.await;
        let micros = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.each.push((Instant::now(), micros));
        self.items += items as u64;
        answer
    }
}

/// What all workers saw together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Measured {
    seconds: f64,
    items: u64,
    /// Sorted.
    micros: Vec<u32>,
    /// When each request ended and how long it had taken, in no order.
    each: Vec<(Instant, u32)>,
}

impl Measured {
    fn of(samples: Vec<Samples>, seconds: f64) -> Self {
        let items = samples.iter().map(|s| s.items).sum();
        let each = samples.into_iter().flat_map(|s| s.each).collect();
        Self { seconds, items, ..Self::from_each(each) }
    }

    fn from_each(each: Vec<(Instant, u32)>) -> Self {
        let mut micros: Vec<u32> = each.iter().map(|(_, micros)| *micros).collect();
        micros.sort_unstable();
        Self { micros, each, ..Self::default() }
    }

    /// Only the requests that ended when it was so; without a throughput.
    pub(crate) fn only(&self, when: impl Fn(Instant) -> bool) -> Self {
        Self::from_each(self.each.iter().copied().filter(|(ended, _)| when(*ended)).collect())
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.micros.len()
    }

    /// Items a second.
    pub(crate) fn rate(&self) -> f64 {
        self.items as f64 / self.seconds
    }

    /// The latency, in milliseconds, that so large a share of requests does not exceed.
    pub(crate) fn latency(&self, share: f64) -> f64 {
        // A position in a list fits, and a share is not negative.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = (self.micros.len() as f64 * share) as usize;
        let micros = self.micros.get(at.min(self.micros.len().saturating_sub(1)));
        f64::from(micros.copied().unwrap_or_default()) / 1000.0
    }
}

/// Runs some of the workers for a time.
///
/// # Errors
/// The first failure of a worker.
pub(crate) async fn closed_loop<W: Worker>(
    workers: &mut Vec<W>,
    count: usize,
    time: Duration,
) -> Result<Measured> {
    let begun = Instant::now();
    let count = count.min(workers.len());
    let running: Vec<_> = workers
        .drain(..count)
        .map(|mut worker| {
            tokio::spawn(async move {
                let mut samples = Samples::default();
                while begun.elapsed() < time {
                    worker.step(&mut samples).await?;
                }
                anyhow::Ok((worker, samples))
            })
        })
        .collect();
    let mut all = Vec::with_capacity(running.len());
    for task in running {
        let (worker, samples) = task.await??;
        workers.push(worker);
        all.push(samples);
    }
    Ok(Measured::of(all, begun.elapsed().as_secs_f64()))
}

/// What some rounds showed of one thing.
#[derive(Debug, Default)]
pub(crate) struct Rounds(Vec<Measured>);

impl Rounds {
    pub(crate) fn add(&mut self, round: Measured) {
        self.0.push(round);
    }

    /// The median of what each round says.
    fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        median(&self.0.iter().map(of).collect::<Vec<_>>())
    }

    /// How many requests there were in all.
    pub(crate) fn requests(&self) -> usize {
        self.0.iter().map(Measured::requests).sum()
    }

    /// One line: throughput and latencies.
    pub(crate) fn line(&self, name: &str) -> String {
        let (rate, p50) = (self.median(Measured::rate), self.median(|m| m.latency(0.5)));
        let p99 = self.median(|m| m.latency(0.99));
        format!("  {name:<44} {rate:>9.0}/s   p50 {p50:>8.3} ms   p99 {p99:>8.3} ms")
    }

    /// How this one's throughput stands to another's: the median of the rounds' ratios, because the two
    /// took turns and what disturbed a round disturbed both.
    pub(crate) fn ratio(&self, to: &Self) -> f64 {
        let each = self.0.iter().zip(&to.0).map(|(one, other)| one.rate() / other.rate());
        median(&each.collect::<Vec<_>>())
    }
}

/// The middle of some numbers.
fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
