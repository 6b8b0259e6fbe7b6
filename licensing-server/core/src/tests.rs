//! What the register promises.

mod histories;
mod limits;

use std::collections::BTreeMap;

use headroom_core::activation::{Ending, Offer, Outcome, RefusalReason, Request, Wish};
use headroom_core::entitlement::{EntitlementKey, RANDOM_BYTES};
use headroom_core::fingerprint::{Fingerprint, Sources};
use headroom_core::license::{LicensedFeature, Metric, Nonce, SigningKey, sign};
use headroom_core::machine::Bench;
use headroom_core::signed::Succession;
use headroom_core::{Feature, LicenseId, Millis, Now, Text, Units};

use super::*;

fn text(text: &str) -> Text {
    Text::new(text).expect("a text")
}

fn vendor(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn key(seed: u8) -> EntitlementKey {
    EntitlementKey::from_random([seed; RANDOM_BYTES])
}

fn call(units: u32) -> Vec<LicensedFeature> {
    vec![LicensedFeature {
        feature: Feature::Call,
        metric: Metric::Concurrent,
        quantity: Units(units),
        overdraft: Units::ZERO,
        attributes: BTreeMap::new(),
    }]
}

fn terms(units: u32) -> Terms {
    Terms {
        sku: text("HR-CALL"),
        plan: text("P-1"),
        customer: text("Example"),
        features: call(units),
        not_before: Millis(0),
        not_after: None,
        grace_days: None,
        trial: false,
    }
}

/// A machine as the register sees it: its key, what it is, and what it remembers.
#[derive(Clone)]
struct Site {
    seed: u8,
    machine_id: String,
    mac: String,
    sequence: u64,
    revision: u64,
    certified: bool,
    nonces: u32,
}

impl Site {
    fn new(seed: u8) -> Self {
        let (machine_id, mac) = (format!("id-{seed}"), format!("52:54:00:00:00:{seed:02x}"));
        Self { seed, machine_id, mac, sequence: 0, revision: 0, certified: false, nonces: 0 }
    }

    fn fingerprint(&self) -> Fingerprint {
        let (machine_id, macs) = (Some(self.machine_id.clone()), vec![self.mac.clone()]);
        Fingerprint::new(&Sources { machine_id, macs, product_uuid: None }).expect("a fingerprint")
    }

    fn request(&mut self, wish: Wish) -> Request {
        self.sequence += 1;
        self.nonces += 1;
        let machine = SigningKey::from_seed(&[100 + self.seed; 32]).public_key();
        let certificate = headroom_core::activation::MachineCertificate {
            machine,
            fingerprint: self.fingerprint(),
            issued_at: Millis(1),
        };
        let certificate = sign(certificate, &vendor(1)).expect("signs").into_parts().1;
        let mut nonce = [self.seed; 16];
        nonce[..4].copy_from_slice(&self.nonces.to_be_bytes());
        Request {
            wish,
            nonce: Nonce(nonce),
            sequence: self.sequence,
            revision: self.revision,
            fingerprint: self.fingerprint(),
            machine,
            certificate: self.certified.then_some(certificate),
            created_at: Millis(1),
            software: text("test"),
        }
    }

    /// Applies an answer as a machine does.
    fn heard(&mut self, answer: &AnswerDraft) {
        self.sequence = self.sequence.max(answer.sequence);
        self.revision = self.revision.max(answer.revision);
        self.certified |= answer.certificate.is_some();
    }
}

struct World {
    bench: Bench<Register>,
    now: Now,
    draws: u8,
}

impl World {
    fn new() -> Self {
        let mut world =
            Self { bench: Bench::default(), now: Now { wall: Millis(1_000), boot: Millis(0) }, draws: 0 };
        let first = KnownKey { key: vendor(1).public_key(), added_at: Millis(1), succession: None };
        assert_eq!(world.run(Command::AddKey(first)), Reply::Done);
        world.run(Command::AddCustomer { name: text("Example"), reference: text("4711") });
        world
    }

    fn run(&mut self, command: Command) -> Reply {
        self.now.wall = self.now.wall.plus(Millis(1));
        self.bench.run(self.now, command)
    }

    fn fresh(&mut self) -> Fresh {
        self.draws = self.draws.wrapping_add(1);
        Fresh {
            prefix: "L-".into(),
            random: [self.draws; 16],
            trial_end: self.now.wall.plus(Millis::DAY.times(90)),
        }
    }

    fn sell(&mut self, seed: u8, units: u32) -> EntitlementKey {
        let made = self.run(Command::CreateKey { key: key(seed), terms: terms(units), assigned: None });
        assert!(matches!(made, Reply::Key(_)), "{made:?}");
        key(seed)
    }

    fn post(&mut self, request: &Request, source: Source) -> Reply {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(minicbor::to_vec(request).expect("encodes")).into();
        let fresh = self.fresh();
        self.run(Command::Answer { request: Box::new(request.clone()), digest, source, fresh })
    }

    fn send(&mut self, request: &Request) -> AnswerDraft {
        match self.post(request, Source::Vendor(text("file"))) {
            Reply::Answered(draft) => *draft,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, site: &mut Site, wish: Wish) -> AnswerDraft {
        let request = site.request(wish);
        let answer = self.send(&request);
        site.heard(&answer);
        answer
    }
}

fn refusal(answer: &AnswerDraft) -> Option<RefusalReason> {
    match &answer.outcome {
        Outcome::Refused(reason, _) => Some(*reason),
        _ => None,
    }
}

fn ids(answer: &AnswerDraft) -> Vec<LicenseId> {
    answer.holdings.iter().map(|(document, _)| document.license.clone()).collect()
}

fn units(answer: &AnswerDraft) -> u32 {
    answer.holdings.iter().map(|(document, _)| document.features[0].quantity.0).sum()
}

#[test]
fn a_key_is_active_on_one_machine_and_moves_by_being_returned() {
    let (mut world, mut one, mut two) = (World::new(), Site::new(1), Site::new(2));
    let key = world.sell(1, 10);
    let first = world.ask(&mut one, Wish::Activate(key));
    assert_eq!((first.outcome.clone(), units(&first)), (Outcome::Done, 10));
    assert_eq!(first.holdings[0].1, Some(key));
    assert!(first.holdings[0].0.fingerprint.matches(&one.fingerprint()));
    assert_eq!(refusal(&world.ask(&mut two, Wish::Activate(key))), Some(RefusalReason::KeyInUse));
    let again = world.ask(&mut one, Wish::Activate(key));
    assert_eq!((again.outcome.clone(), units(&again)), (Outcome::Done, 10), "the same machine has it once");
    let license = ids(&first).remove(0);
    assert_eq!(
        refusal(&world.ask(&mut two, Wish::Return(license.clone()))),
        Some(RefusalReason::NoCertificate)
    );
    two.certified = true;
    let foreign = world.ask(&mut two, Wish::Return(license.clone()));
    assert_eq!(
        refusal(&foreign),
        Some(RefusalReason::ServerBehind),
        "a certificate that is not in the books"
    );
    two.certified = false;
    let returned = world.ask(&mut one, Wish::Return(license.clone()));
    assert_eq!((returned.outcome.clone(), units(&returned)), (Outcome::Done, 0));
    assert_eq!((returned.ended[0].license.clone(), returned.ended[0].how), (license, Ending::Returned));
    let moved = world.ask(&mut two, Wish::Activate(key));
    assert_eq!((moved.outcome.clone(), units(&moved)), (Outcome::Done, 10));
}

#[test]
fn the_same_request_gets_the_same_answer_and_its_identity_serves_no_other() {
    let (mut world, mut site) = (World::new(), Site::new(1));
    let key = world.sell(1, 10);
    let request = site.request(Wish::Activate(key));
    let first = world.send(&request);
    let mut other = site.request(Wish::Refresh);
    other.nonce = request.nonce;
    assert_eq!(refusal(&world.send(&other)), Some(RefusalReason::NonceReused));
    site.heard(&first);
    assert_eq!(world.send(&request), first);
    world.ask(&mut site, Wish::Return(ids(&first).remove(0)));
    let again = world.send(&request);
    assert_eq!(
        (again.outcome, again.holdings.len()),
        (first.outcome, 0),
        "what was returned since is not told"
    );
}

#[test]
fn a_number_used_for_another_request_is_a_rollback_and_the_answer_lists_the_truth() {
    let (mut world, mut site) = (World::new(), Site::new(1));
    let (one, two) = (world.sell(1, 10), world.sell(2, 5));
    let first = world.ask(&mut site, Wish::Activate(one));
    let mut restored = site.clone();
    world.ask(&mut site, Wish::Activate(two));
    world.ask(&mut site, Wish::Return(ids(&first).remove(0)));
    restored.nonces = 1_000;
    let answer = world.ask(&mut restored, Wish::Refresh);
    assert_eq!((answer.outcome.clone(), units(&answer)), (Outcome::Resynchronized, 5));
    assert_eq!(restored.sequence, 3);
    assert_eq!(world.ask(&mut restored, Wish::Refresh).outcome, Outcome::Done);
    let record = world.bench.state.machines.values().next().expect("the machine");
    assert_eq!(record.resynchronized, 1);
}

#[test]
fn numbers_may_be_missing_and_late() {
    let (mut world, mut site) = (World::new(), Site::new(1));
    let (one, two) = (world.sell(1, 10), world.sell(2, 5));
    let early = site.request(Wish::Activate(one));
    site.sequence = 9;
    let late = world.ask(&mut site, Wish::Activate(two));
    assert_eq!((late.outcome.clone(), late.sequence), (Outcome::Done, 10));
    let answer = world.send(&early);
    assert_eq!((answer.outcome.clone(), units(&answer)), (Outcome::Done, 15));
    let mut again = site.request(Wish::Refresh);
    again.sequence = early.sequence;
    assert_eq!(world.send(&again).outcome, Outcome::Resynchronized);
}

#[test]
fn a_changed_machine_repairs_and_nothing_else_is_bound_before() {
    let (mut world, mut site) = (World::new(), Site::new(1));
    let (one, two) = (world.sell(1, 10), world.sell(2, 5));
    world.ask(&mut site, Wish::Activate(one));
    let before = site.fingerprint();
    site.mac = "52:54:00:ff:ff:01".into();
    let refreshed = world.ask(&mut site, Wish::Refresh);
    assert!(refreshed.holdings[0].0.fingerprint.matches(&before), "a refresh binds nothing");
    assert_eq!(refusal(&world.ask(&mut site, Wish::Activate(two))), Some(RefusalReason::MachineChanged));
    let repaired = world.ask(&mut site, Wish::Repair);
    assert_eq!((repaired.outcome.clone(), units(&repaired)), (Outcome::Done, 10));
    assert!(repaired.holdings[0].0.fingerprint.matches(&site.fingerprint()));
    assert!(repaired.revision > refreshed.revision);
    assert_eq!(world.ask(&mut site, Wish::Activate(two)).outcome, Outcome::Done);
}

#[test]
fn the_vendor_changes_revokes_and_replaces_and_the_machine_hears_of_it() {
    let (mut world, mut site, mut other) = (World::new(), Site::new(1), Site::new(2));
    let (one, two) = (world.sell(1, 10), world.sell(2, 5));
    world.ask(&mut site, Wish::Activate(one));
    let before = world.ask(&mut site, Wish::Activate(two));
    let change = Change {
        features: Some(call(40)),
        not_after: Some(Some(Millis::DAY.times(400))),
        grace_days: Some(7),
    };
    world.run(Command::ChangeKey { key: one, change });
    let changed = world.ask(&mut site, Wish::Refresh);
    assert_eq!(units(&changed), 45);
    assert_eq!(ids(&changed), ids(&before), "the same licenses");
    world.run(Command::RevokeKey { key: one, reason: text("not paid") });
    let revoked = world.ask(&mut site, Wish::Refresh);
    assert_eq!((units(&revoked), revoked.ended[0].how), (5, Ending::Revoked));
    assert_eq!(refusal(&world.ask(&mut other, Wish::Activate(one))), Some(RefusalReason::KeyRevoked));
    let replaced = world.run(Command::Replace { key: two, reason: text("the machine burnt") });
    assert!(matches!(replaced, Reply::Ended(_)), "{replaced:?}");
    assert_eq!(units(&world.ask(&mut other, Wish::Activate(two))), 5);
    let dead = world.ask(&mut site, Wish::Refresh);
    assert_eq!((units(&dead), dead.ended[0].how), (0, Ending::Replaced), "should it live after all");
    assert_eq!(
        world.run(Command::Replace { key: one, reason: text("again") }),
        Reply::Refused(Refusal::NotActive)
    );
    let change = Change { features: Some(Vec::new()), ..Change::default() };
    let refused = world.run(Command::ChangeKey { key: two, change });
    assert!(matches!(refused, Reply::Refused(Refusal::Terms(_))), "{refused:?}");
}

#[test]
fn a_machine_has_one_trial_of_a_product_for_ever_also_when_it_is_installed_anew() {
    let (mut world, mut site) = (World::new(), Site::new(1));
    let unknown = world.ask(&mut site, Wish::Fetch(Some(text("HR-TRY"))));
    assert_eq!(refusal(&unknown), Some(RefusalReason::UnknownProduct));
    world.run(Command::OfferTrial(Offer { sku: text("HR-TRY"), features: call(20) }));
    let offered = world.ask(&mut site, Wish::Fetch(None));
    assert_eq!((units(&offered), offered.offers.len()), (0, 1));
    let trial = world.ask(&mut site, Wish::Fetch(Some(text("HR-TRY"))));
    let document = &trial.holdings[0].0;
    assert!(document.trial && units(&trial) == 20);
    assert_eq!(document.not_after, Some(Millis(trial.at.0 - 1).plus(Millis::DAY.times(90))));
    let again = world.ask(&mut site, Wish::Fetch(Some(text("HR-TRY"))));
    assert_eq!(again.holdings, trial.holdings, "downloading it again begins no new time");
    let mut anew = Site { machine_id: "another".into(), ..Site::new(9) };
    anew.mac.clone_from(&site.mac);
    let refused = world.ask(&mut anew, Wish::Fetch(Some(text("HR-TRY"))));
    assert_eq!(refusal(&refused), Some(RefusalReason::TrialUsed));
    let license = ids(&trial).remove(0);
    world.ask(&mut site, Wish::Return(license));
    let after = world.ask(&mut site, Wish::Fetch(Some(text("HR-TRY"))));
    assert_eq!(refusal(&after), Some(RefusalReason::TrialUsed));
}

#[test]
fn what_is_assigned_to_a_machine_is_fetched_without_typing_and_by_no_other() {
    let (mut world, mut site, mut other) = (World::new(), Site::new(1), Site::new(2));
    let assigned = Some(site.fingerprint());
    world.run(Command::CreateKey { key: key(1), terms: terms(10), assigned });
    let fresh = world.fresh();
    let (fingerprint, issued) = (site.fingerprint(), terms(7));
    world.run(Command::Issue { terms: issued, fingerprint, fresh });
    assert_eq!(refusal(&world.ask(&mut other, Wish::Activate(key(1)))), Some(RefusalReason::KeyAssigned));
    assert_eq!(units(&world.ask(&mut other, Wish::Fetch(None))), 0);
    assert_eq!(units(&world.ask(&mut site, Wish::Fetch(None))), 17);
}

#[test]
fn a_register_restored_from_an_older_copy_takes_no_license_away() {
    let (mut world, mut site) = (World::new(), Site::new(1));
    let (one, two) = (world.sell(1, 10), world.sell(2, 5));
    let empty = world.bench.events.len();
    world.ask(&mut site, Wish::Activate(one));
    let copy = world.bench.events.len();
    world.ask(&mut site, Wish::Activate(two));
    for events in [copy, empty] {
        world.bench.events.truncate(events);
        world.bench.restart();
        let answer = world.ask(&mut site, Wish::Refresh);
        assert_eq!(refusal(&answer), Some(RefusalReason::ServerBehind));
        assert!(answer.holdings.is_empty() && answer.revision < site.revision);
    }
}

#[test]
fn a_signing_key_is_taken_only_with_the_word_of_the_newest() {
    let mut world = World::new();
    let succeed = |by: u8, to: u8| {
        let succession = Succession { key: vendor(to).public_key(), at: Millis(1) };
        let succession = Some(sign(succession, &vendor(by)).expect("signs").into_parts().1);
        Command::AddKey(KnownKey { key: vendor(to).public_key(), added_at: Millis(1), succession })
    };
    let alone = KnownKey { key: vendor(2).public_key(), added_at: Millis(1), succession: None };
    assert!(matches!(world.run(Command::AddKey(alone)), Reply::Refused(Refusal::NotSuccessor(_))));
    assert!(matches!(world.run(succeed(3, 2)), Reply::Refused(Refusal::Succession(_))));
    assert_eq!(world.run(succeed(1, 2)), Reply::Done);
    assert!(
        matches!(world.run(succeed(1, 3)), Reply::Refused(Refusal::Succession(_))),
        "no longer the newest"
    );
    assert_eq!(world.run(succeed(2, 3)), Reply::Done);
    assert_eq!(world.bench.state.keys.len(), 3);
}
