//! Clients that are not ours: the real grpcurl and Python's own gRPC, over TLS, loopback and the
//! Unix socket, knowing only what the services tell them by reflection.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use headroom_tests::{Bundle, Deployment, grpcurl, python, repository};
use tokio::process::Command;

/// Runs a foreign program: success and all it printed.
async fn run(program: PathBuf, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> (bool, String) {
    let mut command = Command::new(&program);
    command.args(args).kill_on_drop(true);
    let ended = tokio::time::timeout(headroom_tests::PATIENCE, command.output()).await;
    let output = ended.expect("the program ends").expect("the program runs");
    let text =
        [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
    (output.status.success(), text)
}

/// A way for grpcurl to reach a service.
struct Grpcurl(Vec<OsString>);

impl Grpcurl {
    /// With a node's certificate.
    fn tls(bundle: &Bundle, deployment: &Deployment) -> Self {
        let [authority, certificate, key] = bundle.files(deployment.layout().root());
        let mut args: Vec<OsString> =
            vec!["-cacert".into(), authority.into(), "-cert".into(), certificate.into()];
        args.extend(["-key".into(), key.into(), "-authority".into(), "management-node".into()]);
        args.push(deployment.management_address().to_string().into());
        Self(args)
    }

    fn plain(address: &str) -> Self {
        Self(vec!["-plaintext".into(), address.into()])
    }

    fn unix(socket: PathBuf) -> Self {
        // left alone, this version names the path as the authority, which HTTP/2 does not allow
        let words = ["-plaintext", "-authority", "localhost", "-unix"].map(OsString::from);
        Self(words.into_iter().chain([socket.into()]).collect())
    }

    /// Lists, describes or calls; `data` is the request.
    async fn ask(&self, words: &[&str], data: Option<&str>) -> (bool, String) {
        let data =
            data.map(|data| ["-d".to_owned(), data.to_owned()]).into_iter().flatten().map(OsString::from);
        let words = words.iter().map(OsString::from);
        run(grpcurl(), data.chain(self.0.iter().cloned()).chain(words)).await
    }

    /// The answer, which must be one and hold all the parts.
    async fn expect(&self, words: &[&str], data: Option<&str>, parts: &[&str]) -> String {
        let (success, text) = self.ask(words, data).await;
        assert!(success, "{words:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{words:?}: no {part} in {text}");
        }
        text
    }

    /// The refusal, which must hold all the parts.
    async fn refused(&self, words: &[&str], data: &str, parts: &[&str]) {
        let (success, text) = self.ask(words, Some(data)).await;
        assert!(!success, "{words:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{words:?}: no {part} in {text}");
        }
    }
}

