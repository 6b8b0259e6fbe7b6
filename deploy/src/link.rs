//! A TCP link that can be cut and healed, so that a node can be out of contact without privileges.
//!
//! A cut link behaves as a broken network does: nothing is refused and nothing is answered. Bytes
//! stay where they are, new connections are taken and stay silent. When the link is healed, what
//! still waits goes on.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::{Error, Result};

/// A link from a port of its own to a target.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    target: watch::Sender<SocketAddr>,
    task: AbortHandle,
}

impl Link {
    /// Opens a link on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn open(target: SocketAddr) -> Result<Self> {
        let doing = || format!("a link to {target}");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::io(doing()))?;
        let address = listener.local_addr().map_err(Error::io(doing()))?;
        let (whole, whole_now) = watch::channel(true);
        let (target, target_now) = watch::channel(target);
        let task = tokio::spawn(accept(listener, target_now, whole_now)).abort_handle();
        Ok(Self { address, whole, target, task })
    }

    /// Where the link is entered.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections elsewhere: the target came back under another port.
    pub fn retarget(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Lets nothing through.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.whole.send_replace(true);
    }

    /// Is it cut?
    #[must_use]
    pub fn is_cut(&self) -> bool {
        !*self.whole.borrow()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: watch::Receiver<SocketAddr>, whole: watch::Receiver<bool>) {
    // dropping the set with this task ends every connection
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => match taken {
                Ok((near, _)) => {
                    connections.spawn(carry(near, target.clone(), whole.clone()));
                }
                // out of file descriptors, most likely: room comes when connections end
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Waits until the link is whole; false when the link is gone.
async fn wait_whole(whole: &mut watch::Receiver<bool>) -> bool {
    whole.wait_for(|whole| *whole).await.is_ok()
}

async fn carry(near: TcpStream, target: watch::Receiver<SocketAddr>, mut whole: watch::Receiver<bool>) {
    if !wait_whole(&mut whole).await {
        return;
    }
    let to = *target.borrow();
    // nobody there: the caller sees its connection end, as with a real refusal
    let Ok(far) = TcpStream::connect(to).await else { return };
    // small requests must not wait for more bytes
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::join!(one_way(near_in, far_out, whole.clone()), one_way(far_in, near_out, whole));
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut whole: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        // bytes, an end and a failure alike arrive only over a whole link
        if !wait_whole(&mut whole).await {
            return;
        }
        match read {
            Ok(0) | Err(_) => {
                let _ = to.shutdown().await;
                return;
            }
            Ok(n) => {
                if to.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_cut_link_is_silent_and_a_healed_one_delivers_what_waited() {
        let link = Link::open(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        let mut answer = [0; 3];
        stream.write_all(b"one").await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"one");

        link.cut();
        assert!(link.is_cut());
        stream.write_all(b"two").await.unwrap();
        let mut late = TcpStream::connect(link.address()).await.unwrap();
        late.write_all(b"new").await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut answer)).await;
        assert!(silent.is_err(), "a cut link answered");

        link.heal();
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"two");
        late.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"new");
    }
}
