//! The supervisor's socket: one JSON line asks, one JSON line answers. Whoever may open the socket
//! may ask; the state folder's permissions are the authorization.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::layout::Layout;
use crate::record::Record;
use crate::{Error, Result};

/// The longest line that is read.
const LINE: u64 = 64 * 1024;

/// What the supervisor can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Does everything run?
    Ping,
    /// Cut a node's link to the management node.
    Cut {
        /// The node.
        node: String,
    },
    /// Heal a node's link.
    Heal {
        /// The node.
        node: String,
    },
    /// Show a decision that a caller was told.
    Note {
        /// The node that was asked.
        node: String,
        /// The call.
        call: String,
        /// What the caller was told.
        told: String,
    },
    /// End everything; answered when all has ended.
    Down,
}

/// The supervisor's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Was it done?
    pub ok: bool,
    /// What was done, or why not.
    pub text: String,
}

/// A request with the place its answer goes to.
#[derive(Debug)]
pub struct Ask {
    /// The request.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// Opens the socket; requests arrive at the receiver.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(socket: &Path) -> Result<mpsc::Receiver<Ask>> {
    // of an earlier supervisor: the record says that none runs
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(Error::io(format!("socket {}", socket.display())))?;
    let (send, receive) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, send.clone()));
        }
    });
    Ok(receive)
}

async fn answer(stream: UnixStream, asks: mpsc::Sender<Ask>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(LINE)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let reply = match serde_json::from_str(&line) {
            Ok(request) => {
                let (reply, answered) = oneshot::channel();
                if asks.send(Ask { request, reply }).await.is_err() {
                    return;
                }
                answered
                    .await
                    .unwrap_or_else(|_| Reply { ok: false, text: "the deployment is ending".into() })
            }
            Err(e) => Reply { ok: false, text: format!("not a request: {e}") },
        };
        let Ok(mut text) = serde_json::to_vec(&reply) else { return };
        text.push(b'\n');
        if write.write_all(&text).await.is_err() {
            return;
        }
    }
}

/// Asks the supervisor of a state folder.
///
/// # Errors
/// When none runs there, or it refuses.
pub async fn ask(layout: &Layout, request: &Request) -> Result<String> {
    let not_running = |why: String| Error::NotRunning { dir: layout.root().to_owned(), why };
    match Record::read(layout)? {
        Some(record) if record.supervised() => {}
        Some(_) => return Err(not_running("its supervisor has ended".into())),
        None => return Err(not_running("there is no deployment in it".into())),
    }
    let stream =
        UnixStream::connect(layout.control()).await.map_err(|e| not_running(format!("control.sock: {e}")))?;
    let (read, mut write) = stream.into_split();
    let mut text = serde_json::to_vec(request)
        .map_err(|e| Error::Unreadable { what: "the request".into(), problem: e.to_string() })?;
    text.push(b'\n');
    write.write_all(&text).await.map_err(Error::io("asking the supervisor"))?;
    let mut line = String::new();
    BufReader::new(read).read_line(&mut line).await.map_err(Error::io("asking the supervisor"))?;
    let reply: Reply = serde_json::from_str(&line)
        .map_err(|e| Error::Unreadable { what: "the supervisor's answer".into(), problem: e.to_string() })?;
    if reply.ok { Ok(reply.text) } else { Err(Error::Refused(reply.text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_readable_line() {
        let text = serde_json::to_string(&Request::Cut { node: "node-a".into() }).unwrap();
        assert_eq!(text, r#"{"do":"cut","node":"node-a"}"#);
        assert_eq!(serde_json::from_str::<Request>(r#"{"do":"down"}"#).unwrap(), Request::Down);
    }

    #[tokio::test]
    async fn a_supervisor_answers_over_its_socket_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let missing = ask(&layout, &Request::Ping).await.unwrap_err().to_string();
        assert!(missing.contains("deploy/up"), "{missing}");

        let mut record = Record::new();
        record.supervisor = Some(crate::record::Process::of("test", std::process::id()));
        record.write(&layout).unwrap();
        let mut asks = listen(&layout.control()).unwrap();
        tokio::spawn(async move {
            while let Some(ask) = asks.recv().await {
                let ok = ask.request == Request::Ping;
                let _ = ask.reply.send(Reply { ok, text: "heard".into() });
            }
        });
        assert_eq!(ask(&layout, &Request::Ping).await.unwrap(), "heard");
        assert!(matches!(ask(&layout, &Request::Down).await, Err(Error::Refused(text)) if text == "heard"));
    }
}
