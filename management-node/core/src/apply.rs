//! The only mutator of a pool, in service and on recovery alike.

use headroom_core::LegSet;
use headroom_core::NodeName;
use headroom_core::Shared;

use crate::event::{Event, Part};
use crate::holder::{Holder, Node, Phase, Session};
use crate::state::{
    EndedHow, HolderId, LeaseKey, MAX_SUPERSEDED, Nonce, Origin, OverCommitCause, Pool, Tombstone,
};
use crate::test_mode::TestMode;

impl Pool {
    /// Applies what happened.
    pub fn apply(&mut self, event: &Event) {
        self.note(event);
        match event {
            Event::Identified(fingerprint) => self.fingerprint = Some(fingerprint.clone()),
            Event::LicenseInstalled(installed) => {
                self.licenses.insert(installed.document.license.clone(), Shared::clone(installed));
            }
            Event::NodeAdded { node, certificate, at } => self.add_node(node, *certificate, *at),
            Event::NodeRemoved { node, at } => {
                if let Some(record) = self.nodes.get_mut(node).map(Shared::make_mut) {
                    record.removed_at = Some(*at);
                }
                self.forget_clones(node);
            }
            Event::CloneFound { node, instance } => self.add_holder(node, *instance),
            Event::SessionOpened { holder, number, nonce, open_number, active, at, new_journal } => {
                let phase = if *active {
                    Phase::Active
                } else {
                    Phase::Reporting { next: 0, taken: LegSet::default() }
                };
                let session =
                    Session { number: *number, opened_at: *at, phase, sequence: 0, report: 0, last: None };
                self.counters.session = self.counters.session.max(*number);
                self.open_session(*holder, session, *nonce, *open_number);
                self.tell_again(*holder);
                if *new_journal && let Some(holder) = self.holder_mut(*holder) {
                    holder.past_recorded = 0;
                }
            }
            Event::SessionLapsed { holder, leases, at } => {
                self.forget_reported(*holder);
                if let Some(holder) = self.holder_mut(*holder) {
                    holder.session = None;
                    holder.lapsed = Some(*leases);
                    holder.silent_since = *at;
                }
            }
            Event::ReportTaken { holder, report, chunk, legs, taken, complete } => {
                if *chunk == 0 {
                    self.forget_reported(*holder);
                }
                for leg in legs {
                    self.reported.insert(LeaseKey { holder: *holder, leg: leg.clone() });
                }
                let next = Phase::Reporting { next: chunk + 1, taken: *taken };
                let phase = if *complete { Phase::Active } else { next };
                if *complete {
                    self.forget_reported(*holder);
                }
                self.set_phase(*holder, phase);
                if let Some(session) = self.holder_mut(*holder).and_then(|holder| holder.session.as_mut()) {
                    session.report = *report;
                }
            }
            Event::ReportRestarted { holder } => {
                self.forget_reported(*holder);
                self.set_phase(*holder, Phase::Reporting { next: 0, taken: LegSet::default() });
            }
            Event::LeaseGranted(packed) => self.put_lease(packed),
            Event::LeaseChanged { key, media, charge, .. } => self.change_lease(key, *media, charge),
            Event::LeaseEnded { key, how, at } => {
                // A lease nobody claimed has no leg to be ended.
                if *how == EndedHow::Forced
                    && let Some(lease) = self.leases.get(key).filter(|lease| lease.origin != Origin::Reserved)
                {
                    let (call, charge) = (lease.info.call.clone(), lease.charge);
                    self.tombstones.insert(key.clone(), Tombstone { at: *at, told: false, call, charge });
                }
                self.end_lease(key, *how, *at);
            }
            Event::Mutated { holder, sequence, answer } => {
                if let Some(session) = self.holder_mut(*holder).and_then(|holder| holder.session.as_mut()) {
                    session.sequence = *sequence;
                    session.last = Some(Shared::clone(answer));
                }
            }
            Event::Denied(denial) => self.remember_denial(denial),
            Event::OverCommitBegan { feature, cause, at } => {
                self.usage.entry(feature.clone()).or_default().over_commit =
                    Some::<(OverCommitCause, _)>((*cause, *at));
            }
            Event::PeakReached { feature, at } => {
                if let Some(usage) = self.usage.get_mut(feature) {
                    usage.peak = usage.in_use;
                    usage.peak_at = *at;
                }
            }
            Event::OverCommitEnded { feature } => {
                if let Some(usage) = self.usage.get_mut(feature) {
                    usage.over_commit = None;
                }
            }
            Event::RevocationTold { key } => {
                if let Some(tombstone) = self.tombstones.get_mut(key) {
                    tombstone.told = true;
                }
            }
            Event::RevocationDone { key } => {
                self.tombstones.remove(key);
            }
            Event::PastRecorded { holder, number } => {
                if let Some(holder) = self.holder_mut(*holder) {
                    holder.past_recorded = *number;
                }
            }
            Event::PastLeg(ended) => self.remember_ended(ended.clone()),
            Event::RolledBack(rollback) => {
                self.rollback = Some(rollback.clone());
                self.fence_all();
            }
            Event::LeaseRestored(packed) => self.leases.insert(packed.clone()),
            Event::Requested(open) => self.add_request(open),
            Event::RequestMarked { nonce, mark } => self.mark_request(*nonce, mark),
            Event::RequestClosed { nonce, .. } => self.close_request(*nonce),
            Event::Answered { sequence, revision, at, certificate, learned, resynchronized } => {
                let site = &mut self.site;
                site.sequence = site.sequence.max(*sequence);
                site.revision = site.revision.max(*revision);
                site.answered_at = Some(*at);
                if certificate.is_some() {
                    site.certificate.clone_from(certificate);
                }
                site.learned.clone_from(learned);
                site.resynchronized_at = resynchronized.or(site.resynchronized_at);
            }
            Event::LicenseRemoved { license, .. } => {
                self.licenses.remove(license);
            }
            Event::ClockSet { clock, leap } => {
                self.clock = Some(*clock);
                if let Some(until) = &mut self.test_mode.until {
                    *until = until.plus(*leap);
                }
            }
            Event::TestModeOn { at, until } => {
                let before = self.counters.lease;
                self.test_mode = TestMode { until: Some(*until), since: *at, before, last: None, held: 0 };
            }
            Event::TestModeOff { .. } => {
                self.test_mode.until = None;
                self.test_mode.last = Some(self.counters.lease);
            }
            Event::AlarmRaised { key, text, at, quiet } => self.raise_alarm(key, text, *at, *quiet),
            Event::AlarmCleared { key, at, .. } => self.clear_alarm(key, *at),
            Event::AlarmForgotten(key) => {
                self.alarm_book.remove(key);
            }
            Event::Restored(part) => self.restore(part),
        }
    }

