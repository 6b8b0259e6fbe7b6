//! What serving promises.

use std::os::unix::fs::PermissionsExt;

use headroom_core::NodeName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::tls;

const ANY: &str = "127.0.0.1:0";
const SERVICE: &str = "headroom.lease.v1.LeaseService";

fn any() -> SocketAddr {
    ANY.parse().expect("an address")
}

async fn routes() -> Routes {
    let (routes, _) = with_standard_services(Routes::default(), &[SERVICE]).await.expect("descriptors");
    routes
}

type Running = tokio::task::JoinHandle<Result<(), ServeError>>;

async fn start(listen: Listen, shutdown: &Shutdown) -> (String, Running) {
    let bound = bind(listen).await.expect("an address");
    let address = bound.address().to_owned();
    let (routes, shutdown) = (routes().await, shutdown.clone());
    let patience = Patience { drain: Duration::from_millis(200), ..Patience::default() };
    (address, tokio::spawn(async move { bound.serve(routes, patience, &shutdown).await }))
}

/// A server named `x` that admits anybody, and its authority.
async fn start_tls(shutdown: &Shutdown) -> (tls::Credentials, String, Running) {
    tls::install_provider();
    let authority = tls::make_authority("test").expect("an authority");
    let server = tls::issue_server(&authority, "x", &[]).expect("a certificate");
    let config = tls::plain_server(&server).expect("TLS");
    let (address, running) = start(Listen::tls(any(), config), shutdown).await;
    (authority, address, running)
}

async fn healthy(channel: tonic::transport::Channel) -> Result<bool, tonic::Status> {
    let request = HealthCheckRequest { service: SERVICE.into() };
    let answer = HealthClient::new(channel).check(request).await?;
    Ok(answer.into_inner().status() == tonic_health::pb::health_check_response::ServingStatus::Serving)
}

#[tokio::test]
async fn only_a_client_with_a_certificate_of_the_authority_is_admitted() {
    tls::install_provider();
    let authority = tls::make_authority("test").expect("an authority");
    let server = tls::issue_server(&authority, tls::MANAGEMENT_NAME, &[]).expect("a certificate");
    let shutdown = Shutdown::default();
    let config = tls::mutual_server(&server, &authority.certificate).expect("TLS");
    let (address, running) = start(Listen::tls(any(), config), &shutdown).await;
    let node = NodeName::new("a").expect("a name");
    let ask = async |trusted: &tls::Credentials, shown: Option<&tls::Credentials>| {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .expect("an address")
            .tls_config(tls::client(&trusted.certificate, tls::MANAGEMENT_NAME, shown))
            .expect("a configuration");
        healthy(endpoint.connect_lazy()).await
    };
    let client = tls::issue_client(&authority, &node).expect("a certificate");
    assert!(ask(&authority, Some(&client)).await.expect("admitted"));
    let other = tls::make_authority("other").expect("an authority");
    let stranger = tls::issue_client(&other, &node).expect("a certificate");
    assert!(ask(&authority, Some(&stranger)).await.is_err(), "another authority's node");
    assert!(ask(&authority, None).await.is_err(), "no certificate");
    assert!(ask(&authority, Some(&server)).await.is_err(), "a server's certificate is no client's");
    assert!(ask(&other, Some(&client)).await.is_err(), "a server of another authority");
    shutdown.trigger();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_silent_client_does_not_keep_a_server_from_ending() {
    let shutdown = Shutdown::default();
    let (_, address, running) = start_tls(&shutdown).await;
    let (plain, running_plain) = start(Listen::tcp(any()), &shutdown).await;
    let _silent = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    let _silent_too = tokio::net::TcpStream::connect(&plain).await.expect("a connection");
    shutdown.trigger();
    for running in [running, running_plain] {
        let ended = tokio::time::timeout(Duration::from_secs(20), running).await;
        ended.expect("in time").expect("no panic").expect("a clean end");
    }
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let bound = bind(Listen::tcp(any())).await.expect("a port");
    let address = bound.tcp_address().expect("a port");
    let error = bind(Listen::tcp(address)).await.expect_err("busy").to_string();
    assert!(error.contains(&format!("port {} is busy", address.port())), "{error}");
}

#[tokio::test]
async fn a_socket_is_its_owners_and_not_stolen_and_goes_with_its_service() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.sock");
    let error = unix_channel(&path).await.expect_err("nothing there").to_string();
    assert!(error.contains("no service runs") && error.contains("x.sock"), "{error}");
    let shutdown = Shutdown::default();
    let (_, running) = start(Listen::unix(&path), &shutdown).await;
    let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(healthy(unix_channel(&path).await.expect("a channel")).await.expect("an answer"));
    let second = bind(Listen::unix(&path)).await;
    assert!(matches!(second, Err(BindError::SocketBusy { .. })));
    shutdown.trigger();
    running.await.expect("no panic").expect("a clean end");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_dead_process_socket_is_replaced_and_another_file_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    assert!(matches!(unix_channel(&path).await, Err(ConnectError::NotRunning { .. })));
    let bound = bind(Listen::unix(&path)).await.expect("replaced");
    drop(bound);
    assert!(!path.exists());
    std::fs::write(&path, "precious").expect("written");
    assert!(matches!(bind(Listen::unix(&path)).await, Err(BindError::NoSocket { .. })));
    assert_eq!(std::fs::read(&path).expect("still there"), b"precious");
}

#[tokio::test]
async fn http_1_is_answered_on_the_same_port() {
    let shutdown = Shutdown::default();
    let (address, running) = start(Listen::tcp(any()), &shutdown).await;
    let mut stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    stream.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    shutdown.trigger();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_client_that_speaks_http_1_only_is_served_over_tls_and_a_slow_handshake_holds_up_nobody() {
    let shutdown = Shutdown::default();
    let (authority, address, running) = start_tls(&shutdown).await;
    let _silent = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    let mut roots = rustls::RootCertStore::empty();
    let certificate = tls::certificate_der(&authority.certificate, "the authority").expect("a certificate");
    roots.add(certificate.into()).expect("an authority");
    for alpn in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config =
            rustls::ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = alpn;
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let connection = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        let name = "x".try_into().expect("a name");
        let mut stream = connector.connect(name, connection).await.expect("TLS");
        stream
            .write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    }
    shutdown.trigger();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn reflection_lists_what_is_served_and_describes_rich_errors() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let shutdown = Shutdown::default();
    let (address, running) = start(Listen::tcp(any()), &shutdown).await;
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    let ask = async |request: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let stream = futures::stream::iter([request]);
        let answers = ServerReflectionClient::new(channel.clone())
            .server_reflection_info(stream)
            .await
            .expect("served");
        let ServerReflectionResponse { message_response, .. } =
            answers.into_inner().message().await.expect("an answer").expect("one answer");
        message_response.expect("an answer")
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("a list")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&SERVICE) && !names.contains(&"headroom.admin.v1.AdminService"), "{names:?}");
    for symbol in [SERVICE, "google.rpc.BadRequest", "grpc.health.v1.Health"] {
        let found = ask(MessageRequest::FileContainingSymbol(symbol.into())).await;
        assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)), "{symbol}");
    }
    shutdown.trigger();
    running.await.expect("no panic").expect("a clean end");
}
