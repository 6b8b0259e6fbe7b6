//! How each event changes the state, with everything that is kept along with it.

use std::sync::Arc;

use headroom_core::call::RunningLeg;
use headroom_core::{CallId, Charge, LeaseId, LegId, Millis};

use crate::dead::{Dead, DeadIds};
use crate::event::{Event, NewLeg, PastEvent, PastKind, Which, Why};
use crate::state::{Ending, LegRecord, MAX_PAST, Nonce, State};
use crate::weight::{self, Weigh};
use headroom_core::time::BootId;

impl State {
    /// Applies an event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Started { nonce, boot_id } => self.started(*nonce, *boot_id),
            Event::Named { node } => self.counters.node = Some(node.clone()),
            Event::Opening { number } => self.counters.open_number = *number,
            Event::Clock { grace } => self.counters.grace = *grace,
            Event::Seen { position } => self.counters.seen = *position,
            Event::Granted { info, legs, at } => {
                self.counters.revision += 1;
                for leg in legs {
                    self.granted(info, leg, *at);
                }
            }
            Event::Confirmed { legs } => {
                for leg in legs {
                    self.undelivered.remove(leg);
                    self.unconfirmed.remove(leg);
                    self.doubtful.remove(leg);
                }
            }
            Event::Changed { leg, media, charge } => {
                if let Some(mut record) = self.take(leg) {
                    record.running.leg.media = *media;
                    record.running.charge = charge.clone();
                    self.put(record);
                }
            }
            Event::Redescribed { info, leg, charge } => {
                if let Some(mut record) = self.take(&leg.leg) {
                    let running = &mut record.running;
                    (running.info, running.leg, running.charge) = (info.clone(), leg.clone(), charge.clone());
                    record.redescribed = true;
                    self.put(record);
                }
            }
            Event::Held { which, call, held, lease } => self.held(which, call, held.as_ref(), *lease),
            Event::Ended { legs, why, at, boot, unheard } => {
                for leg in legs {
                    self.ended(leg, *why, *at, *boot, *unheard);
                }
            }
            Event::Released { legs } => {
                for which in legs {
                    if self.ending.get(&which.leg).is_some_and(|e| e.revision == which.revision) {
                        self.take_ending(&which.leg);
                    }
                }
            }
            Event::Unheld { which } => {
                if let Some(ending) = self.ending.get(&which.leg).cloned()
                    && ending.revision == which.revision
                {
                    self.put_ending(&which.leg, Ending { held: None, ..(*ending).clone() });
                }
            }
            Event::Revoked { legs } => {
                for leg in legs {
                    if let Some(mut record) = self.take(leg) {
                        record.revoked = true;
                        record.held = None;
                        record.lease = None;
                        self.put(record);
                    }
                }
            }
            Event::Told { legs } => {
                for leg in legs {
                    if let Some(mut record) = self.take(leg) {
                        record.told = true;
                        self.put(record);
                    }
                }
            }
            Event::Denied { call, reason, at } => {
                self.note_past(*at, PastKind::Denied { call: call.clone(), reason: *reason });
            }
            Event::PastRecorded { number } => {
                while let Some(first) = self.past.get_min().map(|(first, _)| *first).filter(|n| n <= number) {
                    self.drop_past(first);
                }
            }
            Event::PastWithdrawn { number } => self.drop_past(*number),
            Event::Draining { on } => self.counters.draining = *on,
            Event::Counters { counters } => self.counters = counters.clone(),
            Event::Heard { source, heard } => {
                self.feeds.insert(source.clone(), *heard);
            }
            Event::Doubted { source } => {
                let legs = self.legs.values().filter(|record| record.source() == source);
                self.doubtful.extend(legs.map(|record| record.id().clone()));
            }
            Event::Leg { record, undelivered, unconfirmed, doubtful } => {
                self.put(record.clone());
                if *undelivered {
                    self.undelivered.insert(record.id().clone());
                }
                if *unconfirmed {
                    self.unconfirmed.insert(record.id().clone());
                }
                if *doubtful {
                    self.doubtful.insert(record.id().clone());
                }
            }
            Event::Ending { leg, ending } => self.put_ending(leg, ending.clone()),
            Event::Dead { leg, boot, stranger, supposed } => {
                self.dead.put(leg, Dead { at: *boot, stranger: *stranger, supposed: *supposed })
            }
            Event::Past { event } => {
                self.keep_past(event.clone());
            }
        }
    }

    fn started(&mut self, nonce: Nonce, boot_id: BootId) {
        self.counters.predecessor = self.counters.nonce;
        self.counters.nonce = Some(nonce);
        if self.counters.boot_id != boot_id {
            // The time since boot began again, and so did every media server on this machine.
            self.dead = DeadIds::default();
        }
        self.counters.boot_id = boot_id;
        for leg in std::mem::take(&mut self.undelivered) {
            self.unconfirmed.insert(leg);
        }
    }

    fn granted(&mut self, info: &headroom_core::CallInfo, leg: &NewLeg, at: Millis) {
        let record = LegRecord {
            running: RunningLeg {
                info: info.clone(),
                leg: leg.leg.clone(),
                charge: leg.charge.clone(),
                admitted_at: at,
            },
            held: leg.held.clone(),
            lease: leg.lease,
            revoked: false,
            told: false,
            revision: self.counters.revision,
            redescribed: false,
        };
        self.undelivered.insert(record.id().clone());
        self.put(record);
    }

    fn held(&mut self, which: &Which, call: &CallId, held: Option<&Charge>, lease: Option<LeaseId>) {
        if self.legs.get(&which.leg).is_some_and(|r| r.revision == which.revision) {
            if let Some(mut record) = self.take(&which.leg) {
                record.held = held.cloned();
                record.redescribed = false;
                record.lease = held.and(lease.or(record.lease));
                self.put(record);
            }
        } else {
            if self.ending.get(&which.leg).is_some_and(|e| e.revision == which.revision) {
                self.take_ending(&which.leg);
            }
            if let Some(held) = held {
                let ending =
                    Ending { call: call.clone(), held: Some(held.clone()), revision: which.revision };
                self.put_ending(&which.leg, ending);
            }
        }
    }

    fn ended(&mut self, leg: &LegId, why: Why, at: Millis, boot: Millis, unheard: bool) {
        let record = self.take(leg);
        self.dead.ended(leg, boot, record.is_some(), why);
        if let Some(record) = record {
            self.undelivered.remove(leg);
            self.unconfirmed.remove(leg);
            self.doubtful.remove(leg);
            let unheld = record.held.is_none() && !record.revoked;
            // A replaced leg is released even when its unit has moved already: that is no error, and
            // a pool that did not move it hears of the end this way. Where the end of an earlier leg of its id is
            // still to be told, that one says it, and its lease stays in the books until then.
            if !unheld || (why == Why::Replaced && !self.ending.contains_key(leg)) {
                let (call, held) = (record.call().clone(), record.held.clone());
                self.put_ending(leg, Ending { call, held, revision: record.revision });
            }
            if unheld && unheard && why != Why::Unconfirmed {
                self.note_past(at, PastKind::Ended { leg: record.running });
            }
        }
    }

    fn note_past(&mut self, at: Millis, what: PastKind) {
        self.counters.past += 1;
        let number = self.counters.past;
        self.keep_past(PastEvent { number, at, what });
        while self.past.len() > MAX_PAST || self.past_weight > weight::PAST {
            match self.past.get_min().map(|(first, _)| *first) {
                Some(first) if first != number => {
                    self.drop_past(first);
                    self.counters.past_dropped += 1;
                }
                _ => break,
            }
        }
    }

    fn keep_past(&mut self, event: PastEvent) {
        self.drop_past(event.number);
        self.past_weight += event.weight();
        self.past.insert(event.number, Arc::new(event));
    }

    fn drop_past(&mut self, number: u64) {
        if let Some(event) = self.past.remove(&number) {
            self.past_weight -= event.weight();
        }
    }

    /// Takes a running leg out of the map and of everything that is kept along with it.
    fn take(&mut self, leg: &LegId) -> Option<LegRecord> {
        let record = Arc::unwrap_or_clone(self.legs.remove(leg)?);
        self.unsettled.remove(leg);
        self.revoked.remove(leg);
        if !record.revoked {
            self.running_set.remove(leg, record.call(), &record.running.charge);
        }
        if let Some(held) = &record.held {
            self.held_set.remove(leg, record.call(), held);
        }
        if let Some(legs) = self.calls.get_mut(record.call()) {
            legs.remove(leg);
            if legs.is_empty() {
                self.calls.remove(record.call());
            }
        }
        if let Some(count) = self.sources.get_mut(record.source()) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(record.source());
            }
        }
        Some(record)
    }

    fn put(&mut self, record: LegRecord) {
        let leg = record.id().clone();
        self.take(&leg);
        if record.unsettled() {
            self.unsettled.insert(leg.clone());
        }
        if record.revoked {
            self.revoked.insert(leg.clone());
        } else {
            self.running_set.add(&leg, record.call(), &record.running.charge);
        }
        if let Some(held) = &record.held {
            self.held_set.add(&leg, record.call(), held);
        }
        self.calls.entry(record.call().clone()).or_default().insert(leg.clone());
        *self.sources.entry(record.source().clone()).or_default() += 1;
        self.legs.insert(leg, Arc::new(record));
    }

    fn take_ending(&mut self, leg: &LegId) -> Option<Arc<Ending>> {
        let ending = self.ending.remove(leg)?;
        if let Some(held) = &ending.held {
            self.held_set.remove(leg, &ending.call, held);
        }
        Some(ending)
    }

    fn put_ending(&mut self, leg: &LegId, ending: Ending) {
        self.take_ending(leg);
        if let Some(held) = &ending.held {
            self.held_set.add(leg, &ending.call, held);
        }
        self.ending.insert(leg.clone(), Arc::new(ending));
    }
}
