//! JSON bodies of the local interface: snake_case words, unknown fields refused, and an error that
//! names the field with its path.

use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use conferencing_core::{Granted, LegRecord, LegVerdict, Status};
use headroom_core::{
    Call, CallId, CallInfo, Direction, Interop, Leg, LegId, Media, NodeName, Presentation, Protocol, Service,
    SourceId, Text,
};
use headroom_shared::convert::FieldError;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// Reads a body.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, FieldError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "body".to_owned() } else { path };
        FieldError::new(field, error.inner())
    })?;
    json.end().map_err(|error| FieldError::new("body", error))?;
    Ok(value)
}

/// A JSON object. Without it, an array would be taken for one, by position.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        d.deserialize_map(Visitor(PhantomData))
    }
}

fn text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(d: D) -> Result<T, D::Error> {
    String::deserialize(d)?.parse().map_err(Error::custom)
}

/// Absent, null and empty mean none.
fn optional_text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(d: D) -> Result<Option<T>, D::Error> {
    match Option::<String>::deserialize(d)?.filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map(Some).map_err(Error::custom),
        None => Ok(None),
    }
}

/// An identifier inside a list, so that the path of an error ends in its index.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "T: FromStr<Err: Display>"))]
pub(crate) struct Id<T>(#[serde(deserialize_with = "text")] pub(crate) T);

fn some_texts<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Text>, D::Error> {
    let texts: Vec<Id<Text>> = Vec::deserialize(d)?;
    let limit = headroom_core::call::MAX_SUBJECTS;
    if texts.len() > limit {
        return Err(Error::custom(format_args!("{} given, at most {limit} are allowed", texts.len())));
    }
    if let Some(index) = texts.iter().position(|text| text.0.is_empty()) {
        return Err(Error::custom(format_args!("item {index} must not be empty")));
    }
    Ok(texts.into_iter().map(|text| text.0).collect())
}

fn choice<E: Error, T: Copy>(given: &str, all: &[T], word: fn(T) -> &'static str) -> Result<T, E> {
    all.iter().copied().find(|value| word(*value) == given).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|value| word(*value)).collect();
        // Long nonsense is not repeated.
        let given: String = given.chars().take(40).collect();
        E::custom(format_args!("`{given}` is unknown: one of {}", words.join(", ")))
    })
}

fn service<'de, D: Deserializer<'de>>(d: D) -> Result<Service, D::Error> {
    choice(&String::deserialize(d)?, Service::ALL, Service::word)
}

fn protocol<'de, D: Deserializer<'de>>(d: D) -> Result<Protocol, D::Error> {
    choice(&String::deserialize(d)?, Protocol::ALL, Protocol::word)
}

fn direction<'de, D: Deserializer<'de>>(d: D) -> Result<Direction, D::Error> {
    choice(&String::deserialize(d)?, Direction::ALL, Direction::word)
}

fn presentation<'de, D: Deserializer<'de>>(d: D) -> Result<Presentation, D::Error> {
    choice(&String::deserialize(d)?, Presentation::ALL, Presentation::word)
}

fn interop<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Interop>, D::Error> {
    let given = Option::<String>::deserialize(d)?;
    given.map(|given| choice(&given, Interop::ALL, Interop::word)).transpose()
}

