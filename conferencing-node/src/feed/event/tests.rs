//! What events mean.

use headroom_core::call::RunningLeg;
use headroom_core::rating::rate_leg;
use serde_json::{Value, json};

use super::*;

fn read_one(event: &Value) -> Event {
    let mut events = read(event.to_string().as_bytes()).expect("an event");
    assert_eq!(events.len(), 1);
    events.remove(0)
}

fn written(kind: &str, data: &Value) -> Value {
    json!({
        "event": kind, "node": "10.0.0.1", "seq": 7, "version": 1, "time": 1_700_000_000.25, "data": data,
        "a_later_version_adds": ["this"],
    })
}

fn participant(changes: &Value) -> Value {
    let mut data = json!({
        "call_direction": "in", "call_id": "b7f5", "conference": "lobby", "connect_time": null,
        "conversation_id": "b7f5", "destination_alias": "lobby@example.com", "display_name": "Anna",
        "encryption": "On", "has_media": true, "is_muted": false, "is_presenting": false, "is_streaming": false,
        "protocol": "SIP", "proxied": false, "remote_address": "10.1.1.1", "role": "chair",
        "service_tag": "acme", "service_type": "conference", "source_alias": "sip:anna@example.com",
        "system_location": "here", "uuid": "5a1f3b6c", "vendor": "X",
    });
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            // The platform may leave it out.
            Value::String(text) if text == "absent" => data.as_object_mut().expect("an object").remove(name),
            value => data.as_object_mut().expect("an object").insert(name.clone(), value.clone()),
        };
    }
    data
}

fn call_of(kind: &str, data: &Value, known: Option<&LegRecord>) -> Call {
    match read_one(&written(kind, data)).means(|_| known.cloned().map(Arc::new)).what {
        Happened::LegRuns(call) => *call,
        other => panic!("{other:?}"),
    }
}

fn connected(changes: &Value) -> Call {
    call_of("participant_connected", &participant(changes), None)
}

#[test]
fn each_leg_counts_as_the_rating_rules_say() {
    for (changes, charge) in [
        (json!({}), "1 call"),
        (json!({ "has_media": false }), "0 call"),
        (json!({ "has_media": false, "is_presenting": true }), "1 call"),
        (json!({ "has_media": "absent" }), "1 call"),
        (json!({ "protocol": "WebRTC" }), "1 call"),
        (json!({ "protocol": "API", "has_media": false }), "0 call"),
        (json!({ "protocol": "H323", "service_type": "lecture" }), "1 call"),
        (json!({ "protocol": "MSSIP" }), "1 call"),
        (json!({ "protocol": "MSSIP", "is_presenting": true }), "2 call"),
        (json!({ "protocol": "RTMP", "has_media": false }), "1 call"),
        (json!({ "protocol": "something new", "service_type": "something new" }), "1 call"),
        (json!({ "protocol": null, "service_type": null, "call_direction": null }), "1 call"),
        (json!({ "service_type": "gateway", "has_media": false }), "1 call"),
        (
            json!({ "service_type": "gateway", "protocol": "TEAMS", "call_direction": "out" }),
            "1 connect.teams",
        ),
        (
            json!({ "service_type": "connecting", "protocol": "GMS", "call_direction": "out" }),
            "1 connect.meet",
        ),
    ] {
        let call = connected(&changes);
        assert!(call.check().is_ok(), "{changes}");
        let rated = rate_leg(&call.info, &call.legs[0]);
        assert_eq!(format!("{} {}", rated.units.0, rated.feature), charge, "{changes}");
    }
}

#[test]
fn a_leg_is_described_as_the_platform_does() {
    let call = connected(&json!({}));
    let (info, leg) = (&call.info, &call.legs[0]);
    assert_eq!((leg.leg.as_str(), info.call.as_str()), ("5a1f3b6c", "b7f5"));
    assert_eq!((info.source.as_str(), info.tenant.as_str()), ("feed:10.0.0.1", "acme"));
    assert_eq!((info.conference.as_str(), info.destination.as_str()), ("lobby", "lobby@example.com"));
    assert_eq!((leg.participant.as_str(), leg.direction), ("sip:anna@example.com", Direction::In));
    let out = connected(&json!({ "call_direction": "out" }));
    assert_eq!(out.legs[0].participant.as_str(), "lobby@example.com");
    // What is too long or holds control characters is shortened, and the leg counts all the same.
    let odd = connected(&json!({ "source_alias": "a\nb".repeat(200), "call_id": "", "conference": null }));
    assert_eq!(odd.legs[0].participant.as_str().len(), 255);
    assert_eq!(odd.info.call.as_str(), "5a1f3b6c", "a leg without a call is one of its own");
    for (word, service) in [
        ("conference", Service::Vmr),
        ("lecture_screen", Service::Auditorium),
        ("two_stage_dialing", Service::Reception),
        ("gateway", Service::Gateway),
        ("waiting_room", Service::Vmr),
    ] {
        assert_eq!(connected(&json!({ "service_type": word })).info.service, service, "{word}");
    }
}

