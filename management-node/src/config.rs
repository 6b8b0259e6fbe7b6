//! What an operator sets: `management-node.toml` in the state folder, `HEADROOM_…` variables, flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headroom_core::Millis;
use headroom_shared::config::{self, ConfigError};
use management_core::Settings;
use serde::{Deserialize, Serialize};

use crate::deployment::{Identity, LICENSING_AUTHORITY};

/// The configuration file's name in the state folder.
pub const FILE: &str = "management-node.toml";
/// Shortest session TTL that leaves room for a heartbeat and its retry.
pub const MIN_TTL: Duration = Duration::from_secs(3);

/// Shortest time between two refreshes of licenses.
pub const MIN_REFRESH: Duration = Duration::from_secs(1);

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
    /// How the machine is identified.
    pub machine_identity: Identity,
    /// The licensing server, `https://HOST:PORT`; empty where requests are carried as files.
    pub licensing: String,
    /// The authority that the licensing server is trusted by, PEM; empty for `licensing.pem` in the state
    /// folder, or, without it, the system's.
    pub licensing_authority: PathBuf,
    /// The proxy to the licensing server and the alarms' receiver; empty for what `HTTPS_PROXY` says.
    pub proxy: String,
    /// How often the licensing server is asked what has changed.
    #[serde(with = "config::duration_text")]
    pub license_refresh: Duration,
    /// Where alarms are posted to as JSON; empty for nowhere.
    pub alarm_webhook: String,
    /// An alarm that comes again within this time is listed, and told only if it is still on when the time is over.
    #[serde(with = "config::duration_text")]
    pub alarm_repeat: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
            address: "https://127.0.0.1:7400".into(),
            session_ttl: Duration::from_secs(120),
            metrics: SocketAddr::from(([127, 0, 0, 1], 7490)),
            machine_root: PathBuf::from("/"),
            machine_identity: Identity::Auto,
            licensing: String::new(),
            licensing_authority: PathBuf::new(),
            proxy: String::new(),
            license_refresh: Duration::from_secs(24 * 3600),
            alarm_webhook: String::new(),
            alarm_repeat: Duration::from_secs(15 * 60),
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
        if loaded.license_refresh < MIN_REFRESH {
            let given = config::format_duration(loaded.license_refresh);
            let least = config::format_duration(MIN_REFRESH);
            return Err(ConfigError::Invalid(format!(
                "license_refresh: {given} is given, at least {least} is needed"
            )));
        }
        config::loopback("metrics", loaded.metrics)?;
        Ok(loaded)
    }

    /// The pool's intervals: a node beats twelve times in a TTL.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let millis = |span: Duration| Millis(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        let ttl = millis(self.session_ttl);
        Settings {
            session_ttl: ttl,
            heartbeat: Millis((ttl.0 / 12).max(250)),
            alarm_repeat: millis(self.alarm_repeat),
            ..Settings::default()
        }
    }

    /// The authority that the licensing server is trusted by, when it is not the system's.
    #[must_use]
    pub fn authority(&self, state: &Path) -> Option<PathBuf> {
        let given = &self.licensing_authority;
        if !given.as_os_str().is_empty() {
            return Some(state.join(given));
        }
        Some(state.join(LICENSING_AUTHORITY)).filter(|path| path.exists())
    }
}
