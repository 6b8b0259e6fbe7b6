//! A node as the lease contract sees it, without media server, journal or a mind of its own: it asks, and
//! settles what it does not know by asking the same number again.

use std::net::SocketAddr;

use headroom_proto::common::{Call, Charge, Direction, Leg, Media, Presentation, Protocol, Service};
use headroom_proto::lease::lease_service_client::LeaseServiceClient;
use headroom_proto::lease::{
    AdoptRequest, AdoptResponse, AllocateRequest, AllocateResponse, CallAnswer, HeartbeatRequest,
    HeartbeatResponse, LegSet, OpenSessionRequest, OpenSessionResponse, ReleaseRequest, RunningLeg, Session,
    call_answer,
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use crate::PATIENCE;

/// Connects to a management node with a node's TLS.
///
/// # Errors
/// What keeps it from it, in words.
pub async fn connect(address: SocketAddr, tls: ClientTlsConfig) -> Result<Channel, String> {
    endpoint(address, tls)?.connect().await.map_err(|error| format!("{error:?}"))
}

/// As [`connect`], when it is needed, and again after the service was away.
///
/// # Errors
/// When the TLS settings are unusable, in words.
pub fn connect_lazily(address: SocketAddr, tls: ClientTlsConfig) -> Result<Channel, String> {
    Ok(endpoint(address, tls)?.connect_lazy())
}

fn endpoint(address: SocketAddr, tls: ClientTlsConfig) -> Result<Endpoint, String> {
    headroom_shared::tls::install_provider();
    let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(|error| error.to_string())?;
    let endpoint = endpoint.tls_config(tls).map_err(|error| format!("{error:?}"))?;
    Ok(endpoint.timeout(PATIENCE).connect_timeout(PATIENCE).tcp_nodelay(true))
}

/// A peer in a session.
#[derive(Debug, Clone)]
pub struct Peer {
    rpc: LeaseServiceClient<Channel>,
    session: Option<Session>,
    sequence: u64,
}

impl Peer {
    /// Opens the first session of a node that runs nothing.
    ///
    /// # Errors
    /// The refusal.
    pub async fn open(channel: Channel) -> Result<Self, Status> {
        let mut rpc = LeaseServiceClient::new(channel);
        let opened = open(&mut rpc, 1).await?;
        Ok(Self { rpc, session: opened.session, sequence: 0 })
    }

    /// The number of the last mutation that was answered.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Asks for calls.
    ///
    /// # Errors
    /// The refusal; the number is then not used up.
    pub async fn allocate(&mut self, calls: Vec<Call>) -> Result<AllocateResponse, Status> {
        let (session, sequence) = (self.session, self.sequence + 1);
        let request = AllocateRequest { session, sequence, calls, dry_run: false };
        let answer = self.rpc.allocate(request).await?.into_inner();
        self.sequence = sequence;
        Ok(answer)
    }

    /// Gives legs back.
    ///
    /// # Errors
    /// The refusal; the number is then not used up.
    pub async fn release(&mut self, legs: Vec<String>) -> Result<(), Status> {
        let (session, sequence) = (self.session, self.sequence + 1);
        self.rpc.release(ReleaseRequest { session, sequence, legs }).await?;
        self.sequence = sequence;
        Ok(())
    }

    /// Records legs that run.
    ///
    /// # Errors
    /// The refusal; the number is then not used up.
    pub async fn adopt(&mut self, legs: Vec<RunningLeg>) -> Result<AdoptResponse, Status> {
        let (session, sequence) = (self.session, self.sequence + 1);
        let answer = self.rpc.adopt(AdoptRequest { session, sequence, legs }).await?.into_inner();
        self.sequence = sequence;
        Ok(answer)
    }

    /// A sign of life. It states the number 0, at which books are compared only before the first change.
    ///
    /// # Errors
    /// The refusal.
    pub async fn beat(&mut self) -> Result<HeartbeatResponse, Status> {
        let legs = Some(nothing());
        let request = HeartbeatRequest { session: self.session, legs, ..HeartbeatRequest::default() };
        Ok(self.rpc.heartbeat(request).await?.into_inner())
    }
}

/// Asks for a node's session with its number; the node runs nothing.
///
/// # Errors
/// The refusal.
pub async fn open(
    rpc: &mut LeaseServiceClient<Channel>,
    open_number: u64,
) -> Result<OpenSessionResponse, Status> {
    let request = OpenSessionRequest {
        nonce: vec![7; 16],
        open_number,
        legs: Some(nothing()),
        ..OpenSessionRequest::default()
    };
    rpc.open_session(request).await.map(tonic::Response::into_inner)
}

/// The legs of a node that runs none.
#[must_use]
pub fn nothing() -> LegSet {
    LegSet { count: 0, digest: vec![0; 16] }
}

/// A call of one leg with audio and video; the leg is named as the call.
#[must_use]
pub fn one_leg(name: &str) -> Call {
    let media =
        Media { audio: true, video: true, presentation: Presentation::None.into(), presenting: false };
    let leg = Leg {
        leg: name.to_owned(),
        participant: format!("sip:{name}@example.com"),
        protocol: Protocol::Sip.into(),
        direction: Direction::In.into(),
        media: Some(media),
        ..Leg::default()
    };
    Call { call: name.to_owned(), service: Service::Vmr.into(), legs: vec![leg], ..Call::default() }
}

/// The leg of such a call, running since `admitted_at_ms`.
#[must_use]
pub fn running(name: &str, admitted_at_ms: i64) -> RunningLeg {
    let charge = Charge { feature: "call".into(), units: 1 };
    RunningLeg { call: Some(one_leg(name)), charge: Some(charge), admitted_at_ms }
}

/// The calls that were granted.
pub fn granted(answer: &AllocateResponse) -> impl Iterator<Item = &str> {
    let granted = |a: &&CallAnswer| matches!(a.answer, Some(call_answer::Answer::Granted(_)));
    answer.answers.iter().filter(granted).map(|answer| answer.call.as_str())
}

/// Whether a request got no decision: the service is away or just came back, and the same number is to
/// be asked again.
#[must_use]
pub fn undecided(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
    )
}
