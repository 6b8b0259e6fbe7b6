//! The fleet: a licensing server, a management node and conferencing nodes, set up through their own
//! command lines and reached as anyone reaches them.

mod check;
mod options;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::agent::Agent;
use crate::layout::Layout;
use crate::link::Link;
use crate::pool::Pool;
use crate::process::{self, Launch, Service};
use crate::record::{Process, Record};
use crate::{Error, Result};

pub use options::{Options, Place};

/// A conferencing node of the fleet.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its link to the management node.
    pub link: Link,
    /// Its local interface, as last seen.
    pub agent: Agent,
    /// Arguments besides the usual ones, for the next start.
    pub extra: Vec<OsString>,
    /// Variables besides the inherited ones, for the next start.
    pub env: Vec<(String, OsString)>,
    /// The program that runs, if it does.
    pub service: Option<Service>,
    port: u16,
}

/// A running fleet. Dropping it kills what it started and nothing else.
#[derive(Debug)]
pub struct Fleet {
    layout: Layout,
    options: Options,
    record: Record,
    licensing: Option<Service>,
    management: Option<Service>,
    /// Further variables of its environment, as of the next start.
    pub management_env: Vec<(String, OsString)>,
    management_address: SocketAddr,
    pool: Pool,
    nodes: Vec<Node>,
}

const LOCALHOST: [u8; 4] = [127, 0, 0, 1];

/// Words as arguments.
fn args<const N: usize>(words: [&dyn AsRef<std::ffi::OsStr>; N]) -> Vec<OsString> {
    words.iter().map(|w| w.as_ref().to_owned()).collect()
}

impl Fleet {
    /// Looks whether a fleet can be started, and changes nothing: true when an earlier one is resumed.
    ///
    /// # Errors
    /// A port that is taken, a folder with something else in it, a deployment that runs.
    pub fn check(options: &Options) -> Result<bool> {
        check::check(&Layout::new(&options.state)?, options)
    }

    /// Starts everything; sets it up first unless the folder holds a deployment of ours.
    ///
    /// # Errors
    /// What [`Fleet::check`] says, before anything is started or changed; after that, whatever keeps
    /// a service from serving.
    pub async fn start(options: Options) -> Result<Self> {
        let layout = Layout::new(&options.state)?;
        let resumed = Self::check(&options)?;
        std::fs::create_dir_all(layout.root())
            .map_err(Error::io(format!("making {}", layout.root().display())))?;
        let mut record = Record::new();
        record.complete = resumed;
        record.supervisor = Some(Process::of("headroom-deploy", std::process::id()));
        record.write(&layout)?;

        let nowhere = SocketAddr::from((LOCALHOST, 0));
        let pool = Pool::new(&layout.admin_socket());
        let mut fleet = Self {
            layout,
            options,
            record,
            licensing: None,
            management: None,
            management_env: Vec::new(),
            management_address: nowhere,
            pool,
            nodes: Vec::new(),
        };
        fleet.start_licensing(resumed).await?;
        if !resumed {
            fleet.set_up_management().await?;
        }
        fleet.start_management().await?;
        if !resumed {
            fleet.install_license().await?;
        }
        for (name, port) in fleet.options.nodes.clone() {
            fleet.add_node(&name, port).await?;
        }
        fleet.record.complete = true;
        fleet.note()?;
        Ok(fleet)
    }

    /// Where things lie.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How it was made.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The management node's administration.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Where nodes reach the management node, when not through a link.
    #[must_use]
    pub fn management_address(&self) -> SocketAddr {
        self.management_address
    }

