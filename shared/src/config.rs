//! Configuration: defaults, then one TOML file, then `HEADROOM_…` variables, then flags.

use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How the variables begin; `__` stands for the dot of a nested key.
pub const PREFIX: &str = "HEADROOM_";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {file}: {why}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// A key nobody knows.
    #[error("{file}: unknown key `{key}`: the keys are {known}")]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// The keys there are.
        known: String,
    },
    /// A value that does not fit; the text names key and source.
    #[error("configuration: {0}")]
    Invalid(String),
}

/// Loads a configuration. Every key of `T` must be visible in its default; a file that does not
/// exist is an empty one; flags that are `null` (not given) change nothing.
///
/// # Errors
/// [`ConfigError`] names the key and where it was set.
pub fn load<T: Default + Serialize + DeserializeOwned>(
    file: &Path,
    flags: &impl Serialize,
) -> Result<T, ConfigError> {
    let invalid = |error: serde_json::Error| ConfigError::Invalid(error.to_string());
    let defaults = serde_json::to_value(T::default()).map_err(invalid)?;
    let known: Vec<String> =
        defaults.as_object().map(|keys| keys.keys().cloned().collect()).unwrap_or_default();
    let mut figment = Figment::from(Serialized::defaults(without_nulls(defaults)));
    match std::fs::read_to_string(file) {
        Ok(text) => {
            let table: toml::Table =
                text.parse().map_err(|error| ConfigError::Invalid(format!("{}: {error}", file.display())))?;
            if let Some(key) = table.keys().find(|key| !known.contains(key)) {
                let (key, known) = (key.clone(), known.join(", "));
                return Err(ConfigError::UnknownKey { file: file.into(), key, known });
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(why) => return Err(ConfigError::Unreadable { file: file.into(), why }),
    }
    // Only this service's keys: other services and tools have variables of the same prefix.
    let ours = Env::prefixed(PREFIX).filter(move |key| {
        let key = key.as_str().to_ascii_lowercase();
        known.iter().any(|known| key == *known || key.starts_with(&format!("{known}__")))
    });
    let flags = without_nulls(serde_json::to_value(flags).map_err(invalid)?);
    figment
        .merge(ours.split("__"))
        .merge(Serialized::globals(flags))
        .extract()
        .map_err(|error| ConfigError::Invalid(error.to_string().replace("default.", "")))
}

fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key, without_nulls(value))).collect()
        }
        // Flags may be nothing at all.
        serde_json::Value::Null => serde_json::Value::Object(serde_json::Map::new()),
        other => other,
    }
}

/// Checks that something without TLS stays on this machine.
///
/// # Errors
/// [`ConfigError::Invalid`] names the key.
pub fn loopback(key: &str, address: std::net::SocketAddr) -> Result<(), ConfigError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let text =
        format!("{key}: {address} is no loopback address, and this port has no TLS; use 127.0.0.1 or [::1]");
    Err(ConfigError::Invalid(text))
}

/// Reads an instant as in RFC 3339, or a date as its midnight UTC.
///
/// # Errors
/// How to write it.
pub fn time(text: &str) -> Result<headroom_core::Millis, String> {
    let instant = text.parse::<jiff::Timestamp>().ok();
    let midnight = || {
        let date: jiff::civil::Date = text.parse().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let at = instant.or_else(midnight).map(jiff::Timestamp::as_millisecond);
    // 0 stands for "not given" in the contracts; nobody means the beginning of 1970.
    match at {
        Some(at) if at > 0 => Ok(headroom_core::Millis(at)),
        Some(_) => Err("must be after 1970-01-01T00:00:00Z".into()),
        None => Err("write a time as in RFC 3339, for example 2027-01-31T00:00:00Z".into()),
    }
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number.
    #[error("`{text}` is no duration: write a whole number and a unit, for example 900ms, 120s, 2h or 14d")]
    NoNumber {
        /// As given.
        text: String,
    },
    /// No unit, or an unknown one.
    #[error("`{text}` has no unit that is known: write ms, s, m, h or d, for example {number}s")]
    Unit {
        /// As given.
        text: String,
        /// Its number.
        number: String,
    },
    /// Too long to be counted.
    #[error("`{text}` is too long: at most {} days are allowed", MAX_DURATION.as_secs() / 86_400)]
    TooLong {
        /// As given.
        text: String,
    },
}

const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 86_400);
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration: a whole number and `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// [`DurationError`] says how to write it.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(DurationError::NoNumber { text: text.into() });
    }
    let Some((_, millis)) = UNITS.iter().find(|(name, _)| *name == unit.trim_start()) else {
        return Err(DurationError::Unit { text: text.into(), number: number.into() });
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*millis))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or_else(|| DurationError::TooLong { text: text.into() })
}

/// Writes a duration as [`duration`] reads it, in the largest unit that is exact.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let exact = UNITS.iter().find(|(_, unit)| millis.is_multiple_of(u128::from(*unit)));
    let (name, unit) = if millis == 0 { &("s", 1_000) } else { exact.unwrap_or(&("ms", 1)) };
    format!("{}{name}", millis / u128::from(*unit))
}

/// For `#[serde(with = "headroom_shared::config::duration_text")]`: durations as people write them.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it as text.
    ///
    /// # Errors
    /// What the serializer says.
    pub fn serialize<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::format_duration(*duration))
    }

    /// Reads it from text.
    ///
    /// # Errors
    /// Says how to write it.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        super::duration(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// The same for durations that may be absent, as flags are.
