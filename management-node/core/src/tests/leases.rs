//! Leases as one piece of memory each: nothing of them is lost, and both orders hold the same.

use headroom_core::{CallId, Charge, Feature, LeaseId, LegId, Millis, Service, Shared, Text, Units};

use super::{call, leg};
use crate::leases::{Leases, Packed};
use crate::state::{HolderId, Lease, LeaseKey, Origin, PoolInstant};

fn lease(id: u64, of_call: &str, of_leg: &str) -> Lease {
    let mut info = call(of_call, Service::Vmr, Vec::new()).info;
    // texts that are also those of the ids, so that a search for an id can find them
    info.conference = Text::new(of_leg).expect("a text");
    let mut leg = leg(of_leg);
    leg.participant = Text::new(of_call).expect("a text");
    Lease {
        id: LeaseId(id),
        info: Shared::new(info),
        leg,
        charge: Charge { feature: Feature::Call, units: Units(1) },
        origin: Origin::Asked,
        admitted_at: Millis(1),
        granted_at: Millis(2),
        pool: PoolInstant::default(),
    }
}

fn key(holder: u32, leg: &str) -> LeaseKey {
    LeaseKey { holder: HolderId(holder), leg: LegId::new(leg).expect("an id") }
}

fn insert(leases: &mut Leases, holder: u32, lease: &Lease) {
    leases.insert(Packed::new(HolderId(holder), lease));
}

#[test]
fn what_is_put_in_comes_out_whatever_its_texts_have_in_common() {
    let long = "x".repeat(255);
    let texts = [("a", "a"), ("aa", "a"), ("a", "aa"), (&long, "x"), ("x", &long), (&long, &long)];
    let mut leases = Leases::default();
    for (holder, (call, leg)) in (0..).zip(texts) {
        let lease = lease(u64::from(holder), call, leg);
        insert(&mut leases, holder, &lease);
        assert_eq!(leases.get(&key(holder, leg)), Some(lease.clone()));
        assert!(leases.of_call(&lease.info.call).any(|found| found == (HolderId(holder), lease.clone())));
    }
    assert_eq!(leases.newest().map(|(_, lease)| lease.id), Some(LeaseId(5)));
    for (holder, (_, leg)) in (0..).zip(texts) {
        assert!(leases.remove(&key(holder, leg)).is_some());
    }
    assert!(leases.is_empty() && leases.by_call(None).next().is_none());
}

#[test]
fn a_packed_lease_is_written_and_read_as_it_is_and_counted_as_it_says() {
    let mut lease = lease(7, "call", "leg");
    lease.charge = Charge { feature: Feature::ConnectTeams, units: Units(3) };
    lease.origin = Origin::Adopted;
    let bytes = minicbor::to_vec(Packed::new(HolderId(9), &lease)).expect("encoded");
    let read: Packed = minicbor::decode(&bytes).expect("decoded");
    assert_eq!((read.holder(), read.lease()), (HolderId(9), lease.clone()));
    assert_eq!(minicbor::to_vec(&read).expect("encoded"), bytes);
    let counted = read.counted();
    assert_eq!((read.key(), counted.id), (key(9, "leg"), lease.id));
    assert_eq!((counted.leg, counted.call), ("leg", "call"));
    assert_eq!((counted.charge, counted.origin), (lease.charge, lease.origin));
    for end in 0..bytes.len() {
        assert!(minicbor::decode::<Packed>(&bytes[..end]).is_err(), "{end} bytes of {}", bytes.len());
    }
}

#[test]
fn a_leg_that_changes_its_call_is_in_one_call_only() {
    let mut leases = Leases::default();
    insert(&mut leases, 1, &lease(1, "before", "leg"));
    insert(&mut leases, 1, &lease(2, "after", "leg"));
    assert_eq!(leases.len(), 1);
    assert!(!leases.has_call("before"));
    assert_eq!(leases.by_call(None).map(|(_, lease)| lease.id).collect::<Vec<_>>(), [LeaseId(2)]);
}

#[test]
fn calls_are_listed_in_order_from_any_of_them_on() {
    let mut leases = Leases::default();
    for (number, call) in (0..).zip(["c", "a", "b", "ab"]) {
        for holder in [1, 2] {
            insert(&mut leases, holder, &lease(number, call, &format!("leg-{call}")));
        }
    }
    let listed = |after: Option<&str>| {
        let after = after.map(|after| CallId::new(after).expect("an id"));
        leases.by_call(after.as_ref()).map(|(_, lease)| lease.info.call.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(None), ["a", "a", "ab", "ab", "b", "b", "c", "c"]);
    assert_eq!(listed(Some("a")), ["ab", "ab", "b", "b", "c", "c"]);
    assert_eq!(listed(Some("aa")), ["ab", "ab", "b", "b", "c", "c"]);
    assert_eq!(listed(Some("c")), Vec::<String>::new());
    assert_eq!(leases.of_holder(HolderId(1)).count(), 4);
}
