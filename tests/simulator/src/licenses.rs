//! Keys, plans and licenses to play with, and the exchange of a request and its answer as XML: for simulated
//! worlds, and for tests that have the same machines in their hands.

use headroom_core::activation::{Request, Wish, read_request, write_request};
use headroom_core::entitlement::{EntitlementKey, RANDOM_BYTES};
use headroom_core::fingerprint::{Fingerprint, Sources};
use headroom_core::license::{LicenseDocument, LicensedFeature, Metric, Nonce, SigningKey};
use headroom_core::signed::sign;
use headroom_core::{Feature, LicenseId, Millis, Text, Units};
use licensing_core::{self as vendor, Fresh, KnownKey, Source, Terms};
use management_core::Wanted;

/// The vendor's key.
#[must_use]
pub fn vendor_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

/// The key that a site's machine signs with.
#[must_use]
pub fn machine_key(site: u8) -> SigningKey {
    SigningKey::from_seed(&[10 + site; 32])
}

/// An entitlement key.
#[must_use]
pub fn key(number: u8) -> EntitlementKey {
    EntitlementKey::from_random([number; RANDOM_BYTES])
}

/// Of a machine that is told by its id alone.
///
/// # Panics
/// Never: an id is enough.
#[must_use]
pub fn fingerprint() -> Fingerprint {
    told_by("site")
}

fn told_by(id: &str) -> Fingerprint {
    Fingerprint::new(&Sources { machine_id: Some(id.into()), ..Sources::default() })
        .expect("an id is enough to tell a machine")
}

fn licensed(feature: Feature, quantity: u32, overdraft: u32) -> LicensedFeature {
    LicensedFeature {
        feature,
        metric: Metric::Concurrent,
        quantity: Units(quantity),
        overdraft: Units(overdraft),
        attributes: std::collections::BTreeMap::new(),
    }
}

/// A license that came as a file: so many units of `call`, and one of `connect.teams`.
///
/// # Panics
/// Never: its names are well formed.
#[must_use]
pub fn document(capacity: u32, overdraft: u32, not_after: Option<Millis>) -> LicenseDocument {
    let teams = Feature::new("connect.teams").expect("a feature");
    LicenseDocument {
        license: LicenseId::new("FILE").expect("an id"),
        sku: Text::default(),
        plan: Text::default(),
        customer: Text::default(),
        features: vec![licensed(Feature::Call, capacity, overdraft), licensed(teams, 1, 0)],
        not_before: Millis(0),
        not_after,
        trial: false,
        fingerprint: fingerprint(),
        machine_sequence: 0,
        nonce: Nonce([0; 16]),
        issued_at: Millis(0),
        grace_days: None,
    }
}

/// What a vendor does first: his key, a customer, and so many entitlement keys for so many units of `call`.
///
/// # Panics
/// Never: its texts are short.
#[must_use]
pub fn stock(keys: u8, units: u32) -> Vec<vendor::Command> {
    let first = KnownKey { key: vendor_key().public_key(), added_at: Millis(1), succession: None };
    let name = Text::new("Example").expect("a text");
    let terms = Terms {
        sku: Text::default(),
        plan: Text::default(),
        customer: name.clone(),
        features: vec![licensed(Feature::Call, units, 0)],
        not_before: Millis(0),
        not_after: None,
        grace_days: None,
        trial: false,
    };
    let customer = vendor::Command::AddCustomer { name, reference: Text::default() };
    let create =
        |number| vendor::Command::CreateKey { key: key(number), terms: terms.clone(), assigned: None };
    let mut all = vec![vendor::Command::AddKey(first), customer];
    all.extend((0..keys).map(create));
    all
}

/// What a site wants of the vendor.
#[must_use]
pub fn wanted(wish: Wish, nonce: Nonce, site: u8) -> Wanted {
    let machine = machine_key(site).public_key();
    Wanted { wish, nonce, manual: false, machine, software: Text::default() }
}

/// A request of a machine that no management node stands for here, so often asked before.
#[must_use]
pub fn request(wish: Wish, nonce: Nonce, site: u8, sequence: u64) -> Request {
    Request {
        wish,
        nonce,
        sequence,
        revision: 0,
        fingerprint: told_by(&format!("site {site}")),
        machine: machine_key(site).public_key(),
        certificate: None,
        created_at: Millis(0),
        software: Text::default(),
    }
}

/// A site's request as it reaches the register: signed, written, and read again.
///
/// # Panics
/// When what was written cannot be read, which is what a test wants to know.
#[must_use]
pub fn delivered(request: &Request, site: u8, random: [u8; 16]) -> vendor::Command {
    let xml = write_request(&sign(request.clone(), &machine_key(site)).expect("a request can be signed"));
    let request = read_request(xml.as_bytes()).expect("a request that was written can be read");
    let digest = request.digest();
    let fresh = Fresh { prefix: "L-".into(), random, trial_end: Millis(i64::MAX) };
    let source = Source::Vendor(Text::new("file").expect("a text"));
    vendor::Command::Answer { request: Box::new(request), digest, source, fresh }
}
