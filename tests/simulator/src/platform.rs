//! Machines of platforms: they let legs begin, change, move and end as they like, and tell it afterwards, in order,
//! one event at a time, each until it is heard.

use std::collections::VecDeque;

use conferencing_core::{Command, FeedEvent, Happened};
use headroom_core::{Call, CallId, Interop, LegId, Media, Millis, Protocol, Service, Text};

use crate::caller::{incoming, meeting};
use crate::media::{AGAIN, ServerEvent};
use crate::node::Asker;
use crate::world::World;

/// What a machine of a platform tells.
#[derive(Debug, Default)]
pub struct Feed {
    /// What was not heard yet, with numbers that are its own here.
    queue: VecDeque<(u64, FeedEvent)>,
    /// The process of its node that it tells something, and that has not answered.
    telling: Option<u64>,
    /// Number of the last event, as the node reads it.
    seq: u64,
    /// Events so far.
    events: u64,
}

impl World {
    /// A leg begins in a room, or as the inbound leg of a gateway call.
    pub(crate) fn begins_by_itself(&mut self, at: usize, server: usize) {
        let number = self.nodes[at].next_name();
        let leg = LegId::new(&format!("l{number}")).expect("a short id");
        let call = CallId::new(&format!("c{at}.{number}")).expect("a short id");
        let mut call = meeting(call, self.nodes[at].servers[server].source.clone(), vec![incoming(leg)]);
        if self.dice.chance(150) {
            call.info.service = Service::Gateway;
        }
        if self.dice.chance(150) {
            call.legs[0].media = Media::CONTROL_ONLY;
        }
        if self.dice.chance(100) {
            call.legs[0].protocol = Protocol::Skype;
        }
        self.runs(at, server, call);
    }

    /// It says that a leg runs so.
    fn runs(&mut self, at: usize, server: usize, call: Call) {
        for leg in &call.legs {
            self.oracle.asked(at, &leg.leg, None, self.time);
        }
        self.tells(at, server, Happened::LegRuns(Box::new(call)));
    }

    /// A leg has other media, or is elsewhere: in another room, or in a hosted meeting.
    pub(crate) fn changes_by_itself(&mut self, at: usize, server: usize, leg: &LegId, media: Media) {
        let Some(running) = self.nodes[at].servers[server].running.get(leg).cloned() else { return };
        let (mut info, leg) = (running.info, headroom_core::Leg { media, ..running.leg });
        match self.dice.below(4) {
            0 => {
                let number = self.nodes[at].next_name();
                info.conference = Text::new(&format!("room{number}")).expect("a short text");
            }
            1 => (info.service, info.interop) = (Service::Gateway, Some(Interop::Teams)),
            _ => {}
        }
        self.runs(at, server, Call { info, legs: vec![leg] });
    }

    /// The telling process begins anew, and its numbers with it. What it had not told yet it tells afterwards.
    pub(crate) fn feed_starts(&mut self, at: usize, server: usize) {
        self.nodes[at].servers[server].feed.seq = 0;
        self.tells(at, server, Happened::FeedStarted);
    }

    pub(crate) fn tells(&mut self, at: usize, server: usize, what: Happened) {
        let time = self.time;
        let mine = &mut self.nodes[at].servers[server];
        let feed = &mut mine.feed;
        feed.seq += 1;
        feed.events += 1;
        let event = FeedEvent { source: mine.source.clone(), seq: feed.seq, at: time.plus(Millis(1)), what };
        feed.queue.push_back((feed.events, event));
        self.tell_next(at, server);
    }

    /// Tells the first event that was not heard, until it is.
    pub(crate) fn tell_next(&mut self, at: usize, server: usize) {
        let life = Some(self.nodes[at].lives);
        let reaches = self.reaches(at, server);
        let feed = &mut self.nodes[at].servers[server].feed;
        let Some((number, event)) = feed.queue.front().cloned() else { return };
        if reaches && feed.telling != life {
            feed.telling = life;
            self.count("event told");
            self.tell(|world| format!("{}: tells {event:?}", world.server_label(at, server)));
            self.speak(at, server, Command::Feed { event }, Asker::Feed(server, number));
        }
        self.server_soon(at, server, AGAIN, ServerEvent::Tell);
    }

    /// The node has taken an event, durably. Its answer can be lost.
    pub(crate) fn feed_heard(&mut self, at: usize, server: usize, number: u64) {
        let lost = self.is_active() && self.dice.chance(100);
        let feed = &mut self.nodes[at].servers[server].feed;
        feed.telling = None;
        if lost {
            return self.count("event told again");
        }
        let Some((_, event)) = feed.queue.pop_front_if(|(first, _)| *first == number) else { return };
        match event.what {
            Happened::LegRuns(call) => self.told_to_run(at, server, *call),
            Happened::LegEnded(leg) => self.ends_heard(at, server, &[leg]),
            Happened::FeedStarted | Happened::Unreadable | Happened::Other => {}
        }
        self.tell_next(at, server);
    }

    fn told_to_run(&mut self, at: usize, server: usize, call: Call) {
        let time = self.time;
        for leg in &call.legs {
            match self.nodes[at].servers[server].running.get_mut(&leg.leg) {
                Some(running) => {
                    running.info = call.info.clone();
                    running.leg = leg.clone();
                }
                None => self.leg_begins(at, server, (&call, time), leg),
            }
        }
    }
}