#[test]
fn the_legs_of_a_gateway_call_have_one_call() {
    let gateway = |leg: &str, direction: &str| {
        connected(&json!({
            "uuid": leg, "call_id": leg, "call_direction": direction, "service_type": "gateway",
            "conference": "to teams:7d2e",
        }))
    };
    let (inbound, outbound) = (gateway("a", "in"), gateway("b", "out"));
    assert_eq!(inbound.info.call.as_str(), "to teams:7d2e");
    assert_eq!(inbound.info.call, outbound.info.call);
}

#[test]
fn an_update_that_holds_only_what_changed_keeps_the_rest() {
    let whole = json!({
        "protocol": "MSSIP", "service_type": "gateway", "call_direction": "out", "conference": "rule:1",
    });
    let before = connected(&whole);
    let record = LegRecord {
        running: RunningLeg {
            info: before.info.clone(),
            charge: rate_leg(&before.info, &before.legs[0]),
            leg: before.legs[0].clone(),
            admitted_at: Millis(1),
        },
        held: None,
        lease: None,
        revoked: false,
        told: false,
        revision: 1,
        redescribed: false,
    };
    let update = json!({ "uuid": "5a1f3b6c", "is_presenting": true });
    let after = call_of("participant_updated", &update, Some(&record));
    assert_eq!(after.info, before.info);
    let media = Media { presentation: Presentation::Standard, presenting: true, ..before.legs[0].media };
    assert_eq!(after.legs[0], Leg { media, ..before.legs[0].clone() });
}

#[test]
fn what_each_kind_means() {
    let means = |kind: &str, data: Value| read_one(&written(kind, &data)).means(|_| None).what;
    let leg = json!({ "uuid": "5a1f3b6c", "duration": 61, "disconnect_reason": "Call disconnected" });
    let id: LegId = "5a1f3b6c".parse().expect("an id");
    assert_eq!(means("participant_disconnected", leg), Happened::LegEnded(id));
    assert_eq!(means("eventsink_started", json!({})), Happened::FeedStarted);
    for data in [json!({}), json!({ "uuid": "" }), json!({ "uuid": 7 }), json!([]), Value::Null] {
        for kind in ["participant_connected", "participant_updated", "participant_disconnected"] {
            assert_eq!(means(kind, data.clone()), Happened::Unreadable, "{kind} {data}");
        }
    }
    for kind in ["conference_started", "participant_media_stream_window", "eventsink_stopped", "new"] {
        assert_eq!(means(kind, json!({ "uuid": "x" })), Happened::Other, "{kind}");
    }
    let event = read_one(&written("new", &json!({}))).means(|_| None);
    assert_eq!((event.seq, event.at), (7, Millis(1_700_000_000_250)));
}

#[test]
fn events_in_bulk_keep_their_own_numbers_and_an_error_names_its_place() {
    let inner = [1, 2].map(|seq| {
        json!({ "node": "10.0.0.2", "seq": seq, "version": 1, "time": 1.5, "event": "new", "data": {} })
    });
    for data in [json!(inner), json!({ "events": inner })] {
        let bulk = json!({
            "node": "127.0.0.1", "seq": 0, "version": 1, "time": 2, "event": "eventsink_bulk", "data": data,
        });
        let events = read(bulk.to_string().as_bytes()).expect("events");
        let told: Vec<_> = events.iter().map(|e| (e.source.as_str(), e.seq, e.at.0)).collect();
        assert_eq!(told, [("feed:10.0.0.2", 1, 1500), ("feed:10.0.0.2", 2, 1500)]);
    }
    let refused = |event: Value| read(event.to_string().as_bytes()).expect_err("refused").field;
    let bulk = |data: Value| json!({ "node": "n", "seq": 0, "time": 2, "event": BULK, "data": data });
    let told = |changes: Value| {
        let mut told = json!({ "node": "n", "seq": 1, "time": 2, "event": "x" });
        for (name, value) in changes.as_object().expect("an object") {
            told[name] = value.clone();
        }
        told
    };
    assert_eq!(refused(bulk(json!([inner[0], { "node": "n", "time": 2, "event": "x" }]))), "data[1]");
    assert_eq!(refused(bulk(json!([told(json!({ "seq": -1 }))]))), "data[0].seq");
    assert_eq!(refused(bulk(json!(7))), "data");
    assert_eq!(refused(json!({ "seq": 0, "time": 2, "event": "x" })), "body");
    assert_eq!(refused(told(json!({ "seq": 0.5 }))), "seq");
    assert_eq!(refused(told(json!({ "time": -2 }))), "time");
    assert_eq!(refused(told(json!({ "node": "n".repeat(300) }))), "node");
}

#[test]
fn what_is_no_text_keeps_nothing_else_from_being_read() {
    let data = r#"{"uuid": "5a1f", "display_name": "\ud83d", "source_alias": "\ud83d", "has_media": "yes"}"#;
    let event =
        format!(r#"{{"node": "n", "seq": 1, "time": 1, "event": "participant_connected", "data": {data}}}"#);
    let events = read(event.as_bytes()).expect("an event");
    let Happened::LegRuns(call) = events[0].means(|_| None).what else { panic!("a leg") };
    assert_eq!((call.legs[0].leg.as_str(), call.legs[0].media), ("5a1f", Media::AUDIO_VIDEO));
}
