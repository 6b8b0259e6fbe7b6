//! Configuration: `conferencing-node.toml` in the state folder, `HEADROOM_…` variables, flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conferencing_core::Options;
use headroom_core::Millis;
use headroom_shared::config::{ConfigError, duration_text, load, loopback, optional_duration_text};
use serde::{Deserialize, Serialize};

use crate::feed::disconnect::{self, DisconnectError};

/// The configuration file in the state folder.
pub const FILE: &str = "conferencing-node.toml";
/// The socket in the state folder.
pub const SOCKET: &str = "conferencing-node.sock";

const BUDGET: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// A source is expected to show life every 30 s; less silence than this proves nothing.
const MIN_ORPHAN: Duration = Duration::from_secs(120);
const MAX_GRACE: Duration = Duration::from_secs(14 * 86_400);

/// Everything that can be configured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Where HTTP/JSON and gRPC are served; a loopback address.
    pub listen: String,
    /// The bundle that `management-node node add` wrote.
    pub bundle: Option<PathBuf>,
    /// The management node, when it is reached at another address than the bundle says.
    pub management: Option<String>,
    /// How long calls are permitted without contact; at most 14 days.
    #[serde(with = "duration_text")]
    pub grace: Duration,
    /// How long a media server waits for a decision; 0.3 to 5 seconds.
    #[serde(with = "duration_text")]
    pub budget: Duration,
    /// A media server that was silent for so long has its legs released.
    #[serde(with = "duration_text")]
    pub orphan_after: Duration,
    /// The file that holds the identity of the machine's boot.
    pub boot_id_file: PathBuf,
    /// Where Prometheus reads metrics; loopback only.
    pub metrics: SocketAddr,
    /// Where conferencing platforms tell their events, with TLS; usually port 7580.
    pub feed_listen: Option<SocketAddr>,
    /// The certificate shown there, and what it was issued by, in PEM form.
    pub feed_certificate: Option<PathBuf>,
    /// Its key, in PEM form.
    pub feed_key: Option<PathBuf>,
    /// The file of those who may tell.
    pub feed_credentials: Option<PathBuf>,
    /// Where a platform is asked to end a leg for which no license is left.
    pub disconnect: Option<String>,
    /// Who issued that server's certificate, when the system does not know; in PEM form.
    pub disconnect_authority: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7500".into(),
            bundle: None,
            management: None,
            grace: MAX_GRACE,
            budget: Duration::from_millis(900),
            orphan_after: Duration::from_secs(7200),
            boot_id_file: headroom_shared::clock::BOOT_ID_PATH.into(),
            metrics: SocketAddr::from(([127, 0, 0, 1], 7590)),
            feed_listen: None,
            feed_certificate: None,
            feed_key: None,
            feed_credentials: None,
            disconnect: None,
            disconnect_authority: None,
        }
    }
}

/// What flags say; not given changes nothing.
#[derive(Debug, Clone, Default, Serialize, clap::Args)]
pub struct Flags {
    /// The bundle that `management-node node add NAME --out FILE` wrote
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Where to serve HTTP/JSON and gRPC: a loopback address, port 0 for any [default: 127.0.0.1:7500]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The management node, when it is reached at another address than the bundle says
    #[arg(long, value_name = "URL")]
    pub management: Option<String>,
    /// How long calls are permitted without contact, at most 14d [default: 14d]
    #[arg(long, value_name = "DURATION", value_parser = headroom_shared::config::duration)]
    #[serde(with = "optional_duration_text")]
    pub grace: Option<Duration>,
    /// How long a media server waits for a decision, 300ms to 5s [default: 900ms]
    #[arg(long, value_name = "DURATION", value_parser = headroom_shared::config::duration)]
    #[serde(with = "optional_duration_text")]
    pub budget: Option<Duration>,
    /// A media server silent for so long has its legs released [default: 2h]
    #[arg(long, value_name = "DURATION", value_parser = headroom_shared::config::duration)]
    #[serde(with = "optional_duration_text")]
    pub orphan_after: Option<Duration>,
    /// File with the identity of the machine's boot [default: /proc/sys/kernel/random/boot_id]
    #[arg(long, value_name = "PATH")]
    pub boot_id_file: Option<PathBuf>,
    /// Where Prometheus reads metrics: a loopback address [default: 127.0.0.1:7590]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Where conferencing platforms on other hosts tell their events, usually 0.0.0.0:7580
    #[arg(long, value_name = "ADDRESS")]
    pub feed_listen: Option<SocketAddr>,
    /// The certificate shown there, in PEM form
    #[arg(long, value_name = "FILE")]
    pub feed_certificate: Option<PathBuf>,
    /// Its key, in PEM form
    #[arg(long, value_name = "FILE")]
    pub feed_key: Option<PathBuf>,
    /// File of those who may tell: USER:PASSWORD or a token on each line
    #[arg(long, value_name = "FILE")]
    pub feed_credentials: Option<PathBuf>,
    /// Where a platform is asked to end a leg for which no license is left; as HEADROOM_DISCONNECT or in the
    /// configuration file nobody sees its password
    #[arg(long, value_name = "URL")]
    pub disconnect: Option<String>,
    /// Who issued that server's certificate, in PEM form [default: those the system trusts]
    #[arg(long, value_name = "FILE")]
    pub disconnect_authority: Option<PathBuf>,
}

