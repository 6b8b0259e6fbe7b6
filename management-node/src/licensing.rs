//! Has requests answered by the licensing server: over the network, or by files that people carry.
//!
//! The pool keeps each request durably before anything of it leaves; here it is signed, sent and, when its
//! answer comes, verified and given back to the pool. Whatever is interrupted is asked again with the same
//! request, which gets the same answer.

mod client;
pub(crate) mod refresh;

use std::sync::Arc;

use headroom_core::activation::{AnswerError, MAX_XML, Wish, read_answer, write_request};
use headroom_core::license::{Nonce, SigningKey};
use headroom_core::signed::sign;
use headroom_core::{Shared, Text};
use headroom_shared::committer::{Handle, SubmitError};
use management_core::{Applied, Command, LicenseRequest, Mark, PoolMachine, Refusal, Reply, Wanted};
use tokio::sync::Mutex;

pub use client::{Client, ClientError};

use client::PostError;

use crate::deployment::Deployment;

/// How often a request is asked anew because the server's books were ahead.
const ATTEMPTS: usize = 3;
const SOFTWARE: &str = concat!("management-node ", env!("CARGO_PKG_VERSION"));

/// Why something asked of the licensing server came to nothing here.
#[derive(Debug, thiserror::Error)]
pub enum LicensingError {
    /// The pool refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The pool does not answer.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// What came is no answer that can be trusted.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// It was only worth something at once, and the server cannot be reached.
    #[error("the licensing server cannot be reached: {0}")]
    Unreachable(Text),
    /// Somebody else had it answered, or withdrew it.
    #[error("the request was settled meanwhile: see `license list`")]
    Meanwhile,
    /// A defect.
    #[error("{0}")]
    Defect(String),
}

/// What became of a wish.
#[derive(Debug)]
pub enum Settled {
    /// It was answered.
    Applied(Applied),
    /// It awaits its answer.
    Stored(Shared<LicenseRequest>),
}

/// Asks the licensing server.
pub struct Licensing {
    pool: Handle<PoolMachine>,
    deployment: Arc<Deployment>,
    key: SigningKey,
    client: Option<Client>,
    /// One exchange at a time, so that nobody applies what another is about to.
    exchange: Mutex<()>,
}

impl Licensing {
    /// With the key that this machine signs with, and with a client, or for files only.
    #[must_use]
    pub fn new(
        pool: Handle<PoolMachine>,
        deployment: Arc<Deployment>,
        key: SigningKey,
        client: Option<Client>,
    ) -> Self {
        Self { pool, deployment, key, client, exchange: Mutex::new(()) }
    }

