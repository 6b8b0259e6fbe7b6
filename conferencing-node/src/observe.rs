//! The node as metrics.

use std::sync::Arc;

use conferencing_core::status::Contact;
use headroom_core::Millis;
use headroom_shared::metrics::Sample;

use crate::agent::Agent;

/// Takes a sample of the node's status; an empty one when it is ending.
pub(crate) async fn sample(agent: Arc<Agent>) -> Sample {
    let sample = Sample::default();
    let Ok(status) = agent.status().await else { return sample };
    for contact in [Contact::In, Contact::Out, Contact::NotEnrolled, Contact::GraceExpired] {
        let labels = [("state", contact.word())];
        let on = u64::from(contact == status.contact);
        sample.gauge("headroom_node_contact", "1 for how the node stands to the pool.", &labels, on);
    }
    let seconds = |span: Millis| span.0.unsigned_abs() / 1000;
    let out = seconds(status.out_of_contact);
    sample.gauge("headroom_node_out_of_contact_seconds", "Time since the last contact.", &[], out);
    let left = seconds(status.grace_left);
    sample.gauge("headroom_node_grace_left_seconds", "Time the node may still decide alone.", &[], left);
    sample.gauge("headroom_node_legs", "Legs that run.", &[], status.legs);
    let optimistic = "Legs granted by the node itself and not recorded by the pool.";
    sample.gauge("headroom_node_legs_optimistic", optimistic, &[], status.optimistic);
    sample.gauge("headroom_node_legs_revoked", "Legs an administrator wants ended.", &[], status.revoked);
    sample.gauge("headroom_node_outbox", "Ended legs not taken back by the pool yet.", &[], status.outbox);
    let dropped = "Past events dropped before the pool had recorded them.";
    sample.counter("headroom_node_past_events_dropped_total", dropped, &[], status.past_dropped);
    for feed in &status.feeds {
        let labels = [("source", feed.source.as_str())];
        let missed = "Events of a feed that were never heard, or could not be read.";
        sample.counter("headroom_feed_missed_total", missed, &labels, feed.missed);
        let in_doubt = "Legs whose end may have been among those.";
        sample.gauge("headroom_feed_legs_in_doubt", in_doubt, &labels, feed.in_doubt);
    }
    for alarm in &status.alarms {
        sample.gauge("headroom_alarm", "1 while the alarm is on.", &[("name", alarm.as_ref())], 1);
    }
    sample
}
