//! Unix sockets: for their owner only, never stolen from a service that runs.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};

/// Bytes that wait between the two ends within a process.
const PIPE: usize = 64 * 1024;

use super::{BindError, causes};

/// A listening socket; its file goes with it, unless somebody else's is there by then.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    inode: u64,
    listener: Option<UnixListener>,
}

fn inode(path: &Path) -> io::Result<u64> {
    std::fs::symlink_metadata(path).map(|found| found.ino())
}

impl Socket {
    pub(super) async fn bind(path: PathBuf) -> Result<Self, BindError> {
        let fails = |why: io::Error| BindError::Unix { path: path.clone(), why };
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fails(error)),
            Ok(found) if !found.file_type().is_socket() => return Err(BindError::NoSocket { path }),
            Ok(_) => match UnixStream::connect(&path).await {
                // Nobody listens: left behind by a process that was killed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fails(error)),
                Ok(_) => return Err(BindError::SocketBusy { path }),
            },
        }
        // Made under another name and moved in place, so that it is never open to others and
        // a path without a listener is never seen.
        let mut fresh = path.clone().into_os_string();
        fresh.push(format!(".{}", std::process::id()));
        let fresh = PathBuf::from(fresh);
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(fails)?;
        let placed = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| inode(&fresh))
            .and_then(|inode| std::fs::rename(&fresh, &path).map(|()| inode));
        match placed {
            Ok(inode) => Ok(Self { path, inode, listener: Some(listener) }),
            Err(error) => {
                let _ = std::fs::remove_file(&fresh);
                Err(fails(error))
            }
        }
    }

    /// The connections; once only.
    pub(super) fn incoming(&mut self) -> impl futures::Stream<Item = io::Result<UnixStream>> + Send + use<> {
        let connections = self.listener.take().map(UnixListenerStream::new);
        futures::StreamExt::flatten(futures::stream::iter(connections))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Why a command line cannot reach its service.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens.
    #[error("no service runs with this state folder: nobody answers on {path}. Start it with `serve`")]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Not for this user.
    #[error("{path} belongs to another user: run this command as the service's user")]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot reach the service on {path}: {why}")]
    Other {
        /// The socket.
        path: PathBuf,
        /// What the library says.
        why: String,
    },
}

/// A channel to a service's Unix socket.
///
/// # Errors
/// [`ConnectError`] says whether a service runs.
pub async fn unix_channel(path: &Path) -> Result<Channel, ConnectError> {
    let path = path.to_path_buf();
    // A first connection by hand, because only its error tells what is wrong.
    if let Err(error) = UnixStream::connect(&path).await {
        return Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectError::NotRunning { path },
            io::ErrorKind::PermissionDenied => ConnectError::Forbidden { path },
            _ => ConnectError::Other { path, why: error.to_string() },
        });
    }
    let other =
        |error: tonic::transport::Error| ConnectError::Other { path: path.clone(), why: causes(&error) };
    Endpoint::from_shared(format!("unix://{}", path.display()))
        .map_err(other)?
        .connect_timeout(Duration::from_secs(5))
        .connect()
        .await
        .map_err(other)
}

/// Serves within this process, for a command line that finds no running service: the same requests meet
/// the same code. The channel has one connection, which lives as long as the task.
///
/// # Errors
/// What the library says.
pub async fn within(routes: Routes) -> Result<(Channel, JoinHandle<()>), tonic::transport::Error> {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let incoming = futures::stream::iter([Ok::<_, io::Error>(theirs)]);
    let incoming = futures::StreamExt::chain(incoming, futures::stream::pending());
    let serving = Server::builder().add_routes(routes).serve_with_incoming(incoming);
    let task = tokio::spawn(async move {
        // The connection ends when the channel is dropped; nobody is left to be told.
        let _ = serving.await;
    });
    let mut ours = Some(ours);
    let connect = tower::service_fn(move |_| {
        let io = ours.take().map(TokioIo::new).ok_or(io::ErrorKind::NotConnected);
        async move { io.map_err(io::Error::from) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connect).await?;
    Ok((channel, task))
}
