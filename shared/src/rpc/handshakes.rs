//! TLS on connections that come in. Several shake hands at a time, so that a slow one holds up no other.

use std::io;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::telemetry::Seldom;
use crate::tls::{HANDSHAKE, ServerTls};

/// Most that shake hands at a time; further ones wait to be accepted.
const AT_A_TIME: usize = 1024;

/// Scanners do it all the time; an operator whose client does not trust a certificate should find it.
static SAID: Seldom = Seldom::new(Duration::from_secs(10));

/// The connections that can be spoken on. One that does not shake hands, or not in time, is dropped.
pub(super) fn taken<IO>(
    incoming: impl Stream<Item = io::Result<IO>> + Send,
    tls: &ServerTls,
) -> impl Stream<Item = io::Result<TlsStream<IO>>> + Send
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let acceptor = TlsAcceptor::from(tls.config());
    incoming
        .map(move |connection| {
            let acceptor = acceptor.clone();
            // In a task of its own: there is more to compute than for accepting.
            tokio::spawn(async move {
                let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(connection?)).await;
                shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            })
        })
        .buffer_unordered(AT_A_TIME)
        .filter_map(async |shaken| match shaken {
            Ok(Ok(stream)) => Some(Ok(stream)),
            Ok(Err(error)) => {
                if SAID.is_due() {
                    tracing::warn!(%error, "somebody connects and does not agree on TLS");
                }
                None
            }
            Err(_) => None,
        })
}
