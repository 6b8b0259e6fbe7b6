//! From protobuf, checked.

use std::str::FromStr;

use headroom_core::call::{MAX_LEGS, MAX_SUBJECTS, RunningLeg};
use headroom_core::{
    Call, CallInfo, Charge, DenialReason, Direction, Feature, IdError, Interop, Leg, LegId, LegSet, Media,
    Millis, Position, Presentation, Protocol, Service, Text, Units,
};
use headroom_proto::{common as pb, lease};

use super::FieldError;

type Result<T> = std::result::Result<T, FieldError>;

/// A text that is an identifier or free text.
///
/// # Errors
/// Names `field` and the limit.
pub fn id<T: FromStr<Err = IdError>>(text: &str, field: &str) -> Result<T> {
    text.parse().map_err(|error: IdError| FieldError::new(field, error))
}

/// An identifier where empty means none.
///
/// # Errors
/// Names `field` and the limit.
pub fn optional_id<T: FromStr<Err = IdError>>(text: &str, field: &str) -> Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { id(text, field).map(Some) }
}

/// A message that must be given.
///
/// # Errors
/// Names `field`.
pub fn required<T>(message: Option<T>, field: &str) -> Result<T> {
    message.ok_or_else(|| FieldError::new(field, "must be given"))
}

/// Refuses more items than one request may carry.
///
/// # Errors
/// Names `field`, the count and the limit.
pub fn at_most(count: usize, limit: usize, field: &str) -> Result<()> {
    if count <= limit {
        return Ok(());
    }
    Err(FieldError::new(field, format_args!("{count} given, at most {limit} are allowed in one request")))
}

/// The number that a page of newest-first items begins below.
///
/// # Errors
/// When the token is none that an answer gave.
pub fn page(token: &str) -> Result<Option<u64>> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong =
        |_| FieldError::new("page_token", format_args!("{token} is not the next_page_token of an answer"));
    token.parse().map(Some).map_err(wrong)
}

/// How many items a page has: as asked, the default for 0, and not more than `most`.
#[must_use]
pub fn page_size(asked: u32, default: usize, most: usize) -> usize {
    match usize::try_from(asked).unwrap_or(most) {
        0 => default,
        size => size.min(most),
    }
}

/// Exactly `N` bytes.
///
/// # Errors
/// Names `field`, the length and the limit.
pub fn bytes<const N: usize>(bytes: &[u8], field: &str) -> Result<[u8; N]> {
    bytes
        .try_into()
        .map_err(|_| FieldError::new(field, format_args!("has {} bytes, must have {N}", bytes.len())))
}

