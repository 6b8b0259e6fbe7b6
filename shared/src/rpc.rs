//! Serving gRPC and HTTP with limits, and ending in bounded time.
//!
//! [`bind`] takes the address, so that whoever starts a service learns the port before anything is
//! served; [`Bound::serve`] serves until [`Shutdown`] and then drains for a bounded time, because a
//! client that opened a TLS connection and never speaks would hold it for ever.

mod handshakes;
mod unix;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures::{Stream, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic_health::server::HealthReporter;

use crate::print::causes;
use crate::tls::ServerTls;

pub use unix::{ConnectError, unix_channel, within};

/// Largest message that is read, in bytes; the default of generated services.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Requests one connection may have open.
pub const MAX_STREAMS: u32 = 1024;
/// Largest list of headers, in bytes.
pub const MAX_HEADERS: u32 = 16 * 1024;

const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
const CONNECTION_AGE: Duration = Duration::from_secs(3600);

/// Where to serve.
#[derive(Debug, Clone)]
pub enum Listen {
    /// A TCP port, 0 for any, with or without TLS.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// TLS, when it is used.
        tls: Option<ServerTls>,
    },
    /// A Unix socket, for its owner only.
    Unix {
        /// The socket's path.
        path: PathBuf,
    },
}

impl Listen {
    /// TCP without TLS.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self::Tcp { address, tls: None }
    }

    /// TCP with TLS.
    #[must_use]
    pub const fn tls(address: SocketAddr, tls: ServerTls) -> Self {
        Self::Tcp { address, tls: Some(tls) }
    }

    /// A Unix socket.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix { path: path.into() }
    }
}

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error(
        "port {} is busy: another process serves {address}. End it, or choose another address",
        address.port()
    )]
    PortBusy {
        /// The address.
        address: SocketAddr,
    },
    /// The port cannot be had for another reason.
    #[error("cannot listen on {address}: {why}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        why: io::Error,
    },
    /// A service answers on the socket.
    #[error("a service already runs with this state folder: it answers on {path}")]
    SocketBusy {
        /// The socket.
        path: PathBuf,
    },
    /// The path holds something else.
    #[error("{path} exists and is no socket: it is left alone, move it away")]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made for another reason.
    #[error("cannot listen on the socket {path}: {why}")]
    Unix {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
}

/// Why serving ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener failed.
    #[error("serving {address} ended: {why}")]
    Ended {
        /// Where.
        address: String,
        /// What the library says.
        why: String,
    },
}

/// How patient a server is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A request without an answer ends after this.
    pub request: Duration,
    /// Open requests get this long once the server is told to end.
    pub drain: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { request: Duration::from_secs(30), drain: Duration::from_secs(5) }
    }
}

/// Lets the process have as many files and connections open as the system permits: the usual first limit of 1024 is soon
/// reached by clients that connect and say nothing, and then no file can be opened either.
pub fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, "no more files than usual can be open");
    }
}

/// Told once, heard by everybody: end now.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Sender<bool>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Shutdown {
    /// One that SIGINT and SIGTERM trigger.
    ///
    /// # Errors
    /// What the system says.
    pub fn on_signal() -> io::Result<Self> {
        let shutdown = Self::default();
        let (signal, told) = (signal()?, shutdown.clone());
        tokio::spawn(async move {
            let name = signal.await;
            tracing::info!(signal = name, "ending");
            told.trigger();
        });
        Ok(shutdown)
    }

    /// Tells everybody.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// Whether everybody was told.
    #[must_use]
    pub fn triggered(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until told.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut told = self.0.subscribe();
        let keep = self.clone();
        async move {
            // The sender lives in `keep`, so waiting ends only by being told.
            let _ = told.wait_for(|told| *told).await;
            drop(keep);
        }
    }
}

/// Resolves with the signal's name on SIGINT or SIGTERM.
///
/// # Errors
/// What the system says.
pub fn signal() -> io::Result<impl Future<Output = &'static str> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

/// A listener that has its address and serves nothing yet.
#[derive(Debug)]
pub struct Bound {
    listener: Listener,
    address: String,
}

#[derive(Debug)]
enum Listener {
    Tcp(tokio::net::TcpListener, SocketAddr, Option<ServerTls>),
    Unix(unix::Socket),
}

