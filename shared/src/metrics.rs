//! `GET /metrics` for Prometheus, on loopback. Values are taken from the published state when they
//! are asked for, so there is nothing to keep up to date and nothing that can disagree with it.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusBuilder;

/// What Prometheus calls this text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One collection of values.
pub struct Sample {
    recorder: metrics_exporter_prometheus::PrometheusRecorder,
}

impl Default for Sample {
    fn default() -> Self {
        Self { recorder: PrometheusBuilder::new().build_recorder() }
    }
}

impl Sample {
    /// A value that goes up and down, with its meaning and labels.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn gauge(
        &self,
        name: &'static str,
        meaning: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        let labels = self::labels(labels);
        metrics::with_local_recorder(&self.recorder, || {
            metrics::describe_gauge!(name, meaning);
            metrics::gauge!(name, labels).set(value as f64);
        });
    }

    /// A value that only goes up, with its meaning and labels.
    pub fn counter(
        &self,
        name: &'static str,
        meaning: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        let labels = self::labels(labels);
        metrics::with_local_recorder(&self.recorder, || {
            metrics::describe_counter!(name, meaning);
            metrics::counter!(name, labels).absolute(value);
        });
    }

    /// The text for Prometheus.
    #[must_use]
    pub fn text(&self) -> String {
        self.recorder.handle().render()
    }
}

fn labels(labels: &[(&'static str, &str)]) -> Vec<metrics::Label> {
    labels.iter().map(|(key, value)| metrics::Label::new(*key, (*value).to_owned())).collect()
}

/// A route `/metrics` that collects anew for each request.
pub fn route<F, T>(collect: F) -> Router
where
    F: Fn() -> T + Send + Sync + 'static,
    T: Future<Output = Sample> + Send + 'static,
{
    let collect = Arc::new(collect);
    Router::new().route(
        "/metrics",
        get(move || {
            let collected = collect();
            async move { ([(CONTENT_TYPE, TEXT)], collected.await.text()) }
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn a_sample_reads_as_prometheus_text() {
        let sample = Sample::default();
        sample.gauge("headroom_units", "Units in use.", &[("feature", "call")], 7);
        sample.counter("headroom_denials_total", "Denials.", &[], 3);
        let text = sample.text();
        assert!(text.contains("headroom_units{feature=\"call\"} 7"), "{text}");
        assert!(text.contains("headroom_denials_total 3"), "{text}");
    }
}
