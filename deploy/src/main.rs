//! `headroom-deploy`: Headroom on this machine with one command. The scripts beside this crate
//! (`deploy/up`, `down`, `call`, `cut`, `heal`, `explain`) hand over to it; `deploy/up` builds it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use headroom_deploy::control::{self, Request};
use headroom_deploy::fleet::{Fleet, Options};
use headroom_deploy::layout::Layout;
use headroom_deploy::record::Record;
use headroom_deploy::say::{self, say};
use headroom_deploy::{Error, Result, calls, process, story, supervisor, wait};

/// Headroom on this machine: a licensing server, a management node with a pool of 10 calls, and two
/// conferencing nodes, each behind a link that can be cut.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Folder of the deployment's state and logs; `target/demo` unless given
    #[arg(long, global = true, env = "HEADROOM_DEPLOY_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the deployment and shows it until Ctrl-C
    Up(Up),
    /// Ends the deployment that `up` started, and nothing else
    Down,
    /// Places and ends calls
    #[command(subcommand)]
    Call(Call),
    /// Cuts a node off from the management node: nothing is refused, nothing is answered
    Cut {
        /// The node, for example `node-a`
        node: String,
    },
    /// Lets a node reach the management node again
    Heal {
        /// The node, for example `node-a`
        node: String,
    },
    /// Explains a decision: the last one, or those about a call or leg
    Explain {
        /// `last`, a call or a leg
        #[arg(default_value = "last")]
        what: String,
    },
}

#[derive(Debug, Args)]
struct Up {
    /// Place no calls
    #[arg(long)]
    empty: bool,
    /// Return once everything answers; `down` ends it
    #[arg(long)]
    detach: bool,
    /// Play the story on ports and in a folder of its own, and say at each step what was expected and seen
    #[arg(long, conflicts_with_all = ["empty", "detach", "plain"])]
    story: bool,
    /// Lines instead of the live screen
    #[arg(long)]
    plain: bool,
    /// Any free ports instead of the usual ones, so that several deployments can run at once
    #[arg(long)]
    free_ports: bool,
}

#[derive(Debug, Subcommand)]
enum Call {
    /// Starts a call and prints what the caller is told
    Start {
        /// The node that is asked; the first one unless given
        node: Option<String>,
        /// The call's id; a fresh one unless given
        #[arg(long)]
        call: Option<String>,
        /// How many legs
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
        legs: Option<u32>,
        /// `vmr`, `auditorium`, `reception` or `gateway`
        #[arg(long, default_value = "vmr")]
        service: String,
    },
    /// Ends a call on every node; the newest one unless named
    End {
        /// The call
        call: Option<String>,
    },
    /// Starts calls on all nodes in turn until one is refused
    Fill,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "headroom-deploy: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(cli: Cli) -> Result<bool> {
    let program = std::env::current_exe().map_err(Error::io("finding this program"))?;
    let binaries = program.parent().unwrap_or(Path::new(".")).to_owned();
    let given = cli.state.clone();
    // beside the programs' folder: `target/demo` for programs in `target/debug`
    let state = cli.state.unwrap_or_else(|| binaries.parent().unwrap_or(&binaries).join("demo"));
    let layout = Layout::new(&state)?;
    match cli.command {
        Command::Up(up) if up.story => play(binaries, given).await,
        Command::Up(up) if up.detach => detach(&program, &layout, &up).await,
        Command::Up(up) => {
            let options = Options::standard(binaries, layout.root().to_owned());
            let options = if up.free_ports { options.on_free_ports() } else { options };
            supervisor::up(options, up.empty, up.plain).await
        }
        Command::Down => down(&layout).await,
        Command::Call(call) => place(&layout, call).await,
        Command::Cut { node } => told(control::ask(&layout, &Request::Cut { node }).await),
        Command::Heal { node } => told(control::ask(&layout, &Request::Heal { node }).await),
        Command::Explain { what } => explain(&binaries, &layout, &what),
    }
}

fn told(text: Result<String>) -> Result<bool> {
    say(text?);
    Ok(true)
}

/// Plays the story in a folder of its own, which stays only if something went wrong.
async fn play(binaries: PathBuf, state: Option<PathBuf>) -> Result<bool> {
    let began = Instant::now();
    let given = state.is_some();
    let folder =
        state.unwrap_or_else(|| std::env::temp_dir().join(format!("headroom-story-{}", std::process::id())));
    if Record::read(&Layout::new(&folder)?)?.is_some() {
        let text = format!(
            "the story wants a fresh folder; {} holds a deployment. Nothing was changed.",
            folder.display()
        );
        return Err(Error::Refused(text));
    }
    say(format!(
        "The story, with real processes. Demonstration values: session TTL {} (else 120 s), grace {} (else 14 days).",
        story::SESSION_TTL,
        story::GRACE
    ));
    let options = story::options(Options::standard(binaries, folder.clone()).on_free_ports());
    let mut fleet = Fleet::start(options).await?;
    say::addresses(&fleet);
    let mut steps = 0;
    let mut tell = |step: story::Told<'_>| {
        steps += u32::from(matches!(step, story::Told::Step(_)));
        say::story(&step);
    };
    let played = tokio::select! {
        played = story::play(&mut fleet, &mut tell) => played,
        _ = tokio::signal::ctrl_c() => Err(Error::Refused("interrupted".into())),
    };
    let logs = fleet.logs();
    let unwell = fleet.stop().await?;
    let seconds = began.elapsed().as_secs();
    match played {
        Ok(()) if unwell.is_empty() => {
            say(format!("\nThe story holds: {steps} steps as expected, {seconds} s."));
            if !given {
                let _ = std::fs::remove_dir_all(&folder);
            }
            Ok(true)
        }
        Ok(()) => {
            say(format!(
                "\nThe story holds, but these did not end well: {}. State: {}",
                unwell.join(", "),
                folder.display()
            ));
            Ok(false)
        }
        Err(error) => {
            say(format!("\n{logs}\nThe story does not hold after {steps} steps, {seconds} s: {error}"));
            say(format!("State and logs: {}", folder.display()));
            Ok(false)
        }
    }
}

