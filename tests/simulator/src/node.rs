//! A conferencing node: its process, its journal, and the uplink that speaks with the pool.

use std::collections::BTreeMap;

use conferencing_core::{AskId, Command, Failure, Node, Nonce, Options, Outcome, Reply, RequestId};
use headroom_core::{LegId, Millis, NodeName};
use management_core::CertificateHash;

use crate::dice::Dice;
use crate::disk::Disk;
use crate::fault::Who;
use crate::host::Host;
use crate::media::{Pending, Server, ServerEvent};
use crate::process::{Answers, Closing, Left, Process};
use crate::uplink::{Arrival, Uplink};
use crate::world::{Event, World};

/// A conferencing node.
pub struct NodeSide {
    /// Its name.
    pub name: NodeName,
    /// Its certificate.
    pub caller: CertificateHash,
    /// Its clocks.
    pub host: Host,
    /// Its journal.
    pub disk: Disk,
    /// Its process, when it runs.
    pub process: Option<Process<Node, Asker>>,
    /// Number of the last process.
    pub lives: u64,
    /// Its disk finishes nothing before this time.
    pub stalled_until: Millis,
    /// ... since then.
    pub stalled_since: Millis,
    /// The next write fails.
    pub fails: bool,
    /// Its requests do not arrive before this time.
    pub deaf_pool_until: Millis,
    /// The pool's answers do not arrive before this time.
    pub deaf_until: Millis,
    /// The machine does not run before this time.
    pub sleeps_until: Millis,
    /// The machine is off.
    pub off: bool,
    /// ... and saved nothing since then.
    pub unsaved_since: Millis,
    /// ... for ever.
    pub gone: bool,
    /// Somebody is about to enrol it anew.
    pub enrolling: bool,
    /// It is a copy of another machine.
    pub clone: bool,
    /// Its media servers.
    pub servers: Vec<Server>,
    /// Questions of theirs that are not answered.
    pub pending: BTreeMap<AskId, Pending>,
    /// Names given so far: questions, legs, calls.
    pub names: u64,
    /// Journals that were lost.
    pub journals: u64,
    /// The state that the next process must find.
    pub left: Option<Left<Node>>,
    /// The service listens.
    listens: bool,
    /// What its uplink does.
    pub uplink: Uplink,
    /// There may be something to say to the pool.
    pub woken: bool,
    /// Attempts of the uplink so far.
    pub attempts: u64,
    nonces: u64,
    number: u64,
    enrolled: u8,
}

/// Something at a conferencing node.
pub enum NodeEvent {
    /// The service is started.
    Start,
    /// The committer looks at its queue.
    Wake(u64),
    /// The disk has written.
    Appended(u64),
    /// A second has passed.
    Tick(u64),
    /// An answer of the pool arrives.
    Answer(Box<Arrival>),
    /// An attempt takes too long.
    TimedOut(u64, u64, RequestId),
    /// The uplink has slept enough.
    Slept(u64, u64),
    /// The budget of a question is over.
    Expire(u64, AskId),
    /// At one of its media servers.
    Server(usize, ServerEvent),
}

/// A media server's question waits for so long at most to be looked at.
const LOOKED_AT_WITHIN: Millis = Millis(200);

/// Who waits for an answer of a node.
#[derive(Debug)]
pub enum Asker {
    /// Nobody.
    Nobody,
    /// The service itself, which then begins to listen.
    Started,
    /// The service itself, now and then.
    Tick,
    /// The uplink.
    Uplink,
    /// A media server that asked for a call.
    Call(AskId),
    /// A media server that asked for other media.
    Change(AskId),
    /// A media server that says that legs ended.
    End(usize, Vec<LegId>),
    /// A media server that lists its legs.
    List(usize),
    /// A machine of a platform that tells what happened.
    Feed(usize, u64),
}

