//! A conferencing node's host: journal, committer, agent and uplink as they serve, and its media server.

use std::sync::{Arc, Mutex, PoisonError};

use conferencing_core::{BootId, Node, Nonce, Options};
use conferencing_node::agent::Agent;
use conferencing_node::running::{Running, Surroundings};
use conferencing_node::uplink;
use headroom_core::NodeName;
use headroom_shared::committer::{self, View};
use headroom_shared::memory_log::MemoryLog;
use headroom_shared::rpc::Shutdown;
use headroom_shared::tls::NodeBundle;
use headroom_simulator::dice::Dice;

use crate::media::Media;
use crate::pool::{POOL, PORT};
use crate::wire::{Dials, HostClock, connector};

/// A node.
pub(crate) struct NodeHost {
    /// Its name, and that of its host.
    pub(crate) name: NodeName,
    /// Its media server.
    pub(crate) media: Arc<Media>,
    /// Its attempts to reach the pool.
    pub(crate) dials: Dials,
    bundle: NodeBundle,
    /// What survives its process.
    journal: Arc<MemoryLog>,
    dice: Mutex<Dice>,
    /// Of the newest process.
    agent: Mutex<Option<Arc<Agent>>>,
}

impl NodeHost {
    pub(crate) fn new(bundle: NodeBundle, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            name: bundle.node().expect("a bundle has a name"),
            media: Arc::default(),
            dials: Dials::default(),
            bundle,
            journal: Arc::new(MemoryLog::new(seed)),
            dice: Mutex::new(Dice::new(seed)),
            agent: Mutex::default(),
        })
    }

    /// The newest state that is durable, once the node has begun.
    pub(crate) fn view(&self) -> Option<Arc<View<Node>>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|agent| agent.view())
    }

    /// A process of the node, from its start to its end.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let dial = connector(POOL, PORT, self.dials.clone());
        let (nonce, mut own) = {
            let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
            (dice.bytes(), Dice::new(dice.any()))
        };
        let around = Surroundings {
            journal: Arc::clone(&self.journal) as _,
            clock: Arc::new(HostClock),
            boot_id: BootId([2; 16]),
            nonce: Nonce(nonce),
            node: self.name.clone(),
            pool: uplink::endpoint(&self.bundle, None)?.connect_with_connector_lazy(dial),
            jitter: Box::new(move || u32::try_from(own.below(1000)).expect("below 1000")),
            committing: committer::Options::default(),
        };
        let mut running = Running::start(around, Options::default(), &Shutdown::default()).await?;
        let agent = running.agent();
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&agent));
        tokio::select! {
            () = Arc::clone(&self.media).serve(agent) => Ok(()),
            error = running.failed() => Err(error.into()),
        }
    }
}
