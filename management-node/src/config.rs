//! What an operator sets: `management-node.toml` in the state folder, `HEADROOM_…` variables, flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headroom_core::Millis;
use headroom_shared::config::{self, ConfigError};
use management_core::Settings;
use serde::{Deserialize, Serialize};

/// The configuration file's name in the state folder.
pub const FILE: &str = "management-node.toml";
/// Shortest session TTL that leaves room for a heartbeat and its retry.
pub const MIN_TTL: Duration = Duration::from_secs(3);

/// The configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Where conferencing nodes reach this service.
    pub listen: SocketAddr,
    /// The address that is written into node bundles.
    pub address: String,
    /// A session lapses after this silence.
    #[serde(with = "config::duration_text")]
    pub session_ttl: Duration,
    /// Where Prometheus reads metrics; loopback only.
    pub metrics: SocketAddr,
    /// Under which folder the machine's identity is read; `/` on every real machine.
    pub machine_root: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
            address: "https://127.0.0.1:7400".into(),
            session_ttl: Duration::from_secs(120),
            metrics: SocketAddr::from(([127, 0, 0, 1], 7490)),
            machine_root: PathBuf::from("/"),
        }
    }
}

impl Config {
    /// Loads and checks.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn load(state: &Path, flags: &impl Serialize) -> Result<Self, ConfigError> {
        let loaded: Self = config::load(&state.join(FILE), flags)?;
        if loaded.session_ttl < MIN_TTL {
            let given = config::format_duration(loaded.session_ttl);
            let least = config::format_duration(MIN_TTL);
            return Err(ConfigError::Invalid(format!(
                "session_ttl: {given} is given, at least {least} is needed"
            )));
        }
        config::loopback("metrics", loaded.metrics)?;
        Ok(loaded)
    }

    /// The pool's intervals: a node beats twelve times in a TTL.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let ttl = Millis(i64::try_from(self.session_ttl.as_millis()).unwrap_or(i64::MAX));
        Settings { session_ttl: ttl, heartbeat: Millis((ttl.0 / 12).max(250)), ..Settings::default() }
    }
}
