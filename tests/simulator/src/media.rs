//! The media servers of a node: they ask before each leg, report changes and ends. What they run is the truth
//! that the books are held against.

use std::collections::{BTreeMap, BTreeSet};

use conferencing_core::{AskId, Command, Decision, Happened, LegVerdict};
use headroom_core::{Call, CallInfo, Leg, LegId, Media, Millis, SourceId};

use crate::node::{Asker, NodeEvent};
use crate::platform::Feed;
use crate::world::{Event, World};

/// A media server waits so long for an answer.
const PATIENCE: Millis = Millis::SECOND.times(10);
/// An answer that goes out arrives within this time.
pub(crate) const ANSWERED_WITHIN: Millis = Millis(20);
/// What has no answer is said again after this time.
pub(crate) const AGAIN: Millis = Millis::SECOND.times(2);

/// A media server.
pub struct Server {
    /// Its name.
    pub source: SourceId,
    /// The legs it runs.
    pub running: BTreeMap<LegId, Running>,
    /// Legs whose end has not been heard yet.
    pub ending: BTreeSet<LegId>,
    /// The process of its node that it said ends to, and that has not answered.
    saying: Option<u64>,
    /// It cannot reach its node before this time.
    pub muted_until: Millis,
    /// It is gone.
    pub gone: bool,
    /// When it last spoke.
    pub spoke: Millis,
    /// Ids of legs that have ended, and when the node had heard of it, in that order.
    pub old: Vec<(Millis, LegId)>,
    /// Legs that are asked for twice: their ids are not used again.
    pub twice: BTreeSet<LegId>,
    /// How often it died.
    pub deaths: u64,
    /// What it tells, when it is the machine of a platform.
    pub feed: Feed,
}

/// A leg that runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its call.
    pub info: CallInfo,
    /// The leg.
    pub leg: Leg,
}

/// A question without an answer.
pub struct Pending {
    /// Whose.
    pub(crate) server: usize,
    /// Since when.
    pub(crate) asked: Millis,
    pub(crate) what: What,
}

pub(crate) enum What {
    Call(Box<Call>),
    Change(LegId, Media),
}

/// Something at a media server.
pub enum ServerEvent {
    /// Somebody calls.
    Call,
    /// A call is asked for: again, or because another node's gateway named its leg. With when it was before.
    Ask(Box<Call>, Millis),
    /// The node's answer to a call arrives that was asked for then.
    Answered(Box<Call>, Box<Decision>, Millis),
    /// A leg ends.
    End(LegId),
    /// It says which legs have ended.
    SayEnds,
    /// It tells the first event that was not heard.
    Tell,
    /// A leg's media change.
    Change(LegId),
    /// It reads where the list stands, and which legs are to be ended.
    Read,
    /// It makes the list of its legs as of what it read then, as the node of that journal said.
    List(u64, u64, Millis),
    /// The list arrives.
    Listed(u64, u64, Vec<LegId>),
    /// A question arrives a second time, of a media server that had died so often, at the node of that
    /// journal, if it is not too late.
    Twice(Box<Call>, (u64, u64), Millis),
}

impl Server {
    /// A media server.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self {
            source: SourceId::new(&format!("s{number}")).expect("a short name"),
            running: BTreeMap::new(),
            ending: BTreeSet::new(),
            saying: None,
            muted_until: Millis(0),
            gone: false,
            spoke: Millis(0),
            old: Vec::new(),
            twice: BTreeSet::new(),
            deaths: 0,
            feed: Feed::default(),
        }
    }

    /// Whether it runs this leg for certain.
    #[must_use]
    pub fn runs(&self, leg: &LegId) -> bool {
        self.running.contains_key(leg) && !self.ending.contains(leg)
    }
}

impl World {
    pub(crate) fn begin_servers(&mut self, at: usize) {
        for server in 0..self.nodes[at].servers.len() {
            self.begin_server(at, server);
        }
    }

    pub(crate) fn begin_server(&mut self, at: usize, server: usize) {
        let first = self.dice.about(self.plan.call_every);
        self.server_soon(at, server, first, ServerEvent::Call);
        let list = self.dice.span(0, self.list_every());
        self.server_soon(at, server, list, ServerEvent::Read);
    }

