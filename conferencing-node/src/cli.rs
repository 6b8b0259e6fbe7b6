//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use headroom_proto::admission as pb;
use headroom_proto::admission::admission_service_client::AdmissionServiceClient;
use headroom_proto::common;
use headroom_shared::rpc::unix_channel;
use headroom_shared::{telemetry, tls};
use tonic::transport::Channel;

use crate::config::{Config, Flags, SOCKET};
use crate::{output, serve};

const EXAMPLES: &str = "\
Examples:
  conferencing-node --state /var/lib/headroom/a serve --bundle a.bundle
  conferencing-node --state /var/lib/headroom/a status
  conferencing-node --state /var/lib/headroom/a call start demo --legs 6
  conferencing-node --state /var/lib/headroom/a leg update demo-1 --audio --video
  conferencing-node --state /var/lib/headroom/a call end demo
  conferencing-node --state /var/lib/headroom/a drain --deadline 30m
  curl --unix-socket /var/lib/headroom/a/conferencing-node.sock http://node/v1/status";

/// Admits call legs on a media server's host: asks the license pool, and decides alone when the pool
/// cannot be reached.
#[derive(Debug, Parser)]
#[command(name = "conferencing-node", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// State folder: journal, configuration file, socket
    #[arg(
        long,
        global = true,
        env = "HEADROOM_STATE",
        value_name = "DIR",
        default_value = "/var/lib/headroom/conferencing-node"
    )]
    state: PathBuf,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGINT or SIGTERM; makes the journal on the first run
    Serve {
        #[command(flatten)]
        flags: Flags,
        /// Log as JSON lines
        #[arg(long)]
        log_json: bool,
    },
    /// Contact with the pool, grace left, counts, alarms
    Status,
    /// The legs that run here
    Legs,
    /// Refuse new calls and wait until the last leg has ended, before the machine is taken out of service.
    ///
    /// Legs that run are never cut. The node refuses new calls until `drain --off`, also when it is started anew or
    /// this command is interrupted; the alarm `draining` says so. Ends with 0 when no leg is left.
    Drain {
        /// Wait no longer than this; legs that still run then go on, and the command fails
        #[arg(long, value_name = "DURATION", value_parser = headroom_shared::config::duration, conflicts_with = "off")]
        deadline: Option<Duration>,
        /// Take new calls again
        #[arg(long)]
        off: bool,
    },
    /// Start or end a call, as a media server would
    #[command(subcommand)]
    Call(CallCommand),
    /// Change or end one leg, as a media server would
    #[command(subcommand)]
    Leg(LegCommand),
}

#[derive(Debug, Subcommand)]
enum CallCommand {
    /// Ask whether a call may begin
    Start(Start),
    /// Tell that every leg of a call on this node ended
    End {
        /// The call
        call: String,
    },
}

#[derive(Debug, Args)]
struct Start {
    /// The call; its legs are called CALL-1, CALL-2 …
    call: String,
    /// How many legs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=512))]
    legs: u32,
    /// What the call reaches
    #[arg(long, value_enum, default_value_t = Service::Vmr)]
    service: Service,
    /// The hosted meeting service a gateway call interworks with
    #[arg(long, value_enum)]
    interop: Option<Interop>,
    /// The legs' protocol
    #[arg(long, value_enum, default_value_t = Protocol::Sip)]
    protocol: Protocol,
    /// The legs neither send nor receive media
    #[arg(long)]
    control_only: bool,
    /// The node that runs the second and later legs, when it is not this one
    #[arg(long, value_name = "NODE")]
    owner: Option<String>,
    /// The leg whose unit the first leg takes over
    #[arg(long, value_name = "LEG")]
    replaces: Option<String>,
    /// The legs run already: they are recorded, never denied
    #[arg(long)]
    running: bool,
    /// Name the first leg, instead of CALL-1
    #[arg(long, value_name = "LEG")]
    leg: Option<String>,
    /// The media server
    #[arg(long, default_value = "")]
    source: String,
}

#[derive(Debug, Subcommand)]
enum LegCommand {
    /// Ask whether a leg's media may change; what is not named is off
    Update(Update),
    /// Tell that a leg ended
    End {
        /// The leg
        leg: String,
    },
}

#[derive(Debug, Args)]
struct Update {
    /// The leg
    leg: String,
    /// It sends or receives audio
    #[arg(long)]
    audio: bool,
    /// It sends or receives video
    #[arg(long)]
    video: bool,
    /// The presentation it sends or receives
    #[arg(long, value_enum, default_value_t = Presentation::None)]
    presentation: Presentation,
    /// It sends the presentation
    #[arg(long)]
    presenting: bool,
}

macro_rules! choices {
    ($($name:ident { $($variant:ident),* })*) => {$(
        #[derive(Debug, Clone, Copy, ValueEnum)]
        #[value(rename_all = "snake_case")]
        enum $name { $($variant),* }

        impl From<$name> for common::$name {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant),* }
            }
        }
    )*};
}
choices! {
    Service { Vmr, Auditorium, Reception, Gateway }
    Interop { Teams, Meet, TeamsRooms, ZoomRooms }
    Protocol { Sip, H323, Webrtc, Rtmp, Skype }
    Presentation { None, Slides, Standard, FullMotion }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    tls::install_provider();
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // To stderr, with every cause.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.command {
        Command::Serve { flags, log_json } => {
            telemetry::init("conferencing-node", log_json);
            let config = Config::read(&cli.state, &flags)?;
            runtime.block_on(serve::run(&cli.state, &config))?;
            Ok(ExitCode::SUCCESS)
        }
        command => runtime.block_on(ask(cli.state, cli.json, command)),
    }
}

