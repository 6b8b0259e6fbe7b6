//! Speaks with the pool: asks the machine what to send, sends it, and says what became of it.

use std::sync::Arc;
use std::time::Duration;

use conferencing_core::{Command, Failure, Next, Reply, Request, Response};
use headroom_core::Millis;
use headroom_proto::lease as pb;
use headroom_proto::lease::lease_service_client::LeaseServiceClient;
use headroom_shared::convert::{FieldError, encode};
use headroom_shared::tls::NodeBundle;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::agent::Agent;
use crate::wire;

const CONNECT: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(5);
/// How much longer than its own limit an attempt is waited for.
const SLACK: Duration = Duration::from_millis(50);

/// The pool cannot even be addressed.
#[derive(Debug, thiserror::Error)]
#[error("management: `{address}` cannot be used: {why}")]
pub struct AddressError {
    address: String,
    why: String,
}

/// How the management node is reached. The channel that is made of it connects when it is needed, and again
/// when the connection breaks.
///
/// # Errors
/// [`AddressError`] when the address is none.
pub fn endpoint(bundle: &NodeBundle, management: Option<&str>) -> Result<Endpoint, AddressError> {
    let address = management.unwrap_or(&bundle.management).to_owned();
    let unusable = |error: tonic::transport::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        AddressError { address: address.clone(), why: cause.unwrap_or_else(|| error.to_string()) }
    };
    // Without TLS anybody at that address would be believed.
    if !address.starts_with("https://") {
        let why = "write https://HOST:PORT".to_owned();
        return Err(AddressError { address, why });
    }
    let endpoint = Endpoint::from_shared(address.clone())
        .map_err(unusable)?
        .tls_config(bundle.client())
        .map_err(unusable)?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    Ok(endpoint)
}

/// Random numbers from 0 to 999, so that nodes do not act in step.
pub type Jitter = Box<dyn FnMut() -> u32 + Send>;

/// Such a number from the system.
#[must_use]
pub fn jitter() -> u32 {
    // Without randomness the middle is as good as any number.
    getrandom::u32().map_or(500, |random| random % 1000)
}

/// Speaks with the pool until the service ends.
pub async fn run(agent: Arc<Agent>, channel: Channel, jitter: Jitter) {
    let end = agent.shutdown().wait();
    tokio::select! {
        () = end => {}
        () = speak(&agent, LeaseServiceClient::new(channel), jitter) => {}
    }
}

async fn speak(agent: &Arc<Agent>, client: LeaseServiceClient<Channel>, mut jitter: Jitter) {
    let mut command = Command::Poll;
    let mut complaints = Complaints::default();
    loop {
        let Ok(reply) = agent.submit(command).await else { return };
        let Reply::Uplink { next, .. } = reply else { return };
        command = match next {
            Next::Send { id, request, timeout } => {
                let outcome = attempt(&client, &request, timeout, &mut complaints).await;
                Command::Answered { request: id, outcome, jitter: jitter() }
            }
            Next::Wait { until } => {
                let left = u64::try_from(until.since(agent.boot()).0).unwrap_or_default().max(1);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(left)) => {}
                    () = agent.woken() => {}
                }
                Command::Poll
            }
        };
    }
}

/// Logs what changes, not every attempt.
#[derive(Default)]
struct Complaints {
    last: Option<String>,
}

impl Complaints {
    fn heard(&mut self) {
        if self.last.take().is_some() {
            tracing::info!("the pool answers");
        }
    }

    fn failed(&mut self, request: &'static str, text: String) {
        if self.last.as_ref() != Some(&text) {
            tracing::warn!(request, "the pool does not decide: {text}");
            self.last = Some(text);
        }
    }
}

async fn attempt(
    client: &LeaseServiceClient<Channel>,
    request: &Request,
    timeout: Millis,
    complaints: &mut Complaints,
) -> Result<Response, Failure> {
    let limit = Duration::from_millis(u64::try_from(timeout.0).unwrap_or_default());
    let undecided = Failure::Undecided { retry_after: None };
    match tokio::time::timeout(limit + SLACK, send(client.clone(), request, limit)).await {
        Ok(Ok(Ok(response))) => {
            complaints.heard();
            Ok(response)
        }
        Ok(Ok(Err(error))) => {
            complaints.failed(request.name(), format!("its answer cannot be read: {error}"));
            Err(undecided)
        }
        Ok(Err(status)) => {
            let failure = wire::failure(&status);
            match &failure {
                Failure::Undecided { .. } => complaints.failed(request.name(), describe(&status)),
                other => tracing::info!(request = request.name(), "the pool refuses: {other}"),
            }
            Err(failure)
        }
        Err(_) => {
            complaints.failed(request.name(), "no answer in time".into());
            Err(undecided)
        }
    }
}

fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn timed<T>(message: T, limit: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    // Sends `grpc-timeout`, so that the pool drops what nobody waits for any more.
    request.set_timeout(limit);
    request
}

type Sent = Result<Result<Response, FieldError>, Status>;

async fn send(mut client: LeaseServiceClient<Channel>, request: &Request, limit: Duration) -> Sent {
    match request {
        Request::Open { .. } => {
            let message = wire::open(request).unwrap_or_default();
            Ok(wire::opened(client.open_session(timed(message, limit)).await?.get_ref()))
        }
        Request::Report { session, report, chunk, legs, total } => {
            let message = pb::ReportRequest {
                session: wire::session(*session),
                report: *report,
                chunk: *chunk,
                legs: legs.iter().map(encode::running_leg).collect(),
                total: total.as_ref().map(encode::leg_set),
            };
            Ok(wire::reported(client.report(timed(message, limit)).await?.get_ref()))
        }
        Request::Release { session, sequence, legs } => {
            let (session, legs) = (wire::session(*session), wire::ids(legs));
            let message = pb::ReleaseRequest { session, sequence: *sequence, legs };
            Ok(wire::released(client.release(timed(message, limit)).await?.get_ref()))
        }
        Request::Adopt { session, sequence, legs } => {
            let legs = legs.iter().map(encode::running_leg).collect();
            let message = pb::AdoptRequest { session: wire::session(*session), sequence: *sequence, legs };
            Ok(wire::adopted(client.adopt(timed(message, limit)).await?.get_ref()))
        }
        Request::Update { session, sequence, legs } => {
            let (session, legs) = (wire::session(*session), wire::updates(legs));
            let message = pb::UpdateRequest { session, sequence: *sequence, legs };
            Ok(wire::updated(client.update(timed(message, limit)).await?.get_ref()))
        }
        Request::Allocate { session, sequence, calls } => {
            let calls = calls.iter().map(encode::call).collect();
            let session = wire::session(*session);
            let message = pb::AllocateRequest { session, sequence: *sequence, calls, dry_run: false };
            Ok(wire::allocated(client.allocate(timed(message, limit)).await?.get_ref()))
        }
        Request::Heartbeat { session, sequence, legs, told, past, optimistic } => {
            let message = pb::HeartbeatRequest {
                session: wire::session(*session),
                sequence: *sequence,
                legs: Some(encode::leg_set(legs)),
                told: wire::ids(told),
                past: past.iter().map(wire::past).collect(),
                optimistic: u32::try_from(*optimistic).unwrap_or(u32::MAX),
            };
            Ok(wire::beaten(client.heartbeat(timed(message, limit)).await?.get_ref()))
        }
    }
}
