//! Keeps a deployment: starts it, answers its control socket, shows it, ends it with the counts.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use headroom_proto::admission::Contact;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::agent::Agent;
use crate::control::{self, Ask, Reply, Request};
use crate::fleet::{Fleet, Options};
use crate::picture::{Picture, Watcher};
use crate::plain::Plain;
use crate::say::{addresses, say};
use crate::{Result, calls, screen, wait};

/// How often everyone is asked.
const LOOK: Duration = Duration::from_millis(500);
/// How long a service that ended stays ended: long enough to see what happens without it.
const START_AGAIN: Duration = Duration::from_secs(10);
/// How long the nodes may take to give everything back at the end.
const SETTLE: Duration = Duration::from_secs(30);

/// What is placed at the start: legs on each node, in the nodes' order; then one that is refused.
const PLACED: [u32; 2] = [6, 4];

/// Runs a deployment until Ctrl-C, SIGTERM or `deploy/down`. True when it ended clean.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn up(options: Options, empty: bool, plain: bool) -> Result<bool> {
    say(format!(
        "starting the licensing server, the management node and {} conferencing nodes",
        options.nodes.len()
    ));
    let fleet = Fleet::start(options).await?;
    let asks = control::listen(&fleet.layout().control())?;
    let (notes, noted) = mpsc::channel(64);
    let (agents, agents_now) = watch::channel(Vec::new());
    let (pictures, picture) = watch::channel(Picture::default());
    let pool = fleet.pool().clone();
    let watching = tokio::spawn(look(pool, agents_now, noted, pictures));
    let mut supervisor = Supervisor { fleet, notes, agents, down: None, outages: Vec::new() };
    supervisor.show_agents();
    addresses(&supervisor.fleet);
    supervisor.contact().await;
    if !empty {
        supervisor.place().await?;
    }
    let mut surface = Surface::new(plain, &supervisor.fleet);
    let watched = supervisor.watch(asks, picture, &mut surface).await;
    drop(surface);
    watching.abort();
    watched?;
    supervisor.end().await
}

/// Asks everyone again and again.
async fn look(
    pool: crate::pool::Pool,
    agents: watch::Receiver<Vec<(Agent, bool)>>,
    mut noted: mpsc::Receiver<(String, String, String)>,
    pictures: watch::Sender<Picture>,
) {
    let mut watcher = Watcher::default();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while let Ok((node, call, told)) = noted.try_recv() {
            watcher.note(&node, &call, &told);
        }
        let agents = agents.borrow().clone();
        let picture = watcher.look(&pool, &agents).await;
        if pictures.send(picture).is_err() {
            return;
        }
    }
}

struct Supervisor {
    fleet: Fleet,
    notes: mpsc::Sender<(String, String, String)>,
    agents: watch::Sender<Vec<(Agent, bool)>>,
    down: Option<oneshot::Sender<Reply>>,
    /// Services that ended, with the time they are started again.
    outages: Vec<(String, Instant)>,
}

impl Supervisor {
    /// Tells the watcher whom to ask and whose link is cut.
    fn show_agents(&self) {
        let nodes = self.fleet.nodes().iter().map(|n| (n.agent.clone(), n.link.is_cut()));
        self.agents.send_replace(nodes.collect());
    }

    /// Waits until every node is in contact; one that is not is shown on the screen.
    async fn contact(&self) {
        for node in self.fleet.nodes() {
            let agent = &node.agent;
            let _ = wait::until("contact", SETTLE, async || match agent.status().await {
                Ok(status) if status.contact() == Contact::In => Ok(()),
                Ok(status) => Err(status.contact().as_str_name().to_owned()),
                Err(e) => Err(e.to_string()),
            })
            .await;
        }
    }

    /// Places the calls of the demonstration, unless calls of an earlier run are still there.
    async fn place(&self) -> Result<()> {
        for node in self.fleet.nodes() {
            if !node.agent.legs().await?.is_empty() {
                say("calls of the earlier run are still there: none are placed");
                return Ok(());
            }
        }
        let nodes = self.fleet.nodes();
        let placed = nodes.iter().zip(PLACED).flat_map(|(node, count)| (0..count).map(move |_| node));
        // and one too many, on the first node
        for node in placed.chain(nodes.first()) {
            let call = calls::fresh_id(self.fleet.layout())?;
            let answer = node.agent.admit(&calls::describe(&call, "vmr", 1)).await?;
            let _ = self.notes.send((node.name.clone(), call, answer.told())).await;
        }
        Ok(())
    }

