//! The command line. `init`, `serve`, `restore` and `fingerprint` work on the state folder and the machine;
//! everything else asks the running service over its Unix socket.

mod license;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use headroom_proto::admin as pb;
use headroom_proto::admin::admin_service_client::AdminServiceClient;
use headroom_shared::{config, json, print, rpc, telemetry, tls};
use serde::Serialize;
use tonic::transport::Channel;

pub use license::{License, TestMode};

use crate::config::Config;
use crate::deployment::{self, Deployment, Identity};
use crate::{output, restore, serve};

/// The pool of a Headroom deployment: licenses, leases and nodes.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Begin:\n  \
        management-node init --state /var/lib/headroom/pool --vendor-key vendor.pub\n  \
        management-node serve --state /var/lib/headroom/pool\n  \
        management-node license add KEY --state /var/lib/headroom/pool\n  \
        management-node node add media-1 --state /var/lib/headroom/pool --out media-1.toml\n\n\
        Look:\n  management-node pool | license list | license check | node list | calls | denials | support-log |\n  \
        alarms | explain --last"
)]
pub struct Cli {
    /// The folder that holds the deployment
    #[arg(
        long,
        global = true,
        env = "HEADROOM_STATE",
        value_name = "DIR",
        default_value = "/var/lib/headroom/management-node"
    )]
    pub state: PathBuf,
    /// Print JSON for machines
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a deployment: its certificate authority and an empty pool
    Init {
        /// The licensing server's public keys (its file vendor.pub)
        #[arg(long, value_name = "FILE")]
        vendor_key: PathBuf,
        /// A further host name or address nodes reach this service by; can be repeated
        #[arg(long = "name", value_name = "HOST")]
        names: Vec<String>,
        /// The licensing server that keys are activated at
        #[arg(long, value_name = "URL")]
        licensing: Option<String>,
        /// The authority that it is trusted by (its file authority.pem) [default: the system's]
        #[arg(long, value_name = "FILE")]
        licensing_authority: Option<PathBuf>,
    },
    /// Run the service
    Serve(ServeFlags),
    /// Print this machine's fingerprint, which licenses are bound to
    Fingerprint {
        /// Read the machine's identity under this folder
        #[arg(long, value_name = "DIR")]
        machine_root: Option<PathBuf>,
    },
    /// Activate, install, return, repair and list licenses
    #[command(subcommand)]
    License(License),
    /// Everything is licensed without limits for 8 hours, for a laboratory
    #[command(subcommand)]
    TestMode(TestMode),
    /// Say which licenses this state folder would hold corrupt on this machine, before it serves here
    Restore {
        /// Only look; nothing is changed
        #[arg(long, required = true)]
        check: bool,
        /// Read the machine's identity under this folder
        #[arg(long, value_name = "DIR")]
        machine_root: Option<PathBuf>,
    },
    /// Alarms that are on
    Alarms {
        /// Those that were cleared in the last seven days, too
        #[arg(long)]
        cleared: bool,
    },
    /// What happened: denials, licenses, requests, alarms, nodes, in the order of their times
    SupportLog {
        /// Only from this time on, for example 2026-12-01T08:00:00Z or 2026-12-01
        #[arg(long, value_name = "RFC3339", value_parser = config::time)]
        since: Option<headroom_core::Millis>,
        /// Only about this call
        #[arg(long, default_value = "")]
        call: String,
        /// At most so many lines, the newest
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Add, remove and list conferencing nodes
    #[command(subcommand)]
    Node(Node),
    /// Use, capacity and alarms of every pool
    Pool,
    /// Active calls with their legs
    Calls {
        /// Only legs of this node
        #[arg(long, default_value = "")]
        node: String,
        /// At most so many calls
        #[arg(long, default_value_t = 1000)]
        limit: u32,
    },
    /// Refused requests, newest first
    Denials {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only denials of this call
        #[arg(long, default_value = "")]
        call: String,
    },
    /// Take a leg's lease back and have its media server end the leg
    ForceRelease {
        /// The node that runs the leg
        node: String,
        /// The leg
        leg: String,
    },
    /// Explain the decisions about a call or a leg, newest first
    Explain {
        /// A call or a leg
        #[arg(required_unless_present = "last")]
        subject: Option<String>,
        /// The newest decision of all
        #[arg(long, conflicts_with = "subject")]
        last: bool,
    },
}

