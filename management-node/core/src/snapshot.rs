//! The events that rebuild a pool from nothing.

use headroom_core::Shared;

use crate::event::{Event, Part};
use crate::state::Pool;

fn restored(part: Part) -> Event {
    Event::Restored(Box::new(part))
}

impl Pool {
    /// The events that rebuild this state: equal to it, and not only equivalent.
    pub fn snapshot(&self) -> impl Iterator<Item = Event> + Send + '_ {
        let identity = self.fingerprint.iter().cloned().map(Event::Identified);
        let licenses =
            self.licenses.iter().map(|(id, l)| restored(Part::License(id.clone(), Shared::clone(l))));
        let nodes = self.nodes.iter().map(|(name, n)| restored(Part::Node(name.clone(), Shared::clone(n))));
        let certificates =
            self.certificates.iter().map(|(hash, n)| restored(Part::Certificate(*hash, n.clone())));
        let leases = self.leases.packed().map(|packed| Event::LeaseRestored(packed.clone()));
        let reserved = self.reserved.iter().map(|key| restored(Part::Reserved(key.clone())));
        let holders = self.holders.iter().map(|(id, h)| restored(Part::Holder(*id, Shared::clone(h))));
        let usage = self.usage.iter().map(|(feature, u)| restored(Part::Usage(feature.clone(), *u)));
        let reported = self.reported.iter().map(|key| restored(Part::Reported(key.clone())));
        let tombstones =
            self.tombstones.iter().map(|(key, t)| restored(Part::Tombstone(key.clone(), t.clone())));
        let denials = self.denials.iter().map(|(n, d)| restored(Part::Denial(*n, Shared::clone(d))));
        let minutes =
            self.minutes.iter().map(|((minute, reason), n)| restored(Part::Minute(*minute, *reason, *n)));
        let ended = self.ended.iter().map(|(n, e)| restored(Part::Ended(*n, e.clone())));
        let rollback = self.rollback.iter().map(|rollback| restored(Part::Rollback(rollback.clone())));
        let site = std::iter::once_with(|| restored(Part::Site(self.site.clone())));
        let requests = self.requests.values().map(|open| restored(Part::Request(Shared::clone(open))));
        let clock = self.clock.iter().map(|clock| restored(Part::Clock(*clock)));
        let test_mode = std::iter::once_with(|| restored(Part::TestMode(self.test_mode)));
        let alarms = self.alarm_book.iter().map(|(key, a)| restored(Part::Alarm(key.clone(), a.clone())));
        let notes = self.all_notes().map(|(n, note)| restored(Part::Note(*n, Shared::clone(note))));
        let counters = std::iter::once_with(|| restored(Part::Counters(self.counters)));
        identity
            .chain(licenses)
            .chain(nodes)
            .chain(certificates)
            .chain(leases)
            .chain(reserved)
            .chain(holders)
            .chain(usage)
            .chain(reported)
            .chain(tombstones)
            .chain(denials)
            .chain(minutes)
            .chain(ended)
            .chain(rollback)
            .chain(site)
            .chain(requests)
            .chain(clock)
            .chain(test_mode)
            .chain(alarms)
            .chain(notes)
            .chain(counters)
    }
}
