//! Admission through a conferencing node, as a media server asks: over HTTP and gRPC, in contact with the
//! pool and cut off from it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use headroom_deploy::agent::{Agent, simple_call};
use headroom_proto::admission::admission_service_client::AdmissionServiceClient;
use headroom_proto::admission::{AdmitRequest, Contact, Decision, EndLegsRequest};
use headroom_tests::peer::one_leg;
use headroom_tests::stands;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::lease::in_turn;
use crate::measure::{Samples, Worker};
use crate::rig::{Echo, Rig};

/// Requests in flight.
const IN_FLIGHT: usize = 64;

/// A media server over HTTP, with a connection that it keeps.
struct Http {
    name: String,
    number: u64,
    host: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Http {
    async fn connect(name: String, address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { name, number: 0, host: address.to_string(), sender })
    }

    async fn ask(&mut self, method: Method, path: &str, body: String) -> Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

impl Worker for Http {
    async fn step(&mut self, samples: &mut Samples) -> Result<()> {
        self.number += 1;
        let name = format!("{}-{}", self.name, self.number);
        let body = simple_call(&name, &name).to_string();
        let (status, text) = samples.time(1, self.ask(Method::POST, "/v1/calls", body)).await?;
        ensure!(status == StatusCode::OK, "not granted: {status} {}", String::from_utf8_lossy(&text));
        let path = format!("/v1/legs/{name}");
        let (status, text) = samples.time(1, self.ask(Method::DELETE, &path, String::new())).await?;
        ensure!(status == StatusCode::OK, "not ended: {status} {}", String::from_utf8_lossy(&text));
        Ok(())
    }
}

/// A media server over gRPC, with a connection of its own.
struct Grpc {
    name: String,
    number: u64,
    rpc: AdmissionServiceClient<Channel>,
}

impl Grpc {
    async fn connect(name: String, address: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        Ok(Self { name, number: 0, rpc: AdmissionServiceClient::new(endpoint.connect().await?) })
    }
}

impl Worker for Grpc {
    async fn step(&mut self, samples: &mut Samples) -> Result<()> {
        self.number += 1;
        let name = format!("{}-{}", self.name, self.number);
        let request = AdmitRequest { call: Some(one_leg(&name)), running: false };
        let answer = samples.time(1, self.rpc.admit(request)).await?.into_inner();
        ensure!(answer.decision() == Decision::Granted, "not granted: {answer:?}");
        let request = EndLegsRequest { legs: vec![name] };
        samples.time(1, self.rpc.end_legs(request)).await?;
        Ok(())
    }
}

/// Throughput against the echo's; the lower of HTTP and gRPC.
pub(crate) struct Ratios {
    pub(crate) contact: f64,
    pub(crate) offline: f64,
}

/// Measures a node that the pool answers, and the same node cut off from it.
///
/// # Errors
/// Whatever goes wrong.
pub(crate) async fn measure(rig: &mut Rig, echo: &Echo, rounds: usize, time: Duration) -> Result<Ratios> {
    const NAME: &str = "media-1";
    println!("admission through a conferencing node: admit and end, {IN_FLIGHT} in flight");
    rig.fleet.add_node(NAME, 0).await?;
    let address = rig.fleet.node(NAME)?.agent.address();
    let mut http = (Vec::new(), Vec::new());
    let mut grpc = (Vec::new(), Vec::new());
    for number in 0..IN_FLIGHT {
        http.0.push(Http::connect(format!("h{number}"), address).await?);
        http.1.push(Http::connect(format!("h{number}"), echo.node).await?);
        grpc.0.push(Grpc::connect(format!("g{number}"), address).await?);
        grpc.1.push(Grpc::connect(format!("g{number}"), echo.node).await?);
    }
    let mut lowest = Vec::new();
    for (contact, told) in [(Contact::In, "in contact"), (Contact::Out, "out of contact")] {
        if contact == Contact::Out {
            rig.fleet.node(NAME)?.link.cut();
        }
        see(&rig.fleet.node(NAME)?.agent, contact).await?;
        let (ours, theirs) = in_turn(&mut http.0, &mut http.1, IN_FLIGHT, rounds, time).await?;
        let over_http = ours.ratio(&theirs);
        println!("{}", theirs.line("echo over HTTP"));
        println!("{}   ratio {over_http:.3}", ours.line(&format!("node over HTTP, {told}")));
        let (ours, theirs) = in_turn(&mut grpc.0, &mut grpc.1, IN_FLIGHT, rounds, time).await?;
        let over_grpc = ours.ratio(&theirs);
        println!("{}", theirs.line("echo over gRPC"));
        println!("{}   ratio {over_grpc:.3}", ours.line(&format!("node over gRPC, {told}")));
        lowest.push(over_http.min(over_grpc));
    }
    rig.fleet.node(NAME)?.link.heal();
    rig.fleet.stop_node(NAME).await?;
    Ok(Ratios { contact: lowest[0], offline: lowest[1] })
}

/// Waits until a node stands so to the pool; one that is cut off notices it when it asks.
async fn see(agent: &Agent, contact: Contact) -> Result<()> {
    headroom_deploy::wait::until("a change of contact", Duration::from_secs(60), async || {
        if contact == Contact::Out {
            let body = simple_call("look", "look");
            agent.admit(&body).await.map_err(|error| error.to_string())?;
            agent.end_call("look").await.map_err(|error| error.to_string())?;
        }
        stands(agent, contact).await
    })
    .await
    .context("the node")
}
