//! The edge of a conferencing node whose management node cannot be reached: real listeners, real
//! journal, one process.

use std::path::Path;
use std::time::Duration;

use conferencing_node::config::{Config, SOCKET};
use conferencing_node::serve::serve_until;
use headroom_core::NodeName;
use headroom_proto::admission as pb;
use headroom_proto::admission::admission_service_client::AdmissionServiceClient;
use headroom_shared::endpoints::Endpoints;
use headroom_shared::rpc::{Shutdown, unix_channel};
use headroom_shared::tls::{self, NodeBundle};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};

struct Service {
    state: tempfile::TempDir,
    address: String,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn serve(state: tempfile::TempDir) -> Service {
    tls::install_provider();
    let bundle = state.path().join("node.bundle");
    if !bundle.exists() {
        let authority = tls::make_authority("test authority").expect("an authority");
        let name = NodeName::new("a").expect("a name");
        let client = tls::issue_client(&authority, &name).expect("a certificate");
        // Nobody listens on this port.
        let made = NodeBundle::new(&name, "https://127.0.0.1:1", &authority.certificate, client);
        made.save(&bundle).expect("a bundle");
    }
    let boot_id_file = state.path().join("boot_id");
    std::fs::write(&boot_id_file, "00112233-4455-6677-8899-aabbccddeeff").expect("a boot id");
    let config = Config {
        listen: "127.0.0.1:0".into(),
        bundle: Some(bundle),
        boot_id_file,
        metrics: ([127, 0, 0, 1], 0).into(),
        ..Config::default()
    };
    let (shutdown, dir) = (Shutdown::default(), state.path().to_owned());
    let told = shutdown.clone();
    let task = tokio::spawn(async move { serve_until(&dir, &config, &told).await });
    let address = loop {
        if let Ok(endpoints) = Endpoints::read(state.path()) {
            break endpoints.get("http").expect("an address").to_owned();
        }
        assert!(!task.is_finished(), "the service ended: {:?}", task.await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    Service { state, address, shutdown, task }
}

impl Service {
    async fn end(self) -> tempfile::TempDir {
        self.shutdown.trigger();
        self.task.await.expect("no panic").expect("a clean end");
        assert!(!self.state.path().join("endpoints.json").exists());
        self.state
    }

    async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> (u16, Value) {
        self.ask_with(method, path, ("accept", "application/json"), body).await
    }

    async fn ask_with(
        &self,
        method: &str,
        path: &str,
        header: (&str, &str),
        body: impl Into<Bytes>,
    ) -> (u16, Value) {
        let stream = tokio::net::TcpStream::connect(&self.address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.expect("http");
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "node")
            .header(header.0, header.1)
            .body(Full::new(body.into()))
            .expect("a request");
        let response = sender.send_request(request).await.expect("a response");
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("no JSON: {status} {text}")))
    }

    async fn client(&self) -> AdmissionServiceClient<tonic::transport::Channel> {
        let channel = unix_channel(&self.state.path().join(SOCKET)).await.expect("the socket");
        AdmissionServiceClient::new(channel)
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn leg(id: &str) -> Value {
    json!({
        "leg": id, "participant": "sip:anna@example.com", "protocol": "sip", "direction": "in",
        "media": { "audio": true, "video": true, "presentation": "none", "presenting": false },
    })
}

fn call(legs: &[Value]) -> Value {
    json!({ "call": "c", "service": "vmr", "legs": legs })
}

fn with(mut value: Value, pointer: &str, new: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    value.pointer_mut(parent).expect("a place")[key] = new;
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_is_said_in_the_query_and_a_query_that_says_something_else_is_refused() {
    let service = serve(folder()).await;
    for path in ["/v1/legs", "/v1/status"] {
        for query in ["", "?observer=true", "?source=", "?source=mcu-1&observer=false"] {
            let (status, body) = service.ask("GET", &format!("{path}{query}"), "").await;
            assert_eq!(status, 200, "{path}{query}: {body}");
        }
        let long = format!("?source={}", "x".repeat(256));
        for (query, field) in [("?observer=perhaps", "query"), ("?watcher=1", "query"), (&*long, "source")] {
            let (status, body) = service.ask("GET", &format!("{path}{query}"), "").await;
            assert_eq!((status, body["field"].as_str()), (400, Some(field)), "{path}{query}: {body}");
        }
    }
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_name_their_field_take_nothing_and_the_service_goes_on() {
    let service = serve(folder()).await;
    let good = call(&[leg("a")]);
    let many: Vec<_> = (0..513).map(|n| leg(&format!("leg{n}"))).collect();
    let long = "x".repeat(256);
    let table = [
        (json!({}), 400, "body"),
        (json!([1, 2]), 400, "body"),
        (with(good.clone(), "/call", json!("")), 400, "call"),
        (with(good.clone(), "/call", json!(7)), 400, "call"),
        (with(good.clone(), "/service", json!("party")), 400, "service"),
        (with(good.clone(), "/surprise", json!(1)), 400, "surprise"),
        (with(good.clone(), "/interop", json!("skype")), 400, "interop"),
        (with(good.clone(), "/interop", json!("teams")), 422, "interop"),
        (with(good.clone(), "/legs", json!("a")), 400, "legs"),
        (with(good.clone(), "/legs", json!([])), 422, "legs"),
        (with(good.clone(), "/legs", json!(many)), 422, "legs"),
        (call(&[leg("a"), leg("a")]), 422, "legs[1].leg"),
        (call(&[leg(&long)]), 400, "legs[0].leg"),
        (call(&[leg("a\nb")]), 400, "legs[0].leg"),
        (call(&[leg("a"), with(leg("b"), "/protocol", json!("smoke"))]), 400, "legs[1].protocol"),
        (call(&[with(leg("a"), "/direction", json!("up"))]), 400, "legs[0].direction"),
        (call(&[with(leg("a"), "/media/audio", json!("yes"))]), 400, "legs[0].media.audio"),
        (call(&[with(leg("a"), "/media/presentation", json!("tv"))]), 400, "legs[0].media.presentation"),
        (call(&[with(leg("a"), "/media", json!([true, true]))]), 400, "legs[0].media"),
        (call(&[json!(["a", "b"])]), 400, "legs[0]"),
        (call(&[with(leg("a"), "/media/smell", json!(true))]), 400, "legs[0].media.smell"),
        (call(&[with(leg("a"), "/replaces", json!("a"))]), 422, "legs[0].replaces"),
        (call(&[with(leg("a"), "/owner", json!("no/name"))]), 400, "legs[0].owner"),
        (call(&[with(leg("a"), "/subjects", json!(vec!["s"; 17]))]), 400, "legs[0].subjects"),
    ];
    for (body, status, field) in table {
        let (got, answer) = service.ask("POST", "/v1/calls", body.to_string()).await;
        assert_eq!((got, answer["field"].as_str()), (status, Some(field)), "{answer}");
        assert!(answer["text"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    for (body, status) in [("", 400), ("{", 400), ("nonsense", 400), ("\u{0}", 400)] {
        let (got, answer) = service.ask("POST", "/v1/calls", body).await;
        assert_eq!((got, answer["error"].as_str()), (status, Some("malformed")), "{answer}");
    }
    let (status, answer) = service.ask("POST", "/v1/calls", vec![b' '; 10 << 20]).await;
    assert_eq!((status, &answer["error"]), (413, &json!("too_large")), "{answer}");
    let (status, legs) = service.ask("GET", "/v1/legs", "").await;
    assert_eq!((status, legs), (200, json!({ "as_of": 0, "legs": [] })));
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_answer_in_json_too() {
    let service = serve(folder()).await;
    let media = json!({ "media": { "audio": true } }).to_string();
    let table = [
        ("PATCH", "/v1/legs/a%2Fb", media.clone(), 404, Some("leg")),
        ("PATCH", "/v1/legs/a", "{}".into(), 400, Some("media")),
        ("PATCH", "/v1/legs", r#"{"legs":[]}"#.into(), 422, Some("legs")),
        (
            "PATCH",
            "/v1/legs",
            r#"{"legs":[{"leg":"a","media":{"video":1}}]}"#.into(),
            400,
            Some("legs[0].media.video"),
        ),
        ("PUT", "/v1/legs", r#"{"as_of":-1,"legs":[]}"#.into(), 400, Some("as_of")),
        ("PUT", "/v1/legs", r#"{"as_of":99,"legs":[]}"#.into(), 422, Some("as_of")),
        ("PUT", "/v1/legs", r#"{"as_of":99.0,"legs":[]}"#.into(), 422, Some("as_of")),
        ("PUT", "/v1/legs", r#"{"as_of":0.0,"legs":[]}"#.into(), 200, None),
        ("PUT", "/v1/legs", r#"{"as_of":0.5,"legs":[]}"#.into(), 400, Some("as_of")),
        ("PUT", "/v1/legs", r#"{"as_of":1e300,"legs":[]}"#.into(), 400, Some("as_of")),
        ("PUT", "/v1/legs", r#"{"as_of":"0","legs":[]}"#.into(), 400, Some("as_of")),
        ("PUT", "/v1/legs", r#"{"as_of":0,"legs":["a",""]}"#.into(), 400, Some("legs[1]")),
        ("PUT", "/v1/legs", r#"{"as_of":0,"legs":["a"]}"#.into(), 200, None),
        ("DELETE", "/v1/legs/a%20b%C3%A9", String::new(), 200, None),
        ("DELETE", "/v1/calls/c", String::new(), 200, None),
        ("GET", "/v1/legs?source=one%20server", String::new(), 200, None),
        ("GET", "/v1/status?source=%00", String::new(), 400, Some("source")),
        ("GET", "/v1/calls", String::new(), 405, None),
        ("GET", "/elsewhere", String::new(), 404, None),
    ];
    for (method, path, body, status, field) in table {
        let (got, answer) = service.ask(method, path, body).await;
        let found = (got, answer["field"].as_str());
        // A missing field is reported where it is missing from.
        let missing = field == Some("media") && found.1 == Some("body");
        assert!(found == (status, field) || (missing && got == status), "{method} {path}: {got} {answer}");
    }
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_contact_calls_are_denied_as_not_enrolled_over_http_and_grpc() {
    let service = serve(folder()).await;
    let (status, answer) = service.ask("POST", "/v1/calls", call(&[leg("a")]).to_string()).await;
    assert_eq!((status, &answer["reason"]), (403, &json!("not_enrolled")), "{answer}");
    assert!(answer["text"].as_str().is_some_and(|text| text.starts_with("You cannot join")));
    let (status, answer) = service.ask("GET", "/v1/status", "").await;
    assert_eq!((status, &answer["contact"]), (200, &json!("not_enrolled")), "{answer}");
    assert_eq!((&answer["node"], &answer["legs"]), (&json!("a"), &json!(0)));

    let mut client = service.client().await;
    let status = client.get_status(pb::GetStatusRequest::default()).await.expect("a status").into_inner();
    assert_eq!(status.contact(), pb::Contact::NotEnrolled);
    let error = client.admit(pb::AdmitRequest::default()).await.expect_err("no call");
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert_eq!(headroom_shared::status::field(&error).expect("a field").field, "call");
    let error = client.end_legs(pb::EndLegsRequest { legs: vec![] }).await.expect_err("no legs");
    assert_eq!(headroom_shared::status::field(&error).expect("a field").field, "legs");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn legs_that_run_already_are_taken_without_contact_and_changed_by_clients_that_know_post_alone() {
    let service = serve(folder()).await;
    let body = with(call(&[leg("a"), leg("b")]), "/running", json!(true)).to_string();
    let (status, answer) = service.ask("POST", "/v1/calls", body).await;
    assert_eq!((status, &answer["optimistic"]), (200, &json!(true)), "{answer}");
    let post = async |path: &str, method: &str, body: Value| {
        service.ask_with("POST", path, ("X-HTTP-Method-Override", method), body.to_string()).await
    };
    let (status, answer) = post("/v1/legs/a", "PATCH", json!({ "media": {} })).await;
    assert_eq!((status, &answer["units"]), (200, &json!(0)), "{answer}");
    let (status, answer) = post("/v1/legs/a", "DELETE", json!(null)).await;
    assert_eq!((status, &answer["ended"]), (200, &json!(1)), "{answer}");
    let (status, answer) = post("/v1/legs", "PUT", json!({ "as_of": 0, "legs": ["a", "b"] })).await;
    assert_eq!((status, &answer["unknown"]), (200, &json!(["a"])), "{answer}");
    for method in ["GET", "delete", ""] {
        let (status, answer) = post("/v1/legs/b", method, json!(null)).await;
        assert_eq!((status, &answer["field"]), (400, &json!("x-http-method-override")), "{answer}");
    }
    let (status, answer) = service.ask_with("POST", "/v1/drain", ("Origin", "https://example.com"), "").await;
    assert_eq!((status, &answer["error"]), (403, &json!("forbidden")), "{answer}");
    // What is no POST says itself what it means.
    let (status, answer) =
        service.ask_with("GET", "/v1/legs", ("X-HTTP-Method-Override", "DELETE"), "").await;
    assert_eq!((status, &answer["legs"][0]["leg"]), (200, &json!("b")), "{answer}");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_says_so_and_how_many_legs_are_left_also_after_a_restart() {
    let service = serve(folder()).await;
    let body = with(call(&[leg("a")]), "/running", json!(true)).to_string();
    service.ask("POST", "/v1/calls", body).await;
    let (status, answer) = service.ask("POST", "/v1/drain", "").await;
    assert_eq!((status, answer), (200, json!({ "draining": true, "legs": 1 })));
    let service = serve(service.end().await).await;
    let (_, answer) = service.ask("POST", "/v1/calls", call(&[leg("b")]).to_string()).await;
    assert_eq!(answer["reason"], "draining", "{answer}");
    let (_, answer) = service.ask("GET", "/v1/status", "").await;
    assert_eq!((&answer["draining"], &answer["legs"]), (&json!(true), &json!(1)), "{answer}");
    let (status, answer) = service.ask("DELETE", "/v1/drain", "").await;
    assert_eq!((status, answer), (200, json!({ "draining": false, "legs": 1 })));
    let (_, answer) = service.ask("POST", "/v1/calls", call(&[leg("b")]).to_string()).await;
    assert_eq!(answer["reason"], "not_enrolled", "{answer}");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_made_once_and_opened_again() {
    let state = serve(folder()).await.end().await;
    let state = serve(state).await.end().await;
    assert!(state.path().join("log").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_other_hosts_can_reach_is_refused() {
    let config =
        Config { listen: "0.0.0.0:0".into(), metrics: ([127, 0, 0, 1], 0).into(), ..Config::default() };
    let error = serve_until(Path::new("/nowhere"), &config, &Shutdown::default()).await.expect_err("refused");
    let text = format!("{error:#}");
    assert!(text.contains("can be reached from other hosts") && text.contains("127.0.0.1"), "{text}");
    let config =
        Config { listen: "127.0.0.1:0".into(), metrics: ([127, 0, 0, 1], 0).into(), ..Config::default() };
    let error = serve_until(Path::new("/nowhere"), &config, &Shutdown::default()).await.expect_err("refused");
    assert!(error.to_string().starts_with("bundle: must be given"), "{error}");
}
