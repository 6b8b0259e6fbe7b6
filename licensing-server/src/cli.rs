//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use headroom_core::fingerprint::Fingerprint;
use headroom_core::{EntitlementKey, Feature, Millis, Text};
use headroom_proto::licensing as pb;
use headroom_proto::licensing::FeatureGrant;
use headroom_shared::config::time;

const EXAMPLES: &str = "Examples:
  Make the vendor's signing key and an empty register, once, and serve:
    licensing-server init --name licensing.example.com
    licensing-server serve --listen 0.0.0.0:7300
  Sell 100 concurrent call legs, 10 more as overdraft, until the end of 2027:
    licensing-server customer add 'Example Ltd'
    licensing-server key create --customer 'Example Ltd' --feature call=100+10 --not-after 2028-01-01
  Answer a request file of a machine that has no network:
    licensing-server answer request.xml > activation.xml
  A machine burnt, and its key must be used elsewhere:
    licensing-server activation replace KEY --reason 'ticket 4711: machine burnt'";

const ISSUE_EXAMPLES: &str = "Examples:
  issue --fingerprint hrfp1-… --feature call=10 --out site.license
  issue --fingerprint hrfp1-… --feature call=100+10 --feature connect.teams=20 \\
        --customer 'Example Ltd' --not-after 2027-12-31T23:00:00Z --out -";