/// Why a configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address is none.
    #[error("listen: `{given}` is no address with a port, write for example 127.0.0.1:7500")]
    Address {
        /// As given.
        given: String,
    },
    /// The address can be reached from other hosts.
    #[error(
        "listen: {given} can be reached from other hosts, and this interface asks nobody who they are; \
         use a loopback address such as 127.0.0.1:{port}, or the Unix socket in the state folder",
        port = given.port()
    )]
    NotLoopback {
        /// As given.
        given: SocketAddr,
    },
    /// A duration out of range.
    #[error("{field}: {given:?} is out of range, it must be {range}")]
    Range {
        /// The field.
        field: &'static str,
        /// As given.
        given: Duration,
        /// What is allowed.
        range: &'static str,
    },
    /// What a feed needs is not given.
    #[error("{field}: must be given when feed_listen is")]
    FeedWithout {
        /// The field.
        field: &'static str,
    },
    /// Something that is of use only with another setting.
    #[error("{field}: has no meaning without {needs}")]
    Without {
        /// The field.
        field: &'static str,
        /// The other one.
        needs: &'static str,
    },
    /// The platform cannot be asked.
    #[error(transparent)]
    Disconnect(#[from] DisconnectError),
    /// No bundle.
    #[error(
        "bundle: must be given; make one on the management node with \
         `management-node node add NAME --out FILE` and pass it with --bundle FILE"
    )]
    NoBundle,
}

/// The port for feeds.
#[derive(Debug)]
pub struct FeedConfig<'a> {
    /// Where it is.
    pub listen: SocketAddr,
    /// The certificate.
    pub certificate: &'a PathBuf,
    /// Its key.
    pub key: &'a PathBuf,
    /// Who may speak.
    pub credentials: &'a PathBuf,
}

impl Config {
    /// Reads and checks the configuration of a state folder.
    ///
    /// # Errors
    /// [`Unfit`] names the field.
    pub fn read(state: &Path, flags: &Flags) -> Result<Self, Unfit> {
        let config: Self = load(&state.join(FILE), flags)?;
        config.address()?;
        loopback("metrics", config.metrics)?;
        if config.budget < BUDGET.0 || config.budget > BUDGET.1 {
            return Err(Unfit::Range { field: "budget", given: config.budget, range: "300ms to 5s" });
        }
        if config.orphan_after < MIN_ORPHAN {
            let given = config.orphan_after;
            return Err(Unfit::Range { field: "orphan_after", given, range: "at least 2m" });
        }
        if config.grace > MAX_GRACE {
            return Err(Unfit::Range { field: "grace", given: config.grace, range: "at most 14d" });
        }
        config.feed()?;
        if let Some(given) = &config.disconnect {
            disconnect::address(given)?;
        }
        Ok(config)
    }

