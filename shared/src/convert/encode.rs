//! To protobuf; cannot fail.

use headroom_core::call::RunningLeg;
use headroom_core::{
    Call, CallInfo, Charge, DenialReason, Direction, Interop, Leg, LegSet, Media, Position, Presentation,
    Protocol, Service, Text,
};
use headroom_proto::{common as pb, lease};

macro_rules! enums {
    ($($(#[$doc:meta])* $name:ident: $core:ident => $pb:ty { $($variant:ident),* $(,)? })*) => {$(
        $(#[$doc])*
        #[must_use]
        pub const fn $name(value: $core) -> $pb {
            match value { $($core::$variant => <$pb>::$variant),* }
        }
    )*};
}

enums! {
    /// What a call reaches.
    service: Service => pb::Service { Vmr, Auditorium, Reception, Gateway }
    /// What a call interworks with.
    interop: Interop => pb::Interop { Teams, Meet, TeamsRooms, ZoomRooms }
    /// A leg's protocol.
    protocol: Protocol => pb::Protocol { Sip, H323, Webrtc, Rtmp, Skype }
    /// Who began a leg.
    direction: Direction => pb::Direction { In, Out }
    /// A presentation.
    presentation: Presentation => pb::Presentation { None, Slides, Standard, FullMotion }
    /// Why a request was refused.
    denial_reason: DenialReason => pb::DenialReason {
        InsufficientLicenses, LicenseCorrupt, LicenseExpired, LicenseNotActivated, NoLicense, QuotaExceeded,
        FeatureNotAssigned, GraceExpired, NotEnrolled, Draining,
    }
}

/// What a leg sends or receives.
#[must_use]
pub const fn media(media: Media) -> pb::Media {
    pb::Media {
        audio: media.audio,
        video: media.video,
        presentation: presentation(media.presentation) as i32,
        presenting: media.presenting,
    }
}

fn texts(texts: &[Text]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn optional<T: ToString>(id: Option<&T>) -> String {
    id.map(ToString::to_string).unwrap_or_default()
}

/// A leg.
#[must_use]
pub fn leg(leg: &Leg) -> pb::Leg {
    pb::Leg {
        leg: leg.leg.to_string(),
        participant: leg.participant.to_string(),
        protocol: protocol(leg.protocol).into(),
        direction: direction(leg.direction).into(),
        media: Some(media(leg.media)),
        owner: optional(leg.owner.as_ref()),
        replaces: optional(leg.replaces.as_ref()),
        subjects: texts(&leg.subjects),
        needs: texts(&leg.needs),
    }
}

/// A call with these legs of it.
#[must_use]
pub fn call_of<'a>(info: &CallInfo, legs: impl IntoIterator<Item = &'a Leg>) -> pb::Call {
    pb::Call {
        call: info.call.to_string(),
        service: service(info.service).into(),
        interop: info.interop.map_or(pb::Interop::Unspecified, interop).into(),
        legs: legs.into_iter().map(leg).collect(),
        conference: info.conference.to_string(),
        destination: info.destination.to_string(),
        tenant: info.tenant.to_string(),
        source: info.source.to_string(),
    }
}

/// A call and its legs.
#[must_use]
pub fn call(call: &Call) -> pb::Call {
    call_of(&call.info, &call.legs)
}

/// Units of a feature.
#[must_use]
pub fn charge(charge: &Charge) -> pb::Charge {
    pb::Charge { feature: charge.feature.to_string(), units: charge.units.0 }
}

/// A denial with the sentence to announce.
#[must_use]
pub fn denial(reason: DenialReason) -> pb::Denial {
    pb::Denial { reason: denial_reason(reason).into(), text: reason.text().to_owned() }
}

/// A place in a history.
#[must_use]
pub const fn position(position: Position) -> pb::Position {
    pb::Position { generation: position.generation, sequence: position.sequence }
}

/// Count and digest of a set of legs.
#[must_use]
pub fn leg_set(set: &LegSet) -> lease::LegSet {
    lease::LegSet { count: set.count, digest: set.digest.to_be_bytes().to_vec() }
}

/// A leg that runs.
#[must_use]
pub fn running_leg(running: &RunningLeg) -> lease::RunningLeg {
    lease::RunningLeg {
        call: Some(call_of(&running.info, [&running.leg])),
        charge: Some(charge(&running.charge)),
        admitted_at_ms: running.admitted_at.0,
    }
}