    /// The conferencing nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A conferencing node.
    ///
    /// # Errors
    /// [`Error::NoNode`] with the names there are.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|n| n.name == name).ok_or_else(|| self.no_node(name))
    }

    /// A conferencing node, to change how it starts next.
    ///
    /// # Errors
    /// [`Error::NoNode`] with the names there are.
    pub fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        let missing = self.no_node(name);
        self.nodes.iter_mut().find(|n| n.name == name).ok_or(missing)
    }

    fn no_node(&self, name: &str) -> Error {
        let known = self.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ");
        Error::NoNode { name: name.to_owned(), known }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.options.binaries.join(name)
    }

    /// Writes down which processes run.
    fn note(&mut self) -> Result<()> {
        let services = self.licensing.iter().chain(&self.management);
        let services = services.chain(self.nodes.iter().filter_map(|n| n.service.as_ref()));
        self.record.services = services.map(|s| Process::of(s.name(), s.pid())).collect();
        self.record.write(&self.layout)
    }

    /// Runs a service's command line against its state folder.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn command(&self, program: &str, state: &str, words: Vec<OsString>) -> Result<String> {
        let mut all = args([&"--state", &self.layout.service(state)]);
        all.extend(words);
        process::run(&self.program(program), &all).await
    }

    async fn start_licensing(&mut self, resumed: bool) -> Result<()> {
        if !resumed {
            self.command("licensing-server", "licensing", args([&"init"])).await?;
        }
        let listen = format!("127.0.0.1:{}", self.options.ports.0);
        let launch = self.launch("licensing-server", "licensing", args([&"serve", &"--listen", &listen]));
        let mut service = Service::spawn(&launch)?;
        let ready = service.ready(&self.layout.endpoints("licensing")).await;
        self.licensing = Some(service);
        self.note()?;
        ready.map(drop)
    }

    fn launch(&self, program: &str, state: &str, words: Vec<OsString>) -> Launch {
        let mut all = args([&"--state", &self.layout.service(state)]);
        all.extend(words);
        Launch {
            name: state.to_owned(),
            program: self.program(program),
            args: all,
            env: Vec::new(),
            namespace: self.options.places.get(state).map(|place| place.namespace.clone()),
            log: self.layout.log(state),
        }
    }

    async fn set_up_management(&self) -> Result<()> {
        let key = self.layout.service("licensing").join("vendor.pub");
        let words = args([&"init", &"--vendor-key", &key]);
        self.command("management-node", "management", words).await.map(drop)
    }

    /// Starts the management node, again if it was stopped or killed.
    ///
    /// # Errors
    /// When it does not serve.
    pub async fn start_management(&mut self) -> Result<()> {
        // a restart keeps the port, as a real one does
        let port = match self.management_address.port() {
            0 => self.options.ports.1,
            known => known,
        };
        let host = self.options.places.get("management").map_or(IpAddr::from(LOCALHOST), |p| p.management);
        let listen = SocketAddr::new(host, port).to_string();
        // only what bundles say; the nodes here are led through their links
        let address = format!("https://{listen}");
        let metrics = format!("127.0.0.1:{}", metrics_port(self.options.ports.1));
        let mut words =
            args([&"serve", &"--listen", &listen, &"--address", &address, &"--metrics", &metrics]);
        if let Some(ttl) = &self.options.session_ttl {
            words.extend(args([&"--session-ttl", ttl]));
        }
        let mut launch = self.launch("management-node", "management", words);
        launch.env.clone_from(&self.management_env);
        let mut service = Service::spawn(&launch)?;
        let ready = service.ready(&self.layout.endpoints("management")).await;
        self.management = Some(service);
        self.note()?;
        self.management_address = tcp(&ready?, "management")?;
        for node in &self.nodes {
            node.link.retarget(self.management_address);
        }
        Ok(())
    }

    /// Issues a license for this machine and installs it, through both command lines.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn install_license(&self) -> Result<()> {
        let fingerprint = self.command("management-node", "management", args([&"fingerprint"])).await?;
        let fingerprint = fingerprint.trim();
        let feature = format!("call={}", self.options.capacity);
        let file = self.layout.license();
        let mut words =
            args([&"issue", &"--fingerprint", &fingerprint, &"--feature", &feature, &"--out", &file]);
        words.extend(args([&"--sku", &"demonstration", &"--customer", &"this machine"]));
        self.command("licensing-server", "licensing", words).await?;
        self.command("management-node", "management", args([&"license", &"install", &file])).await?;
        Ok(())
    }

    /// Enrols a node, unless its bundle is there, and starts it behind a link of its own.
    ///
    /// # Errors
    /// When a command fails or the node does not serve.
    pub async fn add_node(&mut self, name: &str, port: u16) -> Result<()> {
        if !self.layout.bundle(name).exists() {
            self.enrol(name).await?;
        }
        let link = Link::open(self.management_address).await?;
        let agent = Agent::new(name, SocketAddr::from((LOCALHOST, port)))?;
        let (extra, env) = (Vec::new(), Vec::new());
        self.nodes.push(Node { name: name.to_owned(), link, agent, extra, env, service: None, port });
        self.start_node(name).await
    }

    /// Enrols a node: its bundle lies in the state folder afterwards.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn enrol(&self, name: &str) -> Result<PathBuf> {
        let bundle = self.layout.bundle(name);
        let words = args([&"node", &"add", &name, &"--out", &bundle]);
        self.command("management-node", "management", words).await?;
        Ok(bundle)
    }

    /// Starts a node, again if it was stopped or killed.
    ///
    /// # Errors
    /// When it does not serve.
    pub async fn start_node(&mut self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        let port = if node.agent.address().port() == 0 { node.port } else { node.agent.address().port() };
        let listen = format!("127.0.0.1:{port}");
        let place = self.options.places.get(name);
        let reached = match place {
            Some(place) => SocketAddr::new(place.management, self.management_address.port()),
            None => node.link.address(),
        };
        let management = format!("https://{reached}");
        let socket = place.map(|_| self.layout.agent_socket(name));
        let bundle = self.layout.bundle(name);
        let mut words =
            args([&"serve", &"--bundle", &bundle, &"--listen", &listen, &"--management", &management]);
        words.extend(args([&"--metrics", &format!("127.0.0.1:{}", metrics_port(node.port))]));
        if let Some(grace) = &self.options.grace {
            words.extend(args([&"--grace", grace]));
        }
        if let Some(budget) = &self.options.budget {
            words.extend(args([&"--budget", budget]));
        }
        words.extend(node.extra.clone());
        let mut launch = self.launch("conferencing-node", name, words);
        launch.env.clone_from(&node.env);
        let mut service = Service::spawn(&launch)?;
        let ready = service.ready(&self.layout.endpoints(name)).await;
        let found = ready.and_then(|endpoints| tcp(&endpoints, name));
        let node = self.node_mut(name)?;
        node.service = Some(service);
        if let Ok(address) = &found {
            node.agent = match socket {
                Some(socket) => Agent::at_socket(name, *address, socket),
                None => Agent::new(name, *address)?,
            };
        }
        self.note()?;
        found.map(drop)
    }

    /// The process of the management node, while it runs.
    #[must_use]
    pub fn management_pid(&self) -> Option<u32> {
        self.management.as_ref().map(Service::pid)
    }

    /// Kills the management node, as a crash would.
    pub async fn kill_management(&mut self) {
        if let Some(service) = self.management.take() {
            service.kill().await;
        }
    }

    /// Kills a node, as a crash would.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn kill_node(&mut self, name: &str) -> Result<()> {
        if let Some(service) = self.node_mut(name)?.service.take() {
            service.kill().await;
        }
        Ok(())
    }

    /// Ends a node in good order.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn stop_node(&mut self, name: &str) -> Result<()> {
        if let Some(service) = self.node_mut(name)?.service.take() {
            service.stop().await;
        }
        Ok(())
    }

    /// The services that ended although nobody asked them to, by name.
    pub fn ended(&mut self) -> Vec<String> {
        let services = self.licensing.iter_mut().chain(&mut self.management);
        let services = services.chain(self.nodes.iter_mut().filter_map(|n| n.service.as_mut()));
        services.filter_map(|s| s.ended().is_some().then(|| s.name().to_owned())).collect()
    }

    /// Starts a service that ended again.
    ///
    /// # Errors
    /// When it does not serve.
    pub async fn start_again(&mut self, name: &str) -> Result<()> {
        match name {
            "licensing" => self.start_licensing(true).await,
            "management" => self.start_management().await,
            node => self.start_node(node).await,
        }
    }

    /// Ends everything in good order: nodes first, so that they can give back what ended. Names the
    /// services that did not end well.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub async fn stop(mut self) -> Result<Vec<String>> {
        let nodes = self.nodes.iter_mut().filter_map(|n| n.service.take()).collect::<Vec<_>>();
        let services = nodes.into_iter().chain(self.management.take()).chain(self.licensing.take());
        let mut unwell = Vec::new();
        for service in services {
            let name = service.name().to_owned();
            if !service.stop().await {
                unwell.push(name);
            }
        }
        self.record.supervisor = None;
        self.note()?;
        Ok(unwell)
    }

    /// The last lines of every log, for whoever has to find out what went wrong.
    #[must_use]
    pub fn logs(&self) -> String {
        let names = ["licensing", "management"].into_iter().map(str::to_owned);
        let names = names.chain(self.options.nodes.iter().map(|n| n.0.clone()));
        names.map(|n| format!("--- {n}\n{}\n", process::tail(&self.layout.log(&n)))).collect()
    }
}

/// Metrics are served 90 ports above the service, or on any port beside any port.
fn metrics_port(port: u16) -> u16 {
    if port == 0 { 0 } else { port + 90 }
}

fn tcp(endpoints: &process::Endpoints, name: &str) -> Result<SocketAddr> {
    endpoints.tcp().ok_or_else(|| Error::Unreadable {
        what: format!("endpoints.json of {name}"),
        problem: format!("no TCP address in {:?}", endpoints.addresses),
    })
}
