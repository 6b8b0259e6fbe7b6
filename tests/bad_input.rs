//! Bad input, from a media server and from the network: a clear error naming the field, nothing
//! taken, and the service goes on.

use headroom_deploy::agent::{Agent, call_of, leg_of, media, simple_call};
use headroom_deploy::pool::Pool;
use headroom_proto::admission::admission_service_client::AdmissionServiceClient;
use headroom_proto::common::{Call, Leg, Media};
use headroom_proto::lease::lease_service_client::LeaseServiceClient;
use headroom_proto::lease::{AllocateRequest, HeartbeatRequest, LegSet};
use headroom_proto::{admission, lease};
use headroom_tests::{Bundle, Deployment, PATIENCE, peer, until};
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A leg as it should be, with one field changed.
fn leg_with(field: &str, value: Value) -> Value {
    let mut leg = leg_of("bad-1", "sip", "in", media(true, true));
    leg[field] = value;
    leg
}

fn call_with_leg(field: &str, value: Value) -> Value {
    call_of("bad", "vmr", vec![leg_with(field, value)])
}

fn call_with(field: &str, value: Value) -> Value {
    let mut call = simple_call("bad", "bad-1");
    call[field] = value;
    call
}

/// Bodies of `POST /v1/calls` with what the answer must name.
fn bad_calls() -> Vec<(Value, &'static str)> {
    let twice = leg_of("bad-1", "sip", "in", media(true, true));
    let many: Vec<Value> =
        (0..513).map(|n| leg_of(&format!("bad-{n}"), "sip", "in", media(true, true))).collect();
    vec![
        (json!({}), "call"),
        (json!([]), ""),
        (json!("text"), ""),
        (json!(null), ""),
        (call_with("call", json!("")), "call"),
        (call_with("call", json!(7)), "call"),
        (call_with("call", json!("x".repeat(256))), "call"),
        (call_with("call", json!("line\nbreak")), "call"),
        (call_with("service", json!("")), "service"),
        (call_with("service", json!("conference")), "service"),
        (call_with("service", json!(1)), "service"),
        (call_with("interop", json!("icq")), "interop"),
        (call_with("legs", json!([])), "legs"),
        (call_with("legs", json!("bad-1")), "legs"),
        (call_with("legs", json!(many)), "legs"),
        (call_with("legs", json!([twice, twice])), "legs"),
        (call_with("conference", json!("x".repeat(256))), "conference"),
        (call_with("destination", json!("x".repeat(256))), "destination"),
        (call_with("tenant", json!("x".repeat(256))), "tenant"),
        (call_with("source", json!("x".repeat(256))), "source"),
        (call_with_leg("leg", json!("")), "legs[0].leg"),
        (call_with_leg("leg", json!("x".repeat(256))), "legs[0].leg"),
        (call_with_leg("leg", json!("nul\u{0}")), "legs[0].leg"),
        (call_with_leg("leg", json!(null)), "legs[0].leg"),
        (call_with_leg("participant", json!("x".repeat(256))), "legs[0].participant"),
        (call_with_leg("protocol", json!("pigeon")), "legs[0].protocol"),
        (call_with_leg("protocol", json!(1)), "legs[0].protocol"),
        (call_with_leg("direction", json!("up")), "legs[0].direction"),
        (call_with_leg("media", json!("loud")), "legs[0].media"),
        (call_with_leg("media", json!({ "audio": "yes" })), "legs[0].media.audio"),
        (call_with_leg("media", json!({ "presentation": "dance" })), "legs[0].media.presentation"),
        (call_with_leg("subjects", json!(vec!["s"; 17])), "legs[0].subjects"),
        (call_with_leg("needs", json!(vec!["n"; 17])), "legs[0].needs"),
        (call_with_leg("owner", json!("no such name!")), "legs[0].owner"),
    ]
}