    pub(crate) fn server_soon(&mut self, at: usize, server: usize, after: Millis, event: ServerEvent) {
        self.schedule(after, Event::Node(at, NodeEvent::Server(server, event)));
    }

    pub(crate) fn at_server(&mut self, at: usize, server: usize, event: ServerEvent) {
        if self.nodes[at].servers[server].gone {
            return;
        }
        match event {
            ServerEvent::Call => self.somebody_calls(at, server),
            // Nobody asks again for what is over.
            ServerEvent::Ask(call, first)
                if call.legs.iter().any(|leg| self.oracle.is_over(at, &leg.leg, first)) => {}
            ServerEvent::Ask(call, _) => self.ask(at, server, *call),
            // Nobody waits for ever; a list ends what the node granted.
            ServerEvent::Answered(_, _, asked) if self.time.since(asked) >= PATIENCE => {
                self.count("answer that nobody waits for");
            }
            ServerEvent::Answered(call, decision, asked) => {
                self.call_answered(at, server, (&call, asked), *decision)
            }
            ServerEvent::End(_) | ServerEvent::Change(_) if self.is_still() => {}
            ServerEvent::End(leg) => self.leg_ends(at, server, leg),
            ServerEvent::SayEnds => self.say_ends(at, server),
            ServerEvent::Tell => self.tell_next(at, server),
            ServerEvent::Change(leg) => self.change(at, server, leg),
            ServerEvent::Read => self.read(at, server),
            ServerEvent::List(as_of, journal, read) => self.list(at, server, (as_of, journal), read),
            ServerEvent::Listed(as_of, journal, legs) => self.listed(at, server, (as_of, journal), legs),
            ServerEvent::Twice(call, from, until) => self.asked_twice(at, server, *call, from, until),
        }
    }

    /// Whether a media server reaches its node now.
    pub(crate) fn reaches(&self, at: usize, server: usize) -> bool {
        let node = &self.nodes[at];
        node.answers(self.time) && node.servers[server].muted_until <= self.time
    }

    pub(crate) fn speak(&mut self, at: usize, server: usize, command: Command, who: Asker) {
        self.nodes[at].servers[server].spoke = self.time;
        self.node_submit(at, command, who);
    }

    fn somebody_calls(&mut self, at: usize, server: usize) {
        if !self.is_active() {
            return;
        }
        let next = self.dice.about(self.plan.call_every);
        self.server_soon(at, server, next, ServerEvent::Call);
        if self.plan.feeds() {
            return self.begins_by_itself(at, server);
        }
        let call = self.draw_call(at, server);
        self.ask(at, server, call);
    }

    pub(crate) fn server_label(&self, at: usize, server: usize) -> String {
        format!("{}.{server}", self.label(at))
    }

    pub(crate) fn ask(&mut self, at: usize, server: usize, mut call: Call) {
        // A leg that the same id names twice would be the media server's own mistake.
        let mut named = BTreeSet::new();
        call.legs.retain(|leg| named.insert(leg.leg.clone()));
        if !self.reaches(at, server) {
            return;
        }
        let ask = AskId(self.nodes[at].next_name());
        self.count("call asked for");
        self.tell(|world| {
            format!("{}: asks for {}", world.server_label(at, server), crate::say::call(&call))
        });
        let name = self.nodes[at].name.clone();
        for leg in call.legs.iter().filter(|leg| leg.owner.as_ref().is_none_or(|owner| *owner == name)) {
            self.oracle.asked(at, &leg.leg, leg.replaces.as_ref(), self.time);
        }
        self.waits(at, ask, server, &call);
        if self.plan.moody && self.dice.chance(40) {
            // The caller hangs up before he is answered.
            let leg = self.dice.pick(&call.legs).clone();
            if leg.owner.is_none() {
                let after = self.dice.span(0, 600);
                self.server_soon(at, server, after, ServerEvent::End(leg.leg));
            }
        }
        if self.plan.unruly() {
            self.tries(at, server, &call);
        }
        self.speak(at, server, Command::Admit { ask, call }, Asker::Call(ask));
    }

