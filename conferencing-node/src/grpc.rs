//! The local interface as gRPC.

use std::pin::Pin;
use std::sync::Arc;

use conferencing_core::status::{FeatureStatus, FeedStatus};
use conferencing_core::{Conflict, Contact, Decision, LegVerdict};
use futures::{Stream, StreamExt};
use headroom_proto::admission as pb;
use headroom_proto::admission::admission_service_server::AdmissionService;
use headroom_shared::convert::{FieldError, decode, encode};
use headroom_shared::status;
use tonic::{Code, Request, Response, Status};

use crate::agent::{Agent, AgentError};
use crate::revocations::revocations;

/// The service's full name.
pub const NAME: &str = "headroom.admission.v1.AdmissionService";

/// `AdmissionService`.
pub struct Admission {
    agent: Arc<Agent>,
}

fn feed(status: &FeedStatus) -> pb::FeedStatus {
    let FeedStatus { source, seq, missed, in_doubt } = status;
    pb::FeedStatus { source: source.to_string(), seq: *seq, missed: *missed, in_doubt: *in_doubt }
}

impl Admission {
    /// Serves an agent.
    #[must_use]
    pub const fn new(agent: Arc<Agent>) -> Self {
        Self { agent }
    }
}

fn refused(error: AgentError) -> Status {
    let text = error.to_string();
    match error {
        AgentError::Submit(error) => error.into(),
        AgentError::Invalid { field, text } => status::bad_field(field, text),
        AgentError::Unexpected { .. } => Status::internal(text),
    }
}

fn conflict(conflict: &Conflict) -> Status {
    let text = format!("{}: {conflict}", conflict.field());
    match conflict {
        Conflict::Released { .. } => status::reasoned(Code::FailedPrecondition, "RELEASED", text),
        Conflict::Revoked { .. } => status::reasoned(Code::FailedPrecondition, "REVOKED", text),
        Conflict::OtherCall { .. } => status::reasoned(Code::AlreadyExists, "CONFLICT", text),
    }
}

const fn decision(granted: bool) -> i32 {
    if granted { pb::Decision::Granted as i32 } else { pb::Decision::Denied as i32 }
}

fn at_least_one<T>(items: &[T], field: &str) -> Result<(), Status> {
    if items.is_empty() {
        return Err(status::bad_field(field, "at least one must be given"));
    }
    Ok(())
}

fn verdict(leg: String, verdict: &LegVerdict) -> pb::LegDecision {
    let empty = pb::LegDecision { leg, ..Default::default() };
    match verdict {
        LegVerdict::Granted { units, optimistic } => {
            pb::LegDecision { decision: decision(true), optimistic: *optimistic, units: units.0, ..empty }
        }
        LegVerdict::Denied { reason, units } => pb::LegDecision {
            decision: decision(false),
            units: units.0,
            denial: Some(encode::denial(*reason)),
            ..empty
        },
        LegVerdict::Released => pb::LegDecision { released: true, ..empty },
        LegVerdict::Refused { field, text } => {
            let fault = pb::Fault { field: field.clone(), text: text.clone() };
            pb::LegDecision { fault: Some(fault), ..empty }
        }
        LegVerdict::Unknown | LegVerdict::Waiting { .. } => pb::LegDecision { unknown: true, ..empty },
    }
}

const fn contact(contact: Contact) -> pb::Contact {
    match contact {
        Contact::In => pb::Contact::In,
        Contact::Out => pb::Contact::Out,
        Contact::NotEnrolled => pb::Contact::NotEnrolled,
        Contact::GraceExpired => pb::Contact::GraceExpired,
    }
}

fn feature(status: &FeatureStatus) -> pb::FeatureStatus {
    let FeatureStatus { feature, capacity, overdraft, full } = status;
    pb::FeatureStatus {
        feature: feature.to_string(),
        capacity: *capacity,
        overdraft: *overdraft,
        full: *full,
    }
}

