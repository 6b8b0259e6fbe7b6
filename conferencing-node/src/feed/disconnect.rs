//! Asks the platform to end legs that may not run: no license is left for them, or an administrator wants them
//! ended. They count until the platform tells that they have ended.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use headroom_core::LegId;
use headroom_shared::https::{self, HttpsError};
use headroom_shared::print::causes;
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::revocations::revocations;

/// Requests that fail are tried again, waiting twice as long each time, until the last.
const WAITS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Most requests at a time.
const AT_A_TIME: usize = 16;
/// The header that says why: the word of a denial, or `revoked`.
const REASON: &str = "headroom-reason";
const REVOKED: &str = "revoked";

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub enum DisconnectError {
    /// No address.
    #[error("disconnect: `{given}` is no address: write https://USER:PASSWORD@HOST/PATH")]
    Address {
        /// What was given, without its password.
        given: String,
    },
    /// No client.
    #[error(transparent)]
    Https(#[from] HttpsError),
}

/// Where legs are disconnected.
#[derive(Clone)]
pub(crate) struct Disconnects(Arc<Shared>);

struct Shared {
    agent: Arc<Agent>,
    http: reqwest::Client,
    url: reqwest::Url,
    /// Legs that are being disconnected.
    wanted: Mutex<HashSet<LegId>>,
    room: Semaphore,
}

/// The address requests are posted to.
///
/// # Errors
/// [`DisconnectError::Address`].
pub(crate) fn address(given: &str) -> Result<reqwest::Url, DisconnectError> {
    let wrong = || {
        // What is before the @ may be a password.
        let shown = given.rsplit_once('@').map_or(given, |(_, host)| host);
        DisconnectError::Address { given: shown.to_owned() }
    };
    let url: reqwest::Url = given.parse().map_err(|_| wrong())?;
    if matches!(url.scheme(), "https" | "http") && url.has_host() { Ok(url) } else { Err(wrong()) }
}

impl Disconnects {
    /// Begins, also for legs that administrators want ended.
    ///
    /// # Errors
    /// [`DisconnectError`] names the setting.
    pub(crate) fn start(
        agent: Arc<Agent>,
        given: &str,
        authority: Option<&Path>,
    ) -> Result<Self, DisconnectError> {
        let http = https::client(authority.map(|path| ("disconnect_authority", path)), "")?;
        let (wanted, room) = (Mutex::default(), Semaphore::new(AT_A_TIME));
        let disconnects = Self(Arc::new(Shared { agent, http, url: address(given)?, wanted, room }));
        tokio::spawn(disconnects.clone().follow());
        Ok(disconnects)
    }

    /// Legs of feeds that administrators want ended.
    async fn follow(self) {
        let mut revoked = std::pin::pin!(revocations(&self.0.agent, None, true));
        while let Some(revocation) = revoked.next().await {
            if self.0.agent.view().state.feeds.contains_key(&revocation.source) {
                self.want(revocation.leg, REVOKED);
            }
        }
    }

    /// Has a leg disconnected, unless that is under way.
    pub(crate) fn want(&self, leg: LegId, reason: &'static str) {
        let wanted = || self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if !wanted().insert(leg.clone()) {
            return;
        }
        let this = self.clone();
        let end = self.0.agent.shutdown().wait();
        tokio::spawn(async move {
            tokio::select! {
                () = this.disconnect(&leg, reason) => {}
                () = end => {}
            }
            this.0.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&leg);
        });
    }

    async fn disconnect(&self, leg: &LegId, reason: &'static str) {
        let Shared { agent, http, url, room, .. } = &*self.0;
        let body = serde_json::json!({ "participant_id": leg.as_str() }).to_string();
        for wait in WAITS {
            if !agent.view().state.legs.contains_key(leg) {
                return;
            }
            // Closed never.
            let permit = room.acquire().await;
            let request = http.post(url.clone()).header("content-type", "application/json");
            let why = match request.header(REASON, reason).body(body.clone()).send().await {
                Ok(response) if response.status().is_success() => {
                    tracing::info!(%leg, reason, "disconnected");
                    if reason == REVOKED {
                        agent.told(vec![leg.clone()]);
                    }
                    return;
                }
                Ok(response) => response.status().to_string(),
                // The address holds a secret.
                Err(error) => causes(&error.without_url()),
            };
            drop(permit);
            tracing::warn!(%leg, reason, why, "a leg could not be disconnected");
            tokio::time::sleep(Duration::from_secs(wait)).await;
        }
        tracing::error!(%leg, reason, "a leg was not disconnected and runs on");
    }
}
