//! What requests and answers promise on their way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::charge::{Feature, Units};
use crate::entitlement::RANDOM_BYTES;
use crate::fingerprint::Sources;
use crate::license::{LicenseDocument, Metric, SigningKey};
use crate::signed::sign;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn trusted() -> TrustedKeys {
    key(1).public_key().into()
}

fn fingerprint() -> Fingerprint {
    Fingerprint::new(&Sources { machine_id: Some("1234".into()), ..Sources::default() })
        .expect("a fingerprint")
}

fn text(text: &str) -> Text {
    Text::new(text).expect("a text")
}

fn certificate() -> Signed<MachineCertificate> {
    let certificate =
        MachineCertificate { machine: key(7).public_key(), fingerprint: fingerprint(), issued_at: Millis(5) };
    sign(certificate, &key(1)).expect("signs").signed().clone()
}

fn request(wish: Wish) -> Verified<Request> {
    let request = Request {
        wish,
        nonce: Nonce([9; 16]),
        sequence: 3,
        revision: 2,
        fingerprint: fingerprint(),
        machine: key(7).public_key(),
        certificate: Some(certificate()),
        created_at: Millis(1_000),
        software: text("management-node <0.1> & \"more\""),
    };
    sign(request, &key(7)).expect("signs")
}

fn license() -> LicenseDocument {
    let call = LicensedFeature {
        feature: Feature::new("call").expect("a feature"),
        metric: Metric::Concurrent,
        quantity: Units(10),
        overdraft: Units(2),
        attributes: BTreeMap::new(),
    };
    LicenseDocument {
        license: LicenseId::new("L-1").expect("an id"),
        sku: text("HR"),
        plan: text(""),
        customer: text("Example Ltd"),
        features: vec![call],
        not_before: Millis(1),
        not_after: None,
        trial: false,
        fingerprint: fingerprint(),
        machine_sequence: 3,
        nonce: Nonce([9; 16]),
        issued_at: Millis(1),
        grace_days: None,
    }
}

fn answer(signer: u8) -> Verified<Answer> {
    let signed = sign(license(), &key(signer)).expect("signs").signed().clone();
    let answer = Answer {
        nonce: Nonce([9; 16]),
        machine: key(7).public_key().id(),
        sequence: 3,
        revision: 4,
        at: Millis(2_000),
        outcome: Outcome::Done,
        certificate: Some(certificate()),
        holdings: vec![Holding {
            license: signed,
            key: Some(EntitlementKey::from_random([1; RANDOM_BYTES])),
        }],
        ended: vec![Ended { license: license().license, how: Ending::Revoked, at: Millis(7) }],
        offers: vec![Offer { sku: text("HR"), features: license().features }],
    };
    sign(answer, &key(signer)).expect("signs")
}

fn wishes() -> Vec<Wish> {
    vec![
        Wish::Activate(EntitlementKey::from_random([5; RANDOM_BYTES])),
        Wish::Return(license().license),
        Wish::Repair,
        Wish::Refresh,
        Wish::Fetch(None),
        Wish::Fetch(Some(text("HR & co <10>"))),
    ]
}

#[test]
fn every_request_and_answer_comes_back_from_its_xml_as_it_was_signed() {
    for wish in wishes() {
        let request = request(wish);
        let xml = write_request(&request);
        assert_eq!(read_request(xml.as_bytes()).as_ref(), Ok(request.document()), "{xml}");
        let mailed = xml.replace('\n', "\r\n   ");
        assert_eq!(read_request(mailed.as_bytes()).as_ref(), Ok(request.document()), "{mailed}");
    }
    let xml = write_answer(&answer(1), &[]);
    let read = read_answer(xml.as_bytes(), &trusted()).expect("reads");
    assert_eq!(&read.answer, answer(1).document());
    assert_eq!(read.licenses.len(), 1);
}

#[test]
fn a_request_shows_people_what_is_asked_and_nothing_of_the_machine() {
    let xml = write_request(&request(wishes().remove(0)));
    let readable: String =
        xml.lines().filter(|line| !line.contains("certificate")).collect::<Vec<_>>().join("\n");
    assert!(readable.contains("<kind>activate</kind>"), "{readable}");
    assert!(readable.contains(&format!("<fingerprint>{}</fingerprint>", fingerprint())), "{readable}");
    assert!(!xml.contains("1234"), "{xml}");
}

#[test]
fn an_answer_signed_by_a_successor_is_trusted_with_the_succession_only() {
    let succession = Succession { key: key(2).public_key(), at: Millis(1) };
    let succession = sign(succession, &key(1)).expect("signs").signed().clone();
    let with = write_answer(&answer(2), &[succession]);
    let read = read_answer(with.as_bytes(), &trusted()).expect("trusted");
    assert!(read.trusted.get(key(2).public_key().id()).is_some());
    let without = write_answer(&answer(2), &[]);
    let error = read_answer(without.as_bytes(), &trusted()).expect_err("unknown key");
    assert!(matches!(error, AnswerError::Signed(SignedError::UnknownKey { .. })), "{error}");
}

#[test]
fn a_request_signed_by_another_machine_is_refused() {
    let (asked, _) = request(Wish::Refresh).into_parts();
    let forged = sign(asked, &key(8)).expect("signs");
    let error = read_request(write_request(&forged).as_bytes()).expect_err("another machine's key");
    assert!(matches!(error, RequestError::Signed(SignedError::Signature { .. })), "{error}");
}

