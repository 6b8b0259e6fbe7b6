//! `AdminService`: decode, submit or read, encode, and nothing else. It is served on the Unix socket
//! only, so whoever reaches it is authorized.

use std::sync::Arc;

use headroom_core::time::Clock;
use headroom_core::{CallId, Millis, Now};
use headroom_proto::admin as pb;
use headroom_proto::admin::admin_service_server::AdminService;
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::{Handle, View};
use headroom_shared::convert::{decode, encode};
use headroom_shared::status;
use management_core::{Command, Explanation, LiveView, Pool, PoolMachine, Reply};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use crate::admin_convert as convert;
use crate::deployment::Deployment;
use crate::lease_convert::{refusal, unexpected};
use crate::observe;

const DEFAULT_CALLS: usize = 1000;
const MAX_CALLS: usize = 10_000;
const DEFAULT_DENIALS: usize = 100;
const MAX_DENIALS: usize = 10_000;
const DEFAULT_LINES: usize = 100;
const MAX_LINES: usize = 10_000;
/// Minutes of counts on a first page when no time is given: one day.
const MINUTES: i64 = 1440;

/// The service.
pub struct AdminApi {
    pool: Handle<PoolMachine>,
    live: watch::Receiver<LiveView>,
    deployment: Arc<Deployment>,
    address: String,
}

impl AdminApi {
    /// The service over a pool.
    #[must_use]
    pub const fn new(
        pool: Handle<PoolMachine>,
        live: watch::Receiver<LiveView>,
        deployment: Arc<Deployment>,
        address: String,
    ) -> Self {
        Self { pool, live, deployment, address }
    }

    async fn submit(&self, command: Command) -> Result<Reply, Status> {
        Ok(self.pool.submit(command).await?.reply)
    }

    /// The published state, what is shown of liveness, and the time. Never waits for the store.
    fn look(&self) -> (Arc<View<PoolMachine>>, LiveView, Now) {
        (self.pool.view(), self.live.borrow().clone(), SystemClock.now())
    }
}

#[tonic::async_trait]
impl AdminService for AdminApi {
    async fn get_pool_status(
        &self,
        _: Request<pb::GetPoolStatusRequest>,
    ) -> Result<Response<pb::GetPoolStatusResponse>, Status> {
        let (view, live, now) = self.look();
        let state = &view.state;
        let alarms = observe::alarms(&self.pool, state, &live, now.wall).into_iter().map(|alarm| pb::Alarm {
            name: alarm.name.to_owned(),
            subject: alarm.subject,
            text: alarm.text,
        });
        Ok(Response::new(pb::GetPoolStatusResponse {
            pools: state.features().iter().map(|feature| convert::pool(state, feature, now.wall)).collect(),
            leases: state.leases.len() as u64,
            calls: state.counters.calls,
            alarms: alarms.collect(),
            position: Some(encode::position(view.position)),
            denials: state.counters.denial,
            test_mode_left_ms: state.test_mode_left(now.wall).map(|left| left.0.unsigned_abs()),
        }))
    }

