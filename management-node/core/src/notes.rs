//! The support log: what happened that somebody may ask about later, beside the denials, which are kept
//! in full of their own. It is part of the books, so it is there after a restart.

use headroom_core::{Millis, Shared, Text};
use minicbor::{Decode, Encode};

use crate::event::Event;
use crate::state::Pool;

/// Most lines about alarms, and most others, that are kept; the newest.
pub const MAX_NOTES: usize = 10_000;
const ALARM: &str = "alarm";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Note {
    /// When.
    #[n(0)]
    pub at: Millis,
    /// What it is about: `license`, `request`, `alarm`, `node`, `store`, `clock`, `test_mode`.
    #[n(1)]
    pub about: Text,
    /// One sentence.
    #[n(2)]
    pub text: Text,
}

impl Pool {
    /// Keeps what is worth a line, before the event changes anything.
    pub(crate) fn note(&mut self, event: &Event) {
        let (at, about, text) = match event {
            Event::LicenseInstalled(installed) => {
                let id = &installed.document.license;
                if self.licenses.contains_key(id) {
                    (installed.document.issued_at, "license", format!("license {id} changed"))
                } else {
                    (installed.at, "license", format!("license {id} installed"))
                }
            }
            Event::LicenseRemoved { license, left, at } => {
                (*at, "license", format!("license {license}: {}", left.text()))
            }
            Event::Requested(open) => {
                let request = &open.request;
                let text = format!("request {} made: {}", request.sequence, request.wish.word());
                (request.created_at, "request", text)
            }
            Event::RequestClosed { nonce, outcome, at } => {
                let Some(open) = self.requests.get(nonce) else { return };
                let request = &open.request;
                let text = format!("request {} ({}): {outcome}", request.sequence, request.wish.word());
                (*at, "request", text)
            }
            Event::ClockSet { clock, leap } if leap.0.abs() >= Millis::MINUTE.0 => {
                let (by, to) = (leap.0 / 1000, clock.mark);
                (to, "clock", format!("license time leapt by {by} s"))
            }
            Event::TestModeOn { at, .. } => (*at, "test_mode", "test mode is on for 8 hours".to_owned()),
            Event::TestModeOff { at, by_itself } => {
                let how = if *by_itself { "its 8 hours are over" } else { "by command" };
                (*at, "test_mode", format!("test mode is off: {how}"))
            }
            Event::AlarmRaised { key, text, at, quiet: false } => {
                (*at, ALARM, format!("raised {} {}: {text}", key.name, key.subject))
            }
            Event::AlarmCleared { key, at, quiet: false } => {
                (*at, ALARM, format!("cleared {} {}", key.name, key.subject))
            }
            Event::NodeAdded { node, at, .. } => (*at, "node", format!("node {node} added")),
            Event::NodeRemoved { node, at } => (*at, "node", format!("node {node} removed")),
            Event::SessionLapsed { holder, leases, at: Some(at) } => {
                let node = self.node_of(*holder).map(|node| node.to_string()).unwrap_or_default();
                (*at, "node", format!("session of {node} lapsed, {leases} leases returned"))
            }
            Event::RolledBack(found) => {
                let text =
                    format!("the store stood at record {} and a node had seen {}", found.here, found.seen);
                (found.at, "store", text)
            }
            _ => return,
        };
        let note = Note { at, about: Text::clipped(about), text: Text::clipped(&text) };
        self.counters.note += 1;
        self.put_note(self.counters.note, &Shared::new(note));
    }

    /// Keeps a line. Alarms have a bound of their own: thousands of nodes can raise them at once.
    pub(crate) fn put_note(&mut self, number: u64, note: &Shared<Note>) {
        let alarm = note.about.as_str() == ALARM;
        let notes = if alarm { &mut self.alarm_notes } else { &mut self.notes };
        notes.insert(number, Shared::clone(note));
        while notes.len() > MAX_NOTES
            && let Some(oldest) = notes.get_min().map(|(number, _)| *number)
        {
            notes.remove(&oldest);
        }
    }

    /// Every line, alarms first; each kind in the order of its numbers.
    pub fn all_notes(&self) -> impl Iterator<Item = (&u64, &Shared<Note>)> {
        self.alarm_notes.iter().chain(self.notes.iter())
    }
}
