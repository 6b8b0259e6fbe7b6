//! turmoil's connections as tonic takes them, and the hosts' clock.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use headroom_core::time::Clock;
use headroom_core::{Millis, Now};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpConnectInfo};
use turmoil::net::{TcpListener, TcpStream};

/// What the wall clock shows when a world begins: in November 2026.
const EPOCH: Millis = Millis(1_793_500_000_000);
/// How long machines have been up by then.
const UP: Millis = Millis::HOUR;

/// The clock of every host: simulated time, right everywhere.
pub(crate) struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> Now {
        let elapsed = turmoil::sim_elapsed().expect("asked on a host");
        let elapsed = Millis(i64::try_from(elapsed.as_millis()).expect("minutes"));
        Now { wall: EPOCH.plus(elapsed), boot: UP.plus(elapsed) }
    }
}

/// A connection.
pub(crate) struct Connection(TcpStream);

impl Connected for Connection {
    // what tonic looks behind for a client's certificate
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: self.0.local_addr().ok(), remote_addr: self.0.peer_addr().ok() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The connections that a listener takes.
pub(crate) fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> + Send {
    futures::stream::unfold(listener, async |listener| {
        let taken = listener.accept().await;
        Some((taken.map(|(stream, _)| Connection(stream)), listener))
    })
}

/// When connections were tried, since the world began.
#[derive(Clone, Default)]
pub(crate) struct Dials(Arc<Mutex<Vec<Duration>>>);

impl Dials {
    fn note(&self) {
        let at = turmoil::sim_elapsed().expect("dialled on a host");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(at);
    }

    /// How many since then.
    pub(crate) fn since(&self, then: Duration) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|at| **at >= then).count()
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<Connection>>> + Send>>;

/// Connects to a host of the simulated network.
pub(crate) fn connector(
    host: &'static str,
    port: u16,
    dials: Dials,
) -> impl tower::Service<
    tonic::transport::Uri,
    Response = TokioIo<Connection>,
    Error = io::Error,
    Future = Connecting,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |_: tonic::transport::Uri| -> Connecting {
        dials.note();
        Box::pin(async move { Ok(TokioIo::new(Connection(TcpStream::connect((host, port)).await?))) })
    })
}
