//! The harness of the end-to-end tests: a fleet of real processes in a folder and on ports of its
//! own, and the foreign tools that `tests/run` installs.

pub mod askers;
mod bundle;
pub mod known;
pub mod licensing;
pub mod network;
pub mod peer;
pub mod platform;
mod programs;
pub mod receiver;
pub mod sip;
pub mod write_log;

use std::ops::{Deref, DerefMut};

use headroom_deploy::agent::Agent;
use headroom_deploy::fleet::{Fleet, Options};
use headroom_deploy::wait::{self, Look};
use headroom_proto::admin::Pool;
use headroom_proto::admission::Contact;
use tempfile::TempDir;

pub use bundle::Bundle;
pub use programs::{faketime, grpcurl, libfiu, programs, python, repository};

/// How long anything may take; generous, for busy machines.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A fleet of real processes. Dropping it ends them; on a failing test it prints their logs.
#[derive(Debug)]
pub struct Deployment {
    fleet: Option<Fleet>,
    // after the fleet, so that the services end before their folder goes
    _folder: TempDir,
}

/// Only [`Deployment::stop`], which takes the whole deployment, takes the fleet out.
const RUNS: &str = "the deployment runs";

impl Deployment {
    /// A licensing server, a management node with 10 calls, and nodes `node-a` and `node-b`.
    pub async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    /// A licensing server and a management node with 10 calls, and no conferencing node.
    pub async fn pool_only() -> Self {
        Self::start_with(|options| Options { nodes: Vec::new(), ..options }).await
    }

    /// As [`Deployment::start`], with other options.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(change: impl FnOnce(Options) -> Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the deployment");
        let state = folder.path().join("state");
        let mut options = Options::standard(programs().to_owned(), state).on_free_ports();
        // a busy machine must not make a node decide alone where the pool is to be tested
        options.budget = Some("3s".into());
        let options = change(options);
        match Fleet::start(options).await {
            Ok(fleet) => Self { fleet: Some(fleet), _folder: folder },
            Err(error) => panic!("the deployment does not start: {error}"),
        }
    }

    /// As [`Deployment::start`], with a license for so many calls and only `node-a`.
    pub async fn one_node(capacity: &str) -> Self {
        let nodes = vec![("node-a".into(), 0)];
        Self::start_with(|options| Options { nodes, capacity: capacity.into(), ..options }).await
    }

    /// Waits until the pool of calls is so.
    pub async fn pool_is(&self, what: &str, so: impl Fn(&Pool) -> bool) {
        until(what, async || {
            let pool = self.pool().calls_pool().await.map_err(|error| error.to_string())?;
            if so(&pool) { Ok(()) } else { Err(format!("{} in use, peak {}", pool.in_use, pool.peak)) }
        })
        .await;
    }

    /// Waits until so many units are in use.
    pub async fn uses(&self, units: u32) {
        self.pool_is(&format!("{units} units in use"), |pool| pool.in_use == units).await;
    }

    /// Waits until nobody holds anything any more: not the pool, not `node-a`.
    ///
    /// # Panics
    /// When the pool has leases of no units.
    pub async fn is_empty(&self) {
        self.uses(0).await;
        let node = self.agent("node-a").await;
        until("a node without legs", async || {
            let status = node.status().await.map_err(|error| error.to_string())?;
            let rest = (status.legs, status.outbox, status.revoked);
            if rest == (0, 0, 0) { Ok(()) } else { Err(format!("legs, outbox, revoked: {rest:?}")) }
        })
        .await;
        assert!(self.pool().legs().await.expect("the pool answers").is_empty());
    }

    /// A node's local interface, once the node is in contact.
    ///
    /// # Panics
    /// When there is no such node, or it finds no contact.
    pub async fn agent(&self, name: &str) -> Agent {
        let agent = self.node(name).expect("a node of the deployment").agent.clone();
        until("contact", async || stands(&agent, Contact::In).await).await;
        agent
    }

    /// Enrols another node and gives what it would run with.
    ///
    /// # Panics
    /// When it cannot be enrolled.
    pub async fn enrol(&self, name: &str) -> Bundle {
        let file = Fleet::enrol(self, name).await.expect("the node is enrolled");
        Bundle::read(&file)
    }

    /// Ends it in good order.
    ///
    /// # Panics
    /// When a service does not end well.
    pub async fn stop(mut self) {
        let unwell = self.fleet.take().expect(RUNS).stop().await.expect("the record is written");
        assert!(unwell.is_empty(), "did not end well: {unwell:?}");
    }
}

impl Deref for Deployment {
    type Target = Fleet;
    fn deref(&self) -> &Fleet {
        self.fleet.as_ref().expect(RUNS)
    }
}

impl DerefMut for Deployment {
    fn deref_mut(&mut self) -> &mut Fleet {
        self.fleet.as_mut().expect(RUNS)
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if let (Some(fleet), true) = (&self.fleet, std::thread::panicking()) {
            // what the test runner captures and shows
            eprintln!("{}", fleet.logs());
        }
    }
}

/// Looks until it is so.
///
/// # Panics
/// When it is not so within [`PATIENCE`].
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Look<T>) -> T {
    match wait::until(what, PATIENCE, look).await {
        Ok(found) => found,
        Err(error) => panic!("{error}"),
    }
}

/// Does a node stand so to the pool?
///
/// # Errors
/// How it stands instead.
pub async fn stands(agent: &Agent, contact: Contact) -> Look<()> {
    let status = agent.status().await.map_err(|e| e.to_string())?;
    if status.contact() == contact { Ok(()) } else { Err(format!("{status:?}")) }
}
