//! Certificates: a deployment's authority, what it issues, and how services use them.
//!
//! A node is known by the SHA-256 of its certificate, looked up among enrolled nodes, so the
//! authority alone admits nobody. All certificates have distinct names: `BoringSSL` refuses a chain
//! whose leaf is named like its issuer.

mod bundle;
mod files;
mod server;

use std::io;
use std::path::{Path, PathBuf};

use headroom_core::{IdError, NodeName};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use sha2::{Digest, Sha256};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

pub use bundle::NodeBundle;
pub use files::{check_new, write_public, write_secret};
pub use server::{ServerTls, mutual_server, plain_server};

/// The name every management node's certificate carries, and nodes verify whatever the address.
pub const MANAGEMENT_NAME: &str = "management-node";
/// Years an authority and what it issues are valid; revocation is by enrolment, not by expiry.
pub const YEARS: i16 = 10;

/// How long two sides may take to agree on TLS.
pub(crate) const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(10);

/// Why certificates cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Making a certificate failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// No randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// A file cannot be read or written.
    #[error("cannot use {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// Text that holds no certificate.
    #[error("{what} holds no certificate in PEM form: {why}")]
    Pem {
        /// What was read.
        what: String,
        /// What the reader says.
        why: String,
    },
    /// A certificate and key with which nothing can be served.
    #[error("TLS cannot be served with the certificate and key: {0}")]
    Serve(String),
    /// A bundle that cannot be used.
    #[error("the node bundle cannot be used: {0}")]
    Bundle(String),
    /// A node name in a bundle.
    #[error("the node bundle cannot be used: name: {0}")]
    Name(#[from] IdError),
}

/// Installs the crypto provider; call it first thing in `main`. Calling it again is no error.
pub fn install_provider() {
    // An error only says that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A certificate and its key, both in PEM form.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate.
    pub certificate: String,
    /// The key. Secret.
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.hash().map_or_else(|_| "unreadable".into(), hex::encode))
    }
}

impl Credentials {
    /// SHA-256 of the certificate.
    ///
    /// # Errors
    /// [`TlsError::Pem`].
    pub fn hash(&self) -> Result<[u8; 32], TlsError> {
        Ok(certificate_hash(&certificate_der(&self.certificate, "the certificate")?))
    }

    /// Writes `DIR/STEM.pem` and `DIR/STEM.key`, the key readable by its owner only.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn save(&self, dir: &Path, stem: &str) -> Result<(), TlsError> {
        let (certificate, key) = Self::paths(dir, stem);
        write_secret(&key, self.key.as_bytes()).map_err(|why| TlsError::File { path: key, why })?;
        write_public(&certificate, self.certificate.as_bytes())
            .map_err(|why| TlsError::File { path: certificate, why })
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`TlsError::File`], [`TlsError::Pem`].
    pub fn load(dir: &Path, stem: &str) -> Result<Self, TlsError> {
        let (certificate, key) = Self::paths(dir, stem);
        Self::read(&certificate, &key)
    }

    /// Reads a certificate, or a chain of them, and its key.
    ///
    /// # Errors
    /// [`TlsError::File`], [`TlsError::Pem`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let text = |path: &Path| {
            std::fs::read_to_string(path).map_err(|why| TlsError::File { path: path.into(), why })
        };
        let loaded = Self { certificate: text(certificate)?, key: text(key)? };
        certificate_der(&loaded.certificate, &certificate.display().to_string())?;
        Ok(loaded)
    }

    fn paths(dir: &Path, stem: &str) -> (PathBuf, PathBuf) {
        (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")))
    }

    fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key)
    }
}

fn parameters(common_name: &str, names: Vec<String>) -> Result<CertificateParams, TlsError> {
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.push(DnType::OrganizationName, "Headroom");
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    // From yesterday on, so that a clock that is a little behind accepts it.
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let from = today.saturating_sub(jiff::Span::new().days(1));
    let to = today.saturating_add(jiff::Span::new().years(YEARS));
    let date = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (parameters.not_before, parameters.not_after) = (date(from), date(to));
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| TlsError::Random(error.to_string()))?;
    // A serial number is positive and has no leading zero byte.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    parameters.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(parameters)
}

