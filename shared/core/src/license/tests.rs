//! What a license file promises.

use proptest::prelude::*;

use std::collections::BTreeMap;

use super::*;
use crate::charge::{Feature, Units};
use crate::fingerprint::{Fingerprint, Sources};
use crate::ids::{LicenseId, Text};
use crate::signed::{Envelope, encode};
use crate::time::Millis;
use minicbor::Encode;

fn machine(id: &str) -> Fingerprint {
    let sources = Sources { machine_id: Some(id.into()), ..Sources::default() };
    Fingerprint::new(&sources).expect("a fingerprint")
}

fn text(text: &str) -> Text {
    Text::new(text).expect("a text")
}

fn feature(name: &str, quantity: u32, overdraft: u32) -> LicensedFeature {
    LicensedFeature {
        feature: Feature::new(name).expect("a feature"),
        metric: Metric::Concurrent,
        quantity: Units(quantity),
        overdraft: Units(overdraft),
        attributes: BTreeMap::from([(text("tier"), text("gold"))]),
    }
}

fn document() -> LicenseDocument {
    LicenseDocument {
        license: LicenseId::new("L-1").expect("an id"),
        sku: text("HR-CALL-10"),
        plan: text("P-1"),
        customer: text("Example Ltd"),
        features: vec![feature("call", 10, 2), feature("connect.teams", 5, 0)],
        not_before: Millis(1_000),
        not_after: Some(Millis(2_000)),
        trial: false,
        fingerprint: machine("1234"),
        machine_sequence: 1,
        nonce: Nonce([3; 16]),
        issued_at: Millis(900),
        grace_days: None,
    }
}

#[derive(Encode)]
struct Payload {
    #[n(0)]
    format: u32,
    #[n(1)]
    document: LicenseDocument,
}

fn message(key: KeyId, payload: &[u8]) -> Vec<u8> {
    LicenseDocument::KIND.message(key, payload)
}

fn read(bytes: Vec<u8>) -> Result<VerifiedLicense, LicenseError> {
    SignedLicense::from_bytes(bytes)?.verify(&trusted())
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[42; 32])
}

fn trusted() -> TrustedKeys {
    key().public_key().into()
}

fn file() -> String {
    sign(document(), &key()).expect("signs").signed().to_file()
}

#[test]
fn a_signed_license_verifies_and_says_what_was_signed() {
    let signed = SignedLicense::parse(file().as_bytes()).expect("parses");
    let verified = signed.verify(&trusted()).expect("verifies");
    assert_eq!(verified.document(), &document());
    assert_eq!(verified.key(), key().public_key().id());
    let again = SignedLicense::from_bytes(verified.signed().as_bytes().to_vec()).expect("parses");
    assert_eq!(again.verify(&trusted()).expect("verifies"), verified);
    let bytes = minicbor::to_vec(&signed).expect("encodes");
    assert_eq!(minicbor::decode::<SignedLicense>(&bytes).expect("decodes"), signed);
}

#[test]
fn licenses_of_format_1_read_for_ever() {
    assert_eq!(file(), GOLDEN);
}

const GOLDEN: &str = "-----BEGIN HEADROOM LICENSE-----
hAFItgAwbPp2cj9YgoIBjGNMLTFqSFItQ0FMTC0xMGNQLTFrRXhhbXBsZSBMdGSC
hWRjYWxsAQoCoWR0aWVyZGdvbGSFbWNvbm5lY3QudGVhbXMBBQChZHRpZXJkZ29s
ZBkD6BkH0PSBUKJZvkmowGMdpsZaQvkV3p8BUAMDAwMDAwMDAwMDAwMDAwMZA4RY
QCiWGwdWGl0D9GpnxiF170w4ryBKSkx8eXOmvxI0pshKh7oJI+Zebjs3ozHiK1fr
RTBffNUkI5yQTZChcQmWiQw=
-----END HEADROOM LICENSE-----
";

#[test]
fn every_flipped_bit_of_a_license_file_is_refused_or_changes_nothing() {
    let original = file().into_bytes();
    let verified = sign(document(), &key()).expect("signs");
    let mut harmless = 0;
    for at in 0..original.len() {
        for bit in 0..8 {
            let mut wrong = original.clone();
            wrong[at] ^= 1 << bit;
            if let Ok(found) = SignedLicense::parse(&wrong).and_then(|signed| signed.verify(&trusted())) {
                assert_eq!(found, verified, "bit {bit} of byte {at}");
                harmless += 1;
            }
        }
    }
    // Only line ends that turn into other blanks.
    assert!(harmless < 50, "{harmless} flips changed nothing");
}

