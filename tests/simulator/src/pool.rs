//! The management node: its process, its store, and what its interface does around the machine.

use std::sync::Arc;

use conferencing_core::{Failure, Request as NodeRequest, RequestId};
use headroom_core::{Millis, Position};
use management_core as pool;
use management_core::{Command, PoolMachine, Reply};

use crate::dice::Dice;
use crate::disk::Disk;
use crate::fault::Who;
use crate::host::Host;
use crate::node::NodeEvent;
use crate::oracle::PoolStep;
use crate::process::{Answers, Closing, Left, Process};
use crate::uplink::Arrival;
use crate::vendor::LicenseStep;
use crate::wire;
use crate::world::{Event, World};

/// The management node.
pub struct PoolSide {
    /// Its clocks.
    pub host: Host,
    /// Its store.
    pub disk: Disk,
    /// Its process, when it runs.
    pub process: Option<Process<PoolMachine, Asker>>,
    /// It listens.
    pub listens: bool,
    /// Number of the last process.
    pub lives: u64,
    /// Its disk finishes nothing before this time.
    pub stalled_until: Millis,
    /// The next write fails.
    pub fails: bool,
    /// The machine is off.
    pub off: bool,
    /// A copy of the store.
    pub backup: Option<Disk>,
    /// Messages sent before the store was reverted speak to a service that is gone.
    pub epoch: u64,
    /// The state that the next process must find.
    pub left: Option<Left<PoolMachine>>,
}

/// Something at the management node.
pub enum PoolEvent {
    /// A request arrives.
    Request(Box<Envelope>),
    /// The committer looks at its queue.
    Wake(u64),
    /// The disk has written.
    Appended(u64),
    /// A second has passed.
    Tick(u64),
    /// The service is started.
    Start,
}

/// A node's request on its way.
#[derive(Clone)]
pub struct Envelope {
    /// From which node, and which of its processes.
    pub node: usize,
    /// The node's process.
    pub life: u64,
    /// The attempt.
    pub attempt: u64,
    /// The request's name there.
    pub id: RequestId,
    /// The request.
    pub request: Arc<NodeRequest>,
    /// Of the store at that time.
    pub epoch: u64,
}

/// Who waits for an answer of the pool.
pub enum Asker {
    /// Nobody.
    Nobody,
    /// The service itself, which then begins to listen.
    Started,
    /// The service itself, now and then.
    Tick,
    /// A node; with the last record that was sealed when its request arrived.
    Node(Box<Envelope>, u64),
    /// A node that proved that records were lost: then its request is looked at.
    RolledBack(Box<Envelope>),
    /// Somebody who deals with licenses.
    License(LicenseStep),
    /// An administrator who has a node removed, and enrols it anew so long after it is.
    Removed(usize, Millis),
}

impl PoolSide {
    /// A new store.
    #[must_use]
    pub fn new(dice: &mut Dice) -> Self {
        Self {
            host: Host::new(1_000),
            disk: Disk::new(dice.any()),
            process: None,
            listens: false,
            lives: 0,
            stalled_until: Millis(0),
            fails: false,
            off: false,
            backup: None,
            epoch: 0,
            left: None,
        }
    }
}

impl World {
    pub(crate) fn at_pool(&mut self, event: PoolEvent) {
        let life = self.pool.process.as_ref().map(|process| process.life);
        match event {
            PoolEvent::Request(envelope) => self.pool_hears(envelope),
            PoolEvent::Start if life.is_none() && !self.pool.off => self.pool_start(),
            PoolEvent::Wake(of) if life == Some(of) => self.pool_wake(),
            PoolEvent::Appended(of) if life == Some(of) => self.pool_appended(),
            PoolEvent::Tick(of) if life == Some(of) => self.pool_tick(of),
            _ => {}
        }
    }

    fn pool_tick(&mut self, life: u64) {
        let process = self.pool.process.as_mut();
        if process.is_some_and(|process| !std::mem::replace(&mut process.ticking, true)) {
            self.pool_submit(Command::Tick { around: Vec::new() }, Asker::Tick);
        }
        // With nobody in a session nothing falls due soon.
        let idle = self.pool.process.as_ref().is_some_and(|process| {
            process.shown.holders.values().all(|holder| holder.session.is_none())
                && process.shown.reserved.is_empty()
        });
        let tick = if idle && self.plan.active > Millis::DAY { Millis::MINUTE } else { self.plan.tick };
        self.schedule(tick, Event::Pool(PoolEvent::Tick(life)));
    }

