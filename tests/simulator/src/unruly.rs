//! What unruly media servers do: questions that arrive twice, deaths in the middle of one, and much that is
//! wanted of the licensing server.

use conferencing_core::{AskId, Command};
use headroom_core::{Call, Leg, Millis};

use crate::fault::{Fault, Who};
use crate::media::{ANSWERED_WITHIN, ServerEvent};
use crate::node::Asker;
use crate::world::{Event, World};

/// A question can come so late a second time.
const ASK_LATE: i64 = 45_000;

impl World {
    /// Misfortunes that come with a question.
    pub(crate) fn tries(&mut self, at: usize, server: usize, call: &Call) {
        let owed = |leg: &Leg| {
            self.nodes[at]
                .process
                .as_ref()
                .is_some_and(|process| process.state().ending.contains_key(&leg.leg))
        };
        if call.legs.iter().any(owed) {
            self.count("id used again, its end not told yet");
        }
        if self.dice.chance(200) {
            let journals = self.nodes[at].journals;
            let mine = &mut self.nodes[at].servers[server];
            mine.twice.extend(call.legs.iter().map(|leg| leg.leg.clone()));
            let from = (mine.deaths, journals);
            let until = self.time.plus(Millis(ASK_LATE));
            let after = self.dice.span(500, ASK_LATE);
            self.server_soon(at, server, after, ServerEvent::Twice(Box::new(call.clone()), from, until));
        }
        if self.dice.chance(100) {
            let what = self.dice.below(4);
            self.ask_vendor(what);
        }
        // The first one lives on, so that somebody calls.
        if server > 0 && self.dice.chance(20) {
            let dies = self.dice.span(0, ANSWERED_WITHIN.0);
            self.schedule(dies, Event::Fault(Fault::SilentServer { node: at, server }));
            let down = self.dice.span(200, 3_000);
            let crash = self.dice.span(20, 2_000);
            self.schedule(crash, Event::Fault(Fault::Crash { who: Who::Node(at), down }));
        }
    }

    /// A media server lets a call run that was denied, and says so.
    pub(crate) fn permits(&mut self, at: usize, server: usize, call: &Call, asked: Millis) {
        let not_here = |leg: &Leg| leg.owner.is_some() || self.oracle.is_over(at, &leg.leg, asked);
        if !self.reaches(at, server) || call.legs.iter().any(not_here) {
            return;
        }
        self.count("denied call that runs all the same");
        self.tell(|world| format!("{}: lets {} run", world.server_label(at, server), crate::say::call(call)));
        for leg in &call.legs {
            self.oracle.asked(at, &leg.leg, leg.replaces.as_ref(), self.time);
        }
        let ask = AskId(self.nodes[at].next_name());
        self.waits(at, ask, server, call);
        self.speak(at, server, Command::Adopt { call: call.clone() }, Asker::Call(ask));
    }

    /// A question that was under way twice arrives a second time; nobody waits for its answer.
    pub(crate) fn asked_twice(
        &mut self,
        at: usize,
        server: usize,
        call: Call,
        from: (u64, u64),
        until: Millis,
    ) {
        let same = from == (self.nodes[at].servers[server].deaths, self.nodes[at].journals);
        if !same || self.time > until || !self.reaches(at, server) {
            return;
        }
        self.count("question that comes twice");
        self.tell(|world| {
            format!(
                "{}: asks for {}, late and twice",
                world.server_label(at, server),
                crate::say::call(&call)
            )
        });
        let ask = AskId(self.nodes[at].next_name());
        self.speak(at, server, Command::Admit { ask, call }, Asker::Call(ask));
    }
}
