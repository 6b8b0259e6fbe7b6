//! Random commands, lost, repeated and late messages, restarts: the books agree at rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use headroom_core::{LegId, Media, Millis};
use proptest::prelude::*;

use super::*;
use crate::{Failure, Request, RequestId, Response};

#[derive(Debug, Clone)]
enum Step {
    Admit {
        legs: Vec<u8>,
        replaces: Option<u8>,
        media: bool,
    },
    End(u8),
    Change {
        leg: u8,
        media: bool,
    },
    Expire,
    Poll,
    /// The pool serves a request that was sent at some time.
    Serve(prop::sample::Index),
    /// An answer arrives.
    Answer(prop::sample::Index),
    TimeOut,
    Restart,
    Lapse,
    Revoke(u8),
    Pass(i64),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::collection::vec(0..10u8, 1..3), prop::option::weighted(0.2, 0..10u8), any::<bool>())
            .prop_map(|(legs, replaces, media)| Step::Admit { legs, replaces, media }),
        3 => (0..10u8).prop_map(Step::End),
        2 => (0..10u8, any::<bool>()).prop_map(|(leg, media)| Step::Change { leg, media }),
        2 => Just(Step::Expire),
        6 => Just(Step::Poll),
        6 => any::<prop::sample::Index>().prop_map(Step::Serve),
        6 => any::<prop::sample::Index>().prop_map(Step::Answer),
        1 => Just(Step::TimeOut),
        1 => Just(Step::Restart),
        1 => Just(Step::Lapse),
        1 => (0..10u8).prop_map(Step::Revoke),
        2 => prop_oneof![Just(10), Just(20_000), Just(61_000)].prop_map(Step::Pass),
        1 => Just(Step::Sync),
    ]
}

fn name(n: u8) -> LegId {
    leg_id(&format!("leg{n}"))
}

/// Messages on their way, and what the media server was promised.
#[derive(Default)]
struct World {
    sent: Vec<Arc<Request>>,
    answers: Vec<(RequestId, Result<Response, Failure>)>,
    pending: Vec<(RequestId, Arc<Request>)>,
    promised: BTreeSet<LegId>,
    asks: std::collections::BTreeMap<AskId, Vec<LegId>>,
}

impl World {
    fn take(&mut self, rig: &mut Rig, reply: Reply) {
        if let Reply::Uplink { next: Next::Send { id, request, .. }, .. } = reply {
            self.sent.push(Arc::clone(&request));
            self.pending.push((id, request));
        }
        for (ask, outcome) in std::mem::take(&mut rig.answers) {
            if let Outcome::Call(decision) = outcome {
                self.decided(rig, ask, &decision);
            }
        }
    }

    fn decided(&mut self, rig: &mut Rig, ask: AskId, decision: &Decision) {
        let legs = self.asks.remove(&ask).unwrap_or_default();
        if let Decision::Granted(granted) = decision {
            let now: Vec<_> = granted.legs.iter().map(|leg| leg.leg.clone()).collect();
            assert!(now.iter().all(|leg| legs.contains(leg)));
            self.promised.extend(now.iter().cloned());
            rig.run(Command::Delivered { legs: now });
        }
    }