macro_rules! enums {
    ($($(#[$doc:meta])* $name:ident: $pb:ty => $core:ident { $($variant:ident),* $(,)? })*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// Names `field` and the values that are allowed.
        pub fn $name(value: i32, field: &str) -> Result<$core> {
            match <$pb>::try_from(value) {
                $(Ok(<$pb>::$variant) => Ok($core::$variant),)*
                Ok(<$pb>::Unspecified) => Err(choice(field, "must be given", $core::ALL)),
                Err(_) => Err(choice(field, format_args!("{value} is unknown"), $core::ALL)),
            }
        }
    )*};
}

fn choice<T: ToString>(field: &str, what: impl std::fmt::Display, all: &[T]) -> FieldError {
    let words: Vec<String> = all.iter().map(ToString::to_string).collect();
    FieldError::new(field, format_args!("{what}: one of {}", words.join(", ")))
}

enums! {
    /// What a call reaches.
    service: pb::Service => Service { Vmr, Auditorium, Reception, Gateway }
    /// What a call interworks with; see [`optional_interop`].
    interop: pb::Interop => Interop { Teams, Meet, TeamsRooms, ZoomRooms }
    /// A leg's protocol.
    protocol: pb::Protocol => Protocol { Sip, H323, Webrtc, Rtmp, Skype }
    /// Who began a leg.
    direction: pb::Direction => Direction { In, Out }
    /// Why a request was refused.
    denial_reason: pb::DenialReason => DenialReason {
        InsufficientLicenses, LicenseCorrupt, LicenseExpired, LicenseNotActivated, NoLicense, QuotaExceeded,
        FeatureNotAssigned, GraceExpired, NotEnrolled, Draining,
    }
}

/// What a call interworks with, if anything.
///
/// # Errors
/// Names `field` and the values that are allowed.
pub fn optional_interop(value: i32, field: &str) -> Result<Option<Interop>> {
    if value == 0 { Ok(None) } else { interop(value, field).map(Some) }
}

/// A presentation; not given means none.
///
/// # Errors
/// Names `field` and the values that are allowed.
pub fn presentation(value: i32, field: &str) -> Result<Presentation> {
    match pb::Presentation::try_from(value) {
        Ok(pb::Presentation::Unspecified | pb::Presentation::None) => Ok(Presentation::None),
        Ok(pb::Presentation::Slides) => Ok(Presentation::Slides),
        Ok(pb::Presentation::Standard) => Ok(Presentation::Standard),
        Ok(pb::Presentation::FullMotion) => Ok(Presentation::FullMotion),
        Err(_) => Err(choice(field, format_args!("{value} is unknown"), Presentation::ALL)),
    }
}

/// What a leg sends or receives.
///
/// # Errors
/// The path is relative to the message.
pub fn media(message: &pb::Media) -> Result<Media> {
    Ok(Media {
        audio: message.audio,
        video: message.video,
        presentation: presentation(message.presentation, "presentation")?,
        presenting: message.presenting,
    })
}

fn texts(texts: &[String], field: &str) -> Result<Vec<Text>> {
    at_most(texts.len(), MAX_SUBJECTS, field)?;
    let one = |(index, text): (usize, &String)| {
        let field = format!("{field}[{index}]");
        if text.is_empty() {
            return Err(FieldError::new(field, IdError::Empty));
        }
        id(text, &field)
    };
    texts.iter().enumerate().map(one).collect()
}

/// A leg as a media server describes it.
///
/// # Errors
/// The path is relative to the message.
pub fn leg(message: &pb::Leg) -> Result<Leg> {
    Ok(Leg {
        leg: id(&message.leg, "leg")?,
        participant: id(&message.participant, "participant")?,
        protocol: protocol(message.protocol, "protocol")?,
        direction: direction(message.direction, "direction")?,
        media: media(required(message.media.as_ref(), "media")?).map_err(|error| error.within("media"))?,
        owner: optional_id(&message.owner, "owner")?,
        replaces: optional_id(&message.replaces, "replaces")?,
        subjects: texts(&message.subjects, "subjects")?,
        needs: texts(&message.needs, "needs")?,
    })
}

/// What is said of a call as a whole; its legs are not looked at.
///
/// # Errors
/// The path is relative to the message.
pub fn call_info(message: &pb::Call) -> Result<CallInfo> {
    Ok(CallInfo {
        call: id(&message.call, "call")?,
        service: service(message.service, "service")?,
        interop: optional_interop(message.interop, "interop")?,
        conference: id(&message.conference, "conference")?,
        destination: id(&message.destination, "destination")?,
        tenant: id(&message.tenant, "tenant")?,
        source: id(&message.source, "source")?,
    })
}

/// A call and its legs, with [`Call::check`].
///
/// # Errors
/// The path is relative to the message.
pub fn call(message: &pb::Call) -> Result<Call> {
    // Before any leg is read, so that a flood of legs costs nothing.
    at_most(message.legs.len(), MAX_LEGS, "legs")?;
    let info = call_info(message)?;
    let legs = items(&message.legs, "legs", leg)?;
    let call = Call { info, legs };
    call.check()?;
    Ok(call)
}

/// Every item by `one`, with the item's path.
///
/// # Errors
/// What `one` says, within `field[index]`.
pub fn items<M, T>(messages: &[M], field: &str, one: impl Fn(&M) -> Result<T>) -> Result<Vec<T>> {
    let item = |(index, message)| one(message).map_err(|error| error.within_item(field, index));
    messages.iter().enumerate().map(item).collect()
}

/// Calls of one request: at least one, together at most [`MAX_LEGS`] legs.
///
/// # Errors
/// The path begins with `field`.
pub fn calls(messages: &[pb::Call], field: &str) -> Result<Vec<Call>> {
    if messages.is_empty() {
        return Err(FieldError::new(field, "at least one call must be given"));
    }
    let legs = messages.iter().map(|call| call.legs.len()).sum::<usize>().max(messages.len());
    if legs > MAX_LEGS {
        let text = format!("{legs} legs given in all calls, at most {MAX_LEGS} are allowed in one request");
        return Err(FieldError::new(field, text));
    }
    items(messages, field, call)
}

/// Leg ids of one request, at most [`MAX_LEGS`].
///
/// # Errors
/// The path begins with `field`.
pub fn leg_ids(texts: &[String], field: &str) -> Result<Vec<LegId>> {
    at_most(texts.len(), MAX_LEGS, field)?;
    items(texts, field, |text| id(text, ""))
}

/// Units of a feature.
///
/// # Errors
/// The path is relative to the message.
pub fn charge(message: &pb::Charge) -> Result<Charge> {
    Ok(Charge { feature: id::<Feature>(&message.feature, "feature")?, units: Units(message.units) })
}

/// A place in a history.
#[must_use]
pub const fn position(message: pb::Position) -> Position {
    Position { generation: message.generation, sequence: message.sequence }
}

/// Count and digest of a set of legs; the digest of no legs may be left out.
///
/// # Errors
/// The path is relative to the message.
pub fn leg_set(message: &lease::LegSet) -> Result<LegSet> {
    if message.count == 0 && message.digest.is_empty() {
        return Ok(LegSet::default());
    }
    Ok(LegSet { count: message.count, digest: u128::from_be_bytes(bytes(&message.digest, "digest")?) })
}

/// A leg that runs.
///
/// # Errors
/// The path is relative to the message.
pub fn running_leg(message: &lease::RunningLeg) -> Result<RunningLeg> {
    let of_call = required(message.call.as_ref(), "call")?;
    let Call { info, legs } = call(of_call).map_err(|error| error.within("call"))?;
    let count = legs.len();
    let Ok([leg]) = <[Leg; 1]>::try_from(legs) else {
        return Err(FieldError::new("call.legs", format_args!("{count} legs given, must be exactly one")));
    };
    let charge =
        charge(required(message.charge.as_ref(), "charge")?).map_err(|error| error.within("charge"))?;
    Ok(RunningLeg { info, leg, charge, admitted_at: Millis(message.admitted_at_ms) })
}

/// Running legs of one request, at most [`MAX_LEGS`].
///
/// # Errors
/// The path begins with `field`.
pub fn running_legs(messages: &[lease::RunningLeg], field: &str) -> Result<Vec<RunningLeg>> {
    at_most(messages.len(), MAX_LEGS, field)?;
    items(messages, field, running_leg)
}

/// New media of a leg.
///
/// # Errors
/// The path is relative to the message.
pub fn leg_update(message: &lease::LegUpdate) -> Result<(LegId, Media)> {
    let media = media(required(message.media.as_ref(), "media")?).map_err(|error| error.within("media"))?;
    Ok((id(&message.leg, "leg")?, media))
}

/// Updates of one request, at most [`MAX_LEGS`].
///
/// # Errors
/// The path begins with `field`.
pub fn leg_updates(messages: &[lease::LegUpdate], field: &str) -> Result<Vec<(LegId, Media)>> {
    at_most(messages.len(), MAX_LEGS, field)?;
    items(messages, field, leg_update)
}