    pub(crate) fn pool_start(&mut self) {
        let damaged = self.dice.chance(100);
        let recovered = match self.pool.disk.recover::<PoolMachine>(damaged) {
            Ok(recovered) => recovered,
            Err(error) => return self.violate("I11", format!("the pool does not start: {error}")),
        };
        if let Some(left) = self.pool.left.take() {
            self.check_pool_recovery(&left, &recovered);
        }
        self.pool.lives += 1;
        let life = self.pool.lives;
        self.tell(|_| format!("pool: started at record {}", recovered.head.sequence));
        self.pool.process = Some(Process::new(life, recovered));
        self.oracle.pool_began();
        self.begin_pool_books();
        let settings = pool::Settings {
            session_ttl: self.plan.ttl,
            heartbeat: self.plan.heartbeat,
            ..pool::Settings::default()
        };
        let (fingerprint, boot_id) = (crate::licenses::fingerprint(), self.pool.host.boot_id);
        self.pool_submit(Command::Start { settings, fingerprint, boot_id }, Asker::Started);
    }

    /// It listens; with a new store its administrator first does what is to be done.
    fn pool_listens(&mut self) {
        self.pool.listens = true;
        self.schedule(self.plan.tick, Event::Pool(PoolEvent::Tick(self.pool.lives)));
        if self.pool.lives > 1 {
            if !self.is_active() {
                self.enrol_all();
            }
            return;
        }
        let license = crate::vendor::from_file(&self.plan);
        self.pool_submit(Command::InstallLicense(Box::new(license)), Asker::Nobody);
        for at in 0..self.nodes.len() {
            self.pool_enrols(at);
        }
    }

    pub(crate) fn pool_enrols(&mut self, at: usize) {
        let (node, certificate) = (self.nodes[at].name.clone(), self.nodes[at].caller);
        self.pool_submit(Command::AddNode { node, certificate }, Asker::Nobody);
    }

    /// The process dies at a step of its committer.
    fn pool_dies(&mut self) {
        let down = self.dice.span(10, 5_000);
        self.pool_crash(down);
    }

    pub(crate) fn pool_crash(&mut self, down: Millis) {
        let Some(process) = self.pool.process.take() else { return };
        self.pool.listens = false;
        let left = match process.die(&mut self.pool.disk, &mut self.dice) {
            Ok(left) => left,
            Err((promise, text)) => return self.violate(promise, text),
        };
        self.tell(|_| format!("pool: dies, {} acknowledged", left.position.sequence));
        self.pool.left = Some(left);
        self.schedule(down, Event::Pool(PoolEvent::Start));
    }

    pub(crate) fn pool_submit(&mut self, command: Command, who: Asker) {
        let listens = self.pool.listens || matches!(who, Asker::Started);
        let Some(process) = self.pool.process.as_mut().filter(|_| listens) else { return };
        if process.submit(command, who, self.time) {
            let life = process.life;
            let after = self.dice.span(0, 1);
            self.schedule(after, Event::Pool(PoolEvent::Wake(life)));
        }
    }

    fn pool_wake(&mut self) {
        let now = self.pool.host.now(self.time);
        let batch = self.plan.batch;
        let Some(process) = &mut self.pool.process else { return };
        for (command, who, _) in process.take(batch) {
            if self.is_deadly() {
                return self.pool_dies();
            }
            let step = PoolStep::before(self, &command);
            let Some(process) = &mut self.pool.process else { return };
            let events = process.decide(now, command, who).to_vec();
            self.pool_decided(step, &events, now);
        }
        self.pool_close();
    }

    fn pool_close(&mut self) {
        match self.pool.process.as_mut().map(Process::close) {
            None | Some(Closing::Busy) => {}
            Some(Closing::Answered(answers)) => {
                self.pool_answers(answers);
                self.pool_goes_on();
            }
            Some(Closing::Writing) if self.is_deadly() => self.pool_dies(),
            Some(Closing::Writing) => {
                let takes = self.write_takes(Who::Pool);
                self.schedule(takes, Event::Pool(PoolEvent::Appended(self.pool.lives)));
            }
        }
    }

    fn pool_appended(&mut self) {
        if self.time < self.pool.stalled_until {
            let (life, left) = (self.pool.lives, self.pool.stalled_until.since(self.time));
            return self.schedule(left, Event::Pool(PoolEvent::Appended(life)));
        }
        if std::mem::take(&mut self.pool.fails) || self.is_deadly() {
            return self.pool_dies();
        }
        let Some(process) = &mut self.pool.process else { return };
        let written = match process.written(&mut self.pool.disk, self.plan.snapshot_every) {
            Ok(Some(written)) => written,
            Ok(None) => return,
            Err((promise, text)) => return self.violate(promise, text),
        };
        self.mark(self.pool.disk.head().hash.0[0]);
        self.pool_durable(&written.events);
        self.pool_answers(written.answers);
        self.pool_close();
        self.pool_goes_on();
    }