    /// The port for feeds, if there is one.
    ///
    /// # Errors
    /// [`Unfit`] names what is missing.
    pub fn feed(&self) -> Result<Option<FeedConfig<'_>>, Unfit> {
        if self.disconnect_authority.is_some() && self.disconnect.is_none() {
            return Err(Unfit::Without { field: "disconnect_authority", needs: "disconnect" });
        }
        let Some(listen) = self.feed_listen else {
            let settings = [
                ("feed_certificate", self.feed_certificate.is_some()),
                ("feed_key", self.feed_key.is_some()),
                ("feed_credentials", self.feed_credentials.is_some()),
                ("disconnect", self.disconnect.is_some()),
            ];
            return match settings.into_iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(Unfit::Without { field, needs: "feed_listen" }),
                None => Ok(None),
            };
        };
        let path = |path, field| Option::as_ref(path).ok_or(Unfit::FeedWithout { field });
        Ok(Some(FeedConfig {
            listen,
            certificate: path(&self.feed_certificate, "feed_certificate")?,
            key: path(&self.feed_key, "feed_key")?,
            credentials: path(&self.feed_credentials, "feed_credentials")?,
        }))
    }

    /// The address to serve.
    ///
    /// # Errors
    /// [`Unfit`] when it is none or not a loopback one.
    pub fn address(&self) -> Result<SocketAddr, Unfit> {
        let given = self.listen.clone();
        let address: SocketAddr = given.parse().map_err(|_| Unfit::Address { given })?;
        if address.ip().is_loopback() { Ok(address) } else { Err(Unfit::NotLoopback { given: address }) }
    }

    /// The machine's options.
    #[must_use]
    pub fn options(&self) -> Options {
        let millis = |d: Duration| Millis(i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        Options {
            grace: millis(self.grace),
            budget: millis(self.budget),
            orphan_after: millis(self.orphan_after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &Flags) -> Result<Config, Unfit> {
        Config::read(Path::new("/does/not/exist"), flags)
    }

    #[test]
    fn durations_out_of_range_are_refused_with_the_range() {
        let secs = |secs| Some(Duration::from_secs(secs));
        for budget in [Duration::from_millis(299), Duration::from_millis(5001)] {
            let error = read(&Flags { budget: Some(budget), ..Flags::default() }).expect_err("refused");
            assert!(error.to_string().contains("300ms to 5s"), "{error}");
        }
        let error = read(&Flags { grace: secs(15 * 86_400), ..Flags::default() }).expect_err("refused");
        assert!(error.to_string().starts_with("grace:"), "{error}");
        let config = read(&Flags { grace: secs(20), ..Flags::default() }).expect("a configuration");
        assert_eq!(config.options().grace, Millis(20_000));
    }

    #[test]
    fn settings_of_feeds_that_lack_others_are_refused_with_the_field() {
        let path = || Some(PathBuf::from("x"));
        let listen = Some(SocketAddr::from(([0, 0, 0, 0], 7580)));
        let whole = || Flags {
            feed_listen: listen,
            feed_certificate: path(),
            feed_key: path(),
            feed_credentials: path(),
            ..Flags::default()
        };
        assert!(read(&whole()).is_ok());
        let hook = |url: &str| Flags { disconnect: Some(url.into()), ..whole() };
        assert!(read(&hook("https://u:p@host/path")).is_ok());
        assert!(read(&hook("http://u:p@127.0.0.1:1/path")).is_ok());
        for (flags, begins) in [
            (Flags { feed_key: None, ..whole() }, "feed_key: must be given"),
            (Flags { feed_listen: None, ..whole() }, "feed_certificate: has no meaning"),
            (
                Flags { disconnect: Some("https://h".into()), ..Flags::default() },
                "disconnect: has no meaning",
            ),
            (Flags { disconnect_authority: path(), ..whole() }, "disconnect_authority: has no meaning"),
            (hook("http://u:p@host/path"), "disconnect: `host/path` is no address"),
        ] {
            let error = read(&flags).expect_err("refused").to_string();
            assert!(error.starts_with(begins), "{error}");
        }
    }

    #[test]
    fn only_loopback_addresses_are_served() {
        for (listen, good) in
            [("127.0.0.1:0", true), ("[::1]:7500", true), ("0.0.0.0:1", false), ("host", false)]
        {
            let flags = Flags { listen: Some(listen.into()), ..Flags::default() };
            assert_eq!(read(&flags).is_ok(), good, "{listen}");
        }
    }
}
