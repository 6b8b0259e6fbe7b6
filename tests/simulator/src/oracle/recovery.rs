//! What a process finds is what the one before it left: exactly, and with everything acknowledged.

use conferencing_core::State;
use management_core::PoolMachine;

use crate::disk::Recovered;
use crate::process::Left;
use crate::world::World;

impl World {
    /// I3 and I11 of the pool.
    pub(crate) fn check_pool_recovery(&mut self, left: &Left<PoolMachine>, found: &Recovered<PoolMachine>) {
        let (last, acknowledged) = (found.head.sequence, left.position.sequence);
        if last < acknowledged {
            self.violate(
                "I3",
                format!("record {acknowledged} was acknowledged, the pool's store ends at {last}"),
            );
        }
        if found.state != left.state || found.generation != left.position.generation {
            self.violate("I11", format!("the pool's state at record {last} is not the one it was"));
        }
    }

    /// I3 and I11 of a node: every grant and every end that a media server was answered is there.
    pub(crate) fn check_node_recovery(&mut self, at: usize, left: &State, found: &State) {
        let lost = self.nodes[at].servers.iter().flat_map(|server| {
            server.running.keys().filter(|leg| server.runs(leg) && !found.legs.contains_key(*leg))
        });
        let lost: Vec<_> = lost.cloned().collect();
        // A media server may not know yet that another leg took over.
        let truth = self.oracle.nodes.get(&at);
        let unknown = |leg: &&headroom_core::LegId| {
            truth.is_none_or(|truth| !truth.replaced.contains_key(*leg)) && left.legs.contains_key(*leg)
        };
        let lost = lost.iter().find(unknown).cloned();
        let revived = found.legs.keys().find(|leg| {
            let times = truth.map(|truth| (truth.heard.get(*leg), truth.asked.get(*leg)));
            times.is_some_and(|(heard, asked)| heard.is_some() && heard > asked)
        });
        let revived = revived.cloned();
        if let Some(leg) = lost {
            self.violate("I3", format!("{leg} was granted on {at} and is lost"));
        }
        if let Some(leg) = revived {
            self.violate("I3", format!("the end of {leg} was heard by {at} and is lost"));
        }
        if found != left {
            self.violate("I11", format!("the state of {at} is not the one it was"));
        }
    }
}
