//! The office: reads requests, has the register decide, signs what is durable.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use headroom_core::activation::{RequestError, read_request, write_answer};
use headroom_core::license::{LicenseDocument, SignedLicense, SigningKey};
use headroom_core::signed::{Signed, Succession, sign};
use headroom_core::time::Clock;
use headroom_core::{Millis, Text};
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::{self, Committer, Handle, SubmitError};
use licensing_core::{AnswerDraft, Command, Fresh, KnownKey, Refusal, Register, Reply, Source, State};
use tokio::sync::{Mutex, watch};

use crate::folder::Folder;

/// How long a command may wait to be decided.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a trial lasts, in months.
const TRIAL_MONTHS: i64 = 3;

/// Why a machine's request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It is no request, or not signed by its machine.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Too many requests from there have failed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The register is overloaded or stopped.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A defect.
    #[error("the answer cannot be made: {0}")]
    Defect(String),
}

struct Inner {
    folder: Folder,
    register: Handle<Register>,
    key: watch::Sender<SigningKey>,
    rotating: Mutex<()>,
    clock: Arc<dyn Clock>,
}

/// Decides and signs. Cheap to clone.
#[derive(Clone)]
pub struct Office(Arc<Inner>);

/// What made of an address: failures are counted by it.
#[must_use]
pub fn network(address: Option<IpAddr>) -> Source {
    Source::Network(Text::clipped(&address.map_or_else(|| "unknown".into(), |address| address.to_string())))
}

/// What comes by the vendor's own hand.
#[must_use]
pub fn by_hand() -> Source {
    Source::Vendor(Text::clipped("file"))
}

impl Office {
    /// Opens the register of a folder, in this process.
    ///
    /// # Errors
    /// When the folder is not usable, for example because a service uses it.
    pub async fn open(folder: &Folder) -> anyhow::Result<(Self, Committer)> {
        let (keys, log) = (folder.signing_keys()?, folder.log()?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (register, committer) =
            committer::start::<Register>(log, Arc::clone(&clock), committer::Options::default())
                .context("cannot recover the register")?;
        let newest = register.view().state.keys.back().map(|known| known.key.id());
        let key = match newest {
            // One that is in the file only was made by a rotation that did not come to its end.
            Some(newest) => {
                keys.into_iter().find(|key| key.public_key().id() == newest).with_context(|| {
                    format!(
                        "{} does not hold key {newest}, which the register signs with",
                        folder.path().display()
                    )
                })?
            }
            None => {
                let first = keys.into_iter().next().context("no signing key")?;
                let known =
                    KnownKey { key: first.public_key(), added_at: clock.now().wall, succession: None };
                register.submit(Command::AddKey(known)).await?;
                first
            }
        };
        // A rotation that was cut short is completed: what the files say follows from the register.
        folder.agree(&key, &register.view().state.keys.iter().map(|known| known.key).collect::<Vec<_>>())?;
        let (folder, key) = (folder.clone(), watch::Sender::new(key));
        let inner = Inner { folder, register, key, rotating: Mutex::new(()), clock };
        Ok((Self(Arc::new(inner)), committer))
    }

    /// The register as it is now.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.register.view().state.clone()
    }

    /// What a decision cannot have of itself.
    ///
    /// # Errors
    /// Without randomness.
    pub fn fresh(&self) -> anyhow::Result<Fresh> {
        let now = jiff::Timestamp::from_millisecond(self.0.clock.now().wall.0)?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).context("the system gives no random numbers")?;
        let end =
            now.to_zoned(jiff::tz::TimeZone::UTC).checked_add(jiff::Span::new().months(TRIAL_MONTHS))?;
        // Ids begin with the date, so that a list of them reads in order.
        let prefix = now.strftime("L%Y%m%d-").to_string();
        Ok(Fresh { prefix, random, trial_end: Millis(end.timestamp().as_millisecond()) })
    }

    /// Now, by the wall clock.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.0.clock.now().wall
    }

    /// Has the vendor's command carried out.
    ///
    /// # Errors
    /// [`Unanswered::Refused`] with what is wrong with it.
    pub async fn submit(&self, command: Command) -> Result<Reply, Unanswered> {
        match self.0.register.submit_within(command, PATIENCE).await?.reply {
            Reply::Refused(refusal) => Err(refusal.into()),
            reply => Ok(reply),
        }
    }

    /// Signs a license.
    ///
    /// # Errors
    /// When it is too large, which its limits exclude.
    pub fn sign(&self, document: LicenseDocument) -> Result<SignedLicense, Unanswered> {
        let signed = sign(document, &self.0.key.borrow());
        signed.map(|signed| signed.into_parts().1).map_err(|error| Unanswered::Defect(error.to_string()))
    }

    /// Answers a machine's request.
    ///
    /// # Errors
    /// [`Unanswered`]; what the register refuses is an answer.
    pub async fn answer(&self, xml: &[u8], source: Source) -> Result<String, Unanswered> {
        let request = match read_request(xml) {
            Ok(request) => request,
            Err(error) => {
                let why = Text::clipped(&error.to_string());
                self.submit(Command::Reject { source, why }).await?;
                return Err(error.into());
            }
        };
        let fresh = self.fresh().map_err(|error| Unanswered::Defect(error.to_string()))?;
        let digest = request.digest();
        let command = Command::Answer { request: Box::new(request), digest, source, fresh };
        match self.submit(command).await? {
            Reply::Answered(draft) => self.write(*draft),
            other => Err(Unanswered::Defect(format!("the register answered {other:?}"))),
        }
    }

    fn write(&self, draft: AnswerDraft) -> Result<String, Unanswered> {
        let answer =
            draft.sign(&self.0.key.borrow()).map_err(|error| Unanswered::Defect(error.to_string()))?;
        let successions: Vec<Signed<Succession>> =
            self.0.register.view().state.keys.iter().filter_map(|known| known.succession.clone()).collect();
        Ok(write_answer(&answer, &successions))
    }

    /// Makes a new signing key and signs with it from now on.
    ///
    /// The file holds both keys before the register knows the new one, and the new one alone after: an
    /// interruption leaves either a key that nobody uses or a key that nobody needs.
    ///
    /// # Errors
    /// When the key cannot be written, or the register refuses it.
    pub async fn rotate(&self) -> anyhow::Result<KnownKey> {
        let _alone = self.0.rotating.lock().await;
        let old = self.0.key.borrow().clone();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the system gives no random numbers")?;
        let new = SigningKey::from_seed(&seed);
        let (public, at) = (new.public_key(), self.now());
        let succession = sign(Succession { key: public, at }, &old)?.into_parts().1;
        self.0.folder.write_signing_keys(&[&old, &new])?;
        let known = KnownKey { key: public, added_at: at, succession: Some(succession) };
        self.submit(Command::AddKey(known.clone())).await?;
        self.0.key.send_replace(new.clone());
        let all: Vec<_> = self.state().keys.iter().map(|known| known.key).collect();
        self.0.folder.agree(&new, &all)?;
        Ok(known)
    }
}
