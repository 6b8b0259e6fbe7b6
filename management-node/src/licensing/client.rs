//! The licensing server over HTTPS.

use std::path::PathBuf;

use headroom_core::activation::MAX_XML;
use headroom_shared::https::{self, HttpsError};
use headroom_shared::print::causes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{StatusCode, Url};

/// The path requests are posted to.
const PATH: &str = "/v1/activations";

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No address.
    #[error("{key}: `{given}` is no address: write https://HOST:PORT")]
    Address {
        /// The setting.
        key: &'static str,
        /// What was given.
        given: String,
    },
    /// None can be made.
    #[error(transparent)]
    Https(#[from] HttpsError),
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum PostError {
    /// It was certainly not received.
    Unsent(String),
    /// It may have been.
    Unanswered(String),
}

/// Posts requests.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    address: String,
}

impl Client {
    /// A client for an address `https://HOST:PORT`.
    ///
    /// # Errors
    /// [`ClientError`] names the setting.
    pub fn new(address: &str, authority: Option<&PathBuf>, proxy: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address { key: "licensing", given: address.to_owned() };
        let url: Url = address.parse().map_err(|_| wrong())?;
        if url.scheme() != "https" {
            return Err(wrong());
        }
        let url = url.join(PATH).map_err(|_| wrong())?;
        Ok(Self {
            http: https::client(authority.map(|path| ("licensing_authority", path.as_path())), proxy)?,
            url,
            address: address.to_owned(),
        })
    }

    /// The licensing server's address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn post(&self, xml: String) -> Result<Vec<u8>, PostError> {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/xml").body(xml);
        let response = match request.send().await {
            Ok(response) => response,
            // Without a connection nothing was received.
            Err(error) if error.is_connect() => return Err(PostError::Unsent(causes(&error))),
            Err(error) => return Err(PostError::Unanswered(causes(&error))),
        };
        let status = response.status();
        let retry =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = read(response).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let line = String::from_utf8_lossy(&body[..body.len().min(400)]).trim().to_owned();
        let retry = retry.map(|seconds| format!(" (come back in {seconds} s)")).unwrap_or_default();
        Err(PostError::Unanswered(format!("{} answered {status}: {line}{retry}", self.address)))
    }

    /// Whether the server answers at all. What it is asked is not allowed, which is an answer.
    pub(super) async fn reach(&self) -> Result<(), String> {
        self.http.get(self.url.clone()).send().await.map(|_| ()).map_err(|error| causes(&error))
    }
}

/// A body of at most the size of an answer.
async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, PostError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(PostError::Unanswered(causes(&error))),
        }
        if body.len() > MAX_XML {
            return Err(PostError::Unanswered(format!("the answer has more than {MAX_XML} bytes")));
        }
    }
}
