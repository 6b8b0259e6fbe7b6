//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use headroom_core::fingerprint::Fingerprint;
use headroom_core::{Feature, Millis, Text};
use headroom_proto::licensing::FeatureGrant;

const EXAMPLES: &str = "Examples:
  Make the vendor's signing key and an empty register, once:
    licensing-server --state /var/lib/headroom/licensing-server init
  License a machine for 10 concurrent call legs and 2 more as overdraft:
    licensing-server --state /var/lib/headroom/licensing-server issue \\
      --fingerprint \"$(management-node fingerprint)\" --feature call=10+2 --out site.license
  Install it there:
    management-node license install site.license";

const ISSUE_EXAMPLES: &str = "Examples:
  issue --fingerprint hrfp1-… --feature call=10 --out site.license
  issue --fingerprint hrfp1-… --feature call=100+10 --feature connect.teams=20 \\
        --customer 'Example Ltd' --not-after 2027-12-31T23:00:00Z --out -";

/// Signs Headroom licenses and keeps a register of them.
#[derive(Debug, Parser)]
#[command(name = "licensing-server", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Folder of the signing key, the register and the socket.
    #[arg(
        long,
        global = true,
        env = "HEADROOM_STATE",
        value_name = "DIR",
        default_value = "/var/lib/headroom/licensing-server"
    )]
    pub state: PathBuf,
    /// Answers for machines: JSON on stdout; `serve` logs JSON lines to stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the signing key and an empty register; never touches existing ones.
    Init,
    /// Serves gRPC over TLS, and everything on the Unix socket in the state folder.
    Serve(Serve),
    /// Signs a license for a machine, records it and writes the license file.
    #[command(after_help = ISSUE_EXAMPLES)]
    Issue(Issue),
    /// Lists the licenses that were issued.
    List,
    /// Lists the public keys licenses are signed with.
    Keys,
}

/// How to serve.
#[derive(Debug, Args)]
pub struct Serve {
    /// Address of the TLS port; port 0 takes any free one [default: 127.0.0.1:7300].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// What to license.
#[derive(Debug, Args)]
pub struct Issue {
    /// The machine, as `management-node fingerprint` prints it.
    #[arg(long, value_name = "FINGERPRINT")]
    pub fingerprint: Fingerprint,
    /// A feature and its units, for example `call=10` or, with 2 units of overdraft, `call=10+2`;
    /// can be given up to 64 times.
    #[arg(long = "feature", required = true, value_name = "NAME=UNITS[+OVERDRAFT]", value_parser = feature)]
    pub features: Vec<FeatureGrant>,
    /// Stock keeping unit of the product; at most 255 bytes.
    #[arg(long, default_value = "")]
    pub sku: Text,
    /// The license plan; at most 255 bytes.
    #[arg(long, default_value = "")]
    pub plan: Text,
    /// The customer; at most 255 bytes.
    #[arg(long, default_value = "")]
    pub customer: Text,
    /// Begin of validity, for example `2026-12-01T00:00:00Z`, or `2026-12-01` for midnight UTC
    /// [default: now].
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    pub not_before: Option<Millis>,
    /// End of validity: the first moment the license no longer counts [default: none; three
    /// months for a trial].
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    pub not_after: Option<Millis>,
    /// A trial license.
    #[arg(long)]
    pub trial: bool,
    /// Where the license file goes: a new file, or `-` for stdout.
    #[arg(long, value_name = "FILE|-")]
    pub out: PathBuf,
}

fn units(text: &str, what: &str, least: u32) -> Result<u32, String> {
    let wrong = || format!("{what} must be a whole number from {least} to {}, found `{text}`", u32::MAX);
    text.parse::<u32>().ok().filter(|units| *units >= least).ok_or_else(wrong)
}

/// Reads `NAME=UNITS[+OVERDRAFT]`.
fn feature(text: &str) -> Result<FeatureGrant, String> {
    let (name, counts) =
        text.split_once('=').ok_or("write a feature and its units, for example call=10 or call=10+2")?;
    let feature = Feature::new(name).map_err(|error| format!("the feature's name {error}"))?;
    let (quantity, overdraft) = counts.split_once('+').unwrap_or((counts, "0"));
    Ok(FeatureGrant {
        feature: feature.to_string(),
        quantity: units(quantity, "units", 1)?,
        overdraft: units(overdraft, "overdraft", 0)?,
    })
}

/// Reads an instant, or a date as its midnight UTC.
fn time(text: &str) -> Result<Millis, String> {
    let instant = text.parse::<jiff::Timestamp>().ok();
    let midnight = || {
        let date: jiff::civil::Date = text.parse().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let at = instant.or_else(midnight).map(jiff::Timestamp::as_millisecond);
    // 0 stands for "not given" in the contract; nobody licenses the beginning of 1970.
    match at {
        Some(at) if at > 0 => Ok(Millis(at)),
        Some(_) => Err("must be after 1970-01-01T00:00:00Z".into()),
        None => Err("write a time as in RFC 3339, for example 2027-01-31T00:00:00Z".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn features_read_as_people_write_them() {
        let grant = feature("connect.teams=20+3").expect("a feature");
        assert_eq!((grant.feature.as_str(), grant.quantity, grant.overdraft), ("connect.teams", 20, 3));
        assert_eq!(feature("call=10").expect("a feature").overdraft, 0);
        for (text, part) in [
            ("call", "call=10"),
            ("call=", "from 1 to 4294967295"),
            ("call=0", "from 1 to 4294967295"),
            ("call=-1", "from 1 to 4294967295"),
            ("call=5000000000", "from 1 to 4294967295"),
            ("call=1+x", "overdraft must be a whole number from 0"),
            ("=1", "must not be empty"),
            ("Call=1", "'C'"),
        ] {
            let error = feature(text).expect_err("refused");
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn times_read_as_in_rfc_3339() {
        assert_eq!(time("2026-12-01T00:00:00Z"), time("2026-12-01"));
        assert_eq!(time("2026-12-01T01:00:00+01:00"), time("2026-12-01"));
        assert!(time("tomorrow").is_err());
        assert!(time("1960-01-01").is_err());
    }
}
