//! Who calls whom, and how: calls of all kinds, some that join others, name legs of other nodes, take over
//! from legs that run, or use the id of a leg that has ended.

use std::ops::Range;

use headroom_core::{
    Call, CallId, CallInfo, Direction, Interop, Leg, LegId, Media, Millis, NodeName, Protocol, Service,
    SourceId, Text,
};

use crate::world::World;

/// A leg that comes in by SIP, with audio and video.
#[must_use]
pub fn incoming(leg: LegId) -> Leg {
    Leg {
        leg,
        participant: Text::default(),
        protocol: Protocol::Sip,
        direction: Direction::In,
        media: Media::AUDIO_VIDEO,
        owner: None,
        replaces: None,
        subjects: Vec::new(),
        needs: Vec::new(),
    }
}

/// A call in a virtual meeting room.
#[must_use]
pub fn meeting(call: CallId, source: SourceId, legs: Vec<Leg>) -> Call {
    let (conference, destination, tenant) = (Text::default(), Text::default(), Text::default());
    let (service, interop) = (Service::Vmr, None);
    Call { info: CallInfo { call, service, interop, conference, destination, tenant, source }, legs }
}

impl World {
    /// A call as somebody might make it.
    pub(crate) fn draw_call(&mut self, at: usize, server: usize) -> Call {
        let number = self.nodes[at].next_name();
        let kind = self.dice.below(20);
        let (service, interop) = match kind {
            0 | 1 => (Service::Gateway, None),
            2 => (Service::Gateway, Some(Interop::Teams)),
            _ => (Service::Vmr, None),
        };
        let most = if service == Service::Gateway { 2 } else { self.plan.call_legs };
        let count = 1 + self.dice.index(most);
        let mut call = CallId::new(&format!("c{at}.{number}")).expect("a short id");
        // Others join a call that goes on.
        if service == Service::Vmr
            && self.dice.chance(300)
            && let Some(running) = self.nodes[at].servers[server].running.values().last()
            && running.info.service == Service::Vmr
        {
            call = running.info.call.clone();
        }
        let legs = (0..count).map(|_| self.draw_leg(at, server)).collect();
        let source = self.nodes[at].servers[server].source.clone();
        let mut call = meeting(call, source, legs);
        (call.info.service, call.info.interop) = (service, interop);
        if call.legs.len() == 2 && self.dice.chance(150) {
            call.legs[1].owner = self.other_node(at);
            if call.legs[1].owner.is_some() {
                call.legs[1].leg = LegId::new(&format!("f{at}.{number}")).expect("a short id");
            }
        }
        let running: Vec<LegId> = self.nodes[at].servers[server].running.keys().cloned().collect();
        if !running.is_empty() && self.dice.chance(60) {
            let replaced = self.dice.pick(&running).clone();
            call.legs[0].replaces = Some(replaced).filter(|old| call.legs.iter().all(|leg| leg.leg != *old));
        }
        call
    }

    fn other_node(&mut self, at: usize) -> Option<NodeName> {
        let other = self.dice.index(self.plan.nodes);
        Some(&self.nodes[other]).filter(|node| node.name != self.nodes[at].name).map(|node| node.name.clone())
    }

    /// Which ids of legs that have ended one is chosen from to be used again: by unruly ones mostly as soon as it
    /// is not dead any more.
    fn ids_to_reuse(&mut self, at: usize, server: usize) -> Range<usize> {
        let soon = self.plan.unruly() && self.dice.chance(700);
        let old = &self.nodes[at].servers[server].old;
        let ended_before = |span: Millis| old.partition_point(|(ended, _)| self.time.since(*ended) > span);
        if soon { ended_before(Millis::MINUTE.times(2))..ended_before(Millis::MINUTE) } else { 0..old.len() }
    }

    fn draw_leg(&mut self, at: usize, server: usize) -> Leg {
        let number = self.nodes[at].next_name();
        let mut leg = LegId::new(&format!("l{number}")).expect("a short id");
        let old = self.ids_to_reuse(at, server);
        if !old.is_empty() && self.dice.chance(if self.plan.unruly() { 400 } else { 30 }) {
            leg = self.dice.pick(&self.nodes[at].servers[server].old[old]).1.clone();
            // One whose end is not heard yet is not used again.
            let mine = &self.nodes[at].servers[server];
            if mine.twice.contains(&leg) || mine.ending.contains(&leg) {
                leg = LegId::new(&format!("l{number}")).expect("a short id");
            }
        }
        let protocol = if self.dice.chance(100) { Protocol::Skype } else { Protocol::Sip };
        let media = if self.dice.chance(150) { Media::CONTROL_ONLY } else { Media::AUDIO_VIDEO };
        Leg { protocol, media, ..incoming(leg) }
    }
}