/// Takes an address.
///
/// # Errors
/// [`BindError`] names the address and what to do.
pub async fn bind(listen: Listen) -> Result<Bound, BindError> {
    match listen {
        Listen::Tcp { address, tls } => {
            let refused = |why: io::Error| match why.kind() {
                io::ErrorKind::AddrInUse => BindError::PortBusy { address },
                _ => BindError::Tcp { address, why },
            };
            let listener = tokio::net::TcpListener::bind(address).await.map_err(refused)?;
            let bound = listener.local_addr().map_err(refused)?;
            Ok(Bound { listener: Listener::Tcp(listener, bound, tls), address: bound.to_string() })
        }
        Listen::Unix { path } => {
            let address = path.display().to_string();
            Ok(Bound { listener: Listener::Unix(unix::Socket::bind(path).await?), address })
        }
    }
}

impl Bound {
    /// The address, for people and for `endpoints.json`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The TCP address with its real port.
    #[must_use]
    pub const fn tcp_address(&self) -> Option<SocketAddr> {
        match self.listener {
            Listener::Tcp(_, address, _) => Some(address),
            Listener::Unix(_) => None,
        }
    }

    /// Serves gRPC and HTTP/1 until told to end, then drains for a bounded time.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn serve(
        self,
        routes: impl Into<Routes>,
        patience: Patience,
        shutdown: &Shutdown,
    ) -> Result<(), ServeError> {
        let (address, routes) = (self.address, routes.into());
        match self.listener {
            Listener::Tcp(listener, _, tls) => {
                let incoming =
                    TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE));
                serve_incoming(incoming, &address, tls, routes, patience, shutdown).await
            }
            Listener::Unix(mut socket) => {
                serve_incoming(socket.incoming(), &address, None, routes, patience, shutdown).await
            }
        }
    }
}

/// Serves gRPC and HTTP/1 on connections from wherever they come, until told to end, then drains for a
/// bounded time. `address` is for people.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_incoming<I, IO>(
    incoming: I,
    address: &str,
    tls: Option<ServerTls>,
    routes: impl Into<Routes>,
    patience: Patience,
    shutdown: &Shutdown,
) -> Result<(), ServeError>
where
    I: Stream<Item = io::Result<IO>> + Send,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    // Without a pause, a process that is out of file descriptors would spin on this error.
    let incoming = incoming.then(async |connection| {
        if let Err(error) = &connection {
            tracing::warn!(%error, address, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        connection
    });
    let server = server(patience).add_routes(routes.into());
    let serving = async {
        match tls {
            Some(tls) => {
                let incoming = handshakes::taken(incoming, &tls);
                server.serve_with_incoming_shutdown(incoming, shutdown.wait()).await
            }
            None => server.serve_with_incoming_shutdown(incoming, shutdown.wait()).await,
        }
    };
    let deadline = async {
        shutdown.wait().await;
        tokio::time::sleep(patience.drain).await;
    };
    tokio::select! {
        ended = serving => ended.map_err(|error| ServeError::Ended {
            address: address.to_owned(),
            why: causes(&error),
        }),
        () = deadline => {
            tracing::warn!(address, drain = ?patience.drain, "connections were still open and are cut");
            Ok(())
        }
    }
}

fn server(patience: Patience) -> Server {
    Server::builder()
        .accept_http1(true)
        .timeout(patience.request)
        .max_concurrent_streams(MAX_STREAMS)
        .max_connection_age(CONNECTION_AGE)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .http2_max_header_list_size(MAX_HEADERS)
}

/// The standard services could not be added.
#[derive(Debug, thiserror::Error)]
#[error("the service descriptions cannot be read: {0}")]
pub struct DescriptorError(String);

/// Adds health and server reflection (v1 and v1alpha) for the services named. Rich error details
/// and the health service are described too, so that generic clients can decode them.
///
/// # Errors
/// [`DescriptorError`] when the compiled descriptors are unusable.
pub async fn with_standard_services(
    routes: Routes,
    names: &[&str],
) -> Result<(Routes, HealthReporter), DescriptorError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut configured =
        [tonic_reflection::server::Builder::configure(), tonic_reflection::server::Builder::configure()].map(
            |builder| {
                builder
                    .register_encoded_file_descriptor_set(headroom_proto::FILE_DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                    .with_service_name("grpc.health.v1.Health")
                    .with_service_name("grpc.reflection.v1.ServerReflection")
                    .with_service_name("grpc.reflection.v1alpha.ServerReflection")
            },
        );
    for name in names {
        reporter.set_service_status(*name, tonic_health::ServingStatus::Serving).await;
        configured = configured.map(|builder| builder.with_service_name(*name));
    }
    let [v1, v1alpha] = configured;
    let unreadable = |error: tonic_reflection::server::Error| DescriptorError(error.to_string());
    let v1 = v1.build_v1().map_err(unreadable)?;
    let v1alpha = v1alpha.build_v1alpha().map_err(unreadable)?;
    Ok((routes.add_service(health).add_service(v1).add_service(v1alpha), reporter))
}

#[cfg(test)]
mod tests;
