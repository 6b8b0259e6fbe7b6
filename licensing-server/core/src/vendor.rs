//! What the vendor does: customers, keys, trials, licenses as files.

use headroom_core::activation::{Ending, MAX_OFFERS, MAX_SUCCESSIONS, MachineId};
use headroom_core::entitlement::EntitlementKey;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::license::Nonce;
use headroom_core::signed::encode;
use headroom_core::{LicenseId, Millis, Shared, Text};
use sha2::{Digest, Sha256};

use crate::command::{Change, Command, Fresh, Refusal, Reply};
use crate::event::Event;
use crate::machine::RegisterTx;
use crate::state::{
    Activation, AuditEntry, BY_VENDOR, Customer, Entitlement, KnownKey, MAX_HOLDING_BYTES, MAX_OFFER_BYTES,
    State, Terms, weight,
};

pub(crate) fn carry_out(tx: &mut RegisterTx<'_>, at: Millis, command: Command) -> Result<Reply, Refusal> {
    match command {
        Command::AddKey(known) => add_key(tx, known),
        Command::AddCustomer { name, reference } => {
            tx.emit(Event::CustomerAdded(name, Customer { reference, added_at: at }));
            Ok(Reply::Done)
        }
        Command::CreateKey { key, terms, assigned } => create(tx, at, key, terms, assigned),
        Command::ChangeKey { key, change } => self::change(tx, at, key, change),
        Command::RevokeKey { key, reason } => revoke(tx, at, key, reason),
        Command::Replace { key, reason } => replace(tx, at, key, reason),
        Command::OfferTrial(offer) => {
            let known = tx.state().trials.contains_key(&offer.sku);
            if !known && tx.state().trials.len() >= MAX_OFFERS {
                return Err(Refusal::TooMany { what: "trials", limit: MAX_OFFERS });
            }
            let terms = Terms {
                sku: offer.sku.clone(),
                plan: Text::default(),
                customer: Text::default(),
                features: offer.features.clone(),
                not_before: at,
                not_after: None,
                grace_days: None,
                trial: true,
            };
            checked(&terms, at)?;
            let others = tx.state().trials.values().filter(|known| known.sku != offer.sku);
            let bytes: usize = others.chain([&offer]).map(|offer| encode(offer).len()).sum();
            if bytes > MAX_OFFER_BYTES {
                return Err(Refusal::TooLarge { what: "trials", bytes, limit: MAX_OFFER_BYTES });
            }
            tx.emit(Event::TrialOffered(offer));
            Ok(Reply::Done)
        }
        Command::WithdrawTrial(sku) => {
            if !tx.state().trials.contains_key(&sku) {
                return Err(Refusal::NoSuchTrial(sku));
            }
            tx.emit(Event::TrialWithdrawn(sku));
            Ok(Reply::Done)
        }
        Command::Issue { terms, fingerprint, fresh } => issue(tx, at, &terms, fingerprint, &fresh),
        Command::Answer { .. } | Command::Reject { .. } => {
            unreachable!("requests of machines are answered elsewhere")
        }
    }
}

fn add_key(tx: &mut RegisterTx<'_>, known: KnownKey) -> Result<Reply, Refusal> {
    if tx.state().knows(known.key.id()) {
        return Ok(Reply::Done);
    }
    // Every key but the first is vouched for by the one before it, or machines could not trust it.
    if let Some(newest) = tx.state().keys.back().map(|newest| newest.key) {
        if tx.state().keys.len() > MAX_SUCCESSIONS {
            return Err(Refusal::TooMany { what: "signing keys", limit: MAX_SUCCESSIONS + 1 });
        }
        let succession = known.succession.as_ref().ok_or(Refusal::NotSuccessor(newest.id()))?;
        if succession.verify(&newest.into())?.document().key != known.key {
            return Err(Refusal::NotSuccessor(newest.id()));
        }
    }
    tx.emit(Event::KeyAdded(known));
    Ok(Reply::Done)
}

/// Terms that make a license, checked on a license that never leaves.
fn checked(terms: &Terms, at: Millis) -> Result<(), Refusal> {
    let nowhere = Fingerprint::nowhere();
    Ok(terms.license(LicenseId::least(), nowhere, (0, Nonce([0; 16])), at).check()?)
}

fn create(
    tx: &mut RegisterTx<'_>,
    at: Millis,
    key: EntitlementKey,
    terms: Terms,
    assigned: Option<Fingerprint>,
) -> Result<Reply, Refusal> {
    if tx.state().entitlements.contains_key(&key) {
        return Err(Refusal::KeyTaken);
    }
    if !tx.state().customers.contains_key(&terms.customer) {
        return Err(Refusal::NoSuchCustomer(terms.customer));
    }
    checked(&terms, at)?;
    let entitlement = Entitlement { terms, created_at: at, revoked: None, assigned, active: None };
    let entitlement = Shared::new(entitlement);
    tx.emit(Event::EntitlementCreated(key, Shared::clone(&entitlement)));
    audit(tx, at, "key create", None, key.hint(), "created");
    Ok(Reply::Key(entitlement))
}