/// What was held is given back; the pool hears of an end a moment after the media server is answered.
async fn comes_back(pool: &Pool) {
    until("the unit to come back", async || match pool.calls_pool().await {
        Ok(now) if now.in_use == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Nothing is in use, nothing runs, and a good request is granted.
async fn untouched(agent: &Agent, pool: &Pool) {
    let now = pool.calls_pool().await.expect("the pool");
    assert_eq!(now.in_use, 0, "something was taken: {now:?}");
    let legs = agent.legs().await.expect("legs");
    assert!(legs.is_empty(), "something runs: {legs:?}");
    let good = agent.admit(&simple_call("good", "good")).await.expect("an answer");
    assert!(good.granted(), "the service does not go on: {good:?}");
    let ended = agent.end_leg("good").await.expect("an answer");
    assert!(ended.status < 300, "{ended:?}");
    comes_back(pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_call_is_refused_naming_the_field_and_takes_nothing() {
    let deployment = Deployment::start().await;
    let agent = deployment.agent("node-a").await;
    for (body, named) in bad_calls() {
        let answer = agent.admit(&body).await.expect("an answer");
        let shown = body.to_string().chars().take(300).collect::<String>();
        assert!((400..=422).contains(&answer.status) && answer.status != 403, "{shown}: {answer:?}");
        assert!(answer.body.to_string().contains(named), "{shown}: no `{named}` in {answer:?}");
    }
    // a gateway call has two legs
    let one = call_of("bad", "gateway", vec![leg_of("bad-1", "sip", "in", media(true, true))]);
    let answer = agent.admit(&one).await.expect("an answer");
    assert_eq!(answer.status, 422, "{answer:?}");
    untouched(&agent, deployment.pool()).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_paths_that_are_none_are_refused_and_the_service_goes_on() {
    let deployment = Deployment::start().await;
    let agent = deployment.agent("node-a").await;
    let json = "application/json";
    let cases: [(Method, &str, &str, Vec<u8>); 9] = [
        (Method::POST, "/v1/calls", json, b"".to_vec()),
        (Method::POST, "/v1/calls", json, b"{".to_vec()),
        (Method::POST, "/v1/calls", json, vec![0xff; 64]),
        (Method::POST, "/v1/calls", json, [b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
        (Method::POST, "/v1/calls", "text/plain", b"hello".to_vec()),
        (Method::PATCH, "/v1/legs", json, b"{\"legs\":[]}".to_vec()),
        (Method::PUT, "/v1/legs", json, b"{\"source\":7}".to_vec()),
        (Method::GET, "/v1/nothing", json, Vec::new()),
        (Method::DELETE, "/v1/calls", json, Vec::new()),
    ];
    for (method, path, content, body) in cases {
        let (status, answer) = agent.raw(method.clone(), path, content, body).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!((400..500).contains(&status), "{method} {path}: {status} {text}");
    }
    // ten megabytes: refused by an answer, or by closing the connection before all of it was sent
    let huge = format!(r#"{{"call":"{}"}}"#, "x".repeat(10_000_000)).into_bytes();
    if let Ok((status, _)) = agent.raw(Method::POST, "/v1/calls", json, huge).await {
        assert!((400..500).contains(&status), "{status}");
    }
    untouched(&agent, deployment.pool()).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_to_legs_that_do_not_run_are_refused_or_do_nothing() {
    let deployment = Deployment::start().await;
    let agent = deployment.agent("node-a").await;
    let unknown = agent.update("nobody", &media(true, true)).await.expect("an answer");
    assert_eq!(unknown.status, 404, "{unknown:?}");
    // ending is never refused, however odd the id
    for leg in ["nobody", "a b/c%", "sip:x@y;z=1?", "ü"] {
        let ended = agent.end_leg(leg).await.expect("an answer");
        assert!((200..300).contains(&ended.status), "{leg}: {ended:?}");
        let ended = agent.end_call(leg).await.expect("an answer");
        assert!((200..300).contains(&ended.status), "{leg}: {ended:?}");
    }
    // an odd id is an id like any other
    let odd = "odd/leg %ü?";
    let granted = agent.admit(&simple_call("odd", odd)).await.expect("an answer");
    assert!(granted.granted(), "{granted:?}");
    let ended = agent.end_leg(odd).await.expect("an answer");
    assert!((200..300).contains(&ended.status), "{ended:?}");
    comes_back(deployment.pool()).await;
    // after its end it is dead for a while
    let again = agent.admit(&simple_call("odd", odd)).await.expect("an answer");
    assert_eq!(again.status, 409, "{again:?}");
    untouched(&agent, deployment.pool()).await;
    deployment.stop().await;
}

/// The fields a refusal names.
fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

fn good_call() -> Call {
    let media = Some(Media { audio: true, ..Media::default() });
    let leg = Leg { leg: "bad-1".into(), protocol: 1, direction: 1, media, ..Leg::default() };
    Call { call: "bad".into(), service: 1, legs: vec![leg], ..Call::default() }
}

fn changed(change: impl FnOnce(&mut Call)) -> Call {
    let mut call = good_call();
    change(&mut call);
    call
}

/// Calls with what the refusal must name.
fn bad_messages() -> Vec<(Call, &'static str)> {
    vec![
        (Call::default(), "call"),
        (changed(|c| c.service = 0), "service"),
        (changed(|c| c.service = 77), "service"),
        (changed(|c| c.interop = -1), "interop"),
        (changed(|c| c.legs.clear()), "legs"),
        (changed(|c| c.legs.push(c.legs[0].clone())), "legs[1].leg"),
        (changed(|c| c.legs[0].leg.clear()), "legs[0].leg"),
        (changed(|c| c.legs[0].leg = "x".repeat(256)), "legs[0].leg"),
        (changed(|c| c.legs[0].protocol = 0), "legs[0].protocol"),
        (changed(|c| c.legs[0].protocol = 99), "legs[0].protocol"),
        (changed(|c| c.legs[0].direction = 0), "legs[0].direction"),
        (changed(|c| c.legs[0].media = None), "legs[0].media"),
        (
            changed(|c| c.legs[0].media = Some(Media { presentation: 9, ..Media::default() })),
            "legs[0].media.presentation",
        ),
        (changed(|c| c.conference = "x".repeat(256)), "conference"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_is_refused_by_the_node_naming_the_field() {
    let deployment = Deployment::start().await;
    let agent = deployment.agent("node-a").await;
    let mut node =
        AdmissionServiceClient::connect(format!("http://{}", agent.address())).await.expect("a connection");
    for (call, named) in bad_messages() {
        let admit = admission::AdmitRequest { call: Some(call.clone()), running: false };
        let refused = node.admit(admit).await.expect_err("the node refuses");
        assert_eq!(refused.code(), Code::InvalidArgument, "{call:?}: {refused:?}");
        assert!(fields(&refused).iter().any(|f| f.contains(named)), "{call:?}: no {named} in {refused:?}");
    }
    untouched(&agent, deployment.pool()).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_is_refused_by_the_pool_naming_the_field() {
    let deployment = Deployment::pool_only().await;
    let bundle = deployment.enrol("raw").await;
    let mut pool = lease_client(&deployment, bundle.tls()).await.expect("a connection");
    let opened = peer::open(&mut pool, 1).await.expect("a session");
    let ask = |sequence, call| AllocateRequest {
        session: opened.session,
        sequence,
        calls: vec![call],
        dry_run: false,
    };
    for (call, named) in bad_messages() {
        let refused = pool.allocate(ask(1, call.clone())).await.expect_err("the pool refuses");
        assert_eq!(refused.code(), Code::InvalidArgument, "{call:?}: {refused:?}");
        let named = format!("calls[0].{named}");
        assert!(fields(&refused).iter().any(|f| f.contains(&named)), "{call:?}: no {named} in {refused:?}");
    }
    let refused = pool
        .allocate(AllocateRequest { session: None, ..ask(1, good_call()) })
        .await
        .expect_err("no session");
    assert!(fields(&refused).iter().any(|f| f == "session"), "{refused:?}");
    let refused = pool.allocate(ask(7, good_call())).await.expect_err("a gap in the numbers");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let legs = Some(LegSet { count: 0, digest: vec![0; 3] });
    let heartbeat = HeartbeatRequest { session: opened.session, legs, ..HeartbeatRequest::default() };
    let refused = pool.heartbeat(heartbeat).await.expect_err("a short digest");
    assert!(fields(&refused).iter().any(|f| f.contains("digest")), "{refused:?}");
    // nothing was taken, no number was used up
    assert_eq!(deployment.pool().calls_pool().await.expect("the pool").in_use, 0);
    let granted = pool.allocate(ask(1, good_call())).await.expect("an answer").into_inner();
    assert!(format!("{granted:?}").contains("Granted"), "{granted:?}");
    deployment.stop().await;
}

type LeaseClient = LeaseServiceClient<Channel>;

async fn lease_client(deployment: &Deployment, tls: ClientTlsConfig) -> Result<LeaseClient, String> {
    peer::connect(deployment.management_address(), tls).await.map(LeaseServiceClient::new)
}

/// The refusal of someone who may not speak at all: by the handshake, or by the first answer.
async fn refused(deployment: &Deployment, tls: ClientTlsConfig) -> String {
    match lease_client(deployment, tls).await {
        Err(error) => error,
        Ok(mut client) => match peer::open(&mut client, 1).await {
            Ok(opened) => panic!("a session was opened: {opened:?}"),
            Err(status) => format!("{status:?}"),
        },
    }
}

/// A certificate of an authority nobody trusts, for the same name.
fn stranger(bundle: &Bundle) -> ClientTlsConfig {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name.push(rcgen::DnType::CommonName, bundle.name.clone());
    let certificate = params.self_signed(&key).expect("a certificate");
    bundle.tls_without_certificate().identity(Identity::from_pem(certificate.pem(), key.serialize_pem()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_missing_certificate_opens_nothing_and_a_removed_node_is_told_so() {
    let deployment = Deployment::pool_only().await;
    let bundle = deployment.enrol("guest").await;
    refused(&deployment, bundle.tls_without_certificate()).await;
    refused(&deployment, stranger(&bundle)).await;
    // a server that is not the one it should be is not spoken to
    let other =
        Certificate::from_pem(rcgen::generate_simple_self_signed(["x".to_owned()]).expect("x").cert.pem());
    let wrong_authority = ClientTlsConfig::new().ca_certificate(other).domain_name("management-node");
    refused(&deployment, wrong_authority).await;
    // no TLS at all
    let mut stream =
        tokio::net::TcpStream::connect(deployment.management_address()).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    let ended =
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    assert!(ended.is_err() || !answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");

    let mut client = lease_client(&deployment, bundle.tls()).await.expect("the right certificate");
    let opened = peer::open(&mut client, 1).await.expect("a session");
    assert_eq!(opened.node, "guest");
    let words = ["node", "remove", "guest"].map(Into::into).to_vec();
    deployment.command("management-node", "management", words).await.expect("removed");
    // inside TLS, so that the node learns that this is no loss of contact
    let status = peer::open(&mut client, 2).await.expect_err("removed");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(format!("{status:?}").contains("revoked"), "{status:?}");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_sees_and_touches_only_its_own_leases() {
    let deployment = Deployment::start().await;
    let agent = deployment.agent("node-a").await;
    assert!(agent.admit(&simple_call("mine", "mine")).await.expect("an answer").granted());
    let bundle = deployment.enrol("nosy").await;
    let mut client = lease_client(&deployment, bundle.tls()).await.expect("a connection");
    let opened = peer::open(&mut client, 1).await.expect("a session");
    let release = lease::ReleaseRequest { session: opened.session, sequence: 1, legs: vec!["mine".into()] };
    client.release(release).await.expect("releasing what one does not hold is no error");
    let now = deployment.pool().calls_pool().await.expect("the pool");
    assert_eq!(now.in_use, 1, "another node's lease was released: {now:?}");
    // another node's session is as strange as none
    let theirs = lease::Session { generation: opened.session.unwrap_or_default().generation, number: 1 };
    if opened.session != Some(theirs) {
        let heartbeat = HeartbeatRequest { session: Some(theirs), ..HeartbeatRequest::default() };
        assert!(client.heartbeat(heartbeat).await.is_err());
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_released_by_force_that_is_asked_for_again_is_a_conflict_over_http_and_grpc() {
    let deployment = Deployment::start().await;
    let agent = deployment.agent("node-a").await;
    assert!(agent.admit(&simple_call("again", "again")).await.expect("an answer").granted());
    deployment.pool().force_release("node-a", "again").await.expect("released");
    until("the node to know", async || {
        let legs = agent.legs().await.map_err(|error| error.to_string())?;
        if legs.iter().any(|leg| leg.revoked) { Ok(()) } else { Err(format!("{legs:?}")) }
    })
    .await;
    let over_http = agent.admit(&simple_call("again", "again")).await.expect("an answer");
    assert_eq!((over_http.status, over_http.body["error"].as_str()), (409, Some("revoked")), "{over_http:?}");
    assert_eq!(over_http.body["field"], "legs[0].leg", "{over_http:?}");
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", agent.address()));
    let mut rpc = AdmissionServiceClient::new(channel.expect("an address").connect_lazy());
    let request = admission::AdmitRequest { call: Some(peer::one_leg("again")), running: false };
    let over_grpc = rpc.admit(request).await.expect_err("a conflict");
    assert_eq!(over_grpc.code(), Code::FailedPrecondition, "{over_grpc:?}");
    assert!(over_grpc.get_error_details().error_info().is_some_and(|info| info.reason == "REVOKED"));
    deployment.stop().await;
}