/// Flags of `serve`; each is also a key of management-node.toml and a HEADROOM_… variable.
#[derive(Debug, Args, Serialize)]
pub struct ServeFlags {
    /// Where conferencing nodes reach this service [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// The address written into node bundles [default: https://127.0.0.1:7400]
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// A node's leases return after this silence [default: 120s]
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    #[serde(serialize_with = "duration_text")]
    session_ttl: Option<Duration>,
    /// Where Prometheus reads metrics; loopback only [default: 127.0.0.1:7490]
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<std::net::SocketAddr>,
    /// Read the machine's identity under this folder [default: /]
    #[arg(long, value_name = "DIR")]
    machine_root: Option<PathBuf>,
    /// Identify the machine by its hardware, or by an id kept in the state folder [default: auto: kept in a
    /// container]
    #[arg(long, value_enum)]
    machine_identity: Option<Identity>,
    /// The licensing server that keys are activated at
    #[arg(long, value_name = "URL")]
    licensing: Option<String>,
    /// The authority that the licensing server is trusted by, PEM [default: licensing.pem in the state
    /// folder, or the system's]
    #[arg(long, value_name = "FILE")]
    licensing_authority: Option<PathBuf>,
    /// The proxy to the licensing server and the alarms' receiver [default: what HTTPS_PROXY says]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// How often the licensing server is asked what has changed [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    #[serde(serialize_with = "duration_text")]
    license_refresh: Option<Duration>,
    /// Where alarms are posted to as JSON
    #[arg(long, value_name = "URL")]
    alarm_webhook: Option<String>,
    /// An alarm that comes again within this time is told only if it is still on afterwards [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    #[serde(serialize_with = "duration_text")]
    alarm_repeat: Option<Duration>,
    /// Write logs as JSON
    #[arg(long)]
    #[serde(skip)]
    log_json: bool,
}

#[allow(clippy::ref_option, reason = "the signature serde asks for")]
fn duration_text<S: serde::Serializer>(given: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    given.map(config::format_duration).serialize(s)
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Enrol a node and write its bundle
    Add {
        /// Its name
        name: String,
        /// Where the node reaches this service, if not at the configured address
        #[arg(long, value_name = "URL", default_value = "")]
        address: String,
        /// Where to write the bundle; secret; `-` for standard output
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Remove a node and release its leases at once
    Remove {
        /// Its name
        name: String,
    },
    /// List nodes with their sessions
    List,
}

/// Runs the command line.
///
/// # Errors
/// What went wrong, for people.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let Cli { state, json, command } = cli;
    match command {
        Command::Init { vendor_key, names, licensing, licensing_authority } => {
            Deployment::create(
                &state,
                &vendor_key,
                &names,
                licensing.as_deref(),
                licensing_authority.as_deref(),
            )?;
            show(json, serde_json::json!({ "state": state }), || {
                print::line(format!("made a deployment in {}", state.display()))?;
                print::line(format!("next: management-node serve --state {}", state.display()))
            })?;
            Ok(())
        }
        Command::Serve(flags) => {
            telemetry::init("management-node", flags.log_json);
            let config = Config::load(&state, &flags)?;
            runtime.block_on(serve::serve(&state, config))
        }
        Command::Fingerprint { machine_root } => {
            let none = serde_json::json!({});
            let config = Config::load(&state, &none)?;
            let root = machine_root.unwrap_or(config.machine_root);
            let fingerprint = deployment::fingerprint(&state, &root, config.machine_identity)?;
            show(json, serde_json::json!({ "fingerprint": fingerprint.to_string() }), || {
                print::line(fingerprint.to_string())
            })?;
            Ok(())
        }
        Command::Restore { check: _, machine_root } => restore::folder(&state, machine_root, json),
        remote => runtime.block_on(ask(&state, json, remote)),
    }
}

fn show(json: bool, value: serde_json::Value, people: impl FnOnce() -> io::Result<()>) -> anyhow::Result<()> {
    Ok(if json { print::line(value.to_string()) } else { people() }?)
}