fn entitlement(state: &State, key: EntitlementKey) -> Result<&Shared<Entitlement>, Refusal> {
    state.entitlements.get(&key).ok_or(Refusal::NoSuchKey)
}

fn change(
    tx: &mut RegisterTx<'_>,
    at: Millis,
    key: EntitlementKey,
    change: Change,
) -> Result<Reply, Refusal> {
    let known = entitlement(tx.state(), key)?;
    if known.revoked.is_some() {
        return Err(Refusal::KeyRevoked);
    }
    let mut terms = known.terms.clone();
    if let Some(features) = change.features {
        terms.features = features;
    }
    if let Some(not_after) = change.not_after {
        terms.not_after = not_after;
    }
    if let Some(days) = change.grace_days {
        terms.grace_days = Some(days);
    }
    checked(&terms, at)?;
    // What does not fit into an answer could never be told, nor anything after it.
    if let Some(activation) = known.active.as_ref().and_then(|license| tx.state().activations.get(license))
        && let Some(machine) = activation.machine
    {
        let document = &activation.document;
        let renewed =
            terms.license(document.license.clone(), document.fingerprint.clone(), (0, document.nonce), at);
        let bytes = tx.state().held_bytes(machine) - weight(document) + weight(&renewed);
        if bytes > MAX_HOLDING_BYTES {
            return Err(Refusal::TooLarge {
                what: "the machine's licenses",
                bytes,
                limit: MAX_HOLDING_BYTES,
            });
        }
    }
    tx.emit(Event::EntitlementChanged { key, terms, at });
    audit(tx, at, "key change", None, key.hint(), "changed");
    Ok(Reply::Key(Shared::clone(entitlement(tx.state(), key)?)))
}

fn revoke(tx: &mut RegisterTx<'_>, at: Millis, key: EntitlementKey, reason: Text) -> Result<Reply, Refusal> {
    let known = entitlement(tx.state(), key)?;
    if known.revoked.is_some() {
        return Err(Refusal::KeyRevoked);
    }
    let active = known.active.clone();
    tx.emit(Event::EntitlementRevoked { key, at, reason: reason.clone() });
    audit(tx, at, "key revoke", None, key.hint(), reason.as_str());
    if let Some(license) = active {
        tx.emit(Event::Ended { license, how: Ending::Revoked, at, reason });
    }
    Ok(Reply::Key(Shared::clone(entitlement(tx.state(), key)?)))
}

fn replace(tx: &mut RegisterTx<'_>, at: Millis, key: EntitlementKey, reason: Text) -> Result<Reply, Refusal> {
    let license = entitlement(tx.state(), key)?.active.clone().ok_or(Refusal::NotActive)?;
    let machine = tx.state().activations.get(&license).and_then(|activation| activation.machine);
    audit(tx, at, "activation replace", machine, license.to_string(), reason.as_str());
    tx.emit(Event::Ended { license: license.clone(), how: Ending::Replaced, at, reason });
    Ok(Reply::Ended(license))
}

fn issue(
    tx: &mut RegisterTx<'_>,
    at: Millis,
    terms: &Terms,
    fingerprint: Fingerprint,
    fresh: &Fresh,
) -> Result<Reply, Refusal> {
    let license = fresh.license(tx.state(), 0);
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&fresh.draw("nonce", 0)[..16]);
    let document = terms.license(license, fingerprint, (0, Nonce(nonce)), at);
    document.check()?;
    let activation =
        Shared::new(Activation { document, key: None, machine: None, at, ended: None, repairs: 0 });
    tx.emit(Event::Activated(Shared::clone(&activation)));
    audit(tx, at, "issue", None, activation.document.license.to_string(), "issued");
    Ok(Reply::Issued(activation))
}

fn audit(
    tx: &mut RegisterTx<'_>,
    at: Millis,
    asked: &str,
    machine: Option<MachineId>,
    subject: String,
    outcome: &str,
) {
    let entry = AuditEntry {
        at,
        source: Text::clipped(BY_VENDOR),
        asked: Text::clipped(asked),
        machine,
        subject: Text::clipped(&subject),
        outcome: Text::clipped(outcome),
    };
    tx.emit(Event::Audited(Shared::new(entry)));
}

impl Fresh {
    fn draw(&self, what: &str, number: u64) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.random);
        hasher.update(what.as_bytes());
        hasher.update(number.to_be_bytes());
        hasher.finalize().into()
    }

    /// An id that no license has; `number` tells those of one command apart.
    pub(crate) fn license(&self, state: &State, number: u64) -> LicenseId {
        let mut attempt = number << 32;
        loop {
            let name = format!("{}{}", self.prefix, hex::encode(&self.draw("license", attempt)[..6]));
            match LicenseId::new(&name) {
                Ok(id) if !state.activations.contains_key(&id) => return id,
                Ok(_) => attempt += 1,
                Err(error) => unreachable!("a prefix and twelve digits are an id: {error}"),
            }
        }
    }
}