    /// A media server waits for what becomes of a call.
    pub(crate) fn waits(&mut self, at: usize, ask: AskId, server: usize, call: &Call) {
        let what = What::Call(Box::new(call.clone()));
        self.nodes[at].pending.insert(ask, Pending { server, asked: self.time, what });
    }

    /// The node has decided, durably: its answer goes out.
    pub(crate) fn call_decided(&mut self, at: usize, ask: AskId, decision: &Decision) {
        let Some(Pending { server, asked, what: What::Call(call) }) = self.nodes[at].pending.remove(&ask)
        else {
            return;
        };
        let lost = self.plan.moody && self.is_active() && self.dice.chance(10);
        if let Decision::Granted(granted) = decision
            && (!lost || self.dice.chance(500))
        {
            let own = granted.legs.iter().filter(|leg| leg.owner.is_none());
            let legs = own.map(|leg| leg.leg.clone()).collect();
            self.node_submit(at, Command::Delivered { legs }, Asker::Nobody);
        }
        if lost {
            self.count("lost answer to a media server");
            // One that repeats its questions would have to list what it still asks for.
            if self.dice.chance(500) && !self.plan.unruly() {
                let after = self.dice.span(500, 5_000);
                self.server_soon(at, server, after, ServerEvent::Ask(call, asked));
            }
            return;
        }
        let after = self.dice.span(0, ANSWERED_WITHIN.0);
        let answered = ServerEvent::Answered(call, Box::new(decision.clone()), asked);
        self.server_soon(at, server, after, answered);
    }

    fn call_answered(
        &mut self,
        at: usize,
        server: usize,
        (call, asked): (&Call, Millis),
        decision: Decision,
    ) {
        self.tell(|world| {
            format!("{}: {}", world.server_label(at, server), crate::say::decision(call, &decision))
        });
        match decision {
            Decision::Granted(granted) => {
                self.count(if granted.optimistic { "call granted alone" } else { "call granted" });
                for granted in &granted.legs {
                    let Some(leg) = call.legs.iter().find(|leg| leg.leg == granted.leg) else { continue };
                    if granted.owner.is_some() {
                        self.invite(call, leg);
                    } else {
                        self.leg_begins(at, server, (call, asked), leg);
                    }
                }
            }
            Decision::Denied(_) => {
                self.count("call denied");
                if self.plan.unruly() && self.dice.chance(200) {
                    self.permits(at, server, call, asked);
                }
            }
            Decision::Conflict(_) | Decision::Refused { .. } => self.count("call refused"),
        }
    }

    pub(crate) fn leg_begins(&mut self, at: usize, server: usize, (call, asked): (&Call, Millis), leg: &Leg) {
        let mine = &mut self.nodes[at].servers[server];
        if self.oracle.is_over(at, &leg.leg, asked) || mine.ending.contains(&leg.leg) {
            return;
        }
        self.check(self.begins_held(at, &leg.leg));
        if let Some(old) = &leg.replaces {
            for server in &mut self.nodes[at].servers {
                server.running.remove(old);
            }
        }
        let running = Running { info: call.info.clone(), leg: leg.clone() };
        self.nodes[at].servers[server].running.insert(leg.leg.clone(), running);
        let length = self.dice.about(self.plan.call_length);
        self.server_soon(at, server, length, ServerEvent::End(leg.leg.clone()));
        if self.plan.moody && self.dice.chance(200) {
            let after = self.dice.about(Millis(length.0 / 2 + 1));
            self.server_soon(at, server, after, ServerEvent::Change(leg.leg.clone()));
        }
    }

    /// The other end of a gateway call asks at its own node, in time or not.
    fn invite(&mut self, call: &Call, leg: &Leg) {
        let Some(owner) = self.nodes.iter().position(|node| Some(&node.name) == leg.owner.as_ref()) else {
            return;
        };
        let server = self.dice.index(self.nodes[owner].servers.len());
        let mut asked = Call { info: call.info.clone(), legs: vec![leg.clone()] };
        asked.info.source = self.nodes[owner].servers[server].source.clone();
        asked.legs[0].owner = None;
        let latest = *self.dice.pick(&[500, 5_000, 40_000]);
        let after = self.dice.span(5, latest);
        // Its id is of this call alone, and once it has ended it is not asked for any more.
        self.server_soon(owner, server, after, ServerEvent::Ask(Box::new(asked), Millis(0)));
    }

