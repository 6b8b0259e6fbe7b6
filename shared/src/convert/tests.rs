//! What conversion promises.

use headroom_core::call::RunningLeg;
use headroom_core::{
    Call, CallId, CallInfo, Charge, DenialReason, Direction, Interop, Leg, LegId, LegSet, Media, Millis,
    NodeName, Position, Presentation, Protocol, Service, SourceId, Text,
};
use headroom_proto::common as pb;
use proptest::prelude::*;

use super::{FieldError, decode, encode};

fn any_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn texts() -> impl Strategy<Value = Text> {
    "[^\\p{C}]{0,40}".prop_map(|text| Text::new(&text).expect("a text"))
}

prop_compose! {
    fn legs()(
        leg in "[a-z0-9-]{1,20}",
        participant in texts(),
        protocol in any_of(Protocol::ALL),
        direction in any_of(Direction::ALL),
        flags in any::<(bool, bool, bool)>(),
        presentation in any_of(Presentation::ALL),
        owner in prop::option::of("[a-z]{1,9}"),
        replaces in prop::option::of("[A-Z]{1,9}"),
        words in prop::collection::vec("[a-z_]{1,9}", 0..4),
    ) -> Leg {
        Leg {
            leg: LegId::new(&leg).expect("an id"),
            participant,
            protocol,
            direction,
            media: Media { audio: flags.0, video: flags.1, presentation, presenting: flags.2 },
            owner: owner.map(|owner| NodeName::new(&owner).expect("a name")),
            replaces: replaces.map(|leg| LegId::new(&leg).expect("an id")),
            subjects: words.iter().map(|word| Text::new(word).expect("a text")).collect(),
            needs: words.iter().rev().map(|word| Text::new(word).expect("a text")).collect(),
        }
    }
}

prop_compose! {
    fn calls()(
        call in "[a-z0-9-]{1,20}",
        interop in prop::option::of(any_of(Interop::ALL)),
        other in any_of(&[Service::Vmr, Service::Auditorium, Service::Reception]),
        words in prop::collection::vec(texts(), 3),
        source in "[a-z]{0,5}",
        legs in prop::collection::vec(legs(), 1..3),
    ) -> Call {
        let mut legs = legs;
        legs.dedup_by(|a, b| a.leg == b.leg);
        let info = CallInfo {
            call: CallId::new(&call).expect("an id"),
            service: if interop.is_some() { Service::Gateway } else { other },
            interop,
            conference: words[0].clone(),
            destination: words[1].clone(),
            tenant: words[2].clone(),
            source: SourceId::new(&source).expect("a source"),
        };
        Call { info, legs }
    }
}

proptest! {
    #[test]
    fn every_call_comes_back_as_it_was(call in calls(), at in any::<i64>(), units in any::<u32>()) {
        prop_assert_eq!(decode::call(&encode::call(&call)), Ok(call.clone()));
        let [leg, ..] = call.legs.as_slice() else { unreachable!("a call has legs") };
        let mut set = LegSet::default();
        set.add(&leg.leg, &call.info.call, &Charge::calls(units));
        prop_assert_eq!(decode::leg_set(&encode::leg_set(&set)), Ok(set));
        let running = RunningLeg {
            info: call.info.clone(),
            leg: leg.clone(),
            charge: Charge::calls(units),
            admitted_at: Millis(at),
        };
        prop_assert_eq!(decode::running_leg(&encode::running_leg(&running)), Ok(running));
    }
}

#[test]
fn reasons_and_positions_come_back_as_they_were() {
    for reason in DenialReason::ALL {
        assert_eq!(decode::denial_reason(encode::denial_reason(*reason).into(), "reason"), Ok(*reason));
    }
    let position = Position { generation: u64::MAX, sequence: 7 };
    assert_eq!(decode::position(encode::position(position)), position);
}

fn good_leg(leg: &str) -> pb::Leg {
    pb::Leg {
        leg: leg.into(),
        protocol: pb::Protocol::Sip.into(),
        direction: pb::Direction::In.into(),
        media: Some(pb::Media { audio: true, ..pb::Media::default() }),
        ..pb::Leg::default()
    }
}

fn good_call() -> pb::Call {
    pb::Call {
        call: "c".into(),
        service: pb::Service::Vmr.into(),
        legs: vec![good_leg("a"), good_leg("b")],
        ..pb::Call::default()
    }
}

