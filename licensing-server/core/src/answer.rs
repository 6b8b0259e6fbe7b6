//! Requests of machines: what they change, and what is answered.

use headroom_core::activation::{
    Ended, Ending, MAX_ENDED, MAX_HOLDINGS, MachineCertificate, MachineId, Outcome, RefusalReason, Request,
    Wish,
};
use headroom_core::entitlement::EntitlementKey;
use headroom_core::license::LicenseDocument;
use headroom_core::{LicenseId, Millis, Now, Shared, Text};

use crate::command::{Fresh, Refusal, Reply, Source};
use crate::event::Event;
use crate::machine::RegisterTx;
use crate::machines::{AnswerDraft, Answered, MachineRecord};
use crate::state::{Activation, AuditEntry, MAX_HOLDING_BYTES, State, Terms, weight};

/// Why a machine's wish is not fulfilled: the reason, and a sentence.
type Refused = (RefusalReason, String);

/// A request and what its answer needs.
struct Asked<'a> {
    request: &'a Request,
    machine: MachineId,
    at: Millis,
    fresh: &'a Fresh,
}

/// Answers a request. The same one is answered as before; one whose number was used for another is
/// not looked at, and what it is told brings its machine's books in line.
pub(crate) fn answer(
    tx: &mut RegisterTx<'_>,
    now: Now,
    request: &Request,
    digest: [u8; 32],
    source: &Source,
    fresh: &Fresh,
) -> Result<Reply, Refusal> {
    admit(tx, now, source)?;
    let asked = Asked { request, machine: request.machine.id(), at: now.wall, fresh };
    if let Some(known) = asked.answered(tx.state()) {
        if known.request == digest {
            let mut draft = known.draft.clone();
            // What became of it stays; licenses that were the machine's then and are not now are not told
            // again. A machine that is restored from then would count them.
            if tx.state().machines.get(&asked.machine).is_some_and(|record| record.revision > draft.revision)
            {
                draft = asked.draft(tx.state(), draft.outcome);
            }
            audit(tx, &asked, source, &draft.outcome, "again: ");
            return Ok(Reply::Answered(Box::new(draft)));
        }
        let text = "the request's identity was used for another request".to_owned();
        let outcome = refused((RefusalReason::NonceReused, text));
        audit(tx, &asked, source, &outcome, "");
        return Ok(Reply::Answered(Box::new(asked.draft(tx.state(), outcome))));
    }
    let record = tx.state().machines.get(&asked.machine);
    let new = record.is_none();
    let outcome = if let Some(behind) = asked.behind(tx.state(), record) {
        refused(behind)
    } else if record.is_some_and(|record| !record.unused(request.sequence)) || request.sequence == 0 {
        Outcome::Resynchronized
    } else {
        match asked.fulfil(tx) {
            Ok(()) => Outcome::Done,
            Err(why) => refused(why),
        }
    };
    // Guesses cost, and so does whatever a machine that nobody knows asks without a key: keys of machines
    // are free to make.
    let guessed = matches!(outcome, Outcome::Refused(RefusalReason::UnknownKey, _));
    let stranger = new && !matches!(request.wish, Wish::Activate(_));
    if let Source::Network(address) = source
        && (guessed || stranger)
    {
        tx.volatile_mut().failed(address, now.boot);
    }
    let mut draft = asked.draft(tx.state(), outcome);
    draft.sequence = draft.sequence.max(request.sequence);
    audit(tx, &asked, source, &draft.outcome, "");
    if tx.state().machines.contains_key(&asked.machine) {
        let answered = Shared::new(Answered { request: digest, draft: draft.clone() });
        tx.emit(Event::Answered { machine: asked.machine, sequence: request.sequence, answered });
    }
    Ok(Reply::Answered(Box::new(draft)))
}

/// Notes what is no request of a machine.
pub(crate) fn reject(
    tx: &mut RegisterTx<'_>,
    now: Now,
    source: &Source,
    why: &Text,
) -> Result<Reply, Refusal> {
    admit(tx, now, source)?;
    if let Source::Network(address) = source {
        tx.volatile_mut().failed(address, now.boot);
    }
    note(tx, now.wall, source, &format!("rejected: {why}"));
    Ok(Reply::Done)
}