type Client = AdmissionServiceClient<Channel>;

/// A refusal of the service, as people read it.
fn told(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

/// 0 for yes, 3 for a denial.
const DENIED: u8 = 3;

async fn ask(state: PathBuf, json: bool, command: Command) -> anyhow::Result<ExitCode> {
    let mut client = Client::new(unix_channel(&state.join(SOCKET)).await?);
    match command {
        Command::Serve { .. } => {}
        Command::Status => {
            let answer = client
                .get_status(pb::GetStatusRequest { observer: true, ..Default::default() })
                .await
                .map_err(told)?;
            output::status(answer.get_ref(), json)?;
        }
        Command::Legs => {
            let answer = client
                .list_legs(pb::ListLegsRequest { source: String::new(), observer: true })
                .await
                .map_err(told)?;
            output::legs(answer.get_ref(), json)?;
        }
        Command::Drain { deadline, off } => return drain(&mut client, json, deadline, off).await,
        Command::Call(CallCommand::Start(start)) => {
            let running = start.running;
            let request = pb::AdmitRequest { call: Some(call(start)), running };
            let answer = client.admit(request).await.map_err(told)?;
            output::admitted(answer.get_ref(), json)?;
            if answer.get_ref().denial.is_some() {
                return Ok(ExitCode::from(DENIED));
            }
        }
        Command::Call(CallCommand::End { call }) => {
            let answer = client.end_call(pb::EndCallRequest { call }).await.map_err(told)?;
            output::ended(answer.get_ref().ended, json)?;
        }
        Command::Leg(LegCommand::Update(update)) => {
            let answer = client.update_legs(changes(update)).await.map_err(told)?;
            output::updated(answer.get_ref(), json)?;
            if answer.get_ref().legs.iter().any(|leg| leg.unknown || leg.released || leg.fault.is_some()) {
                return Ok(ExitCode::FAILURE);
            }
            if answer.get_ref().legs.iter().any(|leg| leg.denial.is_some()) {
                return Ok(ExitCode::from(DENIED));
            }
        }
        Command::Leg(LegCommand::End { leg }) => {
            let answer = client.end_legs(pb::EndLegsRequest { legs: vec![leg] }).await.map_err(told)?;
            output::ended(answer.get_ref().ended, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How often a drain looks how many legs are left.
const LOOK: Duration = Duration::from_millis(500);

async fn drain(
    client: &mut Client,
    json: bool,
    deadline: Option<Duration>,
    off: bool,
) -> anyhow::Result<ExitCode> {
    let request = pb::SetDrainingRequest { draining: !off };
    let mut legs = client.set_draining(request).await.map_err(told)?.get_ref().legs;
    if off {
        output::drained(false, legs, json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let began = tokio::time::Instant::now();
    let over = |left: u64| left > 0 && deadline.is_some_and(|deadline| began.elapsed() >= deadline);
    let mut said = None;
    while legs > 0 && !over(legs) {
        if !json && said.replace(legs) != Some(legs) {
            output::drained(true, legs, json)?;
        }
        tokio::time::sleep(LOOK).await;
        let request = pb::GetStatusRequest { observer: true, ..Default::default() };
        legs = client.get_status(request).await.map_err(told)?.get_ref().legs;
    }
    output::drained(true, legs, json)?;
    Ok(if legs == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn call(start: Start) -> common::Call {
    let media =
        common::Media { audio: !start.control_only, video: !start.control_only, ..Default::default() };
    let leg = |index: u32| common::Leg {
        leg: match &start.leg {
            Some(leg) if index == 0 => leg.clone(),
            _ => format!("{}-{}", start.call, index + 1),
        },
        participant: format!("sip:{}-{}@example.com", start.call, index + 1),
        protocol: common::Protocol::from(start.protocol).into(),
        direction: match index {
            0 => common::Direction::In.into(),
            _ if matches!(start.service, Service::Gateway) => common::Direction::Out.into(),
            _ => common::Direction::In.into(),
        },
        media: Some(media),
        owner: start.owner.clone().filter(|_| index > 0).unwrap_or_default(),
        replaces: start.replaces.clone().filter(|_| index == 0).unwrap_or_default(),
        ..Default::default()
    };
    common::Call {
        legs: (0..start.legs).map(leg).collect(),
        service: common::Service::from(start.service).into(),
        interop: start.interop.map_or(common::Interop::Unspecified, Into::into).into(),
        source: start.source.clone(),
        call: start.call.clone(),
        ..Default::default()
    }
}

fn changes(update: Update) -> pb::UpdateLegsRequest {
    let media = common::Media {
        audio: update.audio,
        video: update.video,
        presentation: common::Presentation::from(update.presentation).into(),
        presenting: update.presenting,
    };
    pb::UpdateLegsRequest { legs: vec![pb::LegChange { leg: update.leg, media: Some(media) }] }
}