impl NodeSide {
    /// A machine with an empty journal.
    #[must_use]
    pub fn new(number: usize, servers: usize, dice: &mut Dice) -> Self {
        let name = char::from(b'a' + u8::try_from(number % 26).unwrap_or(0)).to_string();
        let number = number as u64 + 1;
        Self {
            name: NodeName::new(&name).expect("a letter is a name"),
            caller: certificate(number, 0),
            host: Host::new(number),
            disk: Disk::new(dice.any()),
            process: None,
            lives: 0,
            stalled_until: Millis(0),
            stalled_since: Millis(0),
            fails: false,
            deaf_pool_until: Millis(0),
            deaf_until: Millis(0),
            sleeps_until: Millis(0),
            off: false,
            unsaved_since: Millis(0),
            gone: false,
            enrolling: false,
            clone: false,
            servers: (0..servers).map(Server::new).collect(),
            pending: BTreeMap::new(),
            names: 0,
            journals: 0,
            left: None,
            listens: false,
            uplink: Uplink::Asks,
            woken: false,
            attempts: 0,
            nonces: number << 32,
            number,
            enrolled: 0,
        }
    }

    /// A copy of this machine with its journal as it is now.
    #[must_use]
    pub fn copied(&self, index: usize, time: Millis, dice: &mut Dice) -> Self {
        let mut copy = Self::new(index, self.servers.len(), dice);
        copy.host.boot(time);
        copy.name = self.name.clone();
        copy.caller = self.caller;
        copy.disk = self.disk.clone();
        copy.clone = true;
        // Calls on two machines have names of their own.
        copy.names = (index as u64) << 32;
        copy
    }

    /// It gets another certificate.
    pub fn enrol_anew(&mut self) {
        self.enrolled += 1;
        self.caller = certificate(self.number, self.enrolled);
    }

    /// Whether the service can be asked.
    #[must_use]
    pub fn answers(&self, time: Millis) -> bool {
        self.process.is_some() && self.listens && time >= self.sleeps_until
    }

    /// The number of the next thing that needs a name.
    pub fn next_name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }
}

