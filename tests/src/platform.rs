//! A conferencing platform that tells its events: in order, one by one, each until it is taken.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headroom_shared::endpoints::Endpoints;
use headroom_shared::{https, tls};
use serde_json::{Value, json};

/// The user and password, and the token, that a node is told of.
pub const CREDENTIALS: &str = "# the platform\nplatform:correct horse\ntoken-of-the-platform\n";
/// What the user shows.
pub const BASIC: &str = "Basic cGxhdGZvcm06Y29ycmVjdCBob3JzZQ==";
/// What shows the token.
pub const BEARER: &str = "Bearer token-of-the-platform";

/// How long the platform waits for an answer.
const ANSWER: Duration = Duration::from_secs(7);
/// How long it waits before it tells again; real ones begin with a second.
const AGAIN: Duration = Duration::from_millis(100);

/// The certificate, key and credentials of a node's port for feeds.
#[derive(Debug, Clone)]
pub struct Port {
    folder: PathBuf,
    http: reqwest::Client,
    /// Where the node says which port it has.
    state: PathBuf,
}

impl Port {
    /// Makes them in a folder, for the node with this state folder.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn make(folder: PathBuf, state: PathBuf) -> Self {
        tls::install_provider();
        std::fs::create_dir_all(&folder).expect("a folder");
        let authority = tls::make_authority("the platform's").expect("an authority");
        authority.save(&folder, "authority").expect("written");
        let server = tls::issue_server(&authority, "headroom", &[]).expect("a certificate");
        server.save(&folder, "server").expect("written");
        std::fs::write(folder.join("credentials"), CREDENTIALS).expect("written");
        let authority = folder.join("authority.pem");
        let http = https::client(Some(("authority", &authority)), "").expect("a client");
        Self { folder, http, state }
    }

    /// A file of them.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the node is told.
    #[must_use]
    pub fn flags(&self) -> Vec<std::ffi::OsString> {
        let mut flags: Vec<std::ffi::OsString> = ["--feed-listen", "127.0.0.1:0"].map(Into::into).into();
        for (flag, file) in [
            ("--feed-certificate", "server.pem"),
            ("--feed-key", "server.key"),
            ("--feed-credentials", "credentials"),
        ] {
            flags.extend([flag.into(), self.file(file).into()]);
        }
        flags
    }

    /// The address it has now.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn address(&self) -> Result<String, String> {
        let endpoints = Endpoints::read(&self.state).map_err(|error| error.to_string())?;
        endpoints.addresses.get("feed").cloned().ok_or_else(|| "no port for feeds".to_owned())
    }

    /// Asks or tells there. Without a body it asks.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn speak(
        &self,
        path: &str,
        authorization: &str,
        body: Option<String>,
    ) -> Result<(u16, Value), String> {
        let url = format!("https://{}{path}", self.address()?);
        let request = match body {
            Some(body) => self.http.post(url).body(body),
            None => self.http.get(url),
        };
        let request = request.header("authorization", authorization).timeout(ANSWER);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }
}

/// One machine of a platform.
#[derive(Debug)]
pub struct Platform {
    port: Port,
    node: String,
    seq: u64,
    /// How often an event was not taken at once.
    pub told_again: u64,
}

impl Platform {
    /// One with this address, that tells at this port.
    #[must_use]
    pub fn new(port: &Port, node: &str) -> Self {
        Self { port: port.clone(), node: node.to_owned(), seq: 0, told_again: 0 }
    }

    /// The next event, as it is written.
    ///
    /// # Panics
    /// When it is before 1970.
    pub fn event(&mut self, kind: &str, data: &Value) -> Value {
        self.seq += 1;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        json!({
            "node": self.node, "seq": self.seq, "version": 1, "time": time, "event": kind, "data": data,
        })
    }

    /// Leaves out so many numbers, as when events are lost.
    pub fn leaves_out(&mut self, events: u64) {
        self.seq += events;
    }

    /// Begins its numbers anew.
    pub async fn starts(&mut self) {
        self.seq = 0;
        let event = self.event("eventsink_started", &json!({}));
        self.send(&event).await;
    }

    /// Tells until it is taken.
    pub async fn tells(&mut self, kind: &str, data: &Value) {
        let event = self.event(kind, data);
        self.send(&event).await;
    }

    /// A leg begins.
    pub async fn connects(&mut self, data: &Value) {
        self.tells("participant_connected", data).await;
    }

    /// A leg ends.
    pub async fn disconnects(&mut self, leg: &str) {
        let data = json!({ "uuid": leg, "duration": 12.5, "disconnect_reason": "Call disconnected" });
        self.tells("participant_disconnected", &data).await;
    }

    /// Sends until it is taken.
    ///
    /// # Panics
    /// When it is not taken for a long time.
    pub async fn send(&mut self, event: &Value) {
        let began = tokio::time::Instant::now();
        loop {
            let sent = self.port.speak("/feed/v1/events", BASIC, Some(event.to_string())).await;
            match sent {
                Ok((200, _)) => return,
                other if began.elapsed() > crate::PATIENCE => panic!("not taken: {other:?}: {event}"),
                _ => {
                    self.told_again += 1;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

/// A participant of a room, as the platform describes it.
#[must_use]
pub fn participant(leg: &str) -> Value {
    json!({
        "uuid": leg, "call_id": leg, "call_direction": "in", "protocol": "SIP", "has_media": true,
        "is_presenting": false, "service_type": "conference", "service_tag": "", "conference": "lobby",
        "source_alias": format!("sip:{leg}@example.com"), "destination_alias": "lobby@example.com",
        "role": "guest", "is_muted": false,
    })
}
