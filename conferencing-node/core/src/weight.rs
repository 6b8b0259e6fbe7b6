//! How much fits into one request: a cheap estimate of what an item weighs on the wire.
//!
//! The counts of items alone do not bound a message, because texts differ in length. The estimate
//! only has to be of the right order: transports take four times as much.

use headroom_core::call::{CallInfo, Leg, RunningLeg};
use headroom_core::{Call, Text};

use crate::event::{PastEvent, PastKind};

/// Most that a call may weigh. It is never split, so that what asks for it must stay below the 4 MiB
/// which the pool reads; an estimate is above the true size, but by how much is left open.
pub(crate) const CALL: usize = 3 << 20;
/// About so much goes into one request.
pub(crate) const REQUEST: usize = 1 << 20;
/// About so much is kept of what happened while the node decided alone.
pub(crate) const PAST: usize = 4 << 20;
/// Numbers, words and tags of one part.
const FIXED: usize = 64;
/// Tag and length of one text in a list.
const TAG: usize = 4;

/// Something that is sent to the pool.
pub(crate) trait Weigh {
    /// About how many bytes it takes.
    fn weight(&self) -> usize;
}

impl Weigh for CallInfo {
    fn weight(&self) -> usize {
        let texts = [&self.conference, &self.destination, &self.tenant].map(|text| text.as_str().len());
        FIXED + self.call.as_str().len() + self.source.as_str().len() + texts.into_iter().sum::<usize>()
    }
}

impl Weigh for Leg {
    fn weight(&self) -> usize {
        let texts = |texts: &[Text]| texts.iter().map(|text| TAG + text.as_str().len()).sum::<usize>();
        FIXED
            + self.leg.as_str().len()
            + self.participant.as_str().len()
            + self.owner.as_ref().map_or(0, |owner| owner.as_str().len())
            + self.replaces.as_ref().map_or(0, |old| old.as_str().len())
            + texts(&self.subjects)
            + texts(&self.needs)
    }
}

impl Weigh for Call {
    fn weight(&self) -> usize {
        self.info.weight() + self.legs.iter().map(Weigh::weight).sum::<usize>()
    }
}

impl Weigh for RunningLeg {
    fn weight(&self) -> usize {
        FIXED + self.info.weight() + self.leg.weight() + self.charge.feature.as_str().len()
    }
}

impl Weigh for PastEvent {
    fn weight(&self) -> usize {
        FIXED
            + match &self.what {
                PastKind::Denied { call, .. } => call.weight(),
                PastKind::Ended { leg } => leg.weight(),
            }
    }
}

/// The room left in a request. The first item always fits: one that never did would wait for good.
#[derive(Debug)]
pub(crate) struct Room {
    items: usize,
    bytes: usize,
    empty: bool,
}

impl Room {
    /// A request without items.
    pub(crate) const fn new(items: usize) -> Self {
        Self { items, bytes: REQUEST, empty: true }
    }

    /// Takes an item that counts as `items`, if there is room for it.
    pub(crate) fn take(&mut self, items: usize, item: &impl Weigh) -> bool {
        let weight = item.weight();
        let fits = self.empty || (items <= self.items && weight <= self.bytes);
        if fits {
            self.items = self.items.saturating_sub(items);
            self.bytes = self.bytes.saturating_sub(weight);
            self.empty = false;
        }
        fits
    }
}
