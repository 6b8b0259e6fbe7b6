//! What is bounded: failures of a source, what the register keeps, what an answer carries.

use super::*;

#[test]
fn guessing_keys_is_limited_by_source_and_answered_requests_are_not() {
    let (mut world, mut site) = (World::new(), Site::new(1));
    let sold = world.sell(1, 10);
    let source = || Source::Network(text("192.0.2.1"));
    for guess in 0..LIMIT_FAILURES {
        let request = site.request(Wish::Activate(key(50 + u8::try_from(guess).expect("small"))));
        assert!(matches!(world.post(&request, source()), Reply::Answered(_)));
    }
    let request = site.request(Wish::Activate(sold));
    let limited = world.post(&request, source());
    assert!(
        matches!(limited, Reply::Refused(Refusal::Limited { retry_after: LIMIT_EVERY, .. })),
        "{limited:?}"
    );
    assert!(matches!(world.post(&request, Source::Network(text("192.0.2.2"))), Reply::Answered(_)));
    world.now.boot = world.now.boot.plus(LIMIT_EVERY);
    assert!(matches!(world.post(&request, source()), Reply::Answered(_)));
    assert!(matches!(world.run(Command::Reject { source: source(), why: text("no XML") }), Reply::Done));
    assert!(matches!(world.post(&request, source()), Reply::Refused(Refusal::Limited { .. })));
}

#[test]
fn machines_that_nobody_knows_are_limited_and_what_the_vendor_did_is_kept_apart() {
    let mut world = World::new();
    world.sell(1, 10);
    world.run(Command::OfferTrial(Offer { sku: text("HR-TRY"), features: call(20) }));
    let source = || Source::Network(text("192.0.2.9"));
    for seed in 1..=10 {
        let request = Site::new(seed).request(Wish::Fetch(Some(text("HR-TRY"))));
        assert!(matches!(world.post(&request, source()), Reply::Answered(_)));
    }
    let request = Site::new(11).request(Wish::Fetch(Some(text("HR-TRY"))));
    for _ in 0..2 {
        assert!(matches!(world.post(&request, source()), Reply::Refused(Refusal::Limited { .. })));
    }
    let state = &world.bench.state;
    assert_eq!((state.machines.len(), state.vendor_audit.len()), (10, 1));
    let numbers: Vec<_> = state.audited(u64::MAX).map(|(number, _)| number).collect();
    assert_eq!(numbers, (1..=12).rev().collect::<Vec<_>>(), "one list, newest first, the refusal noted once");
}

#[test]
fn more_than_an_answer_carries_is_neither_bound_nor_offered() {
    let (mut world, mut site) = (World::new(), Site::new(1));
    let many = |name: &str| -> Vec<LicensedFeature> {
        let feature = |n: usize| Feature::new(&format!("{name}.{n}.{}", "x".repeat(45))).expect("a name");
        (0..64).map(|n| LicensedFeature { feature: feature(n), ..call(1).remove(0) }).collect()
    };
    let mut offered = 0;
    loop {
        let offer = Offer { sku: text(&format!("T-{offered}")), features: many("t") };
        if world.run(Command::OfferTrial(offer)) != Reply::Done {
            break;
        }
        offered += 1;
    }
    assert!((1..64).contains(&offered), "{offered}");
    let mut refused = 0;
    for seed in 0..40 {
        let terms = Terms { features: many("f"), ..terms(1) };
        world.run(Command::CreateKey { key: key(seed), terms, assigned: None });
        let answer = world.ask(&mut site, Wish::Activate(key(seed)));
        refused += u32::from(refusal(&answer) == Some(RefusalReason::TooManyLicenses));
    }
    assert!(refused > 0, "all were bound");
    let answer = world.ask(&mut site, Wish::Fetch(None));
    let signed = answer.sign(&vendor(1)).expect("an answer is never too large to be signed");
    let xml = headroom_core::activation::write_answer(&signed, &[]);
    assert!(xml.len() <= headroom_core::activation::MAX_XML, "{} bytes", xml.len());
}
