//! The state folder: signing key, register, TLS certificate.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use headroom_core::license::{PublicKey, SigningKey};
use headroom_shared::disk_log::DiskLog;
use headroom_shared::tls::{self, Credentials, write_public, write_secret};

const LOG: &str = "log";
const SIGNING_KEY: &str = "signing.key";
const AUTHORITY: &str = "authority";
const SERVER: &str = "server";
const VENDOR_KEY: &str = "vendor.pub";
// Moved into place in this order; the last one says that the folder is complete.
const PARTS: [&str; 7] =
    [LOG, SIGNING_KEY, "authority.key", "authority.pem", "server.key", "server.pem", VENDOR_KEY];

/// A licensing server's state folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Names a folder.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The Unix socket of the service that uses it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join("licensing-server.sock")
    }

    /// The service's configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("licensing-server.toml")
    }

    /// The authority that machines trust the server by.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.0.join(format!("{AUTHORITY}.pem"))
    }

    /// The file with the vendor's public keys, which management nodes are made with.
    #[must_use]
    pub fn vendor_key(&self) -> PathBuf {
        self.0.join(VENDOR_KEY)
    }

    /// Makes everything, or nothing: parts are made aside and moved into place at the end. `names` are the
    /// hosts machines reach it by, beside `localhost`.
    ///
    /// # Errors
    /// When there is anything of an earlier one, which is left alone.
    pub fn init(&self, names: &[String]) -> anyhow::Result<PublicKey> {
        let found: Vec<&str> = PARTS.into_iter().filter(|part| self.0.join(part).exists()).collect();
        let path = self.0.display();
        if found.contains(&VENDOR_KEY) {
            bail!("{path} is initialised already; nothing was changed");
        }
        if !found.is_empty() {
            bail!(
                "{path} holds {} but no {VENDOR_KEY}: an earlier init was interrupted. Nothing was changed; \
                 if no license was issued from it, remove these and run init again",
                found.join(", ")
            );
        }
        make_folder(&self.0)?;
        let aside = self.0.join(format!(".init-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&aside);
        make_folder(&aside)?;
        let made = make_parts(&aside, names).and_then(|key| {
            for part in PARTS {
                let target = self.0.join(part);
                std::fs::rename(aside.join(part), &target)
                    .with_context(|| format!("cannot make {}", target.display()))?;
            }
            std::fs::File::open(&self.0)?.sync_all()?;
            Ok(key)
        });
        let _ = std::fs::remove_dir_all(&aside);
        made
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.vendor_key().exists() {
            return Ok(());
        }
        let path = self.0.display();
        bail!("{path} holds no licensing server: make one with `licensing-server --state {path} init`")
    }

    /// Opens the register's log. Only one process can.
    ///
    /// # Errors
    /// When the folder is not initialised, or its log unusable or in use.
    pub fn log(&self) -> anyhow::Result<Arc<DiskLog>> {
        self.check()?;
        let log = DiskLog::open(&self.0.join(LOG)).context("cannot open the register")?;
        Ok(Arc::new(log))
    }

    /// Reads the signing keys: one, or two after a rotation that was interrupted.
    ///
    /// # Errors
    /// When they are missing or damaged.
    pub fn signing_keys(&self) -> anyhow::Result<Vec<SigningKey>> {
        self.check()?;
        let path = self.0.join(SIGNING_KEY);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read the signing key {}", path.display()))?;
        let damaged = || format!("the signing key {} is damaged", path.display());
        let mut keys = Vec::new();
        for line in text.lines() {
            let (id, seed) = line.trim().split_once(' ').with_context(damaged)?;
            let mut bytes = [0; 32];
            hex::decode_to_slice(seed, &mut bytes).ok().with_context(damaged)?;
            let key = SigningKey::from_seed(&bytes);
            if key.public_key().id().to_string() != id {
                bail!("{}: it is not the key it says it is", damaged());
            }
            keys.push(key);
        }
        if keys.is_empty() {
            bail!("{}: it is empty", damaged());
        }
        Ok(keys)
    }

    /// Has the files say what the register says: the key that signs, and the keys that machines may trust.
    ///
    /// # Errors
    /// What the system says.
    pub fn agree(&self, signing: &SigningKey, all: &[PublicKey]) -> anyhow::Result<()> {
        // The public keys for new management nodes, the newest last.
        let public: String = all.iter().map(|key| format!("{key}\n")).collect();
        let path = self.vendor_key();
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&public) {
            write_public(&path, public.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if self.signing_keys()?.len() > 1 { self.write_signing_keys(&[signing]) } else { Ok(()) }
    }

    /// Writes the signing keys in one step.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_signing_keys(&self, keys: &[&SigningKey]) -> anyhow::Result<()> {
        write_keys(&self.0, keys)
    }

    /// Reads the TLS certificate.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn server(&self) -> anyhow::Result<Credentials> {
        Ok(Credentials::load(&self.0, SERVER)?)
    }
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

fn write_keys(folder: &Path, keys: &[&SigningKey]) -> anyhow::Result<()> {
    let line = |key: &&SigningKey| format!("{} {}\n", key.public_key().id(), hex::encode(key.seed()));
    let text: String = keys.iter().map(line).collect();
    write_secret(&folder.join(SIGNING_KEY), text.as_bytes()).context("cannot write the signing key")
}

fn make_parts(folder: &Path, names: &[String]) -> anyhow::Result<PublicKey> {
    let (mut generation, mut seed) = ([0; 8], [0; 32]);
    getrandom::fill(&mut generation).context("the system gives no random numbers")?;
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    drop(DiskLog::create(&folder.join(LOG), u64::from_be_bytes(generation))?);
    let key = SigningKey::from_seed(&seed);
    write_keys(folder, &[&key])?;
    let key = key.public_key();
    let authority = tls::make_authority(&format!("licensing server {}", key.id()))?;
    authority.save(folder, AUTHORITY)?;
    tls::issue_server(&authority, "licensing-server", names)?.save(folder, SERVER)?;
    write_public(&folder.join(VENDOR_KEY), format!("{key}\n").as_bytes())?;
    Ok(key)
}