    async fn add_node(
        &self,
        request: Request<pb::AddNodeRequest>,
    ) -> Result<Response<pb::AddNodeResponse>, Status> {
        let message = request.into_inner();
        let node: headroom_core::NodeName = decode::id(&message.node, "node")?;
        let management = if message.management.is_empty() { &self.address } else { &message.management };
        if !management.starts_with("https://") {
            let text = format!("{management} is no address: write https://HOST:PORT");
            return Err(status::bad_field("management", text));
        }
        let defect = |error: headroom_shared::tls::TlsError| Status::internal(error.to_string());
        let (bundle, certificate) = self.deployment.issue(&node, management).map_err(defect)?;
        match self.submit(Command::AddNode { node: node.clone(), certificate }).await? {
            Reply::NodeAdded(Ok(())) => {
                tracing::info!(%node, "node added");
                Ok(Response::new(pb::AddNodeResponse { bundle: bundle.to_toml().map_err(defect)? }))
            }
            Reply::NodeAdded(Err(why)) => Err(refusal(&why)),
            other => Err(unexpected(&other)),
        }
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Result<Response<pb::RemoveNodeResponse>, Status> {
        let node: headroom_core::NodeName = decode::id(&request.get_ref().node, "node")?;
        match self.submit(Command::RemoveNode(node.clone())).await? {
            Reply::NodeRemoved(Ok(released)) => {
                tracing::info!(%node, released, "node removed");
                Ok(Response::new(pb::RemoveNodeResponse { released }))
            }
            Reply::NodeRemoved(Err(why)) => Err(refusal(&why)),
            other => Err(unexpected(&other)),
        }
    }

    async fn list_nodes(
        &self,
        _: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let (view, live, _) = self.look();
        let holders = view.state.holder_ids.values();
        let nodes = holders.filter_map(|id| {
            view.state.holders.get(id).map(|holder| convert::node(&view.state, *id, holder, &live))
        });
        Ok(Response::new(pb::ListNodesResponse { nodes: nodes.collect() }))
    }

    async fn list_calls(
        &self,
        request: Request<pb::ListCallsRequest>,
    ) -> Result<Response<pb::ListCallsResponse>, Status> {
        let message = request.into_inner();
        let node = decode::optional_id::<headroom_core::NodeName>(&message.node, "node")?;
        let after = decode::optional_id::<CallId>(&message.page_token, "page_token")?;
        let size = decode::page_size(message.page_size, DEFAULT_CALLS, MAX_CALLS);
        Ok(Response::new(calls(&self.pool.view().state, node.as_ref(), after.as_ref(), size)))
    }

    async fn list_denials(
        &self,
        request: Request<pb::ListDenialsRequest>,
    ) -> Result<Response<pb::ListDenialsResponse>, Status> {
        let message = request.into_inner();
        let before = decode::page(&message.page_token)?;
        let call = decode::optional_id::<CallId>(&message.call, "call")?;
        let size = decode::page_size(message.page_size, DEFAULT_DENIALS, MAX_DENIALS);
        let state = &self.pool.view().state;
        let wanted = |denial: &management_core::Denial| {
            denial.at >= Millis(message.since_ms)
                && call.as_ref().is_none_or(|call| denial.call.info.call == *call)
        };
        let mut found = state
            .denials
            .range(..before.unwrap_or(u64::MAX))
            .rev()
            .filter(|(_, denial)| wanted(denial))
            .map(|(number, denial)| convert::denial(state, *number, denial));
        let denials: Vec<_> = found.by_ref().take(size).collect();
        let more = found.next().is_some();
        let last = denials.last().map(|denial| denial.number.to_string()).unwrap_or_default();
        let minutes = if before.is_none() {
            let newest = state.minutes.get_max().map_or(0, |((minute, _), _)| *minute);
            let since = match message.since_ms {
                0 => newest - MINUTES,
                since => since.div_euclid(60_000) - 1,
            };
            let wanted = state.minutes.iter().rev().take_while(|((minute, _), _)| *minute > since);
            wanted.map(|((minute, reason), count)| convert::minute(*minute, *reason, *count)).collect()
        } else {
            Vec::new()
        };
        let next_page_token = if more { last } else { String::new() };
        Ok(Response::new(pb::ListDenialsResponse { denials, next_page_token, minutes }))
    }

    async fn force_release(
        &self,
        request: Request<pb::ForceReleaseRequest>,
    ) -> Result<Response<pb::ForceReleaseResponse>, Status> {
        let message = request.into_inner();
        let node: headroom_core::NodeName = decode::id(&message.node, "node")?;
        let leg: headroom_core::LegId = decode::id(&message.leg, "leg")?;
        match self.submit(Command::ForceRelease { node: node.clone(), leg: leg.clone() }).await? {
            Reply::Forced(Ok(charge)) => {
                tracing::info!(%node, %leg, %charge, "lease released by force");
                Ok(Response::new(pb::ForceReleaseResponse { charge: Some(encode::charge(&charge)) }))
            }
            Reply::Forced(Err(why)) => Err(refusal(&why)),
            other => Err(unexpected(&other)),
        }
    }

    async fn list_alarms(
        &self,
        request: Request<pb::ListAlarmsRequest>,
    ) -> Result<Response<pb::ListAlarmsResponse>, Status> {
        let cleared = request.get_ref().cleared;
        let state = &self.pool.view().state;
        let wanted = state.alarm_book.iter().filter(|(_, record)| cleared || record.cleared_at.is_none());
        let mut alarms: Vec<_> = wanted.map(|(key, record)| convert::alarm(key, record)).collect();
        alarms.sort_by_key(|alarm| std::cmp::Reverse(alarm.raised_at_ms));
        Ok(Response::new(pb::ListAlarmsResponse { alarms }))
    }

    async fn list_support_log(
        &self,
        request: Request<pb::ListSupportLogRequest>,
    ) -> Result<Response<pb::ListSupportLogResponse>, Status> {
        let message = request.get_ref();
        let call = decode::optional_id::<CallId>(&message.call, "call")?;
        let limit = decode::page_size(message.limit, DEFAULT_LINES, MAX_LINES);
        let state = &self.pool.view().state;
        let lines = convert::support(state, Millis(message.since_ms), call.as_ref(), limit);
        Ok(Response::new(pb::ListSupportLogResponse { lines }))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        use pb::explain_request::Subject;
        let message = request.into_inner();
        let state = &self.pool.view().state;
        let (explained, subject): (Vec<Explanation>, String) =
            match decode::required(message.subject, "subject")? {
                Subject::Call(call) => {
                    (state.explain_call(&decode::id(&call, "call")?), format!("call {call}"))
                }
                Subject::Leg(leg) => (state.explain_leg(&decode::id(&leg, "leg")?), format!("leg {leg}")),
                Subject::Last(_) => (state.explain_last().into_iter().collect(), "any call".into()),
            };
        if explained.is_empty() {
            let text = format!("no decision about {subject} is remembered");
            return Err(status::reasoned(Code::NotFound, "NOT_FOUND", text));
        }
        let explanations = explained.iter().map(convert::explanation).collect();
        Ok(Response::new(pb::ExplainResponse { explanations }))
    }
}

/// A page of active calls, ordered by call.
fn calls(
    state: &Pool,
    node: Option<&headroom_core::NodeName>,
    after: Option<&CallId>,
    size: usize,
) -> pb::ListCallsResponse {
    let mut calls: Vec<pb::ActiveCall> = Vec::new();
    for (holder, lease) in state.leases.by_call(after) {
        let call = &lease.info.call;
        if node.is_some_and(|node| state.node_of(holder).as_ref() != Some(node)) {
            continue;
        }
        let leg = convert::leased_leg(state, holder, &lease);
        if let Some(last) = calls.last_mut().filter(|last| last.call == call.as_str()) {
            last.legs.push(leg);
            continue;
        }
        if calls.len() == size {
            let next_page_token = calls.last().map(|last| last.call.clone()).unwrap_or_default();
            return pb::ListCallsResponse { calls, next_page_token };
        }
        calls.push(pb::ActiveCall {
            call: call.to_string(),
            service: convert::service(lease.info.service),
            conference: lease.info.conference.to_string(),
            legs: vec![leg],
        });
    }
    pb::ListCallsResponse { calls, next_page_token: String::new() }
}