impl Admission {
    /// The source that is named, if any; unless an observer asks, it shows life, or the default one does.
    fn reader(&self, source: &str, observer: bool) -> Result<Option<headroom_core::SourceId>, Status> {
        let source = decode::optional_id(source, "source")?;
        if !observer {
            self.agent.alive(source.clone().unwrap_or_default());
        }
        Ok(source)
    }
}

#[tonic::async_trait]
impl AdmissionService for Admission {
    async fn admit(&self, request: Request<pb::AdmitRequest>) -> Result<Response<pb::AdmitResponse>, Status> {
        let message = request.into_inner();
        let call = decode::required(message.call.as_ref(), "call")?;
        let call = decode::call(call).map_err(|error| error.within("call"))?;
        let decided =
            if message.running { self.agent.adopt(call).await } else { self.agent.admit(call).await };
        match decided.map_err(refused)? {
            Decision::Granted(granted) => {
                let mine = granted.legs.iter().filter(|leg| leg.owner.is_none());
                self.agent.delivered(mine.map(|leg| leg.leg.clone()).collect());
                let leg = |leg: &conferencing_core::GrantedLeg| pb::GrantedLeg {
                    leg: leg.leg.to_string(),
                    units: leg.charge.units.0,
                    feature: if leg.charge.units.is_zero() {
                        String::new()
                    } else {
                        leg.charge.feature.to_string()
                    },
                    lease: leg.lease.map_or(0, |lease| lease.0),
                    owner: leg.owner.as_ref().map(ToString::to_string).unwrap_or_default(),
                };
                Ok(Response::new(pb::AdmitResponse {
                    decision: decision(true),
                    optimistic: granted.optimistic,
                    legs: granted.legs.iter().map(leg).collect(),
                    denial: None,
                }))
            }
            Decision::Denied(reason) => Ok(Response::new(pb::AdmitResponse {
                decision: decision(false),
                optimistic: false,
                legs: Vec::new(),
                denial: Some(encode::denial(reason)),
            })),
            Decision::Conflict(found) => Err(conflict(&found)),
            Decision::Refused { field, text } => Err(status::bad_field(format!("call.{field}"), text)),
        }
    }

    async fn update_legs(
        &self,
        request: Request<pb::UpdateLegsRequest>,
    ) -> Result<Response<pb::UpdateLegsResponse>, Status> {
        let message = request.into_inner();
        at_least_one(&message.legs, "legs")?;
        decode::at_most(message.legs.len(), headroom_core::call::MAX_LEGS, "legs")?;
        let change = |change: &pb::LegChange| {
            let media = decode::required(change.media.as_ref(), "media")?;
            let media = decode::media(media).map_err(|error| error.within("media"))?;
            Ok((decode::id(&change.leg, "leg")?, media))
        };
        let changes = decode::items(&message.legs, "legs", change)?;
        let mut seen = std::collections::BTreeSet::new();
        if let Some(index) = changes.iter().position(|(leg, _)| !seen.insert(leg)) {
            return Err(FieldError::new(format!("legs[{index}].leg"), "is given twice").into());
        }
        let verdicts = self.agent.update(changes).await.map_err(refused)?;
        let legs = message
            .legs
            .into_iter()
            .zip(&verdicts)
            .map(|(change, found)| verdict(change.leg, found))
            .collect();
        Ok(Response::new(pb::UpdateLegsResponse { legs }))
    }

    async fn end_legs(
        &self,
        request: Request<pb::EndLegsRequest>,
    ) -> Result<Response<pb::EndLegsResponse>, Status> {
        let message = request.into_inner();
        at_least_one(&message.legs, "legs")?;
        let legs = decode::leg_ids(&message.legs, "legs")?;
        let ended = self.agent.end_legs(legs).await.map_err(refused)?;
        Ok(Response::new(pb::EndLegsResponse { ended: u32::try_from(ended).unwrap_or(u32::MAX) }))
    }

    async fn end_call(
        &self,
        request: Request<pb::EndCallRequest>,
    ) -> Result<Response<pb::EndCallResponse>, Status> {
        let call = decode::id(&request.into_inner().call, "call")?;
        let ended = self.agent.end_call(call).await.map_err(refused)?;
        Ok(Response::new(pb::EndCallResponse { ended: u32::try_from(ended).unwrap_or(u32::MAX) }))
    }

