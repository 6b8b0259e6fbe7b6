//! Posts alarms to a receiver as JSON. It follows what is durable, beside the path of requests. An alarm
//! that is on when the service starts is posted again: what happened between the last post and an end of
//! the process is not lost, and a receiver knows alarms by name and subject. So is what was cleared in the
//! hour before.

use std::time::Duration;

use headroom_core::Millis;
use headroom_core::time::Clock;
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::Handle;
use headroom_shared::https;
use management_core::{AlarmKey, Event, PoolMachine};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::licensing::ClientError;

/// What was cleared so long before a start is told again.
const RETOLD: Millis = Millis::HOUR;

/// A receiver of alarms.
pub(crate) struct Webhook {
    http: reqwest::Client,
    url: reqwest::Url,
}

fn post(state: &str, key: &AlarmKey, text: &str, at: i64) -> Value {
    json!({
        "alarm": key.name.as_str(),
        "subject": key.subject.as_str(),
        "state": state,
        "text": text,
        "at_ms": at,
    })
}

impl Webhook {
    /// A receiver at an address; none when it is empty.
    ///
    /// # Errors
    /// [`ClientError`] names the setting.
    pub(crate) fn new(address: &str, proxy: &str) -> Result<Option<Self>, ClientError> {
        if address.is_empty() {
            return Ok(None);
        }
        let wrong = || ClientError::Address { key: "alarm_webhook", given: address.to_owned() };
        let url: reqwest::Url = address.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(wrong());
        }
        Ok(Some(Self { http: https::client(None, proxy)?, url }))
    }

    /// Posts until the service ends.
    pub(crate) async fn run(self, pool: Handle<PoolMachine>) {
        let mut events = pool.events();
        let mut heard = Millis(SystemClock.now().wall.0 - RETOLD.0);
        self.catch_up(&pool, heard).await;
        loop {
            match events.recv().await {
                Ok(committed) => {
                    heard = committed.time;
                    for event in &committed.events {
                        match event {
                            Event::AlarmRaised { key, text, at, quiet: false } => {
                                self.send(&post("raised", key, text.as_str(), at.0)).await;
                            }
                            Event::AlarmCleared { key, at, quiet: false } => {
                                self.send(&post("cleared", key, "", at.0)).await
                            }
                            _ => {}
                        }
                    }
                }
                // While a receiver was away more happened than is kept.
                Err(RecvError::Lagged(_)) => self.catch_up(&pool, heard).await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Tells what is on, and what was cleared since a time.
    async fn catch_up(&self, pool: &Handle<PoolMachine>, since: Millis) {
        let book = pool.view().state.alarm_book.clone();
        for (key, record) in &book {
            match record.cleared_at {
                None => self.send(&post("raised", key, record.text.as_str(), record.raised_at.0)).await,
                Some(at) if at >= since => self.send(&post("cleared", key, "", at.0)).await,
                Some(_) => {}
            }
        }
    }

    async fn send(&self, body: &Value) {
        for wait in https::WAITS {
            let request = self.http.post(self.url.clone());
            let Err(why) = https::post(request, body.to_string()).await else { return };
            tracing::warn!(why, "the alarm's receiver did not take it");
            tokio::time::sleep(Duration::from_secs(wait)).await;
        }
        tracing::error!(alarm = %body, "an alarm was not taken by its receiver and is given up");
    }
}