    pub(crate) fn leg_ends(&mut self, at: usize, server: usize, leg: LegId) {
        let known = self.nodes[at].servers[server].running.contains_key(&leg)
            || self.nodes[at].pending.values().any(|pending| pending.is_about(server, &leg));
        if known && self.nodes[at].servers[server].ending.insert(leg.clone()) {
            self.oracle.over(at, &leg, self.time);
            self.nodes[at].servers[server].running.remove(&leg);
            if self.plan.feeds() {
                return self.tells(at, server, Happened::LegEnded(leg));
            }
            self.say_ends(at, server);
        }
    }

    /// Says which legs have ended, until it is heard.
    pub(crate) fn say_ends(&mut self, at: usize, server: usize) {
        if self.plan.feeds() {
            return self.tell_next(at, server);
        }
        let legs: Vec<_> = self.nodes[at].servers[server].ending.iter().take(100).cloned().collect();
        if legs.is_empty() {
            return;
        }
        self.server_soon(at, server, AGAIN, ServerEvent::SayEnds);
        let life = Some(self.nodes[at].lives);
        if self.reaches(at, server) && self.nodes[at].servers[server].saying != life {
            self.nodes[at].servers[server].saying = life;
            self.tell(|world| {
                format!("{}: {} ended", world.server_label(at, server), crate::say::legs(&legs))
            });
            self.speak(at, server, Command::EndLegs { legs: legs.clone() }, Asker::End(server, legs));
        }
    }

    pub(crate) fn ends_heard(&mut self, at: usize, server: usize, legs: &[LegId]) {
        self.nodes[at].servers[server].saying = None;
        for leg in legs {
            if self.nodes[at].servers[server].ending.remove(leg) {
                self.oracle.end_heard(at, leg, self.time);
                self.nodes[at].servers[server].old.push((self.time, leg.clone()));
            }
        }
    }

    fn change(&mut self, at: usize, server: usize, leg: LegId) {
        if !self.reaches(at, server) || !self.nodes[at].servers[server].runs(&leg) {
            return;
        }
        let media = *self.dice.pick(&[Media::AUDIO_VIDEO, Media::CONTROL_ONLY]);
        let presenting = self.dice.chance(300);
        let presentation = if presenting {
            headroom_core::call::Presentation::FullMotion
        } else {
            headroom_core::call::Presentation::None
        };
        let media = Media { presenting, presentation, ..media };
        if self.plan.feeds() {
            return self.changes_by_itself(at, server, &leg, media);
        }
        self.ask_change(at, server, leg, media);
    }

    pub(crate) fn ask_change(&mut self, at: usize, server: usize, leg: LegId, media: Media) {
        let ask = AskId(self.nodes[at].next_name());
        let what = What::Change(leg.clone(), media);
        self.nodes[at].pending.insert(ask, Pending { server, asked: self.time, what });
        let legs = vec![(ask, leg, media)];
        self.speak(at, server, Command::UpdateLegs { legs }, Asker::Change(ask));
    }

    pub(crate) fn change_decided(&mut self, at: usize, ask: AskId, verdict: &LegVerdict) {
        let Some(Pending { server, what: What::Change(leg, media), .. }) =
            self.nodes[at].pending.remove(&ask)
        else {
            return;
        };
        self.tell(|world| {
            format!(
                "{}: other media for {leg}: {}",
                world.server_label(at, server),
                crate::say::verdict_on_leg(verdict)
            )
        });
        if let LegVerdict::Granted { .. } = verdict
            && let Some(running) = self.nodes[at].servers[server].running.get_mut(&leg)
        {
            running.leg.media = media;
        }
    }
}

impl Pending {
    fn is_about(&self, server: usize, leg: &LegId) -> bool {
        self.server == server
            && match &self.what {
                What::Call(call) => call.legs.iter().any(|asked| asked.leg == *leg),
                What::Change(..) => false,
            }
    }
}
