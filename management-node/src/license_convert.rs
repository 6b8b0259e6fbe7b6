//! Between `LicenseService` on the wire and the pool's own types.

use headroom_core::activation::{Offer, Outcome, Wish};
use headroom_core::license::LicensedFeature;
use headroom_core::{Millis, Units};
use headroom_proto::admin as pb;
use management_core::{Applied, Installed, LicenseRequest, LicenseState, Pool};

use crate::licensing::Settled;

const fn license_state(state: LicenseState) -> pb::LicenseState {
    match state {
        LicenseState::Active => pb::LicenseState::Active,
        LicenseState::Grace => pb::LicenseState::Grace,
        LicenseState::ReturnPending => pb::LicenseState::ReturnPending,
        LicenseState::NotYetValid => pb::LicenseState::NotYetValid,
        LicenseState::Expired => pb::LicenseState::Expired,
        LicenseState::Corrupt => pb::LicenseState::Corrupt,
    }
}

/// What to do about a license's state.
fn advice(state: LicenseState, installed: &Installed) -> &'static str {
    match (state, installed.activated()) {
        (LicenseState::Active | LicenseState::NotYetValid, _) => "",
        (LicenseState::Grace, _) => "renew it now: its time is over, and so are its days of grace soon",
        (LicenseState::Expired, true) => "renew it, then `license refresh`; or `license return`",
        (LicenseState::Expired, false) => "install a new one; `license delete` this one",
        (LicenseState::Corrupt, true) => "repair it: `license repair`",
        (LicenseState::Corrupt, false) => "have it issued anew for this machine's fingerprint",
        (LicenseState::ReturnPending, _) => "complete its return: `license export`, then `license complete`",
    }
}

fn feature(licensed: &LicensedFeature, in_use: Units) -> pb::LicensedFeature {
    pb::LicensedFeature {
        feature: licensed.feature.to_string(),
        metric: licensed.metric.to_string(),
        quantity: licensed.quantity.0,
        overdraft: licensed.overdraft.0,
        in_use: in_use.0,
    }
}

pub(crate) fn license(state: &Pool, installed: &Installed, at: Millis) -> pb::License {
    let document = &installed.document;
    let features = document.features.iter().map(|f| feature(f, state.in_use(&f.feature)));
    let its = state.license_state(installed, at);
    pb::License {
        license: document.license.to_string(),
        sku: document.sku.to_string(),
        plan: document.plan.to_string(),
        customer: document.customer.to_string(),
        features: features.collect(),
        not_before_ms: document.not_before.0,
        not_after_ms: document.not_after.map_or(0, |end| end.0),
        trial: document.trial,
        state: license_state(its).into(),
        installed_at_ms: installed.at.0,
        key: installed.key.map(|key| key.to_string()).unwrap_or_default(),
        grace_days: document.grace_days.unwrap_or(0),
        advice: advice(its, installed).to_owned(),
    }
}

pub(crate) fn licenses(state: &Pool, at: Millis) -> Vec<pb::License> {
    state.licenses.values().map(|installed| license(state, installed, at)).collect()
}

/// A request's name for people: its nonce.
pub(crate) fn request_id(open: &LicenseRequest) -> String {
    format!("{:?}", open.request.nonce)
}

pub(crate) fn stored(open: &LicenseRequest) -> pb::StoredRequest {
    let mut stored = pb::StoredRequest {
        request: request_id(open),
        kind: open.request.wish.word().to_owned(),
        sequence: open.request.sequence,
        created_at_ms: open.request.created_at.0,
        manual: open.manual,
        exported: open.exported,
        sent: open.sent,
        trouble: open.trouble.to_string(),
        ..pb::StoredRequest::default()
    };
    match &open.request.wish {
        Wish::Activate(key) => stored.key = key.to_string(),
        Wish::Return(license) => stored.license = license.to_string(),
        Wish::Fetch(Some(product)) => stored.product = product.to_string(),
        Wish::Fetch(None) | Wish::Repair | Wish::Refresh => {}
    }
    stored
}

pub(crate) fn requests(state: &Pool) -> Vec<pb::StoredRequest> {
    let mut requests: Vec<_> = state.requests.values().map(|open| stored(open)).collect();
    requests.sort_by_key(|request| request.sequence);
    requests
}

fn offer(offer: &Offer) -> pb::TrialOffer {
    let features = offer.features.iter().map(|licensed| feature(licensed, Units::ZERO));
    pb::TrialOffer { sku: offer.sku.to_string(), features: features.collect() }
}

pub(crate) fn settlement(state: &Pool, settled: &Settled, at: Millis) -> pb::Settlement {
    let licenses = licenses(state, at);
    match settled {
        Settled::Stored(open) => {
            pb::Settlement { licenses, stored: Some(stored(open)), ..Default::default() }
        }
        Settled::Applied(Applied { outcome, offers, .. }) => {
            let (refusal, text) = match outcome {
                Outcome::Refused(reason, text) => (reason.to_string(), text.to_string()),
                Outcome::Done | Outcome::Resynchronized => Default::default(),
            };
            let trials = offers.iter().map(offer).collect();
            pb::Settlement { licenses, stored: None, refusal, text, trials }
        }
    }
}
