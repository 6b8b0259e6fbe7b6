//! TLS as servers speak it.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::{ConfigBuilder, RootCertStore, ServerConfig};

use super::{Credentials, TlsError};

/// TLS as a server speaks it: HTTP/2 and HTTP/1.1.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }

    fn new(
        server: &Credentials,
        builder: ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).map_err(unserved)?;
        let mut config =
            builder.with_single_cert(certificates(&server.certificate)?, key).map_err(unserved)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

fn unserved(why: impl std::fmt::Display) -> TlsError {
    TlsError::Serve(why.to_string())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(unserved)
}

/// A server that admits only clients with a certificate of `authority`.
///
/// # Errors
/// [`TlsError::Serve`].
pub fn mutual_server(server: &Credentials, authority: &str) -> Result<ServerTls, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate).map_err(unserved)?;
    }
    let verifier = WebPkiClientVerifier::builder(roots.into()).build().map_err(unserved)?;
    ServerTls::new(server, ServerConfig::builder().with_client_cert_verifier(verifier))
}

/// A server that admits anybody.
///
/// # Errors
/// [`TlsError::Serve`].
pub fn plain_server(server: &Credentials) -> Result<ServerTls, TlsError> {
    ServerTls::new(server, ServerConfig::builder().with_no_client_auth())
}