#[test]
fn every_flipped_bit_of_the_signed_bytes_is_refused() {
    let original = sign(document(), &key()).expect("signs").signed().as_bytes().to_vec();
    for at in 0..original.len() {
        for bit in 0..8 {
            let mut wrong = original.clone();
            wrong[at] ^= 1 << bit;
            let found = read(wrong);
            assert!(found.is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn what_is_no_single_license_file_is_refused_by_its_kind() {
    let parse = |text: &str| SignedLicense::parse(text.as_bytes());
    let file = file();
    assert!(parse(&format!("\n{}\n\n", file.replace('\n', "\r\n"))).is_ok(), "a mail's line ends");
    assert_eq!(parse(""), Err(LicenseError::NoLicense));
    assert_eq!(parse(&format!("Hello\n{file}")), Err(LicenseError::NoLicense));
    assert_eq!(SignedLicense::parse(&[0xff, 0xfe]), Err(LicenseError::NoLicense));
    assert_eq!(parse(&format!("{file}{file}")), Err(LicenseError::Several { count: 2 }));
    assert_eq!(parse(&format!("{file}rubbish")), Err(LicenseError::End));
    assert_eq!(parse(&file[..file.len() / 2]), Err(LicenseError::End));
    let len = MAX_SIGNED + 1;
    assert_eq!(parse(&"x".repeat(len)), Err(LicenseError::TooLarge { len }));
    let other = file.replace("LICENSE", "LETTERS");
    assert_eq!(parse(&other), Err(LicenseError::NoLicense));
    let header = file.replacen('\n', "\nProc-Type: 4\n\n", 1);
    assert!(matches!(parse(&header), Err(LicenseError::Damaged { .. })));
    let empty = format!("{BEGIN}\n{END}\n");
    assert!(matches!(parse(&empty), Err(LicenseError::Signed(SignedError::Damaged { .. }))));
    let mut trailing = sign(document(), &key()).expect("signs").signed().as_bytes().to_vec();
    trailing.push(0);
    assert!(matches!(SignedLicense::from_bytes(trailing), Err(SignedError::Damaged { .. })));
}

#[test]
fn an_unknown_format_or_key_is_named() {
    let envelope = |format, payload: &[u8], key_id| {
        let signature = key().sign(&message(key_id, payload));
        let bytes = encode(&Envelope { format, key: key_id, payload: payload.to_vec(), signature });
        read(bytes)
    };
    let id = key().public_key().id();
    let good = encode(&Payload { format: FORMAT, document: document() });
    assert!(envelope(FORMAT, &good, id).is_ok());
    assert_eq!(
        envelope(2, &good, id),
        Err(SignedError::Format { what: "license", found: 2, reads: FORMAT }.into())
    );
    let newer = encode(&Payload { format: 7, document: document() });
    assert_eq!(
        envelope(FORMAT, &newer, id),
        Err(SignedError::Format { what: "license", found: 7, reads: FORMAT }.into())
    );
    let other = KeyId([9; 8]);
    let refused =
        Err(SignedError::UnknownKey { what: "license", key: other, trusted: id.to_string() }.into());
    assert_eq!(envelope(FORMAT, &good, other), refused);
    let trailing = [good.as_slice(), &[0]].concat();
    let damaged = envelope(FORMAT, &trailing, id);
    assert!(matches!(damaged, Err(LicenseError::Signed(SignedError::Damaged { .. }))));
}

#[test]
fn a_signature_by_another_key_under_this_keys_name_is_refused() {
    let id = key().public_key().id();
    let payload = encode(&Payload { format: FORMAT, document: document() });
    let signature = SigningKey::from_seed(&[1; 32]).sign(&message(id, &payload));
    let bytes = encode(&Envelope { format: FORMAT, key: id, payload, signature });
    let signed = SignedLicense::from_bytes(bytes).expect("an envelope");
    assert_eq!(signed.verify(&trusted()), Err(SignedError::Signature { what: "license", key: id }.into()));
}

#[test]
fn a_signature_without_the_domain_tag_is_refused() {
    let id = key().public_key().id();
    let payload = encode(&Payload { format: FORMAT, document: document() });
    let signature = key().sign(&payload);
    let bytes = encode(&Envelope { format: FORMAT, key: id, payload, signature });
    let signed = SignedLicense::from_bytes(bytes).expect("an envelope");
    assert_eq!(signed.verify(&trusted()), Err(SignedError::Signature { what: "license", key: id }.into()));
}

#[test]
fn a_contradictory_document_is_neither_signed_nor_accepted() {
    let change = |change: fn(&mut LicenseDocument)| {
        let mut document = document();
        change(&mut document);
        let payload = encode(&Payload { format: FORMAT, document: document.clone() });
        let id = key().public_key().id();
        let signature = key().sign(&message(id, &payload));
        let bytes = encode(&Envelope { format: FORMAT, key: id, payload, signature });
        let accepted = read(bytes);
        let signed = sign(document, &key());
        assert_eq!(signed, accepted);
        signed.map(|_| ()).expect_err("refused")
    };
    let field = |error| match error {
        LicenseError::Document(error) => error.field(),
        other => panic!("{other}"),
    };
    assert_eq!(field(change(|d| d.features.clear())), "features");
    assert_eq!(field(change(|d| d.features.push(feature("call", 1, 0)))), "features[2].feature");
    assert_eq!(field(change(|d| d.features[1].quantity = Units::ZERO)), "features[1].quantity");
    assert_eq!(field(change(|d| d.features[1].overdraft = Units(u32::MAX))), "features[1].overdraft");
    assert_eq!(field(change(|d| d.not_after = Some(d.not_before))), "not_after");
    assert_eq!(field(change(|d| d.grace_days = Some(367))), "grace_days");
}

#[test]
fn a_license_counts_from_its_begin_until_its_end_on_its_machine() {
    let document = document();
    let here = machine("1234");
    let at = |now| validity(&document, Millis(now), &here);
    assert_eq!(at(999), Validity::NotYetValid);
    assert_eq!(at(1_000), Validity::Active);
    assert_eq!(at(1_999), Validity::Active);
    assert_eq!(at(2_000), Validity::Expired);
    assert_eq!(validity(&document, Millis(1_500), &machine("9")), Validity::Corrupt);
    assert_eq!(validity(&document, Millis(9_999), &machine("9")), Validity::Corrupt);
    let day = Millis::DAY.0;
    let graceful = LicenseDocument { grace_days: Some(2), ..document.clone() };
    let at = |now| validity(&graceful, Millis(now), &here);
    assert_eq!(at(1_999), Validity::Active);
    assert_eq!((at(2_000), at(1_999 + 2 * day)), (Validity::Grace, Validity::Grace));
    assert_eq!(at(2_000 + 2 * day), Validity::Expired);
    let endless = LicenseDocument { not_after: None, ..document.clone() };
    assert_eq!(validity(&endless, Millis(i64::MAX), &here), Validity::Active);
}

prop_compose! {
    fn documents()(
        license in "[a-zA-Z0-9-]{1,40}",
        words in prop::collection::vec("[^\\p{C}]{0,40}", 3),
        features in prop::collection::btree_map("[a-z][a-z_.]{0,20}", (1..u32::MAX / 2, 0..u32::MAX / 2, 0..4usize), 1..8),
        not_before in any::<i32>(),
        length in prop::option::of(1..i32::MAX),
        trial in any::<bool>(),
        machine_id in "[1-9a-e]{8}",
        machine_sequence in any::<u64>(),
        nonce in any::<[u8; 16]>(),
    ) -> LicenseDocument {
        let features = features.iter().map(|(name, (quantity, overdraft, metric))| LicensedFeature {
            metric: Metric::ALL[*metric],
            ..feature(name, *quantity, *overdraft)
        });
        LicenseDocument {
            license: LicenseId::new(&license).expect("an id"),
            sku: text(&words[0]),
            plan: text(&words[1]),
            customer: text(&words[2]),
            features: features.collect(),
            not_before: Millis(not_before.into()),
            not_after: length.map(|length| Millis(i64::from(not_before) + i64::from(length))),
            trial,
            fingerprint: machine(&machine_id),
            machine_sequence,
            nonce: Nonce(nonce),
            issued_at: Millis(5),
            grace_days: None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_document_comes_back_as_it_was_signed(document in documents(), seed in any::<[u8; 32]>()) {
        let key = SigningKey::from_seed(&seed);
        let signed = sign(document.clone(), &key).expect("signs");
        let read = SignedLicense::parse(signed.signed().to_file().as_bytes()).expect("parses");
        let verified = read.verify(&key.public_key().into()).expect("verifies");
        prop_assert_eq!(verified.document(), &document);
        prop_assert_eq!(verified, signed);
        prop_assert!(read.verify(&trusted()).is_err());
    }

    #[test]
    fn no_input_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SignedLicense::parse(&bytes);
        if let Ok(signed) = SignedLicense::from_bytes(bytes) {
            prop_assert!(signed.verify(&trusted()).is_err());
        }
    }
}
