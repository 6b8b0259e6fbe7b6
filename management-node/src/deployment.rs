//! The state folder: the deployment's authority, the server's certificate, the vendor's keys, the log.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headroom_core::NodeName;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::license::{KeyError, PublicKey, SigningKey, TrustedKeys};
use headroom_shared::disk_log::DiskLog;
use headroom_shared::fingerprint::ReadError;
use headroom_shared::log::LogError;
use headroom_shared::tls::{self, Credentials, MANAGEMENT_NAME, NodeBundle, TlsError};
use management_core::CertificateHash;

const VENDOR: &str = "vendor.pub";
const AUTHORITY: &str = "authority";
const SERVER: &str = "server";
/// The folder of the log.
pub const LOG: &str = "log";
const MACHINE_KEY: &str = "machine.key";
const MACHINE_ID: &str = "machine-id";
/// There while a deployment is made: one that was cut short is made anew.
const MAKING: &str = ".init";
/// The authority that the licensing server is trusted by.
pub const LICENSING_AUTHORITY: &str = "licensing.pem";
/// The Unix socket's name.
pub const SOCKET: &str = "management-node.sock";

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// Something is there already.
    #[error("{0} holds a deployment already; nothing was changed")]
    Exists(PathBuf),
    /// Nothing is there.
    #[error("{0} holds no deployment; make one with `management-node init --state {0} --vendor-key FILE`")]
    Missing(PathBuf),
    /// A file.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// A vendor key that cannot be read.
    #[error("{path}: line {line}: {why}")]
    VendorKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: KeyError,
    },
    /// A vendor key file without a key.
    #[error("{0}: holds no vendor key")]
    NoVendorKey(PathBuf),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The machine's identity.
    #[error(transparent)]
    Fingerprint(#[from] ReadError),
    /// No randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// The key that this machine signs its license requests with.
    #[error("{0}: this machine's key is damaged: it must be 64 hexadecimal digits")]
    MachineKey(PathBuf),
}

/// A state folder in use.
#[derive(Debug)]
pub struct Deployment {
    dir: PathBuf,
    authority: Credentials,
    server: Credentials,
    vendors: TrustedKeys,
}

/// How a machine is identified.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// By its hardware, or, in a container, by an id that is kept in the state folder.
    #[default]
    Auto,
    /// By its hardware.
    Hardware,
    /// By an id that is kept in the state folder.
    Kept,
}

fn vendor_keys(path: &Path) -> Result<(String, TrustedKeys), DeploymentError> {
    let text =
        std::fs::read_to_string(path).map_err(|why| DeploymentError::File { path: path.into(), why })?;
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let key: PublicKey = line.trim().parse().map_err(|why| DeploymentError::VendorKey {
            path: path.into(),
            line: index + 1,
            why,
        })?;
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(DeploymentError::NoVendorKey(path.into()));
    }
    Ok((text, keys.into_iter().collect()))
}

