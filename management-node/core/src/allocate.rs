//! Asking for leases: each call is judged as a whole, then carried out as a whole.

use std::collections::BTreeSet;

use headroom_core::call::MAX_GATEWAY_LEGS;
use headroom_core::machine::Tx;
use headroom_core::rating::rate_leg;
use headroom_core::{
    Call, CallInfo, Charge, DenialReason, Feature, LeaseId, Leg, LegId, Millis, NodeName, Service, Shared,
    Units,
};

use crate::command::{CallAnswer, Leased, Verdict};
use crate::event::Event;
use crate::leases::Packed;
use crate::liveness::Liveness;
use crate::machine::PoolTx;
use crate::state::{Denial, EndedHow, HolderId, Lease, LeaseKey, Origin, Pool, PoolInstant};

/// What becomes of one leg of a call that is granted.
enum Step {
    /// It holds a lease already.
    Keep {
        /// The holder's node, when that is not the asker's.
        owner: Option<NodeName>,
    },
    /// It gets a lease.
    Take {
        /// The holder's node, when that is not the asker's.
        owner: Option<NodeName>,
    },
}

/// A leg with its place in the plan.
struct Planned {
    key: LeaseKey,
    charge: Charge,
    step: Step,
    /// The leases whose units it takes over: of the leg it replaces, and the one that was reserved for
    /// it. Once a call is granted, what its legs replace holds nothing, whatever the step: so the asker
    /// knows without being told.
    replaces: Vec<LeaseKey>,
}

/// How a call is judged, before anything changes.
enum Judgement {
    Grant(Vec<Planned>, PoolInstant),
    Deny(DenialReason, Charge, PoolInstant),
    Refuse { field: String, description: String },
}

fn refuse(field: String, description: impl Into<String>) -> Judgement {
    Judgement::Refuse { field, description: description.into() }
}

/// What a call as described needs, summed over its legs.
pub(crate) fn total_charge(call: &Call) -> Charge {
    let mut charges = call.legs.iter().map(|leg| rate_leg(&call.info, leg));
    let Some(first) = charges.next() else { return Charge::calls(0) };
    if first.feature.per_call() {
        return first;
    }
    let units = charges.fold(first.units, |sum, charge| sum.plus(charge.units));
    Charge { feature: first.feature, units }
}

/// Whose lease a leg's will be.
fn owner_of(pool: &Pool, asker: HolderId, leg: &Leg) -> Option<(HolderId, Option<NodeName>)> {
    let own = pool.holders.get(&asker).map(|holder| &holder.node);
    match &leg.owner {
        Some(name) if own != Some(name) => {
            let node = pool.nodes.get(name).filter(|node| node.removed_at.is_none());
            node.and(pool.holder_of(name)).map(|holder| (holder, Some(name.clone())))
        }
        _ => Some((asker, None)),
    }
}

/// The lease that a leg takes over. One that is gone has given its unit back already: then there is
/// nothing to take over.
fn replaced(pool: &Pool, asker: HolderId, info: &CallInfo, leg: &LegId) -> Option<LeaseKey> {
    let own = LeaseKey { holder: asker, leg: leg.clone() };
    if pool.leases.contains(&own) {
        return Some(own);
    }
    // What the asker had reserved on another node is still its to move, until it is claimed there.
    let mut reserved = pool.leases.keys_of_call(&info.call).filter(|key| pool.reserved.contains(key));
    reserved.find(|key| key.leg == *leg)
}

fn plan_leg(
    pool: &Pool,
    asker: HolderId,
    info: &CallInfo,
    index: usize,
    leg: &Leg,
) -> Result<Planned, Judgement> {
    let Some((holder, owner)) = owner_of(pool, asker, leg) else {
        let name = leg.owner.as_ref().map_or("", |name| name.as_str());
        return Err(refuse(format!("legs[{index}].owner"), format!("there is no node {name}")));
    };
    if pool.is_tombstoned(holder, &leg.leg) {
        return Err(refuse(format!("legs[{index}].leg"), format!("{} was released by force", leg.leg)));
    }
    let key = LeaseKey { holder, leg: leg.leg.clone() };
    let mut replaces: Vec<_> =
        leg.replaces.as_ref().and_then(|name| replaced(pool, asker, info, name)).into_iter().collect();
    let take = |replaces| {
        let step = Step::Take { owner: owner.clone() };
        Ok(Planned { key: key.clone(), charge: rate_leg(info, leg), step, replaces })
    };
    match pool.leases.get(&key) {
        Some(lease) if lease.origin == Origin::Reserved && owner.is_none() => {
            // Claimed: the node that runs the leg says what it is, and in which call.
            replaces.push(key.clone());
            take(replaces)
        }
        Some(lease) if lease.info.call != info.call => {
            let description = format!("{} holds a lease in call {}", leg.leg, lease.info.call);
            Err(refuse(format!("legs[{index}].leg"), description))
        }
        Some(lease) => {
            let charge = lease.charge.clone();
            let step = Step::Keep { owner: owner.clone() };
            Ok(Planned { key: key.clone(), charge, step, replaces })
        }
        None => take(replaces),
    }
}

