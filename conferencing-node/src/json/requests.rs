//! Bodies of requests: snake_case words, unknown fields refused, and an error that names the field with its
//! path.

use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use headroom_core::{
    Call, CallId, CallInfo, Direction, Interop, Leg, LegId, Media, NodeName, Presentation, Protocol, Service,
    SourceId, Text,
};
use headroom_shared::convert::FieldError;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::schema;

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

/// A whole number, also written as `7.0`: some languages know no other numbers.
pub(crate) fn whole<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(d)?;
    let exact = |float: f64| (0.0..=9_007_199_254_740_992.0).contains(&float) && float.fract() == 0.0;
    // Within this range the text of a whole float is that of the number.
    let float =
        || number.as_f64().filter(|float| exact(*float)).and_then(|float| format!("{float:.0}").parse().ok());
    number
        .as_u64()
        .or_else(float)
        .ok_or_else(|| Error::custom(format_args!("{number} is no whole number from 0")))
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

/// What a leg sends or receives.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Media)]
pub(crate) struct MediaBody {
    /// Audio.
    #[serde(default)]
    audio: bool,
    /// Video.
    #[serde(default)]
    video: bool,
    /// The presentation it sends or receives.
    #[serde(default = "no_presentation", deserialize_with = "presentation")]
    #[schema(schema_with = schema::presentation)]
    presentation: Presentation,
    /// It sends the presentation.
    #[serde(default)]
    presenting: bool,
}

impl From<MediaBody> for Media {
    fn from(body: MediaBody) -> Self {
        let MediaBody { audio, video, presentation, presenting } = body;
        Self { audio, video, presentation, presenting }
    }
}

/// A leg that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Leg)]
pub(crate) struct LegBody {
    /// Its id, unique on this node; dead for a minute after the leg's end.
    #[serde(deserialize_with = "text")]
    #[schema(schema_with = schema::id)]
    leg: LegId,
    /// The participant's address.
    #[serde(default, deserialize_with = "text")]
    #[schema(schema_with = schema::text)]
    participant: Text,
    /// Its signalling protocol.
    #[serde(deserialize_with = "protocol")]
    #[schema(schema_with = schema::protocol)]
    protocol: Protocol,
    /// Who began it: `in` the participant, `out` the media server.
    #[serde(deserialize_with = "direction")]
    #[schema(schema_with = schema::direction)]
    direction: Direction,
    /// What it sends or receives.
    #[schema(value_type = MediaBody)]
    media: Object<MediaBody>,
    /// The node that runs it, when that is another one.
    #[serde(default, deserialize_with = "optional_text")]
    #[schema(schema_with = schema::optional_node)]
    owner: Option<NodeName>,
    /// The leg whose unit it takes over.
    #[serde(default, deserialize_with = "optional_text")]
    #[schema(schema_with = schema::optional_id)]
    replaces: Option<LegId>,
    /// Whom named features are looked up for.
    #[serde(default, deserialize_with = "some_texts")]
    #[schema(schema_with = schema::some_texts)]
    subjects: Vec<Text>,
    /// Named features that it needs.
    #[serde(default, deserialize_with = "some_texts")]
    #[schema(schema_with = schema::some_texts)]
    needs: Vec<Text>,
}

/// A call with the legs that are asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Call)]
pub(crate) struct CallBody {
    /// Its id.
    #[serde(deserialize_with = "text")]
    #[schema(schema_with = schema::id)]
    call: CallId,
    /// What it reaches.
    #[serde(deserialize_with = "service")]
    #[schema(schema_with = schema::service)]
    service: Service,
    /// The hosted meeting service that a gateway call interworks with.
    #[serde(default, deserialize_with = "interop")]
    #[schema(schema_with = schema::interop)]
    interop: Option<Interop>,
    /// The conference's name.
    #[serde(default, deserialize_with = "text")]
    #[schema(schema_with = schema::text)]
    conference: Text,
    /// The address that was called.
    #[serde(default, deserialize_with = "text")]
    #[schema(schema_with = schema::text)]
    destination: Text,
    /// The tenant it belongs to.
    #[serde(default, deserialize_with = "text")]
    #[schema(schema_with = schema::text)]
    tenant: Text,
    /// The media server, when several share the node.
    #[serde(default, deserialize_with = "text")]
    #[schema(schema_with = schema::text)]
    source: SourceId,
    /// The legs run already, by the media server's own decision: they are recorded and never denied.
    #[serde(default)]
    pub(crate) running: bool,
    /// The legs, all granted or none.
    #[schema(min_items = 1, max_items = 512, value_type = Vec<LegBody>)]
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

/// New media of a leg.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Change)]
pub(crate) struct ChangeBody {
    /// What it sends or receives now.
    #[schema(value_type = MediaBody)]
    pub(crate) media: Object<MediaBody>,
}

/// New media of a leg among others.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LegChange)]
pub(crate) struct LegChangeBody {
    /// The leg.
    #[serde(deserialize_with = "text")]
    #[schema(schema_with = schema::id)]
    pub(crate) leg: LegId,
    /// What it sends or receives now.
    #[schema(value_type = MediaBody)]
    pub(crate) media: Object<MediaBody>,
}

/// New media of several legs, each decided alone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Changes)]
pub(crate) struct ChangesBody {
    /// The changes; no leg is given twice.
    #[schema(min_items = 1, max_items = 512, value_type = Vec<LegChangeBody>)]
    pub(crate) legs: Vec<Object<LegChangeBody>>,
}

/// Which legs of a media server run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RunningLegs)]
pub(crate) struct SyncBody {
    /// The media server.
    #[serde(default, deserialize_with = "text")]
    #[schema(schema_with = schema::text)]
    pub(crate) source: SourceId,
    /// A revision read with `GET /v1/legs` before the media server listed its own legs. Its other legs, admitted up to
    /// then, have ended.
    #[serde(deserialize_with = "whole")]
    pub(crate) as_of: u64,
    /// The legs that run.
    #[schema(schema_with = schema::ids)]
    pub(crate) legs: Vec<Id<LegId>>,
}
