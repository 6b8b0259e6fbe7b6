//! A receiver of what the services post by themselves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use serde_json::Value;

/// What was posted.
#[derive(Debug)]
pub struct Post {
    /// The request line and its headers.
    pub head: String,
    /// The body.
    pub body: Value,
}

/// Receives what is posted, and says that it took it, except the first time. Gives its address, without a path.
///
/// # Panics
/// When there is no port, and in its thread when what is posted is no JSON.
#[must_use]
pub fn receiver() -> (String, mpsc::Receiver<Post>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (posted, received) = mpsc::channel();
    std::thread::spawn(move || {
        let mut refuse = true;
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let (mut length, mut head) = (0, String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            let code = if std::mem::take(&mut refuse) { "503 Busy" } else { "204 No Content" };
            let _ = write!(stream, "HTTP/1.1 {code}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let body = || serde_json::from_slice(&body).expect("JSON");
            if code.starts_with("204") && posted.send(Post { head, body: body() }).is_err() {
                return;
            }
        }
    });
    (address, received)
}