    /// The licensing server's address, if one is configured.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.client.as_ref().map(Client::address)
    }

    async fn submit(&self, command: Command) -> Result<Reply, SubmitError> {
        Ok(self.pool.submit(command).await?.reply)
    }

    async fn requested(&self, command: Command) -> Result<Shared<LicenseRequest>, LicensingError> {
        match self.submit(command).await? {
            Reply::Requested(open) => Ok(open?),
            other => Err(LicensingError::Defect(format!("the pool answered {other:?}"))),
        }
    }

    /// Has a wish fulfilled: at once or, when the server cannot be reached or somebody carries it, later.
    ///
    /// # Errors
    /// [`LicensingError`].
    pub async fn ask(&self, wish: Wish, manual: bool) -> Result<Settled, LicensingError> {
        let wanted = Wanted {
            wish,
            nonce: draw()?,
            manual,
            machine: self.key.public_key(),
            software: Text::clipped(SOFTWARE),
        };
        let open = self.requested(Command::Request(wanted)).await?;
        if manual { Ok(Settled::Stored(open)) } else { self.send(open).await }
    }

    /// Sends a stored request.
    ///
    /// # Errors
    /// [`LicensingError`].
    pub async fn send(&self, open: Shared<LicenseRequest>) -> Result<Settled, LicensingError> {
        let _alone = self.exchange.lock().await;
        // As it is now: somebody else may have sent it while this one waited.
        let known = self.pool.view().state.requests.get(&open.request.nonce).cloned();
        let mut open = known.ok_or(LicensingError::Meanwhile)?;
        for _ in 0..ATTEMPTS {
            match self.exchange(&open).await? {
                Settled::Applied(Applied { renewed: Some(renewed), .. }) => open = renewed,
                Settled::Stored(stored) => return self.keep(stored).await,
                applied @ Settled::Applied(_) => return Ok(applied),
            }
        }
        Ok(Settled::Stored(open))
    }

    /// Keeps what can be answered later. To hear what is new is worth something only now.
    async fn keep(&self, stored: Shared<LicenseRequest>) -> Result<Settled, LicensingError> {
        if stored.manual || !matches!(stored.request.wish, Wish::Refresh | Wish::Fetch(_)) {
            return Ok(Settled::Stored(stored));
        }
        self.submit(Command::CancelRequest(stored.request.nonce)).await?;
        Err(LicensingError::Unreachable(stored.trouble.clone()))
    }

    async fn exchange(&self, open: &LicenseRequest) -> Result<Settled, LicensingError> {
        let nonce = open.request.nonce;
        let posted = match &self.client {
            None => Err(PostError::Unsent("no licensing server is configured (`licensing`)".into())),
            Some(client) => {
                let xml = self.xml(open)?;
                self.requested(Command::MarkRequest { nonce, mark: Mark::Sent }).await?;
                client.post(xml).await
            }
        };
        let mark = match posted {
            // Only what was never out before is answered with the time of now.
            Ok(xml) => return Ok(Settled::Applied(self.apply(&xml, !open.out()).await?)),
            // What may have been received once stays so, whatever became of it this time.
            Err(PostError::Unsent(why)) if open.sent => Mark::Unanswered(Text::clipped(&why)),
            Err(PostError::Unsent(why)) => Mark::Unsent(Text::clipped(&why)),
            Err(PostError::Unanswered(why)) => Mark::Unanswered(Text::clipped(&why)),
        };
        tracing::warn!(request = open.request.sequence, ?mark, "the licensing server did not answer");
        Ok(Settled::Stored(self.requested(Command::MarkRequest { nonce, mark }).await?))
    }

    /// The XML of a request, signed by this machine.
    ///
    /// # Errors
    /// When the request was made by another machine's key.
    fn xml(&self, open: &LicenseRequest) -> Result<String, LicensingError> {
        let key = &self.key;
        if open.request.machine != key.public_key() {
            let text = "the request was made with another machine key; cancel it and ask again";
            return Err(LicensingError::Defect(text.into()));
        }
        let signed = sign(open.request.clone(), key);
        signed.map(|signed| write_request(&signed)).map_err(|error| LicensingError::Defect(error.to_string()))
    }

    /// The XML of a request, for somebody who has it answered.
    ///
    /// # Errors
    /// [`Refusal::NoSuchRequest`].
    pub async fn export(&self, nonce: Nonce) -> Result<(String, Shared<LicenseRequest>), LicensingError> {
        // Durable first: what was shown cannot be taken back.
        let open = self.requested(Command::MarkRequest { nonce, mark: Mark::Exported }).await?;
        Ok((self.xml(&open)?, open))
    }

    /// Completes a request with the answer that somebody brought.
    ///
    /// # Errors
    /// [`LicensingError`] says why it is not applied.
    pub async fn complete(&self, xml: &[u8]) -> Result<Settled, LicensingError> {
        let _alone = self.exchange.lock().await;
        let applied = self.apply(xml, false).await?;
        Ok(match &applied.renewed {
            Some(renewed) => Settled::Stored(Shared::clone(renewed)),
            None => Settled::Applied(applied),
        })
    }

    async fn apply(&self, xml: &[u8], just_now: bool) -> Result<Applied, LicensingError> {
        let trusted = self.pool.view().state.trusted(self.deployment.vendors());
        let answer = Box::new(read_answer(&xml[..xml.len().min(MAX_XML + 1)], &trusted)?);
        match self.submit(Command::ApplyAnswer { answer, just_now, again: draw()? }).await? {
            Reply::Applied(applied) => Ok((*applied)?),
            other => Err(LicensingError::Defect(format!("the pool answered {other:?}"))),
        }
    }

    /// Whether the licensing server can be reached, for the check-up.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn reach(&self) -> Result<(), String> {
        match &self.client {
            None => Err("no licensing server is configured".into()),
            Some(client) => client.reach().await,
        }
    }
}

fn draw() -> Result<Nonce, LicensingError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| LicensingError::Defect(error.to_string()))?;
    Ok(Nonce(random))
}
