//! The question a platform asks before it lets a call into a service.

use std::collections::HashMap;

use headroom_core::{Call, CallId, CallInfo, Direction, Leg, LegId, Media, Service, Text};

use super::{plain, protocol, source};

/// What a platform says of a call that has yet to begin. It has no name yet, so it is known by who calls whom; none
/// when nobody calls.
pub(crate) fn call(asked: &HashMap<String, String>) -> Option<Call> {
    let text = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
    let direction = match text("call_direction") {
        "dial_in" => Direction::In,
        "dial_out" => Direction::Out,
        _ => return None,
    };
    let named = |name: &str| Text::clipped(text(name));
    let (remote, local) = (named("remote_alias"), named("local_alias"));
    let (protocol, _) = protocol(text("protocol"));
    let info = CallInfo {
        call: plain::<CallId>(&format!("policy:{local}"))?,
        service: Service::Vmr,
        interop: None,
        conference: Text::default(),
        destination: local,
        tenant: named("service_tag"),
        source: source(text("node_ip")).unwrap_or_default(),
    };
    let leg = Leg {
        leg: plain::<LegId>(&format!("policy:{remote}"))?,
        participant: remote,
        protocol,
        direction,
        // A client of the programming interface has none until it asks for it.
        media: if text("protocol").eq_ignore_ascii_case("api") {
            Media::CONTROL_ONLY
        } else {
            Media::AUDIO_VIDEO
        },
        owner: None,
        replaces: None,
        subjects: Vec::new(),
        needs: Vec::new(),
    };
    Some(Call { info, legs: vec![leg] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Option<Call> {
        call(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn who_calls_whom_is_known_and_nobody_calls_when_nothing_is_dialled() {
        let dialled = [
            ("call_direction", "dial_in"),
            ("protocol", "mssip"),
            ("remote_alias", "sip:anna@example.com"),
            ("local_alias", "lobby"),
            ("node_ip", "10.0.0.1"),
            ("version_id", "36"),
        ];
        let call = asked(&dialled).expect("a call");
        assert_eq!(call.info.source.as_str(), "feed:10.0.0.1");
        assert_eq!((call.info.call.as_str(), call.info.destination.as_str()), ("policy:lobby", "lobby"));
        assert_eq!(call.legs[0].participant.as_str(), "sip:anna@example.com");
        assert_eq!(call.legs[0].protocol, headroom_core::Protocol::Skype);
        assert!(call.check().is_ok());
        assert!(asked(&[("call_direction", "non_dial"), ("local_alias", "lobby")]).is_none());
        assert!(asked(&[]).is_none());
        let long = "x".repeat(5000);
        let call = asked(&[("call_direction", "dial_out"), ("remote_alias", &long)]).expect("a call");
        assert_eq!(call.legs[0].participant.as_str().len(), 255);
    }
}
