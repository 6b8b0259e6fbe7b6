//! How decisions came about.

use headroom_core::rating::explain as explain_rating;
use headroom_core::{Call, CallId, Charge, DenialReason, Feature, LegId, Millis, NodeName};

use crate::capacity::FeatureLicense;
use crate::liveness::Liveness;
use crate::state::{Ended, EndedHow, HolderId, Lease, Origin, Pool, PoolInstant};

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The leg holds its lease.
    Running,
    /// The lease ended.
    Ended(EndedHow),
    /// Nothing was granted.
    Refused,
}

/// How one decision came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// When it was made.
    pub at: Millis,
    /// Who asked.
    pub node: Option<NodeName>,
    /// What was asked.
    pub call: Call,
    /// How each leg was rated.
    pub rating: Vec<String>,
    /// What it needed.
    pub charge: Charge,
    /// The pool at that instant.
    pub pool: PoolInstant,
    /// Whether and how the pool was asked.
    pub contact: &'static str,
    /// The feature's licenses at that instant.
    pub licenses: Vec<FeatureLicense>,
    /// The answer.
    pub answer: &'static str,
    /// Why, when denied.
    pub reason: Option<DenialReason>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Pool {
    /// A holder's node.
    #[must_use]
    pub fn node_of(&self, holder: HolderId) -> Option<NodeName> {
        self.holders.get(&holder).map(|holder| holder.node.clone())
    }

    fn licenses_at(&self, feature: &Feature, at: Millis) -> Vec<FeatureLicense> {
        let installed = |license: &FeatureLicense| {
            self.licenses.get(&license.license).is_some_and(|installed| installed.at <= at)
        };
        self.licenses_of(feature, at).filter(installed).collect()
    }

    fn explain_lease(&self, holder: HolderId, lease: &Lease, outcome: Outcome) -> Explanation {
        let (contact, answer) = match lease.origin {
            Origin::Asked => ("in_contact", "granted"),
            Origin::Adopted => ("adopted", "adopted"),
            Origin::Reserved => ("reserved", "reserved"),
            Origin::Claimed => ("reserved", "granted"),
        };
        Explanation {
            at: lease.granted_at,
            node: self.node_of(holder),
            call: Call { info: lease.info.as_ref().clone(), legs: vec![lease.leg.clone()] },
            rating: vec![explain_rating(&lease.info, &lease.leg)],
            charge: lease.charge.clone(),
            pool: lease.pool,
            contact,
            licenses: self.licenses_at(&lease.charge.feature, lease.granted_at),
            answer,
            reason: None,
            outcome,
        }
    }

    fn explain_denial(&self, denial: &crate::Denial) -> Explanation {
        let call = denial.call.as_ref().clone();
        Explanation {
            at: denial.at,
            node: self.node_of(denial.holder),
            rating: call.legs.iter().map(|leg| explain_rating(&call.info, leg)).collect(),
            call,
            charge: denial.charge.clone(),
            pool: denial.pool,
            contact: if denial.by_node { "by_node" } else { "in_contact" },
            licenses: self.licenses_at(&denial.charge.feature, denial.at),
            answer: "denied",
            reason: Some(denial.reason),
            outcome: Outcome::Refused,
        }
    }

    fn explain_ended(&self, ended: &Ended) -> Explanation {
        self.explain_lease(ended.lease.holder(), &ended.lease.lease(), Outcome::Ended(ended.how))
    }

    fn explain_where(
        &self,
        leases: Vec<(HolderId, Lease)>,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Vec<Explanation> {
        let running = leases.iter().map(|(h, lease)| self.explain_lease(*h, lease, Outcome::Running));
        let was = |ended: &&Ended| wanted(ended.lease.call_name(), ended.lease.leg_name());
        let ended = self.ended.values().filter(was).map(|ended| self.explain_ended(ended));
        let denied = self
            .denials
            .values()
            .filter(|d| d.call.legs.iter().any(|leg| wanted(d.call.info.call.as_str(), leg.leg.as_str())))
            .map(|denial| self.explain_denial(denial));
        let mut all: Vec<_> = running.chain(ended).chain(denied).collect();
        all.sort_by_key(|explanation| std::cmp::Reverse(explanation.at));
        all
    }

    /// The decisions about a call, newest first.
    #[must_use]
    pub fn explain_call(&self, call: &CallId) -> Vec<Explanation> {
        let leases = self.leases.of_call(call).collect();
        self.explain_where(leases, |its, _| its == call.as_str())
    }

    /// The decisions about a leg, newest first.
    #[must_use]
    pub fn explain_leg(&self, leg: &LegId) -> Vec<Explanation> {
        let leases = self
            .holders
            .keys()
            .filter_map(|holder| self.lease(*holder, leg).map(|lease| (*holder, lease)))
            .collect();
        self.explain_where(leases, |_, its| its == leg.as_str())
    }

    /// The newest decision of all.
    #[must_use]
    pub fn explain_last(&self) -> Option<Explanation> {
        let running =
            self.leases.newest().map(|(holder, lease)| self.explain_lease(holder, &lease, Outcome::Running));
        let granted = |ended: &&Ended| {
            let lease = ended.lease.lease();
            (lease.granted_at, lease.id)
        };
        let ended = self.ended.values().max_by_key(granted).map(|ended| self.explain_ended(ended));
        let denied = self.denials.get_max().map(|(_, denial)| self.explain_denial(denial));
        // A denial wins a tie: it is what people ask about.
        [running, ended, denied].into_iter().flatten().max_by_key(|explanation| explanation.at)
    }
}

/// What is shown of liveness, taken between two batches.
#[derive(Debug, Clone, Default)]
pub struct LiveView {
    /// How long ago each holder was heard.
    pub silent: std::collections::BTreeMap<HolderId, Millis>,
    /// Legs each holder granted by itself and not settled.
    pub optimistic: std::collections::BTreeMap<HolderId, u32>,
    /// Legs released by force that still run.
    pub still_running: Vec<crate::LeaseKey>,
}

impl Liveness {
    /// What is shown of it.
    #[must_use]
    pub fn view(&self) -> LiveView {
        LiveView {
            silent: self.heard.iter().map(|(id, at)| (*id, self.clock.since(*at))).collect(),
            optimistic: self.optimistic.clone(),
            still_running: self
                .overdue
                .iter()
                .filter(|(_, due)| self.clock >= **due)
                .map(|(key, _)| key.clone())
                .collect(),
        }
    }
}
