//! Once a day the licensing server is asked what has changed, and what could not be sent is sent again.

use std::sync::Arc;
use std::time::Duration;

use headroom_core::activation::Wish;
use headroom_shared::committer::Handle;
use headroom_shared::rpc::Shutdown;
use management_core::PoolMachine;

use super::{Licensing, Settled};

/// After a start, and when the server could not be reached, it is tried again after so long at most.
const AGAIN: Duration = Duration::from_secs(3600);
const FIRST: Duration = Duration::from_secs(60);

/// Refreshes until told to end. Each wait is up to a tenth shorter or longer, so that many do not ask at once.
pub(crate) async fn run(
    licensing: Arc<Licensing>,
    pool: Handle<PoolMachine>,
    every: Duration,
    shutdown: Shutdown,
) {
    let mut wait = every.min(FIRST);
    while licensing.address().is_some() {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(spread(wait)) => {}
        }
        wait = if once(&licensing, &pool).await { every } else { every.min(AGAIN) };
    }
}

/// Whether everything that was asked was answered.
async fn once(licensing: &Licensing, pool: &Handle<PoolMachine>) -> bool {
    let state = &pool.view().state;
    let mut answered = true;
    for open in state.requests.values().filter(|open| !open.manual) {
        match licensing.send(open.clone()).await {
            Ok(Settled::Applied(applied)) => {
                tracing::info!(outcome = ?applied.outcome, "stored request answered")
            }
            Ok(Settled::Stored(_)) => answered = false,
            Err(error) => {
                tracing::warn!(%error, "a stored request was not answered");
                answered = false;
            }
        }
    }
    // A machine that the server never heard of has nothing to refresh.
    if state.site.certificate.is_some()
        && let Err(error) = licensing.ask(Wish::Refresh, false).await
    {
        tracing::warn!(%error, "licenses were not refreshed");
        answered = false;
    }
    answered
}

fn spread(wait: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness everybody waits alike, which is no reason not to wait.
    let _ = getrandom::fill(&mut random);
    wait.mul_f64(0.9 + 0.2 * f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX))
}