    /// Shows and answers until someone ends it.
    async fn watch(
        &mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut picture: watch::Receiver<Picture>,
        surface: &mut Surface,
    ) -> Result<()> {
        let doing = || crate::Error::io("listening for signals");
        let mut interrupt = signal(SignalKind::interrupt()).map_err(doing())?;
        let mut terminate = signal(SignalKind::terminate()).map_err(doing())?;
        let mut hangup = signal(SignalKind::hangup()).map_err(doing())?;
        let mut keys = surface.keys();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                Some(()) = keys.recv() => return Ok(()),
                Some(ask) = asks.recv() => if self.answer(ask).await { return Ok(()) },
                Ok(()) = picture.changed() => surface.show(&picture.borrow_and_update()),
                _ = ticks.tick() => self.start_ended().await,
            }
        }
    }

    /// Answers one request; true when it ends the deployment.
    async fn answer(&mut self, ask: Ask) -> bool {
        let reply = match ask.request {
            Request::Ping => Reply { ok: true, text: "everything runs".into() },
            Request::Cut { node } => self.link(&node, true),
            Request::Heal { node } => self.link(&node, false),
            Request::Note { node, call, told } => {
                let _ = self.notes.send((node, call, told)).await;
                Reply { ok: true, text: String::new() }
            }
            Request::Down => {
                self.down = Some(ask.reply);
                return true;
            }
        };
        let _ = ask.reply.send(reply);
        false
    }

    fn link(&self, name: &str, cut: bool) -> Reply {
        let node = match self.fleet.node(name) {
            Ok(node) => node,
            Err(e) => return Reply { ok: false, text: e.to_string() },
        };
        let before = node.link.is_cut();
        let text = match (cut, before) {
            (true, true) => format!("{name} was cut off already"),
            (true, false) => {
                format!("{name} is cut off from the management node; deploy/heal {name} ends that")
            }
            (false, false) => format!("{name} was not cut off"),
            (false, true) => {
                format!("{name} can reach the management node again; it probes at least every 5 s")
            }
        };
        if cut {
            node.link.cut()
        } else {
            node.link.heal()
        }
        self.show_agents();
        Reply { ok: true, text }
    }

    /// A service that ended is started again after a while, as systemd would.
    async fn start_ended(&mut self) {
        for name in self.fleet.ended() {
            if !self.outages.iter().any(|(known, _)| *known == name) {
                self.outages.push((name, Instant::now() + START_AGAIN));
            }
        }
        let due: Vec<String> = self
            .outages
            .iter()
            .filter(|(_, at)| *at <= Instant::now())
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            // one that cannot be started stays on the list and is tried again with the next tick
            if self.fleet.start_again(&name).await.is_ok() {
                self.outages.retain(|(known, _)| *known != name);
                self.show_agents();
            }
        }
    }

    /// Ends every call, waits until the pool has taken everything back, counts, and stops.
    async fn end(mut self) -> Result<bool> {
        say("ending: every call is ended, then the services");
        for node in self.fleet.nodes() {
            node.link.heal();
        }
        let mut ended = 0;
        for node in self.fleet.nodes() {
            for leg in node.agent.legs().await.unwrap_or_default() {
                ended +=
                    usize::from(node.agent.end_leg(&leg.leg).await.is_ok_and(|answer| answer.status < 300));
            }
        }
        let counts = self.count(ended).await;
        let unwell = self.fleet.stop().await?;
        let services = match unwell.as_slice() {
            [] => "all services ended well".to_owned(),
            names => format!("did not end well: {}", names.join(", ")),
        };
        let (counts, clean) = counts;
        let text = format!("{counts}; {services}");
        say(&text);
        if let Some(reply) = self.down.take() {
            let _ = reply.send(Reply { ok: true, text });
            // the answer leaves with the runtime's other tasks still running
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(clean && unwell.is_empty())
    }

    /// The counts. A leaked lease is one the pool still holds after every leg has ended and every
    /// node could give everything back.
    async fn count(&self, ended: usize) -> (String, bool) {
        let pool = self.fleet.pool();
        let settled = wait::until("leases to return", SETTLE, async || match pool.status().await {
            Ok(status) if status.leases == 0 => Ok(()),
            Ok(status) => Err(format!("{} leases", status.leases)),
            Err(e) => Err(e.to_string()),
        });
        let _ = settled.await;
        match pool.status().await {
            Ok(status) => {
                let peak = status.pools.iter().find(|p| p.feature == "call").map_or(0, |p| p.peak);
                let (leaked, denials) = (status.leases, status.denials);
                let text =
                    format!("{ended} legs ended, peak {peak}, {denials} denials, {leaked} leaked leases");
                (text, leaked == 0)
            }
            Err(_) => (
                format!("{ended} legs ended; the management node does not answer, so leases are not counted"),
                false,
            ),
        }
    }
}

/// Where it is shown: a terminal's whole screen, or lines.
enum Surface {
    Screen { terminal: Box<DefaultTerminal>, state: String },
    Lines(Plain),
}

impl Surface {
    fn new(plain: bool, fleet: &Fleet) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if plain || !terminal {
            return Self::Lines(Plain::default());
        }
        match ratatui::try_init() {
            Ok(terminal) => Self::Screen {
                terminal: Box::new(terminal),
                state: fleet.layout().root().display().to_string(),
            },
            Err(_) => Self::Lines(Plain::default()),
        }
    }

    fn show(&mut self, picture: &Picture) {
        match self {
            // a terminal that went away is noticed as a signal
            Self::Screen { terminal, state } => {
                drop(terminal.draw(|frame| screen::draw(frame, picture, state)))
            }
            Self::Lines(plain) => plain.lines(picture).into_iter().for_each(say),
        }
    }

    /// Ctrl-C and `q` arrive as keys while the screen is ours.
    fn keys(&self) -> mpsc::Receiver<()> {
        let (send, receive) = mpsc::channel(1);
        if matches!(self, Self::Screen { .. }) {
            std::thread::spawn(move || read_keys(&send));
        } else {
            // nobody types: the channel stays open and silent
            tokio::spawn(async move { send.closed().await });
        }
        receive
    }
}

impl Drop for Surface {
    fn drop(&mut self) {
        if matches!(self, Self::Screen { .. }) {
            ratatui::restore();
        }
    }
}

fn read_keys(quit: &mpsc::Sender<()>) {
    while !quit.is_closed() {
        if !event::poll(Duration::from_millis(200)).unwrap_or(false) {
            continue;
        }
        let Ok(Event::Key(key)) = event::read() else { continue };
        let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        if interrupt || key.code == KeyCode::Char('q') {
            let _ = quit.blocking_send(());
            return;
        }
    }
}