const fn no_presentation() -> Presentation {
    Presentation::None
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MediaBody {
    #[serde(default)]
    audio: bool,
    #[serde(default)]
    video: bool,
    #[serde(default = "no_presentation", deserialize_with = "presentation")]
    presentation: Presentation,
    #[serde(default)]
    presenting: bool,
}

impl From<MediaBody> for Media {
    fn from(body: MediaBody) -> Self {
        let MediaBody { audio, video, presentation, presenting } = body;
        Self { audio, video, presentation, presenting }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LegBody {
    #[serde(deserialize_with = "text")]
    leg: LegId,
    #[serde(default, deserialize_with = "text")]
    participant: Text,
    #[serde(deserialize_with = "protocol")]
    protocol: Protocol,
    #[serde(deserialize_with = "direction")]
    direction: Direction,
    media: Object<MediaBody>,
    #[serde(default, deserialize_with = "optional_text")]
    owner: Option<NodeName>,
    #[serde(default, deserialize_with = "optional_text")]
    replaces: Option<LegId>,
    #[serde(default, deserialize_with = "some_texts")]
    subjects: Vec<Text>,
    #[serde(default, deserialize_with = "some_texts")]
    needs: Vec<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallBody {
    #[serde(deserialize_with = "text")]
    call: CallId,
    #[serde(deserialize_with = "service")]
    service: Service,
    #[serde(default, deserialize_with = "interop")]
    interop: Option<Interop>,
    #[serde(default, deserialize_with = "text")]
    conference: Text,
    #[serde(default, deserialize_with = "text")]
    destination: Text,
    #[serde(default, deserialize_with = "text")]
    tenant: Text,
    #[serde(default, deserialize_with = "text")]
    source: SourceId,
    #[serde(default)]
    pub(crate) running: bool,
    legs: Vec<Object<LegBody>>,
}

impl From<CallBody> for Call {
    fn from(body: CallBody) -> Self {
        let CallBody { call, service, interop, conference, destination, tenant, source, running: _, legs } =
            body;
        let leg = |Object(body): Object<LegBody>| Leg {
            leg: body.leg,
            participant: body.participant,
            protocol: body.protocol,
            direction: body.direction,
            media: body.media.0.into(),
            owner: body.owner,
            replaces: body.replaces,
            subjects: body.subjects,
            needs: body.needs,
        };
        let info = CallInfo { call, service, interop, conference, destination, tenant, source };
        Self { info, legs: legs.into_iter().map(leg).collect() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBody {
    pub(crate) media: Object<MediaBody>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LegChangeBody {
    #[serde(deserialize_with = "text")]
    pub(crate) leg: LegId,
    pub(crate) media: Object<MediaBody>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangesBody {
    pub(crate) legs: Vec<Object<LegChangeBody>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SyncBody {
    #[serde(default, deserialize_with = "text")]
    pub(crate) source: SourceId,
    pub(crate) as_of: u64,
    pub(crate) legs: Vec<Id<LegId>>,
}

pub(crate) fn granted(granted: &Granted) -> Value {
    let legs: Vec<_> = granted
        .legs
        .iter()
        .map(|leg| {
            let mut value = json!({
                "leg": leg.leg.as_str(),
                "units": leg.charge.units.0,
                "feature": leg.charge.feature.as_str(),
                "lease": leg.lease.map(|lease| lease.0),
            });
            if let Some(owner) = &leg.owner {
                value["owner"] = json!(owner.as_str());
            }
            value
        })
        .collect();
    json!({ "decision": "granted", "optimistic": granted.optimistic, "legs": legs })
}

pub(crate) fn denied(reason: headroom_core::DenialReason) -> Value {
    json!({ "decision": "denied", "reason": reason.word(), "text": reason.text() })
}

pub(crate) fn verdict(leg: &LegId, verdict: &LegVerdict) -> Value {
    match verdict {
        LegVerdict::Granted { units, optimistic } => json!({
            "leg": leg.as_str(), "decision": "granted", "optimistic": optimistic, "units": units.0,
        }),
        LegVerdict::Denied { reason, units } => json!({
            "leg": leg.as_str(), "decision": "denied", "units": units.0,
            "reason": reason.word(), "text": reason.text(),
        }),
        LegVerdict::Refused { field, text } => {
            json!({ "leg": leg.as_str(), "decision": "refused", "field": field, "text": text })
        }
        LegVerdict::Released => {
            json!({ "leg": leg.as_str(), "decision": "released", "text": "the leg has ended" })
        }
        LegVerdict::Unknown | LegVerdict::Waiting { .. } => {
            json!({ "leg": leg.as_str(), "decision": "unknown", "text": "no such leg runs here" })
        }
    }
}

pub(crate) fn leg(record: &LegRecord, unconfirmed: bool) -> Value {
    json!({
        "leg": record.id().as_str(),
        "call": record.call().as_str(),
        "source": record.source().as_str(),
        "participant": record.running.leg.participant.as_str(),
        "units": record.running.charge.units.0,
        "feature": record.running.charge.feature.as_str(),
        "lease": record.lease.map(|lease| lease.0),
        "optimistic": record.optimistic(),
        "unconfirmed": unconfirmed,
        "revoked": record.revoked,
        "admitted_at_ms": record.running.admitted_at.0,
    })
}

pub(crate) fn status(status: &Status) -> Value {
    let features: Vec<_> = status
        .features
        .iter()
        .map(|f| {
            json!({
                "feature": f.feature.as_str(), "capacity": f.capacity,
                "overdraft": f.overdraft, "full": f.full,
            })
        })
        .collect();
    json!({
        "node": status.node.as_ref().map_or("", |node| node.as_str()),
        "contact": status.contact.word(),
        "out_of_contact_ms": status.out_of_contact.0,
        "grace_left_ms": status.grace_left.0,
        "legs": status.legs,
        "optimistic": status.optimistic,
        "outbox": status.outbox,
        "revoked": status.revoked,
        "unconfirmed": status.unconfirmed,
        "past_events": status.past,
        "past_events_dropped": status.past_dropped,
        "draining": status.draining,
        "alarms": status.alarms,
        "pools": features,
        "version": env!("CARGO_PKG_VERSION"),
    })
}