/// What an attacker or a bad mail program could make of a document, and the word in its refusal.
fn hostile(xml: &str, root: &str) -> Vec<(&'static str, String, &'static str)> {
    let declaration = xml.lines().next().expect("a declaration").to_owned();
    let rest = xml.strip_prefix(&declaration).expect("what follows it").to_owned();
    let open = format!("<{root} format=\"1\">");
    let inside = |what: &str| xml.replacen(&open, &format!("{open}{what}"), 1);
    let bomb: String =
        (0..12).map(|n| format!("<!ENTITY a{} \"{}\">", n + 1, format!("&a{n};").repeat(10))).collect();
    let attributes = |count: usize| {
        let many: String = (0..count).map(|n| format!(" a{n}=\"\"")).collect();
        xml.replacen(&open, &format!("<{root} format=\"1\"{many}>"), 1)
    };
    let signature = |xml: &str| {
        let line = xml.lines().find(|line| line.contains("<signature>") || line.contains("<payload>"));
        line.expect("a signed part").to_owned()
    };
    let part = signature(xml);
    vec![
        ("a document type", format!("{declaration}<!DOCTYPE x>{rest}"), "document type"),
        (
            "an external entity",
            format!("{declaration}<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>{rest}"),
            "document type",
        ),
        (
            "an entity bomb",
            format!("{declaration}<!DOCTYPE x [<!ENTITY a0 \"x\">{bomb}]>{rest}"),
            "document type",
        ),
        ("an unknown entity", inside("<x>&a12;</x>"), "entity"),
        ("a character reference", inside("<x>&#65;</x>"), "entity"),
        ("a processing instruction", inside("<?php x?>"), "processing instruction"),
        ("a comment", inside("<!-- x -->"), "comment"),
        ("a CDATA section", inside("<x><![CDATA[x]]></x>"), "CDATA"),
        ("deep nesting", inside(&"<x>".repeat(50_000)), "levels"),
        ("many elements", inside(&"<x></x>".repeat(20_000)), "elements"),
        ("20 000 attributes", attributes(20_000), "attributes"),
        ("100 000 attributes", attributes(100_000), "bytes"),
        ("too many bytes", format!("{xml}{}", " ".repeat(MAX_XML)), "bytes"),
        ("an unknown element", inside("<x></x>"), "x"),
        ("a signed part twice", xml.replacen(&part, &format!("{part}\n{part}"), 1), "not expected"),
        ("a signed part wrapped", xml.replacen(&part, &format!("<wrapped>{part}</wrapped>"), 1), "expected"),
        ("no signed part", xml.replacen(&part, "", 1), "expected here, found nothing"),
        ("two documents", format!("{xml}{rest}"), "something follows"),
        ("a document in a document", inside(&rest), ""),
        ("another format", xml.replacen("format=\"1\"", "format=\"2\"", 1), "format 2"),
        ("another document", format!("{declaration}<html></html>"), "html"),
        ("half of it", xml[..xml.len() / 2].to_owned(), ""),
        ("nothing", String::new(), "no element"),
        ("text", "Dear customer, please find attached".into(), "expected"),
    ]
}

#[test]
fn hostile_xml_is_refused_with_a_word_that_says_why() {
    let request = write_request(&request(wishes().remove(0)));
    for (what, xml, word) in hostile(&request, "license-request") {
        let error = read_request(xml.as_bytes()).expect_err(what).to_string();
        assert!(error.contains(word), "{what}: {error}");
    }
    let answer = write_answer(&answer(1), &[]);
    for (what, xml, word) in hostile(&answer, "license-answer") {
        let error = read_answer(xml.as_bytes(), &trusted()).expect_err(what).to_string();
        assert!(error.contains(word), "{what}: {error}");
    }
    assert!(matches!(read_request(&[0xff, 0xfe]), Err(RequestError::Xml(XmlError::NotText { at: 0 }))));
}

#[test]
fn every_flipped_bit_of_an_answer_is_refused_or_changes_nothing() {
    let xml = write_answer(&answer(1), &[]).into_bytes();
    let whole = read_answer(&xml, &trusted()).expect("reads");
    for at in 0..xml.len() {
        for bit in 0..8 {
            let mut wrong = xml.clone();
            wrong[at] ^= 1 << bit;
            if let Ok(read) = read_answer(&wrong, &trusted()) {
                assert_eq!(read, whole, "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_request_is_refused_or_changes_nothing() {
    let signed = request(wishes().remove(0));
    let xml = write_request(&signed).into_bytes();
    for at in 0..xml.len() {
        for bit in 0..8 {
            let mut wrong = xml.clone();
            wrong[at] ^= 1 << bit;
            if let Ok(read) = read_request(&wrong) {
                assert_eq!(&read, signed.document(), "bit {bit} of byte {at}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_readers_panic(text in "[<>/=\"'&; a-z!?-]{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for input in [text.as_bytes(), &bytes] {
            prop_assert!(read_request(input).is_err());
            prop_assert!(read_answer(input, &trusted()).is_err());
        }
    }

    #[test]
    fn any_text_survives_its_xml(software in "[^\\p{C}]{0,60}", product in "[^\\p{C}]{1,60}") {
        prop_assume!(software.trim() == software && product.trim() == product);
        let (mut asked, _) = request(Wish::Fetch(Some(text(&product)))).into_parts();
        asked.software = text(&software);
        let signed = sign(asked, &key(7)).expect("signs");
        let read = read_request(write_request(&signed).as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(signed.document()));
    }
}