    async fn list_legs(
        &self,
        request: Request<pb::ListLegsRequest>,
    ) -> Result<Response<pb::ListLegsResponse>, Status> {
        let message = request.into_inner();
        let source = self.reader(&message.source, message.observer)?;
        let view = self.agent.view();
        let state = &view.state;
        let leg = |record: &conferencing_core::LegRecord| pb::ActiveLeg {
            leg: record.id().to_string(),
            call: record.call().to_string(),
            source: record.source().to_string(),
            units: record.running.charge.units.0,
            feature: match record.running.charge.units.is_zero() {
                true => String::new(),
                false => record.running.charge.feature.to_string(),
            },
            optimistic: record.optimistic(),
            unconfirmed: state.unconfirmed.contains(record.id()),
            revoked: record.revoked,
            admitted_at_ms: record.running.admitted_at.0,
            participant: record.running.leg.participant.to_string(),
            lease: record.lease.map_or(0, |lease| lease.0),
        };
        let wanted = |record: &&std::sync::Arc<conferencing_core::LegRecord>| {
            source.as_ref().is_none_or(|source| record.source() == source)
        };
        let legs = state.legs.values().filter(wanted).map(|record| leg(record)).collect();
        if !message.observer {
            self.agent.read_by(state, source.as_ref());
        }
        Ok(Response::new(pb::ListLegsResponse { as_of: state.counters.revision, legs }))
    }

    async fn sync_legs(
        &self,
        request: Request<pb::SyncLegsRequest>,
    ) -> Result<Response<pb::SyncLegsResponse>, Status> {
        let message = request.into_inner();
        let source = decode::id(&message.source, "source")?;
        let legs = decode::items(&message.legs, "legs", |leg| decode::id(leg, ""))?;
        let (ended, unknown) = self.agent.sync(source, message.as_of, legs).await.map_err(refused)?;
        let words = |legs: Vec<headroom_core::LegId>| legs.iter().map(ToString::to_string).collect();
        Ok(Response::new(pb::SyncLegsResponse { ended: words(ended), unknown: words(unknown) }))
    }

    async fn get_status(
        &self,
        request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        let message = request.into_inner();
        self.reader(&message.source, message.observer)?;
        let status = self.agent.status().await.map_err(refused)?;
        let millis = |span: headroom_core::Millis| u64::try_from(span.0).unwrap_or_default();
        Ok(Response::new(pb::GetStatusResponse {
            node: status.node.map(|node| node.to_string()).unwrap_or_default(),
            contact: contact(status.contact).into(),
            out_of_contact_ms: millis(status.out_of_contact),
            grace_left_ms: millis(status.grace_left),
            legs: status.legs,
            optimistic: status.optimistic,
            outbox: status.outbox,
            revoked: status.revoked,
            unconfirmed: status.unconfirmed,
            alarms: status.alarms,
            version: env!("CARGO_PKG_VERSION").into(),
            draining: status.draining,
            past_events: status.past,
            past_events_dropped: status.past_dropped,
            pools: status.features.iter().map(feature).collect(),
            feeds: status.feeds.iter().map(feed).collect(),
        }))
    }

    async fn set_draining(
        &self,
        request: Request<pb::SetDrainingRequest>,
    ) -> Result<Response<pb::SetDrainingResponse>, Status> {
        let legs = self.agent.drain(request.into_inner().draining).await.map_err(refused)?;
        Ok(Response::new(pb::SetDrainingResponse { legs }))
    }

    type WatchRevocationsStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchRevocationsResponse, Status>> + Send>>;

    async fn watch_revocations(
        &self,
        request: Request<pb::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let message = request.into_inner();
        let source = decode::optional_id(&message.source, "source")?;
        let revocations = revocations(&self.agent, source, message.observer).map(|revoked| {
            Ok(pb::WatchRevocationsResponse {
                leg: revoked.leg.to_string(),
                call: revoked.call.to_string(),
                source: revoked.source.to_string(),
            })
        });
        Ok(Response::new(Box::pin(revocations)))
    }
}