/// Refuses a source that fails too often; the first refusal is noted.
fn admit(tx: &mut RegisterTx<'_>, now: Now, source: &Source) -> Result<(), Refusal> {
    let Source::Network(address) = source else { return Ok(()) };
    let Some(retry_after) = tx.volatile().wait(address, now.boot) else { return Ok(()) };
    if tx.volatile_mut().refuse(address) {
        note(tx, now.wall, source, "refused unheard from now on: too many requests failed");
    }
    Err(Refusal::Limited { source_address: address.clone(), retry_after })
}

/// A line about what is no machine's request.
fn note(tx: &mut RegisterTx<'_>, at: Millis, source: &Source, outcome: &str) {
    let entry = AuditEntry {
        at,
        source: source.text().clone(),
        asked: Text::default(),
        machine: None,
        subject: Text::default(),
        outcome: Text::clipped(outcome),
    };
    tx.emit(Event::Audited(Shared::new(entry)));
}

fn refused((reason, text): Refused) -> Outcome {
    Outcome::Refused(reason, Text::clipped(&text))
}

fn audit(tx: &mut RegisterTx<'_>, asked: &Asked<'_>, source: &Source, outcome: &Outcome, how: &str) {
    let subject = match &asked.request.wish {
        Wish::Activate(key) => key.hint(),
        Wish::Return(license) => license.to_string(),
        Wish::Fetch(Some(product)) => product.to_string(),
        Wish::Fetch(None) | Wish::Repair | Wish::Refresh => String::new(),
    };
    let outcome = match outcome {
        Outcome::Done => format!("{how}done"),
        Outcome::Refused(reason, text) => format!("{how}{reason}: {text}"),
        Outcome::Resynchronized => format!("{how}resynchronized"),
    };
    let entry = AuditEntry {
        at: asked.at,
        source: source.text().clone(),
        asked: Text::clipped(asked.request.wish.word()),
        machine: Some(asked.machine),
        subject: Text::clipped(&subject),
        outcome: Text::clipped(&outcome),
    };
    tx.emit(Event::Audited(Shared::new(entry)));
}