/// Units of `feature` a plan needs beyond what the legs it replaces give back.
fn need(pool: &Pool, info: &CallInfo, feature: &Feature, plan: &[Planned]) -> Units {
    let taken = plan.iter().filter(|planned| matches!(planned.step, Step::Take { .. }));
    if feature.per_call() {
        let held = taken.count() == 0 || pool.call_holds(info.call.as_str(), feature);
        return if held || moves_call(pool, feature, plan) { Units::ZERO } else { Units::ONE };
    }
    let wanted: Units = taken.map(|planned| planned.charge.units).sum();
    let replaced: BTreeSet<_> = plan.iter().flat_map(|planned| &planned.replaces).collect();
    let given_back: Units = replaced
        .into_iter()
        .filter_map(|key| pool.leases.get(key))
        .filter(|lease| lease.charge.feature == *feature)
        .map(|lease| lease.charge.units)
        .sum();
    wanted.above(given_back)
}

/// Whether the legs a plan replaces are all that keep a unit which counts per call: then it moves.
fn moves_call(pool: &Pool, feature: &Feature, plan: &[Planned]) -> bool {
    let replaced: BTreeSet<_> = plan.iter().flat_map(|planned| &planned.replaces).collect();
    let holds = |key: &LeaseKey| pool.leases.get(key).is_some_and(|lease| lease.charge.feature == *feature);
    replaced.iter().filter(|key| holds(key)).filter_map(|key| pool.leases.get(key)).any(|lease| {
        pool.leases.keys_of_call(&lease.info.call).filter(|key| holds(key)).all(|key| replaced.contains(&key))
    })
}

/// Whether `need` more units of a feature may be taken.
pub(crate) fn admit(pool: &Pool, feature: &Feature, need: Units, at: Millis) -> Result<(), DenialReason> {
    let capacity = pool.capacity(feature, at);
    if let Some(reason) = capacity.invalid {
        return Err(reason);
    }
    let limit = capacity.capacity.plus(capacity.overdraft);
    let unlimited = capacity.capacity == Units::UNLIMITED;
    if need.is_zero() || unlimited || pool.in_use(feature).plus(need) <= limit {
        Ok(())
    } else {
        Err(DenialReason::InsufficientLicenses)
    }
}

fn judge(pool: &Pool, at: Millis, asker: HolderId, call: &Call) -> Judgement {
    let mut plan = Vec::with_capacity(call.legs.len());
    for (index, leg) in call.legs.iter().enumerate() {
        match plan_leg(pool, asker, &call.info, index, leg) {
            Ok(planned) => plan.push(planned),
            Err(judgement) => return judgement,
        }
    }
    if let Some(judgement) = too_many(pool, call, &plan) {
        return judgement;
    }
    // All legs that take something are rated by this request, so one feature pays for all of them.
    let taken = plan.iter().find(|planned| matches!(planned.step, Step::Take { .. }));
    let Some(feature) = taken.map(|planned| planned.charge.feature.clone()) else {
        let kept = plan.first().map_or(Feature::Call, |planned| planned.charge.feature.clone());
        return Judgement::Grant(plan, pool.instant(&kept, at));
    };
    let pool_now = pool.instant(&feature, at);
    if call.info.service == Service::Gateway && call.legs.len() == 1 && lonely(pool, call, &plan) {
        let description =
            "a gateway call has an inbound and an outbound leg; name both, or begin with the other";
        return refuse("legs".into(), description);
    }
    let need = need(pool, &call.info, &feature, &plan);
    if need.is_zero() && continues(&feature, &plan) {
        return Judgement::Grant(plan, pool_now);
    }
    match admit(pool, &feature, need, at) {
        Ok(()) => Judgement::Grant(plan, pool_now),
        Err(reason) => Judgement::Deny(reason, Charge { feature, units: need }, pool_now),
    }
}

/// A gateway call has two legs, however many requests it is asked for in: more would use a unit that is
/// counted once per call without end.
fn too_many(pool: &Pool, call: &Call, plan: &[Planned]) -> Option<Judgement> {
    let takes = plan.iter().filter(|planned| matches!(planned.step, Step::Take { .. })).count();
    if call.info.service != Service::Gateway || takes == 0 {
        return None;
    }
    let replaced: BTreeSet<_> = plan.iter().flat_map(|planned| &planned.replaces).collect();
    let stay = pool.leases.keys_of_call(&call.info.call).filter(|key| !replaced.contains(key)).count();
    let count = stay + takes;
    let description =
        || format!("a gateway call has an inbound and an outbound leg, this one would have {count}");
    (count > MAX_GATEWAY_LEGS).then(|| refuse("legs".into(), description()))
}

