//! Asks the platform to end legs that may not run: no license is left for them, or an administrator wants them
//! ended. They count until the platform tells that they have ended.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use headroom_core::LegId;
use headroom_shared::https::{self, HttpsError};
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::revocations::revocations;

/// Most requests at a time.
const AT_A_TIME: usize = 16;
/// The header that says why: the word of a denial, or `revoked`.
const REASON: &str = "headroom-reason";
const REVOKED: &str = "revoked";

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub enum DisconnectError {
    /// No address.
    #[error(
        "disconnect: `{given}` is no address: write https://USER:PASSWORD@HOST/PATH; http only with a loopback address"
    )]
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
    /// Legs that are being disconnected, and why.
    wanted: Mutex<HashMap<LegId, &'static str>>,
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
    let here = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let good = match url.scheme() {
        "https" => url.has_host(),
        // A password is not sent in the clear.
        "http" => here.is_some_and(|address| address.is_loopback()),
        _ => false,
    };
    if good { Ok(url) } else { Err(wrong()) }
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

    /// Has a leg disconnected. When that is under way for want of a license, an
    /// administrator's wish becomes the reason.
    pub(crate) fn want(&self, leg: LegId, reason: &'static str) {
        let mut wanted = self.wanted();
        let under_way = wanted.contains_key(&leg);
        if !under_way || reason == REVOKED {
            wanted.insert(leg.clone(), reason);
        }
        drop(wanted);
        if under_way {
            return;
        }
        let this = self.clone();
        let end = self.0.agent.shutdown().wait();
        tokio::spawn(async move {
            tokio::select! {
                () = this.disconnect(&leg) => {}
                () = end => {}
            }
            this.wanted().remove(&leg);
        });
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<LegId, &'static str>> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn disconnect(&self, leg: &LegId) {
        let Shared { agent, http, url, room, .. } = &*self.0;
        let body = serde_json::json!({ "participant_id": leg.as_str() }).to_string();
        for wait in https::WAITS {
            let Some(reason) = self.wanted().get(leg).copied() else { return };
            if !agent.view().state.legs.contains_key(leg) {
                return;
            }
            // Never closed.
            let permit = room.acquire().await;
            let posted = https::post(http.post(url.clone()).header(REASON, reason), body.clone()).await;
            drop(permit);
            let Err(why) = posted else {
                tracing::info!(%leg, reason, "disconnected");
                // The platform knows of it, whatever it was told as the reason.
                return agent.told(vec![leg.clone()]);
            };
            tracing::warn!(%leg, reason, why, "a leg could not be disconnected");
            tokio::time::sleep(Duration::from_secs(wait)).await;
        }
        tracing::error!(%leg, "a leg was not disconnected and runs on");
    }
}
