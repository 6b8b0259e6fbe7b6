//! A conferencing node as its media server sees it: HTTP/JSON to place, change and end legs, gRPC to
//! list legs and read the status.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use headroom_proto::admission;
use headroom_proto::admission::admission_service_client::AdmissionServiceClient;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};

use crate::pool::unix_channel;
use crate::{Error, Result};

/// How long one request may take: well above any decision's budget.
const LIMIT: Duration = Duration::from_secs(20);

/// What must be written otherwise in a path segment.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, or null when there was none.
    pub body: Value,
}

impl Answer {
    /// Was it granted?
    #[must_use]
    pub fn granted(&self) -> bool {
        self.status == 200 && self.body["decision"] == "granted"
    }

    /// Did the node decide by itself?
    #[must_use]
    pub fn optimistic(&self) -> bool {
        self.body["optimistic"] == true
    }

    /// The reason of a denial, empty otherwise.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    /// The units of all legs granted.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.body["legs"]
            .as_array()
            .map(|legs| legs.iter().filter_map(|leg| leg["units"].as_u64()).sum())
            .unwrap_or(0)
    }

    /// What the caller was told, in one line.
    #[must_use]
    pub fn told(&self) -> String {
        if self.granted() {
            let alone = if self.optimistic() { ", optimistic" } else { "" };
            let units = self.units();
            return format!("granted, {units} unit{}{alone}", if units == 1 { "" } else { "s" });
        }
        match self.body["text"].as_str() {
            Some(text) => format!("{}: {text}", self.reason()),
            None => format!("{} {}", self.status, self.body),
        }
    }
}

/// One node's local interface.
#[derive(Debug, Clone)]
pub struct Agent {
    /// The node's name.
    pub name: String,
    address: SocketAddr,
    socket: Option<PathBuf>,
    rpc: AdmissionServiceClient<Channel>,
}

impl Agent {
    /// The node at an address. Must be called within a runtime; connects when needed.
    ///
    /// # Errors
    /// Never for an address that parsed.
    pub fn new(name: &str, address: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| Error::Unreadable { what: address.to_string(), problem: e.to_string() })?;
        let rpc = AdmissionServiceClient::new(endpoint.timeout(LIMIT).connect_lazy());
        Ok(Self { name: name.to_owned(), address, socket: None, rpc })
    }

    /// The node at an address that cannot be reached from here, through the socket in its state folder. Must
    /// be called within a runtime.
    #[must_use]
    pub fn at_socket(name: &str, address: SocketAddr, socket: PathBuf) -> Self {
        let rpc = AdmissionServiceClient::new(unix_channel(&socket));
        Self { name: name.to_owned(), address, socket: Some(socket), rpc }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Any request with a JSON body.
    ///
    /// # Errors
    /// When no answer came; an answer of any status is one.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let bytes = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let answer = self.raw(method, path, "application/json", bytes).await?;
        let text = String::from_utf8_lossy(&answer.1).into_owned();
        let body = serde_json::from_slice(&answer.1).unwrap_or(if text.is_empty() {
            Value::Null
        } else {
            json!(text)
        });
        Ok(Answer { status: answer.0, body })
    }

    /// Any request with any body: status and body of the answer.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>)> {
        let request = format!("{method} {path}");
        let problem = |problem: String| Error::Http { request: request.clone(), problem };
        tokio::time::timeout(LIMIT, self.exchange(method.clone(), path, content, body))
            .await
            .map_err(|_| problem(format!("no answer within {LIMIT:?}")))?
            .map_err(problem)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Vec<u8>,
    ) -> std::result::Result<(u16, Vec<u8>), String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", content)
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| e.to_string())?;
        match &self.socket {
            Some(socket) => speak(UnixStream::connect(socket).await, request).await,
            None => speak(TcpStream::connect(self.address).await, request).await,
        }
    }

    /// Asks for a call.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn admit(&self, call: &Value) -> Result<Answer> {
        self.json(Method::POST, "/v1/calls", Some(call)).await
    }

    /// Reports changed media of a leg.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn update(&self, leg: &str, media: &Value) -> Result<Answer> {
        let path = format!("/v1/legs/{}", utf8_percent_encode(leg, SEGMENT));
        self.json(Method::PATCH, &path, Some(&json!({ "media": media }))).await
    }

    /// Reports that a leg ended.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn end_leg(&self, leg: &str) -> Result<Answer> {
        self.json(Method::DELETE, &format!("/v1/legs/{}", utf8_percent_encode(leg, SEGMENT)), None).await
    }

    /// Reports that a call ended.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn end_call(&self, call: &str) -> Result<Answer> {
        self.json(Method::DELETE, &format!("/v1/calls/{}", utf8_percent_encode(call, SEGMENT)), None).await
    }

    /// States that all listed legs of the default source run, as a media server does to prove that
    /// it lives, and after a restart of the node.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn prove_life(&self) -> Result<Answer> {
        let listed = self.json(Method::GET, "/v1/legs", None).await?;
        let legs: Vec<&Value> =
            listed.body["legs"].as_array().into_iter().flatten().map(|leg| &leg["leg"]).collect();
        let body = json!({ "source": "", "as_of": listed.body["as_of"], "legs": legs });
        self.json(Method::PUT, "/v1/legs", Some(&body)).await
    }

    /// The legs that run, by gRPC.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn legs(&self) -> Result<Vec<admission::ActiveLeg>> {
        let answer = self
            .rpc
            .clone()
            .list_legs(admission::ListLegsRequest { observer: true, ..Default::default() })
            .await;
        answer.map(|a| a.into_inner().legs).map_err(rpc("ListLegs"))
    }

    /// Contact, grace and counts, by gRPC.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn status(&self) -> Result<admission::GetStatusResponse> {
        let answer = self
            .rpc
            .clone()
            .get_status(admission::GetStatusRequest { observer: true, ..Default::default() })
            .await;
        answer.map(tonic::Response::into_inner).map_err(rpc("GetStatus"))
    }
}

/// One request on a connection of its own.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connected: std::io::Result<S>,
    request: Request<Full<Bytes>>,
) -> std::result::Result<(u16, Vec<u8>), String> {
    let stream = connected.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    connection.abort();
    Ok((status, body.to_vec()))
}

/// Wraps a refusal with the method's name.
pub fn rpc(request: &'static str) -> impl FnOnce(tonic::Status) -> Error {
    move |status| Error::Rpc { request, status: Box::new(status) }
}

/// A call of a virtual meeting room with one leg that has audio and video.
#[must_use]
pub fn simple_call(call: &str, leg: &str) -> Value {
    call_of(call, "vmr", vec![leg_of(leg, "sip", "in", media(true, true))])
}

/// A call.
#[must_use]
pub fn call_of(call: &str, service: &str, legs: Vec<Value>) -> Value {
    json!({ "call": call, "service": service, "legs": legs })
}

/// A leg.
#[must_use]
pub fn leg_of(leg: &str, protocol: &str, direction: &str, media: Value) -> Value {
    let participant = format!("sip:{leg}@example.com");
    json!({ "leg": leg, "participant": participant, "protocol": protocol, "direction": direction, "media": media })
}

/// Media without a presentation.
#[must_use]
pub fn media(audio: bool, video: bool) -> Value {
    json!({ "audio": audio, "video": video, "presentation": "none", "presenting": false })
}