const LEG: &str = r#"{"leg":"curl-1","participant":"sip:curl@example.com","protocol":"PROTOCOL_SIP",
    "direction":"DIRECTION_IN","media":{"audio":true,"video":true}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_opens_a_session_and_allocates_over_mutual_tls() {
    let deployment = Deployment::pool_only().await;
    let bundle = deployment.enrol("curl").await;
    let curl = Grpcurl::tls(&bundle, &deployment);
    let services = ["headroom.lease.v1.LeaseService", "grpc.health.v1.Health", "grpc.reflection"];
    curl.expect(&["list"], None, &services).await;
    curl.expect(&["describe", "headroom.lease.v1.LeaseService"], None, &["rpc OpenSession", "rpc Heartbeat"])
        .await;
    curl.expect(&["describe", "headroom.lease.v1.AllocateRequest"], None, &["dry_run"]).await;
    curl.expect(&["grpc.health.v1.Health/Check"], None, &["SERVING"]).await;

    // 16 bytes, in base64
    let zeros = "AAAAAAAAAAAAAAAAAAAAAA==";
    let open =
        format!(r#"{{"nonce":"AQIDBAUGBwgJCgsMDQ4PEA==","openNumber":1,"legs":{{"digest":"{zeros}"}}}}"#);
    let opened = curl
        .expect(&["headroom.lease.v1.LeaseService/OpenSession"], Some(&open), &["\"node\": \"curl\""])
        .await;
    let opened: serde_json::Value = serde_json::from_str(&opened).expect("JSON");
    let session = opened["session"].to_string();
    let call = format!(r#"{{"call":"curl-1","service":"SERVICE_VMR","legs":[{LEG}]}}"#);
    let ask = format!(r#"{{"session":{session},"sequence":1,"calls":[{call}]}}"#);
    let allocate = ["headroom.lease.v1.LeaseService/Allocate"];
    curl.expect(&allocate, Some(&ask), &["granted", "\"units\": 1", "\"feature\": \"call\""]).await;

    // refusals that a person can read
    let stale = format!(r#"{{"session":{{"generation":"1","number":"99"}},"sequence":2,"calls":[{call}]}}"#);
    curl.refused(&allocate, &stale, &["FailedPrecondition", "SESSION_STALE"]).await;
    let bad = format!(r#"{{"session":{session},"sequence":2,"calls":[{{"call":"c","legs":[{LEG}]}}]}}"#);
    curl.refused(&allocate, &bad, &["InvalidArgument", "calls[0].service", "BadRequest"]).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_administers_over_the_unix_socket() {
    let deployment = Deployment::start().await;
    deployment.agent("node-a").await;
    let curl = Grpcurl::unix(deployment.layout().admin_socket());
    curl.expect(&["list"], None, &["headroom.admin.v1.AdminService", "grpc.health.v1.Health"]).await;
    curl.expect(&["headroom.admin.v1.AdminService/GetPoolStatus"], None, &["\"capacity\": 10"]).await;
    curl.expect(&["headroom.admin.v1.AdminService/ListNodes"], None, &["node-a", "node-b"]).await;
    let release = r#"{"node":"node-a","leg":"nobody"}"#;
    let (success, text) = curl.ask(&["headroom.admin.v1.AdminService/ForceRelease"], Some(release)).await;
    assert!(!success && text.contains("nobody"), "{text}");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_asks_a_conferencing_node_on_its_loopback_port_and_socket() {
    let deployment = Deployment::start().await;
    let address = deployment.agent("node-a").await.address().to_string();
    let socket = deployment.layout().service("node-a").join("conferencing-node.sock");
    let call = format!(r#"{{"call":{{"call":"curl-1","service":"SERVICE_VMR","legs":[{LEG}]}}}}"#);
    let admit = ["headroom.admission.v1.AdmissionService/Admit"];
    for curl in [Grpcurl::plain(&address), Grpcurl::unix(socket)] {
        curl.expect(&["list"], None, &["headroom.admission.v1.AdmissionService"]).await;
        curl.expect(&["describe", "headroom.admission.v1.AdmitRequest"], None, &["message AdmitRequest"])
            .await;
        curl.expect(&["grpc.health.v1.Health/Check"], None, &["SERVING"]).await;
        curl.expect(&admit, Some(&call), &["DECISION_GRANTED", "\"units\": 1"]).await;
        let nameless = call.replace("\"leg\":\"curl-1\"", "\"leg\":\"\"");
        curl.refused(&admit, &nameless, &["InvalidArgument", "legs[0].leg", "BadRequest"]).await;
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_allocates_over_mutual_tls() {
    let deployment = Deployment::pool_only().await;
    let bundle = deployment.enrol("python").await;
    let files = bundle.files(deployment.layout().root()).map(PathBuf::into_os_string);
    let target = deployment.management_address().to_string();
    python_client([vec!["lease".into(), target.into()], files.to_vec()].concat()).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_asks_a_conferencing_node_on_its_loopback_port() {
    let deployment = Deployment::start().await;
    let target = deployment.agent("node-b").await.address().to_string();
    python_client(vec!["admission".into(), target.into()]).await;
    deployment.stop().await;
}

async fn python_client(args: Vec<OsString>) {
    let script = repository().join("tests/python/client.py");
    let (success, text) = run(python(), [vec![script.into_os_string()], args].concat()).await;
    assert!(success && text.contains("done"), "{text}");
}
