//! Events as the platform writes them, and what they mean here.
//!
//! The platform adds fields and kinds from version to version, so everything unknown is passed over. Only the
//! envelope has to be complete: who tells, which number, when.

use std::sync::Arc;
use std::time::Duration;

use conferencing_core::{FeedEvent, Happened, LegRecord};
use headroom_core::{
    Call, CallId, CallInfo, Direction, Leg, LegId, Media, Millis, Presentation, Protocol, Service, SourceId,
    Text,
};
use headroom_shared::convert::FieldError;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{plain, protocol, source};
use crate::json;

/// Several events in one.
const BULK: &str = "eventsink_bulk";

#[derive(Debug, Deserialize)]
struct Envelope {
    node: String,
    #[serde(deserialize_with = "json::whole")]
    seq: u64,
    time: f64,
    event: String,
    #[serde(default)]
    data: Value,
}

/// An event, of which it is not read yet what it tells.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// The machine that tells.
    pub(crate) source: SourceId,
    seq: u64,
    at: Millis,
    kind: String,
    data: Map<String, Value>,
}

/// The events of a body, in order.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Event>, FieldError> {
    let envelope: Envelope = json::read(body)?;
    if envelope.event != BULK {
        return Ok(vec![event(envelope)?]);
    }
    let events = match envelope.data {
        Value::Array(events) => events,
        Value::Object(mut data) => match data.remove("events") {
            Some(Value::Array(events)) => events,
            _ => return Err(FieldError::new("data.events", "a list of events is missing")),
        },
        _ => return Err(FieldError::new("data", "must be a list of events")),
    };
    let one = |(index, value): (usize, Value)| {
        let within = |field: &str, why: &dyn std::fmt::Display| match field {
            // Something is missing.
            "." => FieldError::new(format!("data[{index}]"), why),
            field => FieldError::new(format!("data[{index}].{field}"), why),
        };
        let envelope = serde_path_to_error::deserialize(value)
            .map_err(|error| within(&error.path().to_string(), error.inner()))?;
        event(envelope).map_err(|error| within(&error.field, &error.description))
    };
    events.into_iter().enumerate().map(one).collect()
}

fn event(envelope: Envelope) -> Result<Event, FieldError> {
    let Envelope { node, seq, time, event: kind, data } = envelope;
    let source = source(&node).map_err(|error| FieldError::new("node", error))?;
    let at = Duration::try_from_secs_f64(time).ok().and_then(|span| i64::try_from(span.as_millis()).ok());
    let at = at.ok_or_else(|| FieldError::new("time", format!("{time} is no time in seconds since 1970")))?;
    let data = match data {
        Value::Object(data) => data,
        _ => Map::new(),
    };
    Ok(Event { source, seq, at: Millis(at), kind, data })
}

impl Event {
    /// What it means, beside what is known of its leg.
    pub(crate) fn means(&self, known: impl Fn(&LegId) -> Option<Arc<LegRecord>>) -> FeedEvent {
        let leg = || self.text("uuid")?.parse::<LegId>().ok();
        let what = match self.kind.as_str() {
            "eventsink_started" => Happened::FeedStarted,
            "participant_connected" | "participant_updated" => {
                let call = leg().and_then(|leg| {
                    let known = known(&leg);
                    self.call(leg, known.as_deref())
                });
                call.map_or(Happened::Unreadable, |call| Happened::LegRuns(Box::new(call)))
            }
            "participant_disconnected" => leg().map_or(Happened::Unreadable, Happened::LegEnded),
            _ => Happened::Other,
        };
        FeedEvent { source: self.source.clone(), seq: self.seq, at: self.at, what }
    }

    /// For logs.
    pub(crate) fn summary(&self) -> String {
        let text = |name| self.text(name).unwrap_or("none");
        format!("{} {} of {} ({})", self.kind, self.seq, self.source, text("disconnect_reason"))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.data.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.data.get(name)?.as_bool()
    }

    /// The leg and its call. An update may hold only what has changed; the rest is as it was.
    fn call(&self, leg: LegId, known: Option<&LegRecord>) -> Option<Call> {
        let old = known.map(|record| &record.running);
        let named = |name: &str, before: Option<&Text>| {
            self.text(name).map(Text::clipped).or_else(|| before.cloned()).unwrap_or_default()
        };
        let protocol = self.text("protocol").map(protocol);
        let interop = protocol.map_or_else(|| old.and_then(|old| old.info.interop), |(_, interop)| interop);
        let service = match (interop, self.text("service_type").map(service)) {
            (Some(_), _) => Service::Gateway,
            (None, told) => told.or_else(|| old.map(|old| old.info.service)).unwrap_or(Service::Vmr),
        };
        let protocol = protocol.map(|(protocol, _)| protocol);
        let protocol = protocol.or_else(|| old.map(|old| old.leg.protocol)).unwrap_or(Protocol::Sip);
        let direction = self.text("call_direction").map(direction);
        let direction = direction.or_else(|| old.map(|old| old.leg.direction)).unwrap_or(Direction::In);
        let conference = named("conference", old.map(|old| &old.info.conference));
        let destination = named("destination_alias", old.map(|old| &old.info.destination));
        let address = match direction {
            Direction::In => "source_alias",
            Direction::Out => "destination_alias",
        };
        let participant = named(address, old.map(|old| &old.leg.participant));
        // The legs of a gateway call have the conference in common, and others their call.
        let together: Option<CallId> = match service {
            Service::Gateway => conference.as_str().parse().ok(),
            Service::Vmr | Service::Auditorium | Service::Reception => None,
        };
        let own = || match (self.text("call_id"), old) {
            (Some(call), _) => plain(call),
            (None, Some(old)) if old.info.service == service => Some(old.info.call.clone()),
            (None, _) => None,
        };
        // A leg of which no call is told is one of its own.
        let call = together.or_else(own).or_else(|| plain(leg.as_str()))?;
        let media = self.media(old.map(|old| old.leg.media));
        let tenant = named("service_tag", old.map(|old| &old.info.tenant));
        let source = self.source.clone();
        Some(Call {
            info: CallInfo { call, service, interop, conference, destination, tenant, source },
            legs: vec![Leg {
                leg,
                participant,
                protocol,
                direction,
                media,
                owner: None,
                replaces: None,
                subjects: Vec::new(),
                needs: Vec::new(),
            }],
        })
    }

    /// The platform tells whether there is media, not of which kind, and who presents, not who watches. A leg of
    /// which it does not tell counts as one with media.
    fn media(&self, before: Option<Media>) -> Media {
        let before = before.unwrap_or(Media::AUDIO_VIDEO);
        let media = self.flag("has_media").unwrap_or(before.audio);
        let presenting = self.flag("is_presenting").unwrap_or(before.presenting);
        let presentation = if presenting { Presentation::Standard } else { Presentation::None };
        Media { audio: media, video: media, presentation, presenting }
    }
}

/// What kind of service a leg has reached. On its way to one, or in front of it, a leg is already in the room.
fn service(word: &str) -> Service {
    let word = word.to_ascii_lowercase();
    match word.strip_suffix("_screen").unwrap_or(&word) {
        "gateway" => Service::Gateway,
        "lecture" => Service::Auditorium,
        "two_stage_dialing" | "ivr" => Service::Reception,
        _ => Service::Vmr,
    }
}

fn direction(word: &str) -> Direction {
    if word.eq_ignore_ascii_case("out") { Direction::Out } else { Direction::In }
}

#[cfg(test)]
mod tests;