pub mod optional_duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it as text, or as nothing.
    ///
    /// # Errors
    /// What the serializer says.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => s.serialize_some(&super::format_duration(*duration)),
            None => s.serialize_none(),
        }
    }

    /// Reads it from text.
    ///
    /// # Errors
    /// Says how to write it.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        let text: Option<String> = Option::deserialize(d)?;
        text.map(|text| super::duration(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Settings {
        listen: String,
        #[serde(with = "duration_text")]
        session_ttl: Duration,
        management: Option<String>,
    }

    impl Default for Settings {
        fn default() -> Self {
            let session_ttl = Duration::from_secs(120);
            Self { listen: "127.0.0.1:7400".into(), session_ttl, management: None }
        }
    }

    #[derive(Serialize)]
    struct Flags {
        listen: Option<String>,
        #[serde(with = "optional_duration_text")]
        session_ttl: Option<Duration>,
    }

    const NONE: Flags = Flags { listen: None, session_ttl: None };

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("service.toml");
        std::fs::write(&file, text).expect("written");
        (folder, file)
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let (_folder, path) = file("listen = \"0.0.0.0:1\"\nsession_ttl = \"5s\"\nmanagement = \"m\"\n");
        let loaded: Settings = load(&path, &NONE).expect("loads");
        let ttl = Duration::from_secs(5);
        let expected =
            Settings { listen: "0.0.0.0:1".into(), session_ttl: ttl, management: Some("m".into()) };
        assert_eq!(loaded, expected);
        let flags = Flags { listen: Some("x".into()), session_ttl: Some(Duration::from_millis(9)) };
        let loaded: Settings = load(&path, &flags).expect("loads");
        assert_eq!((loaded.listen.as_str(), loaded.session_ttl), ("x", Duration::from_millis(9)));
        let loaded: Settings = load(Path::new("/does/not/exist.toml"), &NONE).expect("loads");
        assert_eq!(loaded, Settings::default());
    }

    #[test]
    fn a_mistake_is_named_with_its_key_and_file() {
        let (_folder, path) = file("session_til = \"5s\"\n");
        let error = load::<Settings>(&path, &NONE).expect_err("refused").to_string();
        assert!(error.contains("`session_til`") && error.contains("session_ttl"), "{error}");
        let (_folder, path) = file("session_ttl = \"5 parsecs\"\n");
        let error = load::<Settings>(&path, &NONE).expect_err("refused").to_string();
        assert!(error.contains("5 parsecs") && error.contains("session_ttl"), "{error}");
        assert!(error.contains("service.toml"), "{error}");
        let (_folder, path) = file("listen = [");
        let error = load::<Settings>(&path, &NONE).expect_err("refused").to_string();
        assert!(error.contains("service.toml"), "{error}");
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in
            [("900ms", 900), ("120s", 120_000), ("2m", 120_000), ("2h", 7_200_000), (" 14 d ", 1_209_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["900ms", "121s", "3m", "5h", "14d", "0s"] {
            assert_eq!(format_duration(duration(text).expect("a duration")), text);
        }
        for text in ["", "s", "-5s", "5", "5 weeks", "1.5s", "99999999999999999999s", "40000d"] {
            let error = duration(text).expect_err("refused").to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