/// Starts the supervisor in the background and returns once everything answers.
async fn detach(program: &Path, layout: &Layout, up: &Up) -> Result<bool> {
    // beside the state folder, which must stay empty until the supervisor has looked at it
    let log = layout.root().with_extension("log");
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(format!("making {}", folder.display())))?;
    }
    let out = std::fs::File::create(&log).map_err(Error::io(format!("writing {}", log.display())))?;
    let both = out.try_clone().map_err(Error::io("writing the log"))?;
    let mut command = tokio::process::Command::new(program);
    command.arg("--state").arg(layout.root()).args(["up", "--plain"]).args(up.empty.then_some("--empty"));
    command.args(up.free_ports.then_some("--free-ports"));
    command.stdin(Stdio::null()).stdout(out).stderr(both).process_group(0);
    let mut child = command.spawn().map_err(Error::io("starting the supervisor"))?;
    let pid = child.id();
    let ready = wait::until("the deployment to answer", Duration::from_secs(180), async || {
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return Ok(false);
        }
        let ours = Record::read(layout).ok().flatten().and_then(|r| r.supervisor).map(|s| s.pid);
        if ours != pid {
            return Err("it does not run yet".into());
        }
        control::ask(layout, &Request::Ping).await.map(|_| true).map_err(|e| e.to_string())
    })
    .await?;
    say(process::tail(&log));
    if ready {
        say(format!("running in the background; deploy/down ends it. What happens: {}", log.display()));
    }
    Ok(ready)
}

/// Ends what `up` started: asks the supervisor; ends left-over services itself when that is gone.
async fn down(layout: &Layout) -> Result<bool> {
    let nothing = || Error::NotRunning { dir: layout.root().to_owned(), why: "nothing of it is left".into() };
    let mut record = Record::read(layout)?.ok_or_else(nothing)?;
    if record.supervised() {
        say(control::ask(layout, &Request::Down).await?);
        let gone = wait::until("the supervisor to end", process::PATIENCE, async || {
            if record.supervised() { Err("it runs".into()) } else { Ok(()) }
        });
        gone.await?;
        return Ok(true);
    }
    let left = record.alive();
    if left.is_empty() {
        return Err(nothing());
    }
    for one in &left {
        say(format!("its supervisor is gone; ending {} (process {})", one.name, one.pid));
        process::signal(one.pid, rustix::process::Signal::TERM);
    }
    let gone = wait::until("the services to end", process::PATIENCE, async || match record.alive().len() {
        0 => Ok(()),
        n => Err(format!("{n} run")),
    });
    if gone.await.is_err() {
        for one in record.alive() {
            say(format!("{} (process {}) does not end: killing it", one.name, one.pid));
            process::signal(one.pid, rustix::process::Signal::KILL);
        }
    }
    record.supervisor = None;
    record.services.clear();
    record.write(layout)?;
    Ok(true)
}

async fn place(layout: &Layout, call: Call) -> Result<bool> {
    let nodes = calls::nodes(layout)?;
    match call {
        Call::Start { node, call, legs, service } => {
            let agent = calls::choose(nodes, node.as_deref())?;
            let id = call.map_or_else(|| calls::fresh_id(layout), Ok)?;
            let legs = legs.unwrap_or(if service == "gateway" { 2 } else { 1 });
            let answer = calls::start(layout, &agent, &id, &service, legs).await?;
            say(format!("{id} on {}: {}", agent.name, answer.told()));
            Ok(answer.granted())
        }
        Call::End { call } => {
            let (call, on) = calls::end(&nodes, call.as_deref()).await?;
            say(format!("{call} ended on {}", on.join(", ")));
            Ok(true)
        }
        Call::Fill => {
            let (count, last) = calls::fill(layout, &nodes).await?;
            say(format!("{count} calls granted, then {last}"));
            Ok(true)
        }
    }
}

/// Hands over to the management node's own command.
fn explain(binaries: &Path, layout: &Layout, what: &str) -> Result<bool> {
    let what = if what == "last" { "--last" } else { what };
    let mut command = std::process::Command::new(binaries.join("management-node"));
    command.arg("--state").arg(layout.service("management")).args(["explain", what]);
    Err(Error::Io { doing: "starting management-node".into(), source: command.exec() })
}
