//! The management node's host: the pool's service for nodes on its own log, which outlives its process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headroom_core::{Millis, NodeName};
use headroom_shared::committer::{Handle, View};
use headroom_shared::memory_log::MemoryLog;
use headroom_shared::rpc::{Patience, Shutdown, serve_incoming};
use headroom_shared::tls::{self, MANAGEMENT_NAME, NodeBundle, ServerTls};
use headroom_simulator::licenses;
use management_core::{BootId, CertificateHash, Command, Installed, LiveView, PoolMachine, Reply, Settings};
use management_node::serve::{Machine, begin, routes_for_nodes, tick};
use tokio::sync::watch;

use crate::wire::{HostClock, incoming};

/// The host.
pub(crate) const POOL: &str = "pool";
/// Its port for nodes.
pub(crate) const PORT: u16 = 7400;

/// What the pool is licensed for, and who may ask it.
pub(crate) struct License {
    pub(crate) capacity: u32,
    pub(crate) overdraft: u32,
    /// A session lapses after this silence.
    pub(crate) ttl: Duration,
}

/// The pool.
pub(crate) struct PoolHost {
    /// What survives its process.
    pub(crate) log: Arc<MemoryLog>,
    license: License,
    enrolled: Vec<(NodeName, CertificateHash)>,
    tls: ServerTls,
    /// Of the newest process.
    handle: Mutex<Option<Handle<PoolMachine>>>,
}

impl PoolHost {
    /// A pool, and the bundles of its nodes.
    pub(crate) fn new(license: License, nodes: usize) -> (Arc<Self>, Vec<NodeBundle>) {
        let authority = tls::make_authority("the simulated network").expect("an authority");
        let server = tls::issue_server(&authority, MANAGEMENT_NAME, &[]).expect("a certificate");
        let mut enrolled = Vec::new();
        let bundles = (0..nodes).map(|number| {
            let name = NodeName::new(&format!("node-{number}")).expect("a name");
            let node = tls::issue_client(&authority, &name).expect("a certificate");
            enrolled.push((name.clone(), CertificateHash(node.hash().expect("a hash"))));
            let address = format!("https://{POOL}:{PORT}");
            NodeBundle::new(&name, &address, &authority.certificate, node)
        });
        let bundles = bundles.collect();
        let tls = tls::mutual_server(&server, &authority.certificate).expect("TLS");
        let log = Arc::new(MemoryLog::new(1));
        (Arc::new(Self { log, license, enrolled, tls, handle: Mutex::default() }), bundles)
    }

    /// The newest state that is durable, once the pool has begun.
    pub(crate) fn view(&self) -> Option<Arc<View<PoolMachine>>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Handle::view)
    }

    /// The most units that may be in use.
    pub(crate) fn limit(&self) -> u32 {
        self.license.capacity + self.license.overdraft
    }

    fn settings(&self) -> Settings {
        let ttl = Millis(i64::try_from(self.license.ttl.as_millis()).expect("seconds"));
        Settings { session_ttl: ttl, heartbeat: Millis(ttl.0 / 12), ..Settings::default() }
    }

    /// A process of the pool, from its start to its end.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let machine = Machine { fingerprint: licenses::fingerprint(), boot_id: BootId([1; 16]) };
        let log = Arc::clone(&self.log);
        let (pool, mut committer) = begin(log, Arc::new(HostClock), machine, self.settings()).await?;
        if pool.view().state.licenses.is_empty() {
            self.set_up(&pool).await?;
        }
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(pool.clone());
        let shutdown = Shutdown::default();
        let (show, _) = watch::channel(LiveView::default());
        tokio::spawn(tick(pool.clone(), show, shutdown.clone()));
        let routes = routes_for_nodes(&pool).await?;
        let connections = incoming(turmoil::net::TcpListener::bind(("0.0.0.0", PORT)).await?);
        let (tls, patience) = (Some(self.tls.clone()), Patience::default());
        tokio::select! {
            served = serve_incoming(connections, POOL, tls, routes, patience, &shutdown) => served?,
            error = committer.failed() => return Err(error.into()),
        }
        Ok(())
    }

    /// What an administrator does first.
    async fn set_up(&self, pool: &Handle<PoolMachine>) -> turmoil::Result {
        let document = licenses::document(self.license.capacity, self.license.overdraft, None);
        let license = Installed::from_file(document, Vec::new(), pool.view().time.wall);
        let installed = pool.submit(Command::InstallLicense(Box::new(license))).await?;
        assert!(matches!(installed.reply, Reply::Installed(Ok(()))), "{installed:?}");
        for (node, certificate) in self.enrolled.clone() {
            let added = pool.submit(Command::AddNode { node, certificate }).await?;
            assert!(matches!(added.reply, Reply::NodeAdded(Ok(()))), "{added:?}");
        }
        Ok(())
    }
}
