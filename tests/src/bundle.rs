//! What a node runs with, taken apart for clients that are no node of ours.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// A node's bundle: names and PEM texts.
#[derive(Debug, Clone, Deserialize)]
pub struct Bundle {
    /// The node's name.
    pub name: String,
    /// Where the management node is.
    pub management: String,
    /// Certificate of the deployment's authority.
    pub authority: String,
    /// The node's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Panics
    /// When it is missing or not understood.
    #[must_use]
    pub fn read(file: &Path) -> Self {
        Self::parse(&std::fs::read_to_string(file).expect("the bundle"))
    }

    /// Reads a bundle's text.
    ///
    /// # Panics
    /// When it is not understood.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        toml::from_str(text).expect("a bundle in TOML")
    }

    /// Writes authority, certificate and key as files of their own.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn files(&self, folder: &Path) -> [PathBuf; 3] {
        let parts = [
            ("authority.pem", &self.authority),
            ("certificate.pem", &self.certificate),
            ("key.pem", &self.key),
        ];
        parts.map(|(name, text)| {
            let file = folder.join(format!("{}-{name}", self.name));
            std::fs::write(&file, text).expect("a file for the test");
            file
        })
    }

    /// TLS as this node speaks it.
    #[must_use]
    pub fn tls(&self) -> ClientTlsConfig {
        self.tls_without_certificate().identity(Identity::from_pem(&self.certificate, &self.key))
    }

    /// TLS without a certificate of one's own.
    #[must_use]
    pub fn tls_without_certificate(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority))
            .domain_name("management-node")
    }
}