/// Makes a new authority; `name` tells it from other deployments' authorities.
///
/// # Errors
/// [`TlsError::Make`], [`TlsError::Random`].
pub fn make_authority(name: &str) -> Result<Credentials, TlsError> {
    let mut parameters = parameters(&format!("Headroom authority of {name}"), Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok(Credentials { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn issue(
    authority: &Credentials,
    mut parameters: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Credentials, TlsError> {
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![usage];
    parameters.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, &issuer)?;
    Ok(Credentials { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Issues a server's certificate for `name`, `localhost`, the loopback addresses and `more`.
///
/// # Errors
/// [`TlsError::Make`] when one of `more` is no host name or address.
pub fn issue_server(authority: &Credentials, name: &str, more: &[String]) -> Result<Credentials, TlsError> {
    let fixed = [name, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names = Vec::new();
    for name in fixed.iter().chain(more) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    issue(authority, parameters(name, names)?, ExtendedKeyUsagePurpose::ServerAuth)
}

/// Issues a node's certificate.
///
/// # Errors
/// [`TlsError::Make`], [`TlsError::Random`].
pub fn issue_client(authority: &Credentials, node: &NodeName) -> Result<Credentials, TlsError> {
    let name = format!("node {node}");
    issue(authority, parameters(&name, Vec::new())?, ExtendedKeyUsagePurpose::ClientAuth)
}

/// SHA-256 of a certificate: a node's identity.
#[must_use]
pub fn certificate_hash(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// The identity of the client behind a request, when it showed a certificate.
#[must_use]
pub fn peer_hash<T>(request: &tonic::Request<T>) -> Option<[u8; 32]> {
    request.peer_certs()?.first().map(|certificate| certificate_hash(certificate))
}

/// The first certificate of a PEM text.
///
/// # Errors
/// [`TlsError::Pem`] names `what`.
pub fn certificate_der(text: &str, what: &str) -> Result<Vec<u8>, TlsError> {
    let wrong = |why: String| TlsError::Pem { what: what.to_owned(), why };
    let block = pem::parse(text).map_err(|error| wrong(error.to_string()))?;
    if block.tag() != "CERTIFICATE" {
        return Err(wrong(format!("found {}", block.tag())));
    }
    Ok(block.into_contents())
}

/// A client that trusts `authority` for the server named `name`, whatever the address.
#[must_use]
pub fn client(authority: &str, name: &str, client: Option<&Credentials>) -> ClientTlsConfig {
    let config = ClientTlsConfig::new()
        .domain_name(name)
        .ca_certificate(Certificate::from_pem(authority))
        .timeout(HANDSHAKE);
    match client {
        Some(client) => config.identity(client.identity()),
        None => config,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn node() -> NodeName {
        NodeName::new("a").expect("a name")
    }

    #[test]
    fn a_bundle_reads_back_and_its_file_is_its_owners() {
        let authority = make_authority("test").expect("an authority");
        let credentials = issue_client(&authority, &node()).expect("a certificate");
        let bundle =
            NodeBundle::new(&node(), "https://127.0.0.1:7400", &authority.certificate, credentials.clone());
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.bundle");
        bundle.save(&path).expect("saved");
        assert_eq!(NodeBundle::load(&path).expect("loaded"), bundle);
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "no partial file");
        assert!(!format!("{bundle:?} {credentials:?}").contains("PRIVATE"));
        assert_eq!(bundle.credentials().hash().expect("a hash"), credentials.hash().expect("a hash"));
    }

    #[test]
    fn a_bundle_with_a_bad_field_is_refused_by_its_name() {
        let authority = make_authority("test").expect("an authority");
        let credentials = issue_client(&authority, &node()).expect("a certificate");
        let good = NodeBundle::new(&node(), "https://x:1", &authority.certificate, credentials);
        let refused = |bundle: NodeBundle| {
            let text = bundle.to_toml().expect("text");
            NodeBundle::from_toml(&text).expect_err("refused").to_string()
        };
        assert!(refused(NodeBundle { name: "a/b".into(), ..good.clone() }).contains("name"));
        assert!(refused(NodeBundle { authority: "x".into(), ..good.clone() }).contains("`authority`"));
        assert!(
            refused(NodeBundle { certificate: good.key.clone(), ..good.clone() }).contains("`certificate`")
        );
        assert!(refused(NodeBundle { key: good.certificate.clone(), ..good }).contains("key"));
        assert!(NodeBundle::from_toml("name = 1").is_err());
    }

    #[test]
    fn credentials_load_as_they_were_saved() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = make_authority("test").expect("an authority");
        authority.save(folder.path(), "authority").expect("saved");
        assert_eq!(Credentials::load(folder.path(), "authority").expect("loaded"), authority);
        let missing = Credentials::load(folder.path(), "other").expect_err("missing").to_string();
        assert!(missing.contains("other.pem"), "{missing}");
    }
}
