//! Waiting for something to come about: looking again and again, with a deadline.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::{Error, Result};

/// How often is looked again.
const PAUSE: Duration = Duration::from_millis(50);

/// One look: what was looked for, or a description of what is there instead.
pub type Look<T> = std::result::Result<T, String>;

/// Looks until `look` finds what it wants, at most for `limit`.
///
/// # Errors
/// [`Error::Timeout`] with what was seen last.
pub async fn until<T>(
    what: impl Display,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Look<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        // a look that hangs counts as seeing nothing
        let seen = match tokio::time::timeout_at(deadline.max(Instant::now() + PAUSE), look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => seen,
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(Error::Timeout { what: what.to_string(), waited: limit, seen });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