impl Asked<'_> {
    fn answered<'s>(&self, state: &'s State) -> Option<&'s Shared<Answered>> {
        let record = state.machines.get(&self.machine)?;
        record.answers.iter().find(|answered| answered.draft.nonce == self.request.nonce)
    }

    /// Whether the machine carries a certificate that this vendor gave it.
    fn certified(&self, state: &State) -> bool {
        let certificate = self.request.certificate.as_ref();
        certificate
            .and_then(|certificate| certificate.verify(&state.trusted()).ok())
            .is_some_and(|certificate| certificate.document().machine == self.request.machine)
    }

    /// Whether the machine knows more than this register, which then must not tell it what it holds.
    fn behind(&self, state: &State, record: Option<&Shared<MachineRecord>>) -> Option<Refused> {
        let here = record.map_or(0, |record| record.revision);
        let lost = record.is_none() && self.certified(state);
        (lost || self.request.revision > here).then(|| {
            let seen = self.request.revision;
            let text = format!(
                "this server's register is older than what the machine has seen of it ({here}, {seen}): was it \
                 restored from an older copy? The machine keeps what it has"
            );
            (RefusalReason::ServerBehind, text)
        })
    }

    fn fulfil(&self, tx: &mut RegisterTx<'_>) -> Result<(), Refused> {
        match &self.request.wish {
            Wish::Activate(key) => self.activate(tx, *key, 0),
            Wish::Return(license) => self.give_back(tx, license),
            Wish::Repair => self.repair(tx),
            Wish::Refresh => Ok(()),
            Wish::Fetch(product) => {
                let assigned = tx.state().assigned_to(&self.request.fingerprint);
                for (number, key) in (1..).zip(assigned) {
                    // One that cannot be had, for example since its time is over, keeps no other back.
                    let _ = self.activate(tx, key, number);
                }
                product.as_ref().map_or(Ok(()), |sku| self.try_product(tx, sku))
            }
        }
    }

    fn activate(&self, tx: &mut RegisterTx<'_>, key: EntitlementKey, number: u64) -> Result<(), Refused> {
        let Some(entitlement) = tx.state().entitlements.get(&key) else {
            return Err((RefusalReason::UnknownKey, format!("no entitlement key {} was issued", key.hint())));
        };
        if let Some((_, reason)) = &entitlement.revoked {
            return Err((RefusalReason::KeyRevoked, format!("the vendor revoked this key: {reason}")));
        }
        if let Some(active) = entitlement.active.as_ref().and_then(|id| tx.state().activations.get(id)) {
            if active.machine == Some(self.machine) {
                return Ok(());
            }
            let text = "this key is active on another machine: return it there first, or, if that machine is \
                        lost, have the vendor replace the activation";
            return Err((RefusalReason::KeyInUse, text.into()));
        }
        let terms = &entitlement.terms;
        let over =
            terms.license(LicenseId::least(), self.request.fingerprint.clone(), self.number(), self.at);
        if over.ends().is_some_and(|end| self.at >= end) {
            return Err((RefusalReason::KeyExpired, "the time of this key's plan is over".into()));
        }
        let assigned = entitlement.assigned.as_ref();
        if assigned.is_some_and(|assigned| !assigned.matches(&self.request.fingerprint)) {
            return Err((RefusalReason::KeyAssigned, "this key is assigned to another machine".into()));
        }
        let terms = terms.clone();
        self.bind(tx, &terms, Some(key), number)
    }

    /// Makes a license for this machine.
    fn bind(
        &self,
        tx: &mut RegisterTx<'_>,
        terms: &Terms,
        key: Option<EntitlementKey>,
        number: u64,
    ) -> Result<(), Refused> {
        if let Some(record) = tx.state().machines.get(&self.machine)
            && !record.fingerprint.matches(&self.request.fingerprint)
        {
            let text = "the machine is not the one that its licenses are bound to: repair them first";
            return Err((RefusalReason::MachineChanged, text.into()));
        }
        if self.held(tx.state()).len() >= MAX_HOLDINGS {
            let text = format!("the machine holds {MAX_HOLDINGS} licenses, which is the limit");
            return Err((RefusalReason::TooManyLicenses, text));
        }
        self.know(tx);
        let license = self.fresh.license(tx.state(), number);
        let fingerprint = self.request.fingerprint.clone();
        let document = terms.license(license, fingerprint, self.number(), self.at);
        let bytes = tx.state().held_bytes(self.machine) + weight(&document);
        if bytes > MAX_HOLDING_BYTES {
            let text =
                format!("the machine's licenses would take {bytes} bytes, at most {MAX_HOLDING_BYTES} fit");
            return Err((RefusalReason::TooManyLicenses, text));
        }
        let machine = Some(self.machine);
        let activation = Activation { document, key, machine, at: self.at, ended: None, repairs: 0 };
        tx.emit(Event::Activated(Shared::new(activation)));
        Ok(())
    }

    const fn number(&self) -> (u64, headroom_core::license::Nonce) {
        (self.request.sequence, self.request.nonce)
    }

    /// Keeps a machine that gets its first license.
    fn know(&self, tx: &mut RegisterTx<'_>) {
        if tx.state().machines.contains_key(&self.machine) {
            return;
        }
        let fingerprint = self.request.fingerprint.clone();
        let record = MachineRecord {
            certificate: MachineCertificate {
                machine: self.request.machine,
                fingerprint: fingerprint.clone(),
                issued_at: self.at,
            },
            fingerprint,
            sequence: 0,
            missing: Vec::new(),
            revision: 0,
            resynchronized: 0,
            heard_at: self.at,
            answers: Vec::new(),
        };
        tx.emit(Event::MachineAdded(self.machine, Shared::new(record)));
    }

    fn needs_certificate(&self, state: &State) -> Result<(), Refused> {
        if self.certified(state) {
            return Ok(());
        }
        let text =
            "returns and repairs need the machine's certificate, which comes with its first activation";
        Err((RefusalReason::NoCertificate, text.into()))
    }

    fn give_back(&self, tx: &mut RegisterTx<'_>, license: &LicenseId) -> Result<(), Refused> {
        self.needs_certificate(tx.state())?;
        let its = tx.state().activations.get(license).filter(|a| a.machine == Some(self.machine));
        match its.map(|activation| activation.ended.as_ref().map(|(how, _, _)| *how)) {
            Some(None) => {
                let (license, how) = (license.clone(), Ending::Returned);
                tx.emit(Event::Ended { license, how, at: self.at, reason: Text::default() });
                Ok(())
            }
            Some(Some(Ending::Returned)) => Ok(()),
            _ => {
                let text = format!("this machine holds no license {license}");
                Err((RefusalReason::UnknownLicense, text))
            }
        }
    }

    fn repair(&self, tx: &mut RegisterTx<'_>) -> Result<(), Refused> {
        self.needs_certificate(tx.state())?;
        let bound = tx.state().machines.get(&self.machine).map(|record| &record.fingerprint);
        if bound.is_some_and(|bound| *bound != self.request.fingerprint) {
            let fingerprint = self.request.fingerprint.clone();
            tx.emit(Event::Repaired { machine: self.machine, fingerprint, at: self.at });
        }
        Ok(())
    }

    fn try_product(&self, tx: &mut RegisterTx<'_>, sku: &Text) -> Result<(), Refused> {
        if let Some(tried) = tx.state().tried(&self.request.fingerprint, sku) {
            if tried.machine == Some(self.machine) && tried.ended.is_none() {
                return Ok(());
            }
            let text = format!("this machine had its trial of {sku}: one machine has one, for ever");
            return Err((RefusalReason::TrialUsed, text));
        }
        let Some(offer) = tx.state().trials.get(sku) else {
            return Err((RefusalReason::UnknownProduct, format!("{sku} is not offered for trial")));
        };
        let terms = Terms {
            sku: sku.clone(),
            plan: Text::default(),
            customer: Text::default(),
            features: offer.features.clone(),
            not_before: self.at,
            not_after: Some(self.fresh.trial_end),
            grace_days: None,
            trial: true,
        };
        self.bind(tx, &terms, None, 0)
    }

    /// The licenses that are the machine's now. What was issued for it as a file is its administrator's to
    /// install or delete, so it is listed only where he fetches what there is.
    fn held<'s>(&self, state: &'s State) -> Vec<&'s Shared<Activation>> {
        let fetches = matches!(self.request.wish, Wish::Fetch(_));
        let issued = if fetches { state.issued_for(&self.request.fingerprint) } else { Vec::new() };
        let mut bytes = 0;
        let fits = |activation: &&Shared<Activation>| {
            bytes += weight(&activation.document);
            bytes <= MAX_HOLDING_BYTES
        };
        let held =
            state.of_machine(self.machine).chain(issued).filter(|activation| activation.ended.is_none());
        held.take(MAX_HOLDINGS).take_while(fits).collect()
    }

    fn draft(&self, state: &State, outcome: Outcome) -> AnswerDraft {
        let record = state.machines.get(&self.machine);
        // Who knows more than this register is told nothing of it.
        let silent = matches!(outcome, Outcome::Refused(RefusalReason::ServerBehind, _));
        let held = if silent { Vec::new() } else { self.held(state) };
        let holdings: Vec<(LicenseDocument, Option<EntitlementKey>)> =
            held.into_iter().map(|a| (a.document.clone(), a.key)).collect();
        let mut ended: Vec<Ended> = state.of_machine(self.machine).filter_map(|a| a.ending()).collect();
        ended.sort_by_key(|ended| std::cmp::Reverse(ended.at));
        ended.truncate(MAX_ENDED);
        let fetches = matches!(self.request.wish, Wish::Fetch(_));
        let offers = if fetches { state.trials.values().cloned().collect() } else { Vec::new() };
        AnswerDraft {
            nonce: self.request.nonce,
            machine: self.machine,
            sequence: record.map_or(0, |record| record.sequence),
            revision: record.map_or(0, |record| record.revision),
            at: self.at,
            outcome,
            certificate: record.map(|record| record.certificate.clone()),
            holdings,
            ended: if silent { Vec::new() } else { ended },
            offers,
        }
    }
}