/// A status as people read it: the reason without the protocol around it.
fn plain(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

async fn connect(state: &Path) -> anyhow::Result<AdminServiceClient<Channel>> {
    let socket = state.join(deployment::SOCKET);
    let channel = rpc::unix_channel(&socket).await?;
    Ok(AdminServiceClient::new(channel).max_decoding_message_size(64 * rpc::MAX_MESSAGE))
}

async fn ask(state: &Path, json: bool, command: Command) -> anyhow::Result<()> {
    let mut admin = connect(state).await?;
    match command {
        Command::License(command) => license::ask(state, json, command).await?,
        Command::TestMode(command) => license::test_mode(state, json, command).await?,
        Command::Alarms { cleared } => {
            let answer =
                admin.list_alarms(pb::ListAlarmsRequest { cleared }).await.map_err(plain)?.into_inner();
            show(json, json::of("headroom.admin.v1.ListAlarmsResponse", &answer), || {
                output::alarms(&answer.alarms)
            })?;
        }
        Command::SupportLog { since, call, limit } => {
            let since_ms = since.map_or(0, |at| at.0);
            let request = pb::ListSupportLogRequest { since_ms, call, limit };
            let answer = admin.list_support_log(request).await.map_err(plain)?.into_inner();
            show(json, json::of("headroom.admin.v1.ListSupportLogResponse", &answer), || {
                output::support(&answer.lines)
            })?;
        }
        Command::Node(command) => nodes(&mut admin, json, command).await?,
        Command::Pool => {
            let answer =
                admin.get_pool_status(pb::GetPoolStatusRequest {}).await.map_err(plain)?.into_inner();
            show(json, json::of("headroom.admin.v1.GetPoolStatusResponse", &answer), || {
                output::pools(&answer)
            })?;
        }
        Command::Calls { node, limit } => {
            let request = pb::ListCallsRequest { node, page_size: limit, page_token: String::new() };
            let answer = admin.list_calls(request).await.map_err(plain)?.into_inner();
            show(json, json::of("headroom.admin.v1.ListCallsResponse", &answer), || {
                output::calls(&answer.calls)
            })?;
        }
        Command::Denials { limit, call } => {
            let request = pb::ListDenialsRequest { page_size: limit, call, ..Default::default() };
            let answer = admin.list_denials(request).await.map_err(plain)?.into_inner();
            show(json, json::of("headroom.admin.v1.ListDenialsResponse", &answer), || {
                output::denials(&answer.denials)
            })?;
        }
        Command::ForceRelease { node, leg } => {
            let request = pb::ForceReleaseRequest { node, leg: leg.clone() };
            let answer = admin.force_release(request).await.map_err(plain)?.into_inner();
            show(json, json::of("headroom.admin.v1.ForceReleaseResponse", &answer), || {
                print::line(format!("released; the media server is told to end {leg}"))
            })?;
        }
        Command::Explain { subject, last } => explain(&mut admin, json, subject, last).await?,
        Command::Init { .. } | Command::Serve(_) | Command::Fingerprint { .. } | Command::Restore { .. } => {
            unreachable!("handled without a service")
        }
    }
    Ok(())
}

async fn nodes(admin: &mut AdminServiceClient<Channel>, json: bool, command: Node) -> anyhow::Result<()> {
    match command {
        Node::Add { name, address, out } => {
            if out.as_os_str() != "-" {
                tls::check_new(&out).with_context(|| {
                    format!("--out: {name} was not added; cannot write {}", out.display())
                })?;
            }
            let request = pb::AddNodeRequest { node: name.clone(), management: address };
            let bundle = admin.add_node(request).await.map_err(plain)?.into_inner().bundle;
            if out.as_os_str() == "-" {
                print::line(bundle)?;
                return Ok(());
            }
            tls::write_secret(&out, bundle.as_bytes()).with_context(|| out.display().to_string())?;
            show(json, serde_json::json!({ "node": name, "bundle": out }), || {
                print::line(format!("added {name}; its bundle is {}", out.display()))?;
                print::line("next, on the media server: conferencing-node serve --bundle FILE")
            })?;
        }
        Node::Remove { name } => {
            let answer =
                admin.remove_node(pb::RemoveNodeRequest { node: name.clone() }).await.map_err(plain)?;
            let released = answer.into_inner().released;
            show(json, serde_json::json!({ "node": name, "released": released }), || {
                print::line(format!("removed {name}; {released} leases released"))
            })?;
        }
        Node::List => {
            let answer = admin.list_nodes(pb::ListNodesRequest {}).await.map_err(plain)?.into_inner();
            show(json, json::of("headroom.admin.v1.ListNodesResponse", &answer), || {
                output::nodes(&answer.nodes)
            })?;
        }
    }
    Ok(())
}

/// A subject is looked for as a call, then as a leg.
async fn explain(
    admin: &mut AdminServiceClient<Channel>,
    json: bool,
    subject: Option<String>,
    last: bool,
) -> anyhow::Result<()> {
    use pb::explain_request::Subject;
    let asked = |subject| pb::ExplainRequest { subject: Some(subject) };
    let answer = match subject {
        None => admin.explain(asked(Subject::Last(last))).await.map_err(plain)?,
        Some(name) => match admin.explain(asked(Subject::Call(name.clone()))).await {
            Err(status) if status.code() == tonic::Code::NotFound => admin
                .explain(asked(Subject::Leg(name.clone())))
                .await
                .map_err(|_| anyhow::anyhow!("no decision about a call or leg {name} is remembered"))?,
            other => other.map_err(plain)?,
        },
    };
    let answer = answer.into_inner();
    show(json, json::of("headroom.admin.v1.ExplainResponse", &answer), || {
        output::explanations(&answer.explanations)
    })?;
    Ok(())
}
