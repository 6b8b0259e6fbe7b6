//! A node's uplink, as its service has it: asks the machine what to send, sends it, waits for an answer as long
//! as it may take, and says what became of it.

use std::sync::Arc;

use conferencing_core::{Command, Failure, Next, Request, RequestId, Response};
use headroom_core::Millis;

use crate::node::{Asker, NodeEvent};
use crate::pool::{Envelope, PoolEvent};
use crate::world::{Event, World};

/// An attempt is waited for this much longer than its own limit.
const SLACK: Millis = Millis(50);

/// What the uplink does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// It waits for the machine.
    Asks,
    /// It waits for the pool.
    Attempt {
        /// The attempt.
        number: u64,
    },
    /// Nothing is to be said for a while.
    Sleeps {
        /// Which time it is that it sleeps, numbered with the attempts.
        number: u64,
    },
}

/// An answer of the pool on its way.
pub struct Arrival {
    /// For which process.
    pub life: u64,
    /// For which attempt.
    pub attempt: u64,
    /// The request's name.
    pub id: RequestId,
    /// The answer.
    pub outcome: Result<Response, Failure>,
    /// It proves a commit.
    pub proves: bool,
}

impl World {
    /// There may be something to say to the pool.
    pub(crate) fn wake_uplink(&mut self, at: usize) {
        if matches!(self.nodes[at].uplink, Uplink::Sleeps { .. }) {
            self.uplink_polls(at);
        } else {
            self.nodes[at].woken = true;
        }
    }

    pub(crate) fn uplink_polls(&mut self, at: usize) {
        self.nodes[at].uplink = Uplink::Asks;
        self.node_submit(at, Command::Poll, Asker::Uplink);
    }

    pub(crate) fn uplink_goes_on(&mut self, at: usize, next: Next) {
        self.nodes[at].attempts += 1;
        let (number, life) = (self.nodes[at].attempts, self.nodes[at].lives);
        match next {
            Next::Wait { until } => {
                if std::mem::take(&mut self.nodes[at].woken) {
                    return self.uplink_polls(at);
                }
                self.nodes[at].uplink = Uplink::Sleeps { number };
                let left = until.since(self.nodes[at].host.now(self.time).boot).max(Millis(1));
                self.schedule(left, Event::Node(at, NodeEvent::Slept(life, number)));
            }
            Next::Send { id, request, timeout } => {
                self.detail(|world| format!("{} → pool: {}", world.label(at), crate::say::request(&request)));
                self.nodes[at].uplink = Uplink::Attempt { number };
                let limit = timeout.plus(SLACK);
                self.schedule(limit, Event::Node(at, NodeEvent::TimedOut(life, number, id)));
                self.send_to_pool(at, id, number, &request);
            }
        }
    }

    fn send_to_pool(&mut self, at: usize, id: RequestId, attempt: u64, request: &Arc<Request>) {
        if self.time < self.nodes[at].deaf_pool_until {
            return;
        }
        let (life, epoch) = (self.nodes[at].lives, self.pool.epoch);
        let envelope = Envelope { node: at, life, attempt, id, request: Arc::clone(request), epoch };
        for delay in self.deliveries() {
            self.schedule(delay, Event::Pool(PoolEvent::Request(Box::new(envelope.clone()))));
        }
    }

    /// An answer arrives. One of an attempt that was given up is not listened to.
    pub(crate) fn uplink_hears(&mut self, at: usize, arrival: Arrival) {
        let Uplink::Attempt { number } = self.nodes[at].uplink else { return };
        if number != arrival.attempt {
            if self.plan.unruly() && arrival.outcome.is_ok() {
                // The machine is not to need that. What it answers may be asked for in this attempt too.
                self.oracle.proved(at, arrival.id, arrival.proves);
                let jitter = u32::try_from(self.dice.below(1000)).unwrap_or(500);
                let command = Command::Answered { request: arrival.id, outcome: arrival.outcome, jitter };
                self.node_submit(at, command, Asker::Nobody);
            }
            return;
        }
        self.tell_outcome(at, &arrival.outcome);
        self.uplink_answers(at, arrival.id, arrival.outcome, arrival.proves);
    }

    fn tell_outcome(&mut self, at: usize, outcome: &Result<Response, Failure>) {
        self.detail(|world| format!("{} ← pool: {}", world.label(at), crate::say::outcome(outcome)));
        let process = self.nodes[at].process.as_ref();
        let Some(flight) = process.and_then(|process| process.volatile().flight.as_ref()) else { return };
        let request = Arc::clone(&flight.request);
        if crate::say::is_news(&request, outcome) {
            let (wish, outcome) = (crate::say::wish(&request), crate::say::outcome(outcome));
            self.news(|world| format!("{}: {wish}: {outcome}", world.label(at)));
        }
    }

    pub(crate) fn uplink_answers(
        &mut self,
        at: usize,
        id: RequestId,
        outcome: Result<Response, Failure>,
        proves: bool,
    ) {
        self.nodes[at].uplink = Uplink::Asks;
        if outcome.is_ok() {
            self.oracle.proved(at, id, proves);
        }
        let jitter = u32::try_from(self.dice.below(1000)).unwrap_or(500);
        let command = Command::Answered { request: id, outcome, jitter };
        self.node_submit(at, command, Asker::Uplink);
    }
}
