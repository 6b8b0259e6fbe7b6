//! What the register promises.

use std::collections::BTreeMap;

use headroom_core::fingerprint::{Fingerprint, Sources};
use headroom_core::license::{LicensedFeature, Metric, SigningKey, sign};
use headroom_core::machine::Bench;
use headroom_core::{Feature, Text, Units};
use proptest::prelude::*;

use super::*;

const NOW: Now = Now { wall: Millis(1_000), boot: Millis(0) };

fn license(id: &str, nonce: u8, key: u8) -> SignedLicense {
    let sources = Sources { machine_id: Some("1234".into()), ..Sources::default() };
    let feature = LicensedFeature {
        feature: Feature::Call,
        metric: Metric::Concurrent,
        quantity: Units(10),
        overdraft: Units::ZERO,
        attributes: BTreeMap::new(),
    };
    let document = LicenseDocument {
        license: LicenseId::new(id).expect("an id"),
        sku: Text::default(),
        plan: Text::default(),
        customer: Text::default(),
        features: vec![feature],
        not_before: Millis(1_000),
        not_after: None,
        trial: false,
        fingerprint: Fingerprint::new(&sources).expect("a fingerprint"),
        machine_sequence: 0,
        nonce: Nonce([nonce; 16]),
        issued_at: Millis(1_000),
    };
    sign(document, &SigningKey::from_seed(&[key; 32])).expect("signs").into_parts().1
}

fn bench() -> Bench<Register> {
    let mut bench = Bench::default();
    bench.run(NOW, Command::AddKey(SigningKey::from_seed(&[1; 32]).public_key()));
    bench
}

fn issued(reply: Reply) -> Arc<Issued> {
    match reply {
        Reply::Issued(issued) => issued,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_nonce_gets_the_same_answer_also_after_a_restart() {
    let mut bench = bench();
    let first = issued(bench.run(NOW, Command::Register(license("L-1", 7, 1))));
    bench.restart();
    let events = bench.events.len();
    let again = issued(bench.run(NOW, Command::Register(license("L-2", 7, 1))));
    assert_eq!(first, again);
    assert_eq!(bench.events.len(), events, "nothing new");
}

#[test]
fn a_license_of_an_unknown_key_or_with_a_taken_id_is_refused() {
    let mut bench = bench();
    issued(bench.run(NOW, Command::Register(license("L-1", 1, 1))));
    let taken = bench.run(NOW, Command::Register(license("L-1", 2, 1)));
    let id = LicenseId::new("L-1").expect("an id");
    assert_eq!(taken, Reply::Refused(Refusal::IdTaken(id)));
    let unknown = bench.run(NOW, Command::Register(license("L-2", 3, 9)));
    assert!(matches!(
        unknown,
        Reply::Refused(Refusal::License(LicenseError::Signed(SignedError::UnknownKey { .. })))
    ));
    assert_eq!(bench.state.licenses().count(), 1);
}

#[test]
fn a_key_is_known_once() {
    let mut bench = bench();
    let key = SigningKey::from_seed(&[1; 32]).public_key();
    assert_eq!(bench.run(NOW, Command::AddKey(key)), Reply::KeyKnown(key.id()));
    assert_eq!(bench.state.keys().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_snapshot_and_the_log_rebuild_the_same_register(
        steps in prop::collection::vec((0..6u8, 0..6u8, 1..4u8), 0..20),
    ) {
        let mut bench = bench();
        for (id, nonce, key) in steps {
            if id == nonce {
                bench.run(NOW, Command::AddKey(SigningKey::from_seed(&[key; 32]).public_key()));
            }
            bench.run(NOW, Command::Register(license(&format!("L-{id}"), nonce, key)));
        }
        let before = bench.state.clone();
        bench.restart();
        prop_assert_eq!(&bench.state, &before);
        let mut rebuilt = State::default();
        for event in Register::snapshot(&before) {
            Register::apply(&mut rebuilt, &event);
        }
        prop_assert_eq!(rebuilt, before);
    }
}
