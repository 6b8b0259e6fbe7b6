//! The node behind its local interface: journal, committer, uplink and tick, on whatever store, clock and
//! network it is given.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use conferencing_core::{BootId, Command, Node, Nonce, Options};
use headroom_core::NodeName;
use headroom_core::time::Clock;
use headroom_shared::clock;
use headroom_shared::committer::{self, CommitError, Committer};
use headroom_shared::log::Log;
use headroom_shared::rpc::Shutdown;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::agent::Agent;
use crate::uplink::{self, Jitter};

const TICK: Duration = Duration::from_secs(1);

/// What a node meets around it.
pub struct Surroundings {
    /// Where its journal is kept.
    pub journal: Arc<dyn Log>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The machine's boot.
    pub boot_id: BootId,
    /// Random identity of this process.
    pub nonce: Nonce,
    /// Its name, as enrolled.
    pub node: NodeName,
    /// The way to the pool.
    pub pool: Channel,
    /// So that nodes do not act in step.
    pub jitter: Jitter,
    /// How its committer works.
    pub committing: committer::Options,
}

/// A node that runs.
pub struct Running {
    agent: Arc<Agent>,
    committer: Committer,
    speaking: JoinHandle<()>,
    ticking: JoinHandle<()>,
}

impl Running {
    /// Recovers the journal, and begins to speak with the pool. It ends when `shutdown` is told.
    ///
    /// # Errors
    /// What is wrong with the journal.
    pub async fn start(around: Surroundings, options: Options, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let Surroundings { journal, clock, boot_id, nonce, node, pool, jitter, committing } = around;
        let (handle, committer) = committer::start::<Node>(journal, Arc::clone(&clock), committing)?;
        let (node, synchronized) = (Some(node), clock::synchronized());
        let started = Command::Started { nonce, boot_id, node, synchronized, options };
        handle.submit(started).await.context("the journal takes nothing")?;
        let agent = Agent::start(handle, clock, shutdown.clone());
        let speaking = tokio::spawn(uplink::run(Arc::clone(&agent), pool, jitter));
        let ticking = tokio::spawn(tick(Arc::clone(&agent)));
        Ok(Self { agent, committer, speaking, ticking })
    }

    /// What a local interface works with.
    #[must_use]
    pub fn agent(&self) -> Arc<Agent> {
        Arc::clone(&self.agent)
    }

    /// Resolves when the journal has failed.
    pub async fn failed(&mut self) -> CommitError {
        self.committer.failed().await
    }

    /// Waits for its tasks, which have been told to end, and, in good order, for the journal.
    ///
    /// # Errors
    /// When the journal fails at the end.
    pub async fn stop(self, in_order: bool) -> Result<(), CommitError> {
        let _ = tokio::join!(self.speaking, self.ticking);
        drop(self.agent);
        if in_order { self.committer.stop().await } else { Ok(()) }
    }
}

async fn tick(agent: Arc<Agent>) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let end = agent.shutdown().wait();
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            _ = every.tick() => {}
        }
        let synchronized = clock::synchronized();
        if agent.submit(Command::Tick { synchronized }).await.is_err() {
            return;
        }
        // What those see who ask while too much waits; an error only says that it is so already.
        let _ = agent.status().await;
    }
}