fn certificate(number: u64, times: u8) -> CertificateHash {
    let mut hash = [times; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    CertificateHash(hash)
}

impl World {
    pub(crate) fn at_node(&mut self, at: usize, event: NodeEvent) {
        // A machine that sleeps does everything when it wakes up.
        let sleeps = self.nodes[at].sleeps_until.since(self.time);
        if sleeps > Millis(0) {
            return self.schedule(sleeps, Event::Node(at, event));
        }
        let life = self.nodes[at].process.as_ref().map(|process| process.life);
        let is = |of: u64| life == Some(of);
        let uplink = self.nodes[at].uplink;
        let does = |what: Uplink| uplink == what;
        match event {
            NodeEvent::Start if life.is_none() && !self.nodes[at].off => self.node_start(at),
            NodeEvent::Wake(of) if is(of) => self.node_wake(at),
            NodeEvent::Appended(of) if is(of) => self.node_appended(at),
            NodeEvent::Tick(of) if is(of) => self.node_tick(at, of),
            NodeEvent::Answer(arrival) if is(arrival.life) => self.uplink_hears(at, *arrival),
            NodeEvent::TimedOut(of, number, id) if is(of) && does(Uplink::Attempt { number }) => {
                self.uplink_answers(at, id, Err(Failure::Undecided { retry_after: None }), false);
            }
            NodeEvent::Slept(of, number) if is(of) && does(Uplink::Sleeps { number }) => {
                self.uplink_polls(at)
            }
            NodeEvent::Expire(of, ask) if is(of) && self.nodes[at].pending.contains_key(&ask) => {
                self.node_submit(at, Command::Expire { asks: vec![ask] }, Asker::Nobody);
                self.wake_uplink(at);
            }
            NodeEvent::Server(server, event) => self.at_server(at, server, event),
            _ => {}
        }
    }

    fn node_tick(&mut self, at: usize, life: u64) {
        let synchronized = self.nodes[at].host.synchronized;
        let process = self.nodes[at].process.as_mut();
        if process.is_some_and(|process| !std::mem::replace(&mut process.ticking, true)) {
            self.node_submit(at, Command::Tick { synchronized }, Asker::Tick);
        }
        let tick = if self.plan.active > Millis::DAY { Millis::MINUTE } else { self.plan.tick };
        self.schedule(tick, Event::Node(at, NodeEvent::Tick(life)));
    }

    fn node_start(&mut self, at: usize) {
        let damaged = self.dice.chance(100);
        let recovered = match self.nodes[at].disk.recover::<Node>(damaged) {
            Ok(recovered) => recovered,
            Err(error) => return self.violate("I11", format!("a node does not start: {error}")),
        };
        if let Some(left) = self.nodes[at].left.take() {
            self.check_node_recovery(at, &left.state, &recovered.state);
        }
        let node = &mut self.nodes[at];
        node.lives += 1;
        node.nonces += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&node.nonces.to_be_bytes());
        let life = node.lives;
        node.process = Some(Process::new(life, recovered));
        let started = Command::Started {
            nonce: Nonce(nonce),
            boot_id: node.host.boot_id,
            node: Some(node.name.clone()),
            synchronized: node.host.synchronized,
            options: Options {
                grace: self.plan.grace,
                budget: self.plan.budget,
                orphan_after: self.plan.orphan_after,
            },
        };
        self.tell(|world| format!("{}: started", world.label(at)));
        self.node_submit(at, started, Asker::Started);
    }

    /// It listens, and speaks with the pool.
    fn node_listens(&mut self, at: usize) {
        let life = self.nodes[at].lives;
        self.nodes[at].listens = true;
        self.uplink_polls(at);
        self.schedule(self.plan.tick, Event::Node(at, NodeEvent::Tick(life)));
    }

    /// The process dies at a step of its committer.
    fn node_dies(&mut self, at: usize) {
        let down = self.dice.span(10, 5_000);
        self.node_crash(at, Some(down));
    }

    /// The process dies; whoever asked it has no answer.
    pub(crate) fn node_crash(&mut self, at: usize, down: Option<Millis>) {
        let node = &mut self.nodes[at];
        let Some(process) = node.process.take() else { return };
        let left = match process.die(&mut node.disk, &mut self.dice) {
            Ok(left) => left,
            Err((promise, text)) => return self.violate(promise, text),
        };
        self.node_durable(at, &left.events);
        self.tell(|world| format!("{}: dies", world.label(at)));
        self.nodes[at].left = Some(left);
        (self.nodes[at].woken, self.nodes[at].listens) = (false, false);
        self.servers_unanswered(at);
        if let Some(down) = down {
            self.schedule(down, Event::Node(at, NodeEvent::Start));
        }
    }

    pub(crate) fn node_submit(&mut self, at: usize, command: Command, who: Asker) {
        let listens = self.nodes[at].listens || matches!(who, Asker::Started);
        let Some(process) = self.nodes[at].process.as_mut().filter(|_| listens) else { return };
        if process.submit(command, who, self.time) {
            let life = process.life;
            let after = self.dice.span(0, 1);
            self.schedule(after, Event::Node(at, NodeEvent::Wake(life)));
        }
    }

    fn node_wake(&mut self, at: usize) {
        let now = self.nodes[at].host.now(self.time);
        let batch = self.plan.batch;
        let Some(process) = &mut self.nodes[at].process else { return };
        for (command, who, since) in process.take(batch) {
            // As the agent does it: nobody waits any more for what was not even looked at.
            let question =
                matches!(command, Command::Admit { .. } | Command::UpdateLegs { .. } | Command::Sync { .. });
            if question && self.time.since(since) >= LOOKED_AT_WITHIN {
                self.not_looked_at(at, &who);
                continue;
            }
            if self.is_deadly() {
                return self.node_dies(at);
            }
            let about = self.node_deciding(at, &command);
            let Some(process) = &mut self.nodes[at].process else { return };
            let events = process.decide(now, command, who).to_vec();
            self.node_decided(at, &about, &events, now);
        }
        self.node_close(at);
    }

    fn node_close(&mut self, at: usize) {
        match self.nodes[at].process.as_mut().map(Process::close) {
            None | Some(Closing::Busy) => {}
            Some(Closing::Answered(answers)) => {
                self.node_answers(at, answers);
                self.node_goes_on(at);
            }
            Some(Closing::Writing) => {
                let takes = self.write_takes(Who::Node(at));
                self.schedule(takes, Event::Node(at, NodeEvent::Appended(self.nodes[at].lives)));
            }
        }
    }

    fn node_appended(&mut self, at: usize) {
        if self.time < self.nodes[at].stalled_until {
            let (life, left) = (self.nodes[at].lives, self.nodes[at].stalled_until.since(self.time));
            return self.schedule(left, Event::Node(at, NodeEvent::Appended(life)));
        }
        if std::mem::take(&mut self.nodes[at].fails) || self.is_deadly() {
            return self.node_dies(at);
        }
        let every = self.plan.snapshot_every;
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return };
        let written = match process.written(&mut node.disk, every) {
            Ok(Some(written)) => written,
            Ok(None) => return,
            Err((promise, text)) => return self.violate(promise, text),
        };
        self.node_durable(at, &written.events);
        self.node_answers(at, written.answers);
        self.node_close(at);
        self.node_goes_on(at);
    }

    /// Has the process look at what the last batch had no room for.
    fn node_goes_on(&mut self, at: usize) {
        if self.nodes[at].process.as_mut().is_some_and(Process::goes_on) {
            self.schedule(Millis(0), Event::Node(at, NodeEvent::Wake(self.nodes[at].lives)));
        }
    }

    fn node_answers(&mut self, at: usize, answers: Answers<Node, Asker>) {
        let (answered, dies) = self.until_death(&at.to_string(), answers);
        for (who, reply) in answered {
            self.node_answer(at, who, reply);
        }
        if dies {
            self.node_dies(at);
        }
    }

    /// As the agent does it: whoever's question was decided along with this one is answered first.
    fn node_answer(&mut self, at: usize, who: Asker, reply: Reply) {
        if let Reply::Outcomes(outcomes) | Reply::Uplink { outcomes, .. } | Reply::Ended { outcomes, .. } =
            &reply
        {
            for (ask, outcome) in outcomes {
                match outcome {
                    Outcome::Call(decision) => self.call_decided(at, *ask, decision),
                    Outcome::Leg(verdict) => self.change_decided(at, *ask, verdict),
                }
            }
        }
        if matches!(
            who,
            Asker::Call(_) | Asker::Change(_) | Asker::End(..) | Asker::List(_) | Asker::Feed(..)
        ) {
            self.wake_uplink(at);
        }
        match (who, reply) {
            (Asker::Started, _) => self.node_listens(at),
            (Asker::Tick, _) => {
                if let Some(process) = &mut self.nodes[at].process {
                    process.ticking = false;
                }
            }
            (Asker::Uplink, Reply::Uplink { next, .. }) => self.uplink_goes_on(at, next),
            (Asker::Call(ask), Reply::Decided(decision)) => self.call_decided(at, ask, &decision),
            (Asker::Call(ask), Reply::Waiting { until, .. }) => self.expire_at(at, ask, until),
            (Asker::Change(ask), Reply::Legs(verdicts)) => match verdicts.first() {
                Some(conferencing_core::LegVerdict::Waiting { until, .. }) => self.expire_at(at, ask, *until),
                Some(verdict) => self.change_decided(at, ask, verdict),
                None => {}
            },
            (Asker::End(server, legs), Reply::Ended { .. }) => self.ends_heard(at, server, &legs),
            (Asker::Feed(server, number), Reply::Ended { .. }) => self.feed_heard(at, server, number),
            (Asker::List(server), Reply::Synced { ended, unknown }) => {
                self.list_heard(at, server, ended.iter().chain(&unknown));
            }
            _ => {}
        }
    }

    fn expire_at(&mut self, at: usize, ask: AskId, until: Millis) {
        let now = self.nodes[at].host.now(self.time);
        let life = self.nodes[at].lives;
        let late = self.dice.span(0, 3);
        self.schedule(until.since(now.boot).plus(late), Event::Node(at, NodeEvent::Expire(life, ask)));
    }
}