/// Sells Headroom licenses: entitlement keys, activations, signing.
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
    Init {
        /// A host name or address that machines reach this server by, beside localhost; can be repeated.
        #[arg(long = "name", value_name = "HOST")]
        names: Vec<String>,
    },
    /// Serves XML and gRPC over TLS, and everything on the Unix socket in the state folder.
    Serve(Serve),
    /// Adds and lists customers.
    #[command(subcommand)]
    Customer(Customer),
    /// Creates, changes, revokes and lists entitlement keys.
    #[command(subcommand)]
    Key(Key),
    /// Lists what became of keys on machines, and frees a key from a machine that is lost.
    #[command(subcommand)]
    Activation(Activation),
    /// Answers a machine's request file; the answer goes to stdout.
    Answer {
        /// The request's XML, or `-` for stdin.
        #[arg(value_name = "FILE|-")]
        request: PathBuf,
    },
    /// Offers products for trial: three months, once per machine and product.
    #[command(subcommand)]
    Trial(Trial),
    /// Signs a license for a machine known by its fingerprint, and writes the license file.
    #[command(after_help = ISSUE_EXAMPLES)]
    Issue(Issue),
    /// Lists and rotates the keys that licenses are signed with.
    #[command(subcommand)]
    SigningKey(SigningKey),
    /// Lists what was asked, newest first.
    Audit {
        /// At most so many entries.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}

/// How to serve.
#[derive(Debug, Args)]
pub struct Serve {
    /// Address of the TLS port; port 0 takes any free one [default: 127.0.0.1:7300].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// What to do with customers.
#[derive(Debug, Subcommand)]
pub enum Customer {
    /// Adds a customer, or changes his reference.
    Add {
        /// His name; at most 255 bytes.
        name: Text,
        /// Your reference, for example a customer number; at most 255 bytes.
        #[arg(long, default_value = "")]
        reference: Text,
    },
    /// Lists customers.
    List,
}

/// What to do with entitlement keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Makes a key that a customer types to activate what it entitles to.
    Create {
        /// What it entitles to.
        #[command(flatten)]
        terms: Terms,
        /// The machine that fetches it without typing it, as `management-node fingerprint` prints it.
        #[arg(long, value_name = "FINGERPRINT")]
        assign: Option<Fingerprint>,
    },
    /// Changes what a key entitles to: more units, another end. Its machine hears of it within a day.
    Change {
        /// The key.
        key: EntitlementKey,
        /// The features it has from now on, all of them [default: those it has].
        #[arg(long = "feature", value_name = "NAME=UNITS[+OVERDRAFT]", value_parser = feature)]
        features: Vec<FeatureGrant>,
        /// End of validity from now on, or `none`.
        #[arg(long, value_name = "RFC3339|none", value_parser = end)]
        not_after: Option<End>,
        /// Days after the end for which it still counts.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(..=366))]
        grace_days: Option<u32>,
    },
    /// Revokes a key; its machine loses the license within a day.
    Revoke {
        /// The key.
        key: EntitlementKey,
        /// Why; told to who tries to activate it.
        #[arg(long, default_value = "")]
        reason: Text,
    },
    /// Lists keys.
    List {
        /// Only keys of this customer.
        #[arg(long, default_value = "")]
        customer: Text,
    },
}

/// What to do with activations.
#[derive(Debug, Subcommand)]
pub enum Activation {
    /// Lists licenses with their machines, ended ones too.
    List,
    /// Frees a key from a machine that cannot return it any more. Should that machine live, it loses the
    /// license when it refreshes.
    Replace {
        /// The key.
        key: EntitlementKey,
        /// Why; kept for the audit.
        #[arg(long)]
        reason: Text,
    },
}

/// What to do with trials.
#[derive(Debug, Subcommand)]
pub enum Trial {
    /// Offers a product, or changes what its trial has.
    Offer {
        /// Stock keeping unit of the product; at most 255 bytes.
        sku: Text,
        /// A feature of the trial and its units; can be given up to 64 times.
        #[arg(long = "feature", required = true, value_name = "NAME=UNITS[+OVERDRAFT]", value_parser = feature)]
        features: Vec<FeatureGrant>,
    },
    /// Withdraws a product; trials that were begun go on.
    Withdraw {
        /// Stock keeping unit of the product.
        sku: Text,
    },
    /// Lists what can be tried.
    List,
}

/// What to do with signing keys.
#[derive(Debug, Subcommand)]
pub enum SigningKey {
    /// Lists the public keys, the newest first.
    List,
    /// Makes a new key. Machines learn it with their next answer, by the word of the key before it.
    Rotate,
}

/// What a plan promises.
#[derive(Debug, Args)]
pub struct Terms {
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
    /// End of validity: the first moment the license no longer counts [default: none].
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    pub not_after: Option<Millis>,
    /// Days after the end for which the license still counts, shown as such.
    #[arg(long, value_name = "DAYS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=366))]
    pub grace_days: u32,
}

impl Terms {
    /// As they are asked for.
    pub(crate) fn message(self, trial: bool) -> pb::Terms {
        pb::Terms {
            sku: self.sku.to_string(),
            plan: self.plan.to_string(),
            customer: self.customer.to_string(),
            features: self.features,
            not_before_ms: self.not_before.map_or(0, |at| at.0),
            not_after_ms: self.not_after.map_or(0, |at| at.0),
            grace_days: self.grace_days,
            trial,
        }
    }
}

/// What to license.
#[derive(Debug, Args)]
pub struct Issue {
    /// The machine, as `management-node fingerprint` prints it.
    #[arg(long, value_name = "FINGERPRINT")]
    pub fingerprint: Fingerprint,
    /// What it promises.
    #[command(flatten)]
    pub terms: Terms,
    /// A trial license, which ends after three months when no end is given.
    #[arg(long)]
    pub trial: bool,
    /// Where the license file goes: a new file, or `-` for stdout.
    #[arg(long, value_name = "FILE|-")]
    pub out: PathBuf,
}

/// An end of validity, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End(pub Option<Millis>);

fn end(text: &str) -> Result<End, String> {
    if text == "none" { Ok(End(None)) } else { time(text).map(|at| End(Some(at))) }
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
        assert_eq!(end("none"), Ok(End(None)));
        assert_eq!(end("2026-12-01"), time("2026-12-01").map(|at| End(Some(at))));
        assert!(time("tomorrow").is_err());
        assert!(time("1960-01-01").is_err());
    }
}