    fn add_node(&mut self, node: &NodeName, certificate: crate::CertificateHash, at: headroom_core::Millis) {
        self.nodes.insert(node.clone(), Shared::new(Node { enrolled_at: at, certificate, removed_at: None }));
        self.certificates.insert(certificate, node.clone());
        if self.holder_of(node).is_none() {
            self.add_holder(node, 0);
        } else if let Some(holder) = self.holder_of(node).and_then(|id| self.holder_mut(id)) {
            // A new certificate is a new machine: what the old one counted does not bind it.
            holder.nonce = None;
            holder.open_number = 0;
            holder.superseded.clear();
            holder.past_recorded = 0;
            holder.session = None;
            holder.lapsed = None;
            holder.silent_since = None;
        }
    }

    fn add_holder(&mut self, node: &NodeName, instance: u32) {
        self.counters.holder += 1;
        let id = HolderId(self.counters.holder);
        self.holder_ids.insert((node.clone(), instance), id);
        self.holders.insert(id, Shared::new(Holder::new(node.clone(), instance)));
    }

    /// Clones of a removed node have no leases left and go with it.
    fn forget_clones(&mut self, node: &NodeName) {
        let ids: Vec<_> = self
            .holder_ids
            .range((node.clone(), 0)..=(node.clone(), u32::MAX))
            .map(|((_, instance), id)| (*instance, *id))
            .collect();
        for (instance, id) in ids {
            if let Some(holder) = self.holder_mut(id) {
                holder.session = None;
                holder.lapsed = None;
                holder.silent_since = None;
            }
            self.forget_reported(id);
            let buried: Vec<_> = self.tombstones_of(id).map(|(key, _)| key.clone()).collect();
            for key in buried {
                self.tombstones.remove(&key);
            }
            if instance > 0 {
                self.holder_ids.remove(&(node.clone(), instance));
                self.holders.remove(&id);
            }
        }
    }