    fn step(&mut self, rig: &mut Rig, step: Step) {
        let reply = match step {
            Step::Admit { legs, replaces, media } => {
                rig.asks += 1;
                let ask = AskId(rig.asks);
                let ids: BTreeSet<_> = legs.iter().map(|n| format!("leg{n}")).collect();
                let ids: Vec<_> = ids.iter().map(String::as_str).collect();
                let mut call = call(&format!("call{}", legs[0] % 3), &ids);
                call.legs[0].replaces = replaces.map(name).filter(|old| *old != call.legs[0].leg);
                if !media {
                    call.legs[0].media = Media::CONTROL_ONLY;
                }
                self.asks.insert(ask, call.legs.iter().map(|leg| leg.leg.clone()).collect());
                match rig.run(Command::Admit { ask, call }) {
                    Reply::Decided(decision) => {
                        self.decided(rig, ask, &decision);
                        Reply::Done
                    }
                    reply => reply,
                }
            }
            Step::End(n) => {
                self.promised.remove(&name(n));
                rig.run(Command::EndLegs { legs: vec![name(n)] })
            }
            Step::Change { leg, media } => {
                rig.asks += 1;
                let media = if media { Media::AUDIO_VIDEO } else { Media::CONTROL_ONLY };
                rig.run(Command::UpdateLegs { legs: vec![(AskId(rig.asks), name(leg), media)] })
            }
            Step::Expire => {
                let asks = rig.bench.volatile.asks.keys().copied().collect();
                rig.run(Command::Expire { asks })
            }
            Step::Poll => rig.run(Command::Poll),
            Step::Serve(at) => self.serve(rig, at),
            Step::Answer(at) if !self.answers.is_empty() => {
                let (request, outcome) = at.get(&self.answers).clone();
                rig.run(Command::Answered { request, outcome, jitter: 0 })
            }
            Step::TimeOut if rig.bench.volatile.flight.is_some() => {
                let request = RequestId(rig.bench.volatile.requests);
                let outcome = Err(Failure::Undecided { retry_after: None });
                rig.run(Command::Answered { request, outcome, jitter: 0 })
            }
            Step::Restart => {
                // Connections end with the process; what was sent may still arrive at the pool.
                self.pending.clear();
                self.answers.clear();
                self.asks.clear();
                rig.restart();
                Reply::Done
            }
            Step::Lapse => {
                rig.pool.lapse();
                Reply::Done
            }
            Step::Revoke(n) => {
                rig.pool.revoke(&name(n));
                Reply::Done
            }
            Step::Pass(span) => {
                rig.pass(Millis(span));
                // No question waits for so long that the id of an ended leg can be used again.
                rig.run(Command::Tick { synchronized: true })
            }
            Step::Sync => {
                let legs = self.promised.iter().cloned().collect();
                let as_of = rig.bench.state.counters.revision;
                rig.run(Command::Sync { source: Default::default(), as_of, legs })
            }
            Step::Answer(_) | Step::TimeOut => Reply::Done,
        };
        self.take(rig, reply);
        // A transfer ends the leg whose unit it took.
        let state = &rig.bench.state;
        self.promised.retain(|leg| state.legs.contains_key(leg) || !state.dead.contains(leg));
    }

    fn serve(&mut self, rig: &mut Rig, at: prop::sample::Index) -> Reply {
        if self.sent.is_empty() {
            return Reply::Done;
        }
        // Half of the time the newest request, else any one that was ever sent.
        let any = at.get(&self.sent);
        let request = if at.index(2) == 0 { self.sent.last().unwrap_or(any) } else { any }.clone();
        let answer = rig.pool.serve(&request);
        if let Some((id, _)) = self.pending.iter().find(|(_, sent)| Arc::ptr_eq(sent, &request)) {
            self.answers.push((*id, answer));
        }
        Reply::Done
    }
}

fn come_to_rest(rig: &mut Rig) {
    let asks = rig.bench.volatile.asks.keys().copied().collect();
    rig.run(Command::Expire { asks });
    for _ in 0..4 {
        rig.pass(Millis(20_000));
        rig.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn at_rest_the_legs_that_run_are_the_leases_held_and_no_grant_is_lost(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut rig = Rig::new(3);
        let mut world = World::default();
        rig.settle();
        for step in steps {
            world.step(&mut rig, step);
            for leg in &world.promised {
                prop_assert!(rig.bench.state.legs.contains_key(leg), "{leg} was granted and is lost");
            }
        }
        rig.check_snapshot();
        come_to_rest(&mut rig);
        rig.check_rest();
        prop_assert_eq!(rig.pool.drift, 0, "a heartbeat found the books apart");
        let before = rig.bench.state.legs.clone();
        rig.restart();
        come_to_rest(&mut rig);
        prop_assert_eq!(&before, &rig.bench.state.legs, "a restart changes nothing");
        rig.check_rest();
    }
}
