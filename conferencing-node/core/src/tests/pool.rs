//! The simplest pool that keeps the lease contract: one node, one license of `call`.

use std::collections::BTreeMap;

use headroom_core::rating::{rate, rate_leg};
use headroom_core::{
    CallId, CallInfo, Charge, DenialReason, Feature, LeaseId, LegId, LegSet, Millis, NodeName, Position,
    Protocol,
};

use crate::uplink::{PoolLease, Pools, Verdict};
use crate::{Failure, Request, Response, Session};

#[derive(Debug, Clone, PartialEq)]
enum Stand {
    None,
    Reporting { next: u32 },
    Active { sequence: u64, answer: Option<Response> },
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) capacity: u32,
    pub(super) held: BTreeMap<LegId, (CallId, Charge)>,
    /// Most units that adoptions have brought it to.
    pub(super) most: u32,
    pub(super) past: u64,
    about: BTreeMap<LegId, (CallInfo, Protocol)>,
    /// Legs released by force, and whether the node has told their media server.
    pub(super) tombstones: BTreeMap<LegId, bool>,
    reported: BTreeMap<LegId, (CallId, Charge)>,
    number: u64,
    open_number: u64,
    stand: Stand,
    position: u64,
    pub(super) drift: u32,
}

impl Pool {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            held: BTreeMap::new(),
            most: 0,
            past: 0,
            about: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            reported: BTreeMap::new(),
            number: 0,
            open_number: 0,
            stand: Stand::None,
            position: 0,
            drift: 0,
        }
    }

    pub(super) fn used(&self) -> u32 {
        self.held.values().map(|(_, charge)| charge.units.0).sum()
    }

    pub(super) fn set(&self) -> LegSet {
        let mut set = LegSet::default();
        for (leg, (call, charge)) in &self.held {
            set.add(leg, call, charge);
        }
        set
    }

    /// The session lapses: its leases return.
    pub(super) fn lapse(&mut self) {
        self.stand = Stand::None;
        self.number += 1;
        self.held.clear();
    }

    pub(super) fn revoke(&mut self, leg: &LegId) {
        if self.held.remove(leg).is_some() {
            self.tombstones.insert(leg.clone(), false);
        }
    }

    fn pools(&self) -> Pools {
        Pools {
            full: vec![(Feature::Call, self.used() >= self.capacity)],
            position: Position { generation: 7, sequence: self.position },
        }
    }

    fn lease(&self, leg: &LegId) -> PoolLease {
        PoolLease { leg: leg.clone(), lease: LeaseId(1), charge: self.held[leg].1.clone(), owner: None }
    }

    pub(super) fn serve(&mut self, request: &Request) -> Result<Response, Failure> {
        self.position += 1;
        match request {
            Request::Open { number, legs, .. } => {
                if *number <= self.open_number {
                    return Err(Failure::OpenNumberOld);
                }
                self.open_number = *number;
                self.number += 1;
                let report_required = *legs != self.set();
                self.reported.clear();
                self.stand = if report_required {
                    Stand::Reporting { next: 0 }
                } else {
                    Stand::Active { sequence: 0, answer: None }
                };
                Ok(Response::Opened {
                    session: self.session(),
                    node: NodeName::new("a").expect("a name"),
                    ttl: Millis(120_000),
                    heartbeat: Millis(10_000),
                    report_required,
                    licenses: vec![(Feature::Call, self.capacity, 0)],
                    pools: self.pools(),
                })
            }
            Request::Report { session, .. } | Request::Heartbeat { session, .. }
                if *session != self.session() =>
            {
                Err(Failure::Stale)
            }
            Request::Report { chunk, legs, total, .. } => self.report(*chunk, legs, *total),
            Request::Heartbeat { sequence, legs, told, past, .. } => self.beat(*sequence, *legs, told, past),
            Request::Release { session, sequence, .. }
            | Request::Adopt { session, sequence, .. }
            | Request::Update { session, sequence, .. }
            | Request::Allocate { session, sequence, .. } => self.mutate(*session, *sequence, request),
        }
    }

    /// The legs among these that were released by force.
    fn named(&self, legs: &[headroom_core::call::RunningLeg]) -> Vec<LegId> {
        let ids = legs.iter().map(|running| &running.leg.leg);
        ids.filter(|leg| self.tombstones.contains_key(*leg)).cloned().collect()
    }

    fn session(&self) -> Session {
        Session { generation: 7, number: self.number }
    }

    fn report(
        &mut self,
        chunk: u32,
        legs: &[headroom_core::call::RunningLeg],
        total: Option<LegSet>,
    ) -> Result<Response, Failure> {
        let answer = |pool: &Self, complete| Response::Reported {
            complete,
            revoked: pool.named(legs),
            pools: pool.pools(),
        };
        match &mut self.stand {
            Stand::Reporting { next } if *next == chunk => *next += 1,
            // A repeat of a chunk that was taken.
            Stand::Reporting { .. } => return Ok(answer(self, false)),
            Stand::Active { .. } => return Ok(answer(self, true)),
            Stand::None => return Err(Failure::Stale),
        }
        for leg in legs {
            self.about.insert(leg.leg.leg.clone(), (leg.info.clone(), leg.leg.protocol));
            if !self.tombstones.contains_key(&leg.leg.leg) {
                self.reported.insert(leg.leg.leg.clone(), (leg.info.call.clone(), leg.charge.clone()));
            }
        }
        if total.is_some() {
            self.held = std::mem::take(&mut self.reported);
            self.stand = Stand::Active { sequence: 0, answer: None };
        }
        Ok(answer(self, total.is_some()))
    }

    fn beat(
        &mut self,
        sequence: u64,
        legs: LegSet,
        told: &[LegId],
        past: &[crate::PastEvent],
    ) -> Result<Response, Failure> {
        let Stand::Active { sequence: mine, .. } = &self.stand else {
            return Err(Failure::ReportRequired);
        };
        for leg in told {
            if let Some(told) = self.tombstones.get_mut(leg) {
                *told = true;
            }
        }
        let untold = self.tombstones.iter().filter(|(_, told)| !**told);
        let revoked: Vec<_> = untold.map(|(leg, _)| leg.clone()).collect();
        // The node may have heard of each of these or not.
        let report_required = *mine == sequence && revoked.is_empty() && legs != self.set();
        if report_required {
            self.drift += 1;
            self.stand = Stand::Reporting { next: 0 };
        }
        self.past = past.last().map_or(self.past, |event| event.number.max(self.past));
        Ok(Response::Beaten {
            revoked,
            report_required,
            past_recorded: self.past,
            licenses: vec![(Feature::Call, self.capacity, 0)],
            pools: self.pools(),
        })
    }

    fn mutate(&mut self, session: Session, number: u64, request: &Request) -> Result<Response, Failure> {
        if session != self.session() {
            return Err(Failure::Stale);
        }
        let Stand::Active { sequence, answer } = &self.stand else { return Err(Failure::ReportRequired) };
        if number == *sequence
            && let Some(answer) = answer
        {
            return Ok(answer.clone());
        }
        if number != sequence + 1 {
            return Err(Failure::Stale);
        }
        let answer = self.carry_out(request);
        self.stand = Stand::Active { sequence: number, answer: Some(answer.clone()) };
        Ok(answer)
    }

    fn carry_out(&mut self, request: &Request) -> Response {
        match request {
            Request::Release { legs, .. } => {
                for leg in legs {
                    self.held.remove(leg);
                    self.tombstones.remove(leg);
                }
                Response::Released { pools: self.pools() }
            }
            Request::Adopt { legs, .. } => {
                let (mut leases, mut revoked) = (Vec::new(), Vec::new());
                for leg in legs {
                    let id = &leg.leg.leg;
                    self.about.insert(id.clone(), (leg.info.clone(), leg.leg.protocol));
                    if self.tombstones.contains_key(id) {
                        revoked.push(id.clone());
                        continue;
                    }
                    self.held.insert(id.clone(), (leg.info.call.clone(), leg.charge.clone()));
                    leases.push(self.lease(id));
                }
                self.most = self.most.max(self.used());
                Response::Adopted { leases, revoked, pools: self.pools() }
            }
            Request::Update { legs, .. } => {
                let verdicts = legs.iter().map(|(leg, media)| self.update(leg, *media)).collect();
                Response::Updated { verdicts, pools: self.pools() }
            }
            Request::Allocate { calls, .. } => {
                let verdicts = calls.iter().map(|call| self.allocate(call)).collect();
                Response::Allocated { verdicts, pools: self.pools() }
            }
            Request::Open { .. } | Request::Report { .. } | Request::Heartbeat { .. } => unreachable!(),
        }
    }

    fn update(&mut self, leg: &LegId, media: headroom_core::Media) -> Verdict<PoolLease> {
        let used = self.used();
        let Some((_, charge)) = self.held.get_mut(leg) else {
            return Verdict::Refused { field: "leg".into(), text: "holds no lease".into() };
        };
        let (info, protocol) = &self.about[leg];
        let wanted = rate(info, *protocol, media);
        if wanted.units > charge.units && used - charge.units.0 + wanted.units.0 > self.capacity {
            return Verdict::Denied(DenialReason::InsufficientLicenses);
        }
        *charge = wanted;
        Verdict::Granted(self.lease(leg))
    }

    fn allocate(&mut self, call: &headroom_core::Call) -> Verdict<Vec<PoolLease>> {
        let wanted: u32 = call
            .legs
            .iter()
            .filter(|leg| !self.held.contains_key(&leg.leg))
            .map(|leg| rate_leg(&call.info, leg).units.0)
            .sum();
        let moved: u32 = call
            .legs
            .iter()
            .filter_map(|leg| self.held.get(leg.replaces.as_ref()?))
            .map(|(_, charge)| charge.units.0)
            .sum();
        if call.legs.iter().any(|leg| self.tombstones.contains_key(&leg.leg)) {
            return Verdict::Refused { field: "legs[0].leg".into(), text: "was released by force".into() };
        }
        if wanted > moved && self.used() - moved + wanted > self.capacity {
            return Verdict::Denied(DenialReason::InsufficientLicenses);
        }
        for leg in &call.legs {
            if let Some(old) = &leg.replaces {
                self.held.remove(old);
            }
            self.about.insert(leg.leg.clone(), (call.info.clone(), leg.protocol));
            let charge = rate_leg(&call.info, leg);
            self.held.entry(leg.leg.clone()).or_insert((call.info.call.clone(), charge));
        }
        Verdict::Granted(call.legs.iter().map(|leg| self.lease(&leg.leg)).collect())
    }
}