    fn open_session(&mut self, id: HolderId, session: Session, nonce: Nonce, open_number: u64) {
        self.forget_reported(id);
        let Some(holder) = self.holder_mut(id) else { return };
        if let Some(before) = holder.nonce
            && before != nonce
        {
            holder.superseded.push(before);
            if holder.superseded.len() > MAX_SUPERSEDED {
                holder.superseded.remove(0);
            }
        }
        holder.nonce = Some(nonce);
        holder.open_number = open_number;
        holder.session = Some(session);
        holder.lapsed = None;
        holder.silent_since = None;
    }

    fn forget_reported(&mut self, holder: HolderId) {
        let keys = self.reported.range(LeaseKey::first_of(holder)..);
        let keys: Vec<_> = keys.take_while(|key| key.holder == holder).cloned().collect();
        for key in keys {
            self.reported.remove(&key);
        }
    }

    /// Every session goes on under a number that nobody knows: its leases still return when its node
    /// stays silent.
    fn fence_all(&mut self) {
        let ids: Vec<_> = self.holders.keys().copied().collect();
        for id in ids {
            let number = self.counters.session + 1;
            if let Some(session) = self.holder_mut(id).and_then(|holder| holder.session.as_mut()) {
                session.number = number;
                self.counters.session = number;
            }
        }
    }

    fn set_phase(&mut self, holder: HolderId, phase: Phase) {
        if let Some(session) = self.holder_mut(holder).and_then(|holder| holder.session.as_mut()) {
            session.phase = phase;
        }
    }

    fn restore(&mut self, part: &Part) {
        match part {
            Part::Node(name, node) => {
                self.nodes.insert(name.clone(), Shared::clone(node));
            }
            Part::Certificate(hash, name) => {
                self.certificates.insert(*hash, name.clone());
            }
            Part::Holder(id, holder) => {
                self.holder_ids.insert((holder.node.clone(), holder.instance), *id);
                self.holders.insert(*id, Shared::clone(holder));
            }
            Part::Usage(feature, usage) => {
                self.usage.insert(feature.clone(), *usage);
            }
            Part::Reserved(key) => {
                self.reserved.insert(key.clone());
            }
            Part::Reported(key) => {
                self.reported.insert(key.clone());
            }
            Part::Tombstone(key, tombstone) => {
                self.tombstones.insert(key.clone(), tombstone.clone());
            }
            Part::Denial(number, denial) => self.put_denial(*number, denial),
            Part::Rollback(rollback) => self.rollback = Some(rollback.clone()),
            Part::Minute(minute, reason, count) => {
                self.minutes.insert((*minute, *reason), *count);
            }
            Part::Ended(number, ended) => {
                self.ended.insert(*number, ended.clone());
            }
            Part::Counters(counters) => self.counters = *counters,
            Part::Site(site) => self.site = site.clone(),
            Part::Request(open) => {
                self.requests.insert(open.request.nonce, Shared::clone(open));
            }
            Part::Clock(clock) => self.clock = Some(*clock),
            Part::TestMode(test_mode) => self.test_mode = *test_mode,
            Part::Alarm(key, record) => {
                self.alarm_book.insert(key.clone(), record.clone());
            }
            Part::Note(number, note) => self.put_note(*number, note),
            Part::License(id, installed) => {
                self.licenses.insert(id.clone(), Shared::clone(installed));
            }
        }
    }
}

impl Holder {
    /// A holder that never spoke.
    #[must_use]
    pub fn new(node: NodeName, instance: u32) -> Self {
        Self {
            node,
            instance,
            nonce: None,
            open_number: 0,
            superseded: Vec::new(),
            session: None,
            lapsed: None,
            silent_since: None,
            past_recorded: 0,
            set: LegSet::default(),
            units: headroom_core::Units::ZERO,
            reserved: 0,
        }
    }
}
