//! What a leg costs.
//!
//! Any media counts one unit whatever its
//! quality; a control-only leg counts none; a Lync / Skype for Business leg counts one more while
//! it presents; both legs of a gateway call count; a gateway call into a hosted meeting service is
//! paid by one unit of that service's plan for the whole call, instead.

use crate::call::{CallInfo, Interop, Leg, Media, Presentation, Protocol, Service};
use crate::charge::{Charge, Feature, Units};

/// The plan that pays for interworking.
#[must_use]
pub const fn interop_feature(interop: Interop) -> Feature {
    match interop {
        Interop::Teams => Feature::ConnectTeams,
        Interop::Meet => Feature::ConnectMeet,
        Interop::TeamsRooms => Feature::ConnectTeamsRooms,
        Interop::ZoomRooms => Feature::ConnectZoomRooms,
    }
}

/// Whether a leg sends or receives media: audio, video, full-motion presentation, or a screen it
/// shares at any resolution.
#[must_use]
pub const fn is_media(media: Media) -> bool {
    media.audio
        || media.video
        || match media.presentation {
            Presentation::FullMotion => true,
            Presentation::Standard => media.presenting,
            Presentation::None | Presentation::Slides => false,
        }
}

/// The units of `call` a leg with this protocol and media counts, or of the interworking plan.
#[must_use]
pub fn rate(info: &CallInfo, protocol: Protocol, media: Media) -> Charge {
    if let (Service::Gateway, Some(interop)) = (info.service, info.interop) {
        return Charge { feature: interop_feature(interop), units: Units::ONE };
    }
    let always = matches!(info.service, Service::Gateway) || matches!(protocol, Protocol::Rtmp);
    let base = u32::from(always || is_media(media));
    let presents = matches!(protocol, Protocol::Skype) && media.presentation != Presentation::None;
    Charge::calls(base + u32::from(presents))
}

/// [`rate`] of a leg as described.
#[must_use]
pub fn rate_leg(info: &CallInfo, leg: &Leg) -> Charge {
    rate(info, leg.protocol, leg.media)
}

/// Why a leg costs what it costs, as one sentence.
#[must_use]
pub fn explain(info: &CallInfo, leg: &Leg) -> String {
    let charge = rate_leg(info, leg);
    let why = if charge.feature.per_call() {
        "gateway call into a hosted meeting: one unit for the whole call"
    } else if info.service == Service::Gateway {
        "leg of a gateway call"
    } else if leg.protocol == Protocol::Rtmp {
        "RTMP stream"
    } else if is_media(leg.media) {
        "sends or receives media"
    } else {
        "control only"
    };
    let skype = if leg.protocol == Protocol::Skype && leg.media.presentation != Presentation::None {
        ", and one more for a Skype participant's presentation"
    } else {
        ""
    };
    format!("{}: {charge}: {why}{skype}", leg.leg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{CallId, SourceId, Text};
    use Presentation::{FullMotion, None as Nothing, Slides, Standard};
    use Protocol::{Rtmp, Sip, Skype};

    fn info(service: Service, interop: Option<Interop>) -> CallInfo {
        CallInfo {
            call: CallId::new("c").expect("a call id"),
            service,
            interop,
            conference: Text::default(),
            destination: Text::default(),
            tenant: Text::default(),
            source: SourceId::default(),
        }
    }

    #[test]
    fn every_row_of_the_rating_table_holds() {
        let media = |audio, video, presentation, presenting| Media { audio, video, presentation, presenting };
        let rows = [
            (Sip, media(true, false, Nothing, false), 1, "audio only"),
            (Sip, media(true, true, FullMotion, true), 1, "everything"),
            (Sip, media(false, false, FullMotion, false), 1, "full motion received"),
            (Sip, media(false, false, Standard, true), 1, "screen share sent"),
            (Sip, media(false, false, Standard, false), 0, "standard received"),
            (Sip, media(false, false, Slides, true), 0, "slides sent"),
            (Sip, Media::CONTROL_ONLY, 0, "control only"),
            (Skype, media(false, false, Slides, true), 1, "Skype control only presenting"),
            (Skype, media(true, true, Slides, true), 2, "Skype with video presenting"),
            (Skype, media(true, false, Standard, false), 2, "Skype with audio receiving"),
            (Skype, media(true, true, Nothing, false), 1, "Skype not presenting"),
            (Rtmp, Media::CONTROL_ONLY, 1, "RTMP stream"),
        ];
        for (protocol, media, units, name) in rows {
            for service in [Service::Vmr, Service::Auditorium, Service::Reception] {
                assert_eq!(rate(&info(service, None), protocol, media), Charge::calls(units), "{name}");
            }
        }
        assert_eq!(rate(&info(Service::Gateway, None), Sip, Media::CONTROL_ONLY), Charge::calls(1));
        for interop in Interop::ALL {
            let charge =
                rate(&info(Service::Gateway, Some(*interop)), Skype, media(true, true, Slides, true));
            assert_eq!(charge.units, Units::ONE, "interop pays once");
            assert_eq!(charge.feature.as_str(), format!("connect.{interop}"));
        }
    }
}
