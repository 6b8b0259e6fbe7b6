//! With no faults left all books agree: media servers, nodes, the pool, the licensing server.

use std::collections::BTreeMap;

use conferencing_core::uplink::Phase;
use headroom_core::{Charge, LegId};

use crate::world::World;

impl World {
    /// Whether all books agree; if not, what does not.
    pub(crate) fn at_rest(&self) -> Result<(), String> {
        let mut leases = 0;
        for at in (0..self.nodes.len()).filter(|at| !self.nodes[*at].off) {
            leases += self.node_at_rest(at)?;
        }
        let Some(process) = &self.pool.process else { return Err("the pool is down".into()) };
        let pool = process.state();
        if pool.leases.len() != leases {
            return Err(format!("{} leases are held, {leases} legs run", pool.leases.len()));
        }
        if !pool.reserved.is_empty() || !pool.reported.is_empty() {
            return Err("leases are reserved, or a report is under way".into());
        }
        self.vendor_at_rest()
    }

    /// Answers how many legs the node runs.
    fn node_at_rest(&self, at: usize) -> Result<usize, String> {
        let node = &self.nodes[at];
        let Some(process) = &node.process else { return Err(format!("{at} is down")) };
        let Phase::Active(link) = &process.volatile().phase else {
            return Err(format!("{at} has no session"));
        };
        let state = process.state();
        let open = state.ending.len() + state.unsettled.len() + state.revoked.len();
        if open > 0 || !node.pending.is_empty() || !state.past.is_empty() {
            let (ending, unsettled, revoked) = (&state.ending, &state.unsettled, &state.revoked);
            return Err(format!(
                "{at} still has to tell: ended {ending:?}, unsettled {unsettled:?}, revoked {revoked:?}, past {}, asked {}",
                state.past.len(),
                node.pending.len()
            ));
        }
        let runs: BTreeMap<&LegId, &Charge> =
            state.legs.values().map(|record| (record.id(), &record.running.charge)).collect();
        let there: Vec<_> = node.servers.iter().flat_map(|server| server.running.keys()).collect();
        if there.len() != runs.len() || there.iter().any(|leg| !runs.contains_key(leg)) {
            return Err(format!("the media servers of {at} run {there:?}, it runs {:?}", runs.keys()));
        }
        if node.servers.iter().any(|server| !server.ending.is_empty()) {
            return Err(format!("a media server of {at} is not heard"));
        }
        let Some(pool) = self.pool.process.as_ref().map(crate::process::Process::state) else {
            return Err("the pool is down".into());
        };
        let holder = pool.holders.iter().find_map(|(id, holder)| {
            holder
                .session
                .as_ref()
                .is_some_and(|session| session.number == link.session.number)
                .then_some(*id)
        });
        let Some(holder) = holder else { return Err(format!("the pool knows no session of {at}")) };
        let held: BTreeMap<_, _> =
            pool.leases.of_holder(holder).map(|(key, lease)| (key.leg, lease.charge)).collect();
        let equal =
            held.len() == runs.len() && held.iter().all(|(leg, charge)| runs.get(leg) == Some(&charge));
        if !equal {
            return Err(format!("{at} runs {runs:?}, the pool holds {held:?}"));
        }
        if let Some((key, _)) = pool.tombstones_of(holder).next() {
            return Err(format!("{} of {at} was to be ended and is not", key.leg));
        }
        Ok(runs.len())
    }
}
