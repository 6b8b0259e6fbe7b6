//! Clients of HTTPS: whom they trust, by which way they go, how long they wait.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, Proxy, RequestBuilder};

use crate::print::causes;

/// A post that was not taken is tried again after each of these seconds, after the last no more.
pub const WAITS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The authority cannot be read.
    #[error("{key}: cannot read {path}: {why}")]
    Unreadable {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// The authority holds no certificate.
    #[error("{key}: {path} holds no certificate: {why}")]
    Authority {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the library says.
        why: String,
    },
    /// No address of a proxy.
    #[error("proxy: `{given}` is no address: write https://HOST:PORT")]
    Proxy {
        /// What was given.
        given: String,
    },
    /// The library refuses.
    #[error("no HTTPS client can be made: {0}")]
    Library(String),
}

/// A client: trusting an authority's file, named by its setting, instead of the system's, and through a proxy, if
/// given. The usual variables (`HTTPS_PROXY`, `NO_PROXY`) count where no proxy is given. It follows no redirection.
///
/// # Errors
/// [`HttpsError`] names the setting.
pub fn client(authority: Option<(&'static str, &Path)>, proxy: &str) -> Result<Client, HttpsError> {
    let mut builder = Client::builder()
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none());
    if let Some((key, path)) = authority {
        let pem =
            std::fs::read(path).map_err(|why| HttpsError::Unreadable { key, path: path.into(), why })?;
        let wrong = |why: String| HttpsError::Authority { key, path: path.into(), why };
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(causes(&error)))?;
        if certificates.is_empty() {
            return Err(wrong("it is empty".into()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    if !proxy.is_empty() {
        let wrong = |_| HttpsError::Proxy { given: proxy.to_owned() };
        builder = builder.proxy(Proxy::all(proxy).map_err(wrong)?);
    }
    builder.build().map_err(|error| HttpsError::Library(causes(&error)))
}

/// Posts JSON.
///
/// # Errors
/// Why it was not taken; without the address, which may hold a secret.
pub async fn post(request: RequestBuilder, json: String) -> Result<(), String> {
    match request.header("content-type", "application/json").body(json).send().await {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(response.status().to_string()),
        Err(error) => Err(causes(&error.without_url())),
    }
}