    /// Has the process look at what the last batch had no room for.
    fn pool_goes_on(&mut self) {
        if self.pool.process.as_mut().is_some_and(Process::goes_on) {
            self.schedule(Millis(0), Event::Pool(PoolEvent::Wake(self.pool.lives)));
        }
    }

    fn pool_answers(&mut self, answers: Answers<PoolMachine, Asker>) {
        let position = answers.position;
        let (answered, dies) = self.until_death("the pool", answers);
        for (who, reply) in answered {
            self.pool_answer(who, reply, position);
        }
        if dies {
            self.pool_dies();
        }
    }

    fn pool_answer(&mut self, who: Asker, reply: Reply, position: Position) {
        match who {
            Asker::Nobody => {}
            Asker::Started => self.pool_listens(),
            Asker::Tick => {
                if let Some(process) = &mut self.pool.process {
                    process.ticking = false;
                }
            }
            Asker::Removed(node, after) => self.enrol_after(node, after),
            Asker::License(step) => self.license_step(step, reply),
            Asker::RolledBack(envelope) => match reply {
                Reply::RolledBack(Ok(())) => self.pool_takes(envelope),
                _ => self.send_to_node(&envelope, Err(Failure::Undecided { retry_after: None }), false),
            },
            Asker::Node(envelope, sealed) => {
                self.check_answer(&envelope, &reply, position, sealed);
                if let Some(refusal) = wire::refusal(&reply) {
                    let (node, text) = (envelope.node, refusal.to_string());
                    self.detail(|world| format!("pool: refuses {}: {text}", world.label(node)));
                }
                let wait = self.dice.span(1_000, 10_000);
                let outcome = wire::response(reply, position, wait);
                let proves = outcome.is_ok();
                self.send_to_node(&envelope, outcome, proves);
            }
        }
    }

    /// What the interface does before the machine is asked.
    fn pool_hears(&mut self, envelope: Box<Envelope>) {
        if envelope.epoch != self.pool.epoch {
            return;
        }
        let Some(process) = self.pool.process.as_ref().filter(|_| self.pool.listens) else {
            // Nobody listens: the connection is refused at once.
            if self.dice.chance(500) {
                self.send_to_node(&envelope, Err(Failure::Undecided { retry_after: None }), false);
            }
            return;
        };
        let here = process.position;
        match &*envelope.request {
            NodeRequest::Open { seen, .. } if pool::records_lost(here, *seen) => {
                let caller = self.nodes[envelope.node].caller;
                let (seen, here, generation) = (seen.sequence, here.sequence, self.dice.any());
                self.tell(|_| format!("pool: {seen} was seen, the store ends at {here}"));
                let command = Command::RolledBack { caller, seen, here, generation };
                self.pool_submit(command, Asker::RolledBack(envelope));
            }
            request => {
                if let Some(session) = wire::session(request)
                    && pool::same_history(here, session.generation, session.number).is_err()
                {
                    return self.send_to_node(&envelope, Err(Failure::Stale), false);
                }
                self.pool_takes(envelope);
            }
        }
    }

    fn pool_takes(&mut self, envelope: Box<Envelope>) {
        let Some(process) = &self.pool.process else { return };
        let sealed = process.sealed();
        let command = wire::command(self.nodes[envelope.node].caller, &envelope.request);
        self.pool_submit(command, Asker::Node(envelope, sealed));
    }

    /// An answer goes back, if the network lets it.
    fn send_to_node(
        &mut self,
        envelope: &Envelope,
        outcome: Result<conferencing_core::Response, Failure>,
        proves: bool,
    ) {
        if self.time < self.nodes[envelope.node].deaf_until {
            return;
        }
        let (node, life, attempt, id) = (envelope.node, envelope.life, envelope.attempt, envelope.id);
        for delay in self.deliveries() {
            let arrival = Arrival { life, attempt, id, outcome: outcome.clone(), proves };
            self.schedule(delay, Event::Node(node, NodeEvent::Answer(Box::new(arrival))));
        }
    }

    /// When a message arrives: once, never, twice, or very late.
    pub(crate) fn deliveries(&mut self) -> Vec<Millis> {
        let faulty = self.is_active();
        if faulty && self.dice.chance(self.plan.loss) {
            self.count("lost message");
            return Vec::new();
        }
        let mut all = vec![self.dice.span(0, self.plan.delay)];
        if faulty && self.dice.chance(self.plan.twice) {
            self.count("repeated message");
            let later = self.dice.about(Millis(20_000));
            all.push(later);
        }
        if faulty && self.dice.chance(self.plan.late) {
            self.count("late message");
            all[0] = self.dice.about(Millis(5_000));
        }
        all
    }
}