/// Whether a plan only carries on what runs: a transfer moves its unit, and further legs of a call
/// that is paid once are paid already. Neither asks for a license.
fn continues(feature: &Feature, plan: &[Planned]) -> bool {
    let moves =
        |planned: &Planned| !matches!(planned.step, Step::Take { .. }) || !planned.replaces.is_empty();
    feature.per_call() || plan.iter().all(moves)
}

/// Whether the one leg of a gateway call stands alone.
fn lonely(pool: &Pool, call: &Call, plan: &[Planned]) -> bool {
    let replaces = plan.iter().any(|planned| !planned.replaces.is_empty());
    !replaces && !pool.leases.has_call(call.info.call.as_str())
}

/// Answers what [`allocate`] would, on a copy of the books; a lease that would be new has no number.
pub(crate) fn dry_run(pool: &Pool, at: Millis, asker: HolderId, calls: Vec<Call>) -> Vec<CallAnswer> {
    let (mut state, mut live, mut events) = (pool.clone(), Liveness::default(), Vec::new());
    let mut answers = allocate(&mut Tx::new(&mut state, &mut live, &mut events), at, asker, calls);
    let granted = answers.iter_mut().filter_map(|answer| match &mut answer.verdict {
        Verdict::Granted(leases) => Some(leases),
        _ => None,
    });
    for leased in granted.flatten().filter(|leased| leased.lease > LeaseId(pool.counters.lease)) {
        leased.lease = LeaseId(0);
    }
    answers
}

fn leased(planned: Planned, lease: LeaseId) -> Leased {
    let (Step::Take { owner } | Step::Keep { owner }) = planned.step;
    Leased { leg: planned.key.leg, lease, charge: planned.charge, owner }
}

/// Grants or denies each call as a whole.
pub(crate) fn allocate(
    tx: &mut PoolTx<'_>,
    at: Millis,
    asker: HolderId,
    calls: Vec<Call>,
) -> Vec<CallAnswer> {
    calls
        .into_iter()
        .map(|call| {
            let name = call.info.call.clone();
            let verdict = match judge(tx.state(), at, asker, &call) {
                Judgement::Grant(plan, pool) => Verdict::Granted(grant(tx, at, call, plan, pool)),
                Judgement::Deny(reason, charge, pool) => {
                    let call = Shared::new(call);
                    let denial = Denial {
                        at,
                        holder: asker,
                        call,
                        reason,
                        charge,
                        pool,
                        by_node: false,
                        update: false,
                    };
                    tx.emit(Event::Denied(Shared::new(denial)));
                    Verdict::Denied(reason)
                }
                Judgement::Refuse { field, description } => Verdict::Refused { field, description },
            };
            CallAnswer { call: name, verdict }
        })
        .collect()
}

fn grant(tx: &mut PoolTx<'_>, at: Millis, call: Call, plan: Vec<Planned>, pool: PoolInstant) -> Vec<Leased> {
    let info = Shared::new(call.info);
    let mut granted = Vec::with_capacity(plan.len());
    // What is given back comes first, so that use never seems higher than it is.
    for key in plan.iter().flat_map(|planned| &planned.replaces) {
        tx.emit(Event::LeaseEnded { key: key.clone(), how: EndedHow::Replaced, at });
    }
    for (planned, leg) in plan.into_iter().zip(call.legs) {
        let claimed = planned.replaces.contains(&planned.key);
        let id = match &planned.step {
            Step::Keep { .. } => tx.state().leases.get(&planned.key).map_or(LeaseId(0), |lease| lease.id),
            Step::Take { owner } => {
                let origin = match owner {
                    Some(_) => Origin::Reserved,
                    None if claimed => Origin::Claimed,
                    None => Origin::Asked,
                };
                take(tx, at, &planned, (Shared::clone(&info), leg), origin, pool)
            }
        };
        granted.push(leased(planned, id));
    }
    granted
}

fn take(
    tx: &mut PoolTx<'_>,
    at: Millis,
    planned: &Planned,
    (info, leg): (Shared<CallInfo>, Leg),
    origin: Origin,
    pool: PoolInstant,
) -> LeaseId {
    let id = LeaseId(tx.state().counters.lease + 1);
    let charge = planned.charge.clone();
    let lease = Lease { id, info, leg, charge, origin, admitted_at: at, granted_at: at, pool };
    tx.emit(Event::LeaseGranted(Packed::new(planned.key.holder, &lease)));
    if origin == Origin::Reserved {
        let live = tx.volatile_mut();
        let due = live.clock.plus(live.settings.claim_within);
        live.unclaimed.insert(planned.key.clone(), due);
    }
    id
}

/// The lease of a leg, as it is told.
pub(crate) fn told(leg: &LegId, lease: &Lease) -> Leased {
    Leased { leg: leg.clone(), lease: lease.id, charge: lease.charge.clone(), owner: None }
}