type Change = fn(&mut pb::Call);

#[test]
fn the_field_at_fault_is_named_with_its_path_and_limit() {
    let refused = |change: Change| {
        let mut call = good_call();
        change(&mut call);
        let error = decode::calls(&[good_call(), call], "calls").expect_err("refused");
        error.to_string()
    };
    let rows: [(Change, &str); 16] = [
        (|c| c.call.clear(), "calls[1].call: must not be empty"),
        (|c| c.service = 0, "calls[1].service: must be given: one of vmr, auditorium, reception, gateway"),
        (|c| c.service = 99, "calls[1].service: 99 is unknown: one of vmr, auditorium, reception, gateway"),
        (|c| c.interop = 9, "calls[1].interop: 9 is unknown: one of teams, meet, teams_rooms, zoom_rooms"),
        (|c| c.interop = 1, "calls[1].interop: teams is only for calls with service gateway, this is vmr"),
        (|c| c.tenant = "x".repeat(256), "calls[1].tenant: has 256 bytes, at most 255 are allowed"),
        (|c| c.legs.clear(), "calls[1].legs: a call needs at least one leg"),
        (|c| c.legs[1].leg = "a".into(), "calls[1].legs[1].leg: a is given twice"),
        (
            |c| c.legs[1].leg = "a\u{7}".into(),
            "calls[1].legs[1].leg: has the character '\\u{7}' at byte 1, which is not allowed",
        ),
        (
            |c| c.legs[0].protocol = 0,
            "calls[1].legs[0].protocol: must be given: one of sip, h323, webrtc, rtmp, skype",
        ),
        (|c| c.legs[0].media = None, "calls[1].legs[0].media: must be given"),
        (
            |c| c.legs[0].media = Some(pb::Media { presentation: -1, ..pb::Media::default() }),
            "calls[1].legs[0].media.presentation: -1 is unknown: one of none, slides, standard, full_motion",
        ),
        (
            |c| c.legs[0].replaces = "a".into(),
            "calls[1].legs[0].replaces: names a leg that is asked for in the same request",
        ),
        (
            |c| c.legs[0].owner = "a b".into(),
            "calls[1].legs[0].owner: has the character ' ' at byte 1, which is not allowed",
        ),
        (
            |c| c.legs[0].subjects = vec!["s".into(); 17],
            "calls[1].legs[0].subjects: 17 given, at most 16 are allowed in one request",
        ),
        (|c| c.legs[0].needs = vec![String::new()], "calls[1].legs[0].needs[0]: must not be empty"),
    ];
    for (change, expected) in rows {
        assert_eq!(refused(change), expected);
    }
}

#[test]
fn more_than_one_request_may_carry_is_refused_before_it_is_read() {
    let mut call = good_call();
    call.legs = (0..513).map(|n| good_leg(&n.to_string())).collect();
    let expected = FieldError::new("legs", "513 given, at most 512 are allowed in one request");
    assert_eq!(decode::call(&call), Err(expected));
    let calls = vec![good_call(); 257];
    let error = decode::calls(&calls, "calls").expect_err("refused").to_string();
    assert_eq!(error, "calls: 514 legs given in all calls, at most 512 are allowed in one request");
    let error = decode::leg_ids(&vec!["x".into(); 513], "legs").expect_err("refused").to_string();
    assert_eq!(error, "legs: 513 given, at most 512 are allowed in one request");
    let error = decode::leg_ids(&["x".into(), String::new()], "legs").expect_err("refused").to_string();
    assert_eq!(error, "legs[1]: must not be empty");
    assert!(decode::calls(&[], "calls").is_err());
}

#[test]
fn a_running_leg_has_exactly_one_leg_and_a_digest_16_bytes() {
    let running = headroom_proto::lease::RunningLeg { call: Some(good_call()), ..Default::default() };
    let error = decode::running_legs(&[running], "legs").expect_err("refused").to_string();
    assert_eq!(error, "legs[0].call.legs: 2 legs given, must be exactly one");
    let set = headroom_proto::lease::LegSet { count: 1, digest: vec![0; 15] };
    let error = decode::leg_set(&set).expect_err("refused").to_string();
    assert_eq!(error, "digest: has 15 bytes, must have 16");
}
