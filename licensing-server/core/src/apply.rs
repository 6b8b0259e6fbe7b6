//! The only mutator of the register, in service and on recovery alike.

use headroom_core::activation::{Ending, MachineId, Outcome};
use headroom_core::entitlement::EntitlementKey;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::{LicenseId, Millis, Shared, Text};

use crate::event::{Event, Part};
use crate::machines::{Answered, MachineRecord};
use crate::state::{
    Activation, AuditEntry, BY_VENDOR, Entitlement, MAX_ANSWERS, MAX_AUDIT, MAX_MISSING, State, Terms,
};

impl State {
    /// Applies what happened.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::KeyAdded(known) => self.keys.push_back(known.clone()),
            Event::LicenseIssued(issued) => {
                let (document, at) = (issued.document.clone(), issued.document.issued_at);
                let activation =
                    Activation { document, key: None, machine: None, at, ended: None, repairs: 0 };
                self.put_activation(&Shared::new(activation));
            }
            Event::CustomerAdded(name, customer) => {
                self.customers.insert(name.clone(), customer.clone());
            }
            Event::EntitlementCreated(key, entitlement) => self.put_entitlement(*key, entitlement),
            Event::EntitlementChanged { key, terms, at } => self.change(*key, terms, *at),
            Event::EntitlementRevoked { key, at, reason } => {
                if let Some(entitlement) = self.entitlements.get_mut(key).map(Shared::make_mut) {
                    entitlement.revoked = Some((*at, reason.clone()));
                }
            }
            Event::Activated(activation) => {
                self.put_activation(activation);
                if let Some(entitlement) =
                    activation.key.and_then(|key| self.entitlements.get_mut(&key)).map(Shared::make_mut)
                {
                    entitlement.active = Some(activation.document.license.clone());
                }
                self.revise(activation.machine);
            }
            Event::Ended { license, how, at, reason } => self.end(license, *how, *at, reason),
            Event::MachineAdded(id, record) => {
                self.machines.insert(*id, Shared::clone(record));
            }
            Event::Repaired { machine, fingerprint, at } => self.repair(*machine, fingerprint, *at),
            Event::Answered { machine, sequence, answered } => self.answered(*machine, *sequence, answered),
            Event::TrialOffered(offer) => {
                self.trials.insert(offer.sku.clone(), offer.clone());
            }
            Event::TrialWithdrawn(sku) => {
                self.trials.remove(sku);
            }
            Event::Audited(entry) => {
                self.counters.audit += 1;
                self.put_audit(self.counters.audit, entry);
            }
            Event::Restored(part) => self.restore(part),
        }
    }

    /// Keeps an entry. What the vendor did has a bound of its own: others could ask until it is forgotten.
    fn put_audit(&mut self, number: u64, entry: &Shared<AuditEntry>) {
        let by_vendor = entry.source.as_str() == BY_VENDOR;
        let entries = if by_vendor { &mut self.vendor_audit } else { &mut self.audit };
        entries.insert(number, Shared::clone(entry));
        while entries.len() > MAX_AUDIT
            && let Some(oldest) = entries.get_min().map(|(number, _)| *number)
        {
            entries.remove(&oldest);
        }
    }

    /// A machine's licenses changed: what it is told from now on is newer than what it was told before.
    fn revise(&mut self, machine: Option<MachineId>) {
        if let Some(record) = machine.and_then(|id| self.machines.get_mut(&id)).map(Shared::make_mut) {
            record.revision += 1;
        }
    }

    fn put_entitlement(&mut self, key: EntitlementKey, entitlement: &Shared<Entitlement>) {
        for part in entitlement.assigned.iter().flat_map(Fingerprint::parts) {
            self.assigned.insert((part, key));
        }
        self.entitlements.insert(key, Shared::clone(entitlement));
    }

    fn put_activation(&mut self, activation: &Shared<Activation>) {
        let document = &activation.document;
        let id = document.license.clone();
        match activation.machine {
            Some(machine) => {
                self.of_machine.insert((machine, id.clone()));
            }
            None => {
                for part in document.fingerprint.parts() {
                    self.issued.insert((part, id.clone()));
                }
            }
        }
        // A trial that was issued as a file is the vendor's favour and does not use up the machine's own.
        if document.trial && activation.machine.is_some() {
            for part in document.fingerprint.parts() {
                self.tried.insert((part, document.sku.clone()), id.clone());
            }
        }
        self.activations.insert(id, Shared::clone(activation));
    }

    fn change(&mut self, key: EntitlementKey, terms: &Terms, at: Millis) {
        let Some(entitlement) = self.entitlements.get_mut(&key).map(Shared::make_mut) else { return };
        entitlement.terms = terms.clone();
        let active = entitlement.active.clone();
        let activation = active.and_then(|license| self.activations.get_mut(&license)).map(Shared::make_mut);
        let Some(activation) = activation else { return };
        terms.write_to(&mut activation.document);
        activation.document.issued_at = at;
        let machine = activation.machine;
        self.revise(machine);
    }

    fn end(&mut self, license: &LicenseId, how: Ending, at: Millis, reason: &Text) {
        let Some(activation) = self.activations.get_mut(license).map(Shared::make_mut) else { return };
        activation.ended = Some((how, at, reason.clone()));
        let (key, machine) = (activation.key, activation.machine);
        if let Some(entitlement) = key.and_then(|key| self.entitlements.get_mut(&key)).map(Shared::make_mut)
            && entitlement.active.as_ref() == Some(license)
        {
            entitlement.active = None;
        }
        self.revise(machine);
    }

    fn repair(&mut self, machine: MachineId, fingerprint: &Fingerprint, at: Millis) {
        let held: Vec<_> = self.of_machine(machine).filter(|a| a.ended.is_none()).cloned().collect();
        for mut activation in held {
            let changed = activation.make_mut();
            changed.document.fingerprint = fingerprint.clone();
            changed.document.issued_at = at;
            changed.repairs += 1;
            // A trial is the changed machine's too from now on.
            self.put_activation(&activation);
        }
        if let Some(record) = self.machines.get_mut(&machine).map(Shared::make_mut) {
            record.fingerprint = fingerprint.clone();
        }
        self.revise(Some(machine));
    }

    fn answered(&mut self, machine: MachineId, sequence: u64, answered: &Shared<Answered>) {
        let Some(record) = self.machines.get_mut(&machine).map(Shared::make_mut) else { return };
        record.heard_at = answered.draft.at;
        if answered.draft.outcome == Outcome::Resynchronized {
            record.resynchronized += 1;
        }
        record.use_number(sequence);
        record.answers.push(Shared::clone(answered));
        if record.answers.len() > MAX_ANSWERS {
            record.answers.remove(0);
        }
    }

    fn restore(&mut self, part: &Part) {
        match part {
            Part::Activation(activation) => self.put_activation(activation),
            Part::Audit(number, entry) => self.put_audit(*number, entry),
            Part::Tried(part, sku, license) => {
                self.tried.insert((*part, sku.clone()), license.clone());
            }
            Part::Counters(counters) => self.counters = *counters,
        }
    }

    /// The events that rebuild this state.
    pub fn snapshot(&self) -> impl Iterator<Item = Event> + Send + '_ {
        let keys = self.keys.iter().map(|known| Event::KeyAdded(known.clone()));
        let customers = self.customers.iter().map(|(n, c)| Event::CustomerAdded(n.clone(), c.clone()));
        let trials = self.trials.values().map(|offer| Event::TrialOffered(offer.clone()));
        let machines = self.machines.iter().map(|(id, m)| Event::MachineAdded(*id, Shared::clone(m)));
        let entitlements =
            self.entitlements.iter().map(|(k, e)| Event::EntitlementCreated(*k, Shared::clone(e)));
        let activations = self.activations.values().map(|a| Part::Activation(Shared::clone(a)));
        let audit = self
            .vendor_audit
            .iter()
            .chain(&self.audit)
            .map(|(n, entry)| Part::Audit(*n, Shared::clone(entry)));
        let tried = self.tried.iter().map(|((part, sku), id)| Part::Tried(*part, sku.clone(), id.clone()));
        let counters = std::iter::once(Part::Counters(self.counters));
        let parts = activations.chain(tried).chain(audit).chain(counters).map(Event::Restored);
        keys.chain(customers).chain(trials).chain(machines).chain(entitlements).chain(parts)
    }
}

impl MachineRecord {
    /// Notes that a number was used; those that were passed over may still come in.
    fn use_number(&mut self, sequence: u64) {
        if sequence <= self.sequence {
            self.missing.retain(|number| *number != sequence);
            return;
        }
        let oldest = sequence.saturating_sub(MAX_MISSING as u64).max(self.sequence + 1);
        self.missing.extend(oldest..sequence);
        let surplus = self.missing.len().saturating_sub(MAX_MISSING);
        self.missing.drain(..surplus);
        self.sequence = sequence;
    }
}
