//! Between `headroom.licensing.v1` and the register's own types.

use std::collections::BTreeMap;

use headroom_core::activation::{Ending, Offer};
use headroom_core::entitlement::EntitlementKey;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::license::{LicensedFeature, MAX_FEATURES, Metric};
use headroom_core::{Feature, Millis, Text, Units};
use headroom_proto::licensing as pb;
use headroom_shared::convert::{FieldError, decode};
use licensing_core::{Activation, AuditEntry, Change, Customer, Entitlement, KnownKey, State, Terms};

type Result<T> = std::result::Result<T, FieldError>;

fn grant(message: &pb::FeatureGrant) -> Result<LicensedFeature> {
    Ok(LicensedFeature {
        feature: decode::id::<Feature>(&message.feature, "feature")?,
        // The only metric that is sold so far.
        metric: Metric::Concurrent,
        quantity: Units(message.quantity),
        overdraft: Units(message.overdraft),
        attributes: BTreeMap::new(),
    })
}

fn grants(messages: &[pb::FeatureGrant]) -> Result<Vec<LicensedFeature>> {
    decode::at_most(messages.len(), MAX_FEATURES, "features")?;
    decode::items(messages, "features", grant)
}

/// 0 stands for "not given" in the contract; nobody licenses the beginning of 1970.
fn time(ms: i64) -> Option<Millis> {
    (ms != 0).then_some(Millis(ms))
}

pub(crate) fn terms(message: Option<&pb::Terms>, now: Millis) -> Result<Terms> {
    let message = decode::required(message, "terms")?;
    Ok(Terms {
        sku: decode::id(&message.sku, "sku")?,
        plan: decode::id(&message.plan, "plan")?,
        customer: decode::id(&message.customer, "customer")?,
        features: grants(&message.features)?,
        not_before: time(message.not_before_ms).unwrap_or(now),
        not_after: time(message.not_after_ms),
        grace_days: (message.grace_days > 0).then_some(message.grace_days),
        trial: message.trial,
    })
}

pub(crate) fn key(text: &str) -> Result<EntitlementKey> {
    text.parse().map_err(|error| FieldError::new("key", error))
}

pub(crate) fn fingerprint(text: &str) -> Result<Fingerprint> {
    text.parse().map_err(|error| FieldError::new("fingerprint", error))
}

pub(crate) fn change(message: &pb::ChangeKeyRequest) -> Result<Change> {
    let features = if message.features.is_empty() { None } else { Some(grants(&message.features)?) };
    Ok(Change { features, not_after: message.not_after_ms.map(time), grace_days: message.grace_days })
}

pub(crate) fn offer(message: Option<&pb::Trial>) -> Result<Offer> {
    let message = decode::required(message, "trial")?;
    let sku: Text = decode::id(&message.sku, "sku")?;
    if sku.is_empty() {
        return Err(FieldError::new("sku", "must not be empty"));
    }
    Ok(Offer { sku, features: grants(&message.features)? })
}

fn granted(features: &[LicensedFeature]) -> Vec<pb::FeatureGrant> {
    let grant = |licensed: &LicensedFeature| pb::FeatureGrant {
        feature: licensed.feature.to_string(),
        quantity: licensed.quantity.0,
        overdraft: licensed.overdraft.0,
    };
    features.iter().map(grant).collect()
}

fn terms_of(terms: &Terms) -> pb::Terms {
    pb::Terms {
        sku: terms.sku.to_string(),
        plan: terms.plan.to_string(),
        customer: terms.customer.to_string(),
        features: granted(&terms.features),
        not_before_ms: terms.not_before.0,
        not_after_ms: terms.not_after.map_or(0, |end| end.0),
        grace_days: terms.grace_days.unwrap_or(0),
        trial: terms.trial,
    }
}

pub(crate) fn trial(offer: &Offer) -> pb::Trial {
    pb::Trial { sku: offer.sku.to_string(), features: granted(&offer.features) }
}

pub(crate) fn customer((name, customer): (&Text, &Customer)) -> pb::Customer {
    pb::Customer {
        name: name.to_string(),
        reference: customer.reference.to_string(),
        added_at_ms: customer.added_at.0,
    }
}

pub(crate) fn entitlement(key: EntitlementKey, entitlement: &Entitlement) -> pb::EntitlementKey {
    let revoked = entitlement.revoked.as_ref();
    pb::EntitlementKey {
        key: key.to_string(),
        terms: Some(terms_of(&entitlement.terms)),
        created_at_ms: entitlement.created_at.0,
        revoked_at_ms: revoked.map_or(0, |(at, _)| at.0),
        reason: revoked.map(|(_, reason)| reason.to_string()).unwrap_or_default(),
        assigned: entitlement.assigned.as_ref().map(ToString::to_string).unwrap_or_default(),
        active: entitlement.active.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

pub(crate) fn activation(state: &State, activation: &Activation) -> pb::Activation {
    let (document, ended) = (&activation.document, activation.ended.as_ref());
    let record = activation.machine.and_then(|machine| state.machines.get(&machine));
    let became = match ended.map(|(how, _, _)| *how) {
        None => pb::ActivationState::Active,
        Some(Ending::Returned) => pb::ActivationState::Returned,
        Some(Ending::Revoked) => pb::ActivationState::Revoked,
        Some(Ending::Replaced) => pb::ActivationState::Replaced,
    };
    pb::Activation {
        license: document.license.to_string(),
        terms: Some(terms_of(&Terms::of(document))),
        fingerprint: document.fingerprint.to_string(),
        machine: activation.machine.map(|machine| machine.to_string()).unwrap_or_default(),
        key: activation.key.map(|key| key.to_string()).unwrap_or_default(),
        activated_at_ms: activation.at.0,
        state: became.into(),
        ended_at_ms: ended.map_or(0, |(_, at, _)| at.0),
        reason: ended.map(|(_, _, reason)| reason.to_string()).unwrap_or_default(),
        repairs: activation.repairs,
        resynchronized: record.map_or(0, |record| record.resynchronized),
        heard_at_ms: record.map_or(0, |record| record.heard_at.0),
    }
}

pub(crate) fn signing_key(known: &KnownKey) -> pb::SigningKey {
    pb::SigningKey {
        key_id: known.key.id().to_string(),
        public_key: known.key.as_bytes().to_vec(),
        added_at_ms: known.added_at.0,
    }
}

pub(crate) fn audit(number: u64, entry: &AuditEntry) -> pb::AuditEntry {
    pb::AuditEntry {
        number,
        at_ms: entry.at.0,
        source: entry.source.to_string(),
        asked: entry.asked.to_string(),
        machine: entry.machine.map(|machine| machine.to_string()).unwrap_or_default(),
        subject: entry.subject.to_string(),
        outcome: entry.outcome.to_string(),
    }
}
