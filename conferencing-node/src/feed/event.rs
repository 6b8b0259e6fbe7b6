//! Events as the platform writes them, and what they mean here.
//!
//! The platform adds fields and kinds from version to version, so everything unknown is passed over. Only the
//! envelope has to be complete: who tells, which number, when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conferencing_core::{FeedEvent, Happened, LegRecord};
use headroom_core::{
    Call, CallId, CallInfo, Direction, Leg, LegId, Media, Millis, Presentation, Protocol, Service, SourceId,
    Text,
};
use headroom_shared::convert::FieldError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

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
    data: Option<Box<RawValue>>,
}

/// The data of several in one.
#[derive(Debug, Deserialize)]
struct Bulk {
    events: Vec<Box<RawValue>>,
}

/// An event, of which it is not read yet what it tells.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// The machine that tells.
    pub(crate) source: SourceId,
    seq: u64,
    at: Millis,
    kind: String,
    /// Not read yet either: a name that is no text must not keep an end from being heard.
    data: BTreeMap<String, Box<RawValue>>,
}

/// The events of a body, in order.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Event>, FieldError> {
    let envelope: Envelope = json::read(body)?;
    if envelope.event != BULK {
        return Ok(vec![event(envelope)?]);
    }
    let data = envelope.data.as_deref().map_or("null", RawValue::get);
    let bare = serde_json::from_str(data);
    let bulk = bare.or_else(|_| serde_json::from_str(data).map(|Bulk { events }| events));
    let events: Vec<Box<RawValue>> =
        bulk.map_err(|_| FieldError::new("data", "must be a list of events, or hold one as `events`"))?;
    let one = |(index, one): (usize, Box<RawValue>)| {
        let within = |error: FieldError| match error.field.as_str() {
            "body" => FieldError::new(format!("data[{index}]"), error.description),
            field => FieldError::new(format!("data[{index}].{field}"), error.description),
        };
        json::read(one.get().as_bytes()).and_then(event).map_err(within)
    };
    events.into_iter().enumerate().map(one).collect()
}

fn event(envelope: Envelope) -> Result<Event, FieldError> {
    let Envelope { node, seq, time, event: kind, data } = envelope;
    let source = source(&node).map_err(|error| FieldError::new("node", error))?;
    let at = Duration::try_from_secs_f64(time).ok().and_then(|span| i64::try_from(span.as_millis()).ok());
    let at = at.ok_or_else(|| FieldError::new("time", format!("{time} is no time in seconds since 1970")))?;
    let data = data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
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
        let text = |name| self.text(name).unwrap_or_default();
        format!("{} {} of {} ({})", self.kind, self.seq, self.source, text("disconnect_reason"))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.data.get(name)?.get()).ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.read(name).filter(|text: &String| !text.is_empty())
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.read(name)
    }

    /// The leg and its call. An update may hold only what has changed; the rest is as it was.
    fn call(&self, leg: LegId, known: Option<&LegRecord>) -> Option<Call> {
        let old = known.map(|record| &record.running);
        let named = |name: &str, before: Option<&Text>| {
            self.text(name).map(|text| Text::clipped(&text)).or_else(|| before.cloned()).unwrap_or_default()
        };
        let protocol = self.text("protocol").map(|word| protocol(&word));
        let told = self.text("service_type").map(|word| service(&word));
        let before =
            || old.filter(|old| told.is_none_or(|told| told == old.info.service)).map(|old| &old.info);
        let interop = protocol.map_or_else(|| before().and_then(|info| info.interop), |(_, interop)| interop);
        let service = match interop {
            Some(_) => Service::Gateway,
            None => told.or_else(|| before().map(|info| info.service)).unwrap_or(Service::Vmr),
        };
        let protocol = protocol.map(|(protocol, _)| protocol);
        let protocol = protocol.or_else(|| old.map(|old| old.leg.protocol)).unwrap_or(Protocol::Sip);
        let direction = self.text("call_direction").map(|word| direction(&word));
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
            (Some(call), _) => plain(&call),
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
