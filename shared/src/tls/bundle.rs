//! What a conferencing node is given when it is enrolled.

use std::path::Path;

use headroom_core::NodeName;
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use tonic::transport::ClientTlsConfig;

use super::{Credentials, MANAGEMENT_NAME, TlsError, certificate_der, client, write_secret};

/// Everything a conferencing node needs to reach its pool. Secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeBundle {
    /// The node's name.
    pub name: String,
    /// Where the management node is, for example `https://pool.example.com:7400`.
    pub management: String,
    /// The deployment's authority, PEM.
    pub authority: String,
    /// The node's certificate, PEM.
    pub certificate: String,
    /// The node's key, PEM. Secret.
    pub key: String,
}

impl std::fmt::Debug for NodeBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeBundle({} at {})", self.name, self.management)
    }
}

impl NodeBundle {
    /// A bundle for a node.
    #[must_use]
    pub fn new(name: &NodeName, management: &str, authority: &str, node: Credentials) -> Self {
        Self {
            name: name.to_string(),
            management: management.to_owned(),
            authority: authority.to_owned(),
            certificate: node.certificate,
            key: node.key,
        }
    }

    /// The bundle as TOML.
    ///
    /// # Errors
    /// [`TlsError::Bundle`].
    pub fn to_toml(&self) -> Result<String, TlsError> {
        let text = toml::to_string(self).map_err(|error| TlsError::Bundle(error.to_string()))?;
        Ok(format!("# Bundle of a Headroom conferencing node. Secret: it holds the node's key.\n{text}"))
    }

    /// Reads and checks a bundle.
    ///
    /// # Errors
    /// [`TlsError`] names the field.
    pub fn from_toml(text: &str) -> Result<Self, TlsError> {
        let bundle: Self = toml::from_str(text).map_err(|error| TlsError::Bundle(error.message().into()))?;
        bundle.node()?;
        certificate_der(&bundle.authority, "the bundle's field `authority`")?;
        certificate_der(&bundle.certificate, "the bundle's field `certificate`")?;
        KeyPair::from_pem(&bundle.key)
            .map_err(|_| TlsError::Bundle("key: holds no private key in PEM form".into()))?;
        Ok(bundle)
    }

    /// Writes the bundle, readable by its owner only.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn save(&self, path: &Path) -> Result<(), TlsError> {
        let text = self.to_toml()?;
        write_secret(path, text.as_bytes()).map_err(|why| TlsError::File { path: path.into(), why })
    }

    /// Reads the bundle from a file.
    ///
    /// # Errors
    /// [`TlsError`] names the file or the field.
    pub fn load(path: &Path) -> Result<Self, TlsError> {
        let text = std::fs::read_to_string(path).map_err(|why| TlsError::File { path: path.into(), why })?;
        Self::from_toml(&text)
    }

    /// The node's name, checked.
    ///
    /// # Errors
    /// [`TlsError::Name`].
    pub fn node(&self) -> Result<NodeName, TlsError> {
        Ok(NodeName::new(&self.name)?)
    }

    /// The node's certificate and key.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials { certificate: self.certificate.clone(), key: self.key.clone() }
    }

    /// How the node reaches the management node.
    #[must_use]
    pub fn client(&self) -> ClientTlsConfig {
        client(&self.authority, MANAGEMENT_NAME, Some(&self.credentials()))
    }
}