impl Deployment {
    /// Makes a deployment: an authority of its own, an empty log, the vendor's keys.
    ///
    /// # Errors
    /// [`DeploymentError`]; nothing is changed when one exists.
    pub fn create(
        dir: &Path,
        vendor_key: &Path,
        names: &[String],
        licensing: Option<&str>,
        licensing_authority: Option<&Path>,
    ) -> Result<Self, DeploymentError> {
        let making = dir.join(MAKING);
        let keys = dir.join(format!("{AUTHORITY}.key")).exists();
        if dir.join(LOG).exists() || (keys && !making.exists()) {
            return Err(DeploymentError::Exists(dir.into()));
        }
        let (text, vendors) = vendor_keys(vendor_key)?;
        let file = |path: &Path, why| DeploymentError::File { path: path.into(), why };
        let licensing_authority = match licensing_authority {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|why| file(path, why))?;
                tls::certificate_der(&text, &path.display().to_string())?;
                Some(text)
            }
        };
        // For its owner only: the history names who spoke with whom.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|why| DeploymentError::File { path: dir.into(), why })?;
        tls::write_public(&making, b"").map_err(|why| file(&making, why))?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|why| DeploymentError::Random(why.to_string()))?;
        let generation = u64::from_be_bytes(random);
        let authority = tls::make_authority(&format!("{generation:016x}"))?;
        let server = tls::issue_server(&authority, MANAGEMENT_NAME, names)?;
        authority.save(dir, AUTHORITY)?;
        server.save(dir, SERVER)?;
        let path = dir.join(VENDOR);
        tls::write_public(&path, text.as_bytes()).map_err(|why| DeploymentError::File { path, why })?;
        if let Some(text) = licensing_authority {
            let path = dir.join(LICENSING_AUTHORITY);
            tls::write_public(&path, text.as_bytes()).map_err(|why| file(&path, why))?;
        }
        if let Some(licensing) = licensing {
            let path = dir.join(crate::config::FILE);
            let text = format!("licensing = {licensing:?}\n");
            tls::write_public(&path, text.as_bytes()).map_err(|why| file(&path, why))?;
        }
        make_machine_id(dir)?;
        make_machine_key(dir)?;
        // The log comes last: only with it the folder is a deployment.
        drop(DiskLog::create(&dir.join(LOG), generation)?);
        std::fs::remove_file(&making).map_err(|why| file(&making, why))?;
        Ok(Self { dir: dir.into(), authority, server, vendors })
    }

    /// Opens a deployment.
    ///
    /// # Errors
    /// [`DeploymentError`] names the file.
    pub fn open(dir: &Path) -> Result<Self, DeploymentError> {
        if !dir.join(LOG).exists() {
            return Err(DeploymentError::Missing(dir.into()));
        }
        let (_, vendors) = vendor_keys(&dir.join(VENDOR))?;
        // Cut short after the last of its parts was there.
        let _ = std::fs::remove_file(dir.join(MAKING));
        Ok(Self {
            dir: dir.into(),
            authority: Credentials::load(dir, AUTHORITY)?,
            server: Credentials::load(dir, SERVER)?,
            vendors,
        })
    }

    /// The log.
    ///
    /// # Errors
    /// When it is damaged or in use.
    pub fn log(&self) -> Result<Arc<DiskLog>, DeploymentError> {
        Ok(Arc::new(DiskLog::open(&self.dir.join(LOG))?))
    }

    /// The vendor's keys.
    #[must_use]
    pub const fn vendors(&self) -> &TrustedKeys {
        &self.vendors
    }

    /// The key that this machine signs its license requests with. A deployment of an earlier version gets
    /// one; a machine that the vendor knows by its key does not get another in its place.
    ///
    /// # Errors
    /// When it is damaged, or missing although the vendor knows it.
    pub fn machine_key(&self, certified: bool) -> Result<SigningKey, DeploymentError> {
        let path = self.dir.join(MACHINE_KEY);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound && !certified => {
                return make_machine_key(&self.dir);
            }
            Err(why) => return Err(DeploymentError::File { path, why }),
        };
        let mut seed = [0; 32];
        match hex::decode_to_slice(text.trim(), &mut seed) {
            Ok(()) => Ok(SigningKey::from_seed(&seed)),
            Err(_) => Err(DeploymentError::MachineKey(path)),
        }
    }

    /// Makes the id that identifies this machine where nothing else stays, unless it is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_machine_id(&self) -> Result<(), DeploymentError> {
        if self.dir.join(MACHINE_ID).exists() { Ok(()) } else { make_machine_id(&self.dir) }
    }

    /// Where the administration is served.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// TLS for the nodes' port: only certificates of this deployment's authority.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn mutual_tls(&self) -> Result<tls::ServerTls, TlsError> {
        tls::mutual_server(&self.server, &self.authority.certificate)
    }

    /// Issues a node's bundle.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn issue(
        &self,
        node: &NodeName,
        management: &str,
    ) -> Result<(NodeBundle, CertificateHash), TlsError> {
        let credentials = tls::issue_client(&self.authority, node)?;
        let hash = CertificateHash(credentials.hash()?);
        Ok((NodeBundle::new(node, management, &self.authority.certificate, credentials), hash))
    }
}

fn make_secret<const N: usize>(path: PathBuf) -> Result<[u8; N], DeploymentError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|why| DeploymentError::Random(why.to_string()))?;
    let text = format!("{}\n", hex::encode(bytes));
    tls::write_secret(&path, text.as_bytes()).map_err(|why| DeploymentError::File { path, why })?;
    Ok(bytes)
}

fn make_machine_key(dir: &Path) -> Result<SigningKey, DeploymentError> {
    Ok(SigningKey::from_seed(&make_secret(dir.join(MACHINE_KEY))?))
}

fn make_machine_id(dir: &Path) -> Result<(), DeploymentError> {
    make_secret::<16>(dir.join(MACHINE_ID)).map(drop)
}

/// The machine this runs on: the one whose files are under `root`, or the one that the folder keeps.
///
/// # Errors
/// When it has no identity.
pub fn fingerprint(dir: &Path, root: &Path, identity: Identity) -> Result<Fingerprint, DeploymentError> {
    use headroom_shared::fingerprint::{container, read, read_kept};
    let kept = match identity {
        Identity::Auto => container(root),
        Identity::Hardware => false,
        Identity::Kept => true,
    };
    Ok(if kept { read_kept(&dir.join(MACHINE_ID))? } else { read(root)? })
}
