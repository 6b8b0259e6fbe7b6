//! Logs: to stderr, as text for people or as JSON for machines.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged when nobody says otherwise.
const DEFAULT: &str = "info,sled=warn,h2=warn,hyper=warn,tower=warn,rustls=warn";

/// Begins logging to stderr. What is logged is chosen by `HEADROOM_LOG`, else by `RUST_LOG`, for
/// example `debug` or `info,management_node=debug`. Calling it again changes nothing.
pub fn init(service: &str, json: bool) {
    let chosen = ["HEADROOM_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        std::env::var(name).ok().filter(|value| !value.trim().is_empty()).map(|value| (name, value))
    });
    let (filter, complaint) = match chosen.as_ref().map(|(name, value)| (name, EnvFilter::try_new(value))) {
        None => (EnvFilter::new(DEFAULT), None),
        Some((_, Ok(filter))) => (filter, None),
        Some((name, Err(error))) => (EnvFilter::new(DEFAULT), Some(format!("{name}: {error}"))),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    // An error only says that a subscriber is installed already.
    let _ = if json {
        registry.with(lines.json().flatten_event(true)).try_init()
    } else {
        registry.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
    };
    if let Some(complaint) = complaint {
        tracing::warn!("the log filter is not understood and was ignored: {complaint}");
    }
    tracing::debug!(service, version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "logging");
}

/// Something that anybody can bring about, and that is therefore not logged each time.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: Mutex<Option<Instant>>,
}

impl Seldom {
    /// Once in so long.
    #[must_use]
    pub const fn new(every: Duration) -> Self {
        Self { every, last: Mutex::new(None) }
    }

    /// Whether it is time to log it.
    pub fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= self.every);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
