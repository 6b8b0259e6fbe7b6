//! Echoes: servers of the same kind and with the same settings as Headroom's, that decode what they are
//! asked, answer in the same shape, and do nothing else.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::routing::{delete, post};
use headroom_proto::admission as ad;
use headroom_proto::admission::admission_service_server::{AdmissionService, AdmissionServiceServer};
use headroom_proto::common::{Call, Charge};
use headroom_proto::lease as pb;
use headroom_proto::lease::lease_service_server::{LeaseService, LeaseServiceServer};
use headroom_shared::rpc::{self, Listen, Patience, Shutdown, with_standard_services};
use headroom_shared::tls::{Credentials, mutual_server};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// The file that says where they serve.
pub(crate) const ADDRESSES: &str = "echo-addresses";

type Answer<T> = Result<Response<T>, Status>;

fn closed<T>() -> Answer<T> {
    Err(Status::unimplemented("an echo answers allocate, release and heartbeat only"))
}

struct Lease;

fn granted(call: Call) -> pb::CallAnswer {
    let charge = Some(Charge { feature: "call".into(), units: 1 });
    let leases = call.legs.into_iter().map(|leg| pb::Lease {
        leg: leg.leg,
        lease: 123_456,
        charge: charge.clone(),
        owner: String::new(),
    });
    let granted = pb::Granted { leases: leases.collect() };
    pb::CallAnswer { call: call.call, answer: Some(pb::call_answer::Answer::Granted(granted)) }
}

fn pools() -> Vec<pb::PoolState> {
    vec![pb::PoolState { feature: "call".into(), full: false }]
}

fn position() -> Option<headroom_proto::common::Position> {
    Some(headroom_proto::common::Position { generation: u64::MAX / 3, sequence: 123_456 })
}

#[tonic::async_trait]
impl LeaseService for Lease {
    async fn open_session(&self, _: Request<pb::OpenSessionRequest>) -> Answer<pb::OpenSessionResponse> {
        let session = Some(pb::Session { generation: u64::MAX / 3, number: 1 });
        Ok(Response::new(pb::OpenSessionResponse { session, ..pb::OpenSessionResponse::default() }))
    }
    async fn report(&self, _: Request<pb::ReportRequest>) -> Answer<pb::ReportResponse> {
        closed()
    }
    async fn allocate(&self, request: Request<pb::AllocateRequest>) -> Answer<pb::AllocateResponse> {
        let answers = request.into_inner().calls.into_iter().map(granted).collect();
        Ok(Response::new(pb::AllocateResponse { answers, pools: pools(), position: position() }))
    }
    async fn update(&self, _: Request<pb::UpdateRequest>) -> Answer<pb::UpdateResponse> {
        closed()
    }
    async fn release(&self, _: Request<pb::ReleaseRequest>) -> Answer<pb::ReleaseResponse> {
        Ok(Response::new(pb::ReleaseResponse { pools: pools(), position: position() }))
    }
    async fn adopt(&self, _: Request<pb::AdoptRequest>) -> Answer<pb::AdoptResponse> {
        closed()
    }
    async fn heartbeat(&self, _: Request<pb::HeartbeatRequest>) -> Answer<pb::HeartbeatResponse> {
        let (pools, position) = (pools(), position());
        Ok(Response::new(pb::HeartbeatResponse { pools, position, ..pb::HeartbeatResponse::default() }))
    }
}

struct Admission;

#[tonic::async_trait]
impl AdmissionService for Admission {
    async fn admit(&self, request: Request<ad::AdmitRequest>) -> Answer<ad::AdmitResponse> {
        let legs = request.into_inner().call.unwrap_or_default().legs.into_iter();
        let legs = legs.map(|leg| ad::GrantedLeg {
            leg: leg.leg,
            units: 1,
            feature: "call".into(),
            lease: 123_456,
            owner: String::new(),
        });
        Ok(Response::new(ad::AdmitResponse {
            decision: ad::Decision::Granted.into(),
            optimistic: false,
            legs: legs.collect(),
            denial: None,
        }))
    }
    async fn update_legs(&self, _: Request<ad::UpdateLegsRequest>) -> Answer<ad::UpdateLegsResponse> {
        closed()
    }
    async fn end_legs(&self, request: Request<ad::EndLegsRequest>) -> Answer<ad::EndLegsResponse> {
        let ended = u32::try_from(request.into_inner().legs.len()).unwrap_or(u32::MAX);
        Ok(Response::new(ad::EndLegsResponse { ended }))
    }
    async fn end_call(&self, _: Request<ad::EndCallRequest>) -> Answer<ad::EndCallResponse> {
        closed()
    }
    async fn list_legs(&self, _: Request<ad::ListLegsRequest>) -> Answer<ad::ListLegsResponse> {
        closed()
    }
    async fn sync_legs(&self, _: Request<ad::SyncLegsRequest>) -> Answer<ad::SyncLegsResponse> {
        closed()
    }
    async fn get_status(&self, _: Request<ad::GetStatusRequest>) -> Answer<ad::GetStatusResponse> {
        closed()
    }
    async fn set_draining(&self, _: Request<ad::SetDrainingRequest>) -> Answer<ad::SetDrainingResponse> {
        closed()
    }
    type WatchRevocationsStream =
        tokio_stream::Empty<std::result::Result<ad::WatchRevocationsResponse, Status>>;
    async fn watch_revocations(
        &self,
        _: Request<ad::WatchRevocationsRequest>,
    ) -> Answer<Self::WatchRevocationsStream> {
        closed()
    }
}

async fn admit(body: Bytes) -> axum::Json<serde_json::Value> {
    let asked: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let leg = &asked["legs"][0]["leg"];
    let legs = serde_json::json!([{ "leg": leg, "units": 1, "feature": "call", "lease": 123_456 }]);
    axum::Json(serde_json::json!({ "decision": "granted", "optimistic": false, "legs": legs }))
}

async fn end() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "ended": 1 }))
}

/// Serves the echoes until told to end: the lease contract over mutual TLS with the certificates in
/// `folder`, and a conferencing node's interface on loopback. Writes both addresses to a file
/// there.
///
/// # Errors
/// Whatever keeps it from serving.
pub(crate) async fn serve(folder: &std::path::Path) -> Result<()> {
    let shutdown = Shutdown::on_signal()?;
    let (authority, server) = (Credentials::load(folder, "authority")?, Credentials::load(folder, "server")?);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let lease = rpc::bind(Listen::tls(any, mutual_server(&server, &authority.certificate)?)).await?;
    let node = rpc::bind(Listen::tcp(any)).await?;
    let (for_lease, _) = with_standard_services(Routes::new(LeaseServiceServer::new(Lease)), &[]).await?;
    let http = Router::new().route("/v1/calls", post(admit)).route("/v1/legs/{leg}", delete(end));
    let for_node = Routes::from(http).add_service(AdmissionServiceServer::new(Admission));
    let file = folder.join(ADDRESSES);
    let half = file.with_extension("new");
    std::fs::write(&half, format!("{} {}", lease.address(), node.address()))?;
    std::fs::rename(&half, &file).context("the addresses of the echoes")?;
    tokio::try_join!(
        lease.serve(for_lease, Patience::default(), &shutdown),
        node.serve(for_node, Patience::default(), &shutdown),
    )?;
    Ok(())
}
