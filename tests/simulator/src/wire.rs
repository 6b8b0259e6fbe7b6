//! What the wire does between the two machines: a node's requests as the pool's commands, the pool's
//! replies as the node's responses.

use conferencing_core::uplink::{PoolLease, Pools, Verdict as NodeVerdict};
use conferencing_core::{Failure, PastKind, Request as NodeRequest, Response, Session};
use headroom_core::{Millis, Position};
use management_core as pool;
use management_core::{CertificateHash, Command, Refusal, Reply, Request};

fn pools(states: &[pool::PoolState], position: Position) -> Pools {
    Pools { full: states.iter().map(|state| (state.feature.clone(), state.full)).collect(), position }
}

fn lease(leased: &pool::Leased) -> PoolLease {
    PoolLease {
        leg: leased.leg.clone(),
        lease: leased.lease,
        charge: leased.charge.clone(),
        owner: leased.owner.clone(),
    }
}

fn verdict<T, U>(given: &pool::Verdict<T>, grant: impl Fn(&T) -> U) -> NodeVerdict<U> {
    match given {
        pool::Verdict::Granted(granted) => NodeVerdict::Granted(grant(granted)),
        pool::Verdict::Denied(reason) => NodeVerdict::Denied(*reason),
        pool::Verdict::Refused { field, description } => {
            NodeVerdict::Refused { field: field.clone(), text: description.clone() }
        }
    }
}

/// A node's request as the pool's command.
#[must_use]
pub fn command(caller: CertificateHash, request: &NodeRequest) -> Command {
    let speak = |Session { generation, number }, request| Command::Speak {
        caller,
        generation,
        session: number,
        request,
    };
    let mutate = |session, sequence, change| speak(session, Request::Mutate { sequence, change });
    match request.clone() {
        NodeRequest::Open { nonce, predecessor, number, legs, .. } => Command::Open {
            caller,
            request: pool::OpenRequest {
                nonce: pool::Nonce(nonce.0),
                predecessor: predecessor.map(|nonce| pool::Nonce(nonce.0)),
                open_number: number,
                legs,
            },
        },
        NodeRequest::Report { session, report, chunk, legs, total } => {
            speak(session, Request::Report { report, chunk, legs, total })
        }
        NodeRequest::Release { session, sequence, legs } => {
            mutate(session, sequence, pool::Change::Release(legs))
        }
        NodeRequest::Adopt { session, sequence, legs } => {
            mutate(session, sequence, pool::Change::Adopt(legs))
        }
        NodeRequest::Update { session, sequence, legs } => {
            mutate(session, sequence, pool::Change::Update(legs))
        }
        NodeRequest::Allocate { session, sequence, calls } => {
            mutate(session, sequence, pool::Change::Allocate(calls))
        }
        NodeRequest::Heartbeat { session, sequence, legs, told, past, optimistic } => {
            let past = past.into_iter().map(|event| pool::Past {
                number: event.number,
                at: event.at,
                what: match event.what {
                    PastKind::Denied { call, reason } => pool::PastEvent::Denied { call, reason },
                    PastKind::Ended { leg } => pool::PastEvent::Ended(leg),
                },
            });
            let optimistic = u32::try_from(optimistic).unwrap_or(u32::MAX);
            let heartbeat = pool::Heartbeat { sequence, legs, told, past: past.collect(), optimistic };
            speak(session, Request::Heartbeat(heartbeat))
        }
    }
}

fn failure(refusal: &Refusal, retry_after: Millis) -> Failure {
    match refusal {
        Refusal::Revoked => Failure::Revoked,
        Refusal::Unknown => Failure::Undecided { retry_after: None },
        Refusal::Busy { .. } => Failure::Undecided { retry_after: Some(retry_after) },
        Refusal::OpenNumberOld { .. } => Failure::OpenNumberOld,
        Refusal::ReportRequired { .. } | Refusal::ChunkOrder { .. } | Refusal::ReportMismatch { .. } => {
            Failure::ReportRequired
        }
        _ => Failure::Stale,
    }
}

/// The pool's reply as the node's response; `retry_after` is what one is told that has to wait for its turn.
///
/// # Errors
/// What the refusal means to the node.
///
/// # Panics
/// When the reply is none to a node.
pub fn response(reply: Reply, position: Position, retry_after: Millis) -> Result<Response, Failure> {
    Ok(match reply {
        Reply::Opened(opened) => {
            let opened = opened.map_err(|refusal| failure(&refusal, retry_after))?;
            Response::Opened {
                session: Session { generation: position.generation, number: opened.session },
                node: opened.node,
                ttl: opened.settings.session_ttl,
                heartbeat: opened.settings.heartbeat,
                report_required: opened.report_required,
                licenses: Vec::new(),
                pools: pools(&opened.pools, position),
            }
        }
        Reply::Reported(reported) => {
            let reported = reported.map_err(|refusal| failure(&refusal, retry_after))?;
            let pools = pools(&[], position);
            Response::Reported { complete: reported.complete, revoked: reported.revoked, pools }
        }
        Reply::Beat(beat) => {
            let beat = beat.map_err(|refusal| failure(&refusal, retry_after))?;
            Response::Beaten {
                revoked: beat.revoked,
                report_required: beat.report_required,
                past_recorded: beat.past_recorded,
                licenses: Vec::new(),
                pools: pools(&beat.pools, position),
            }
        }
        Reply::Mutated(mutated) => {
            let (mutation, states) = mutated.map_err(|refusal| failure(&refusal, retry_after))?;
            let pools = pools(&states, position);
            match &*mutation {
                pool::Mutation::Released => Response::Released { pools },
                pool::Mutation::Adopted(leases, revoked) => Response::Adopted {
                    leases: leases.iter().map(lease).collect(),
                    revoked: revoked.clone(),
                    pools,
                },
                pool::Mutation::Updated(answers) => Response::Updated {
                    verdicts: answers.iter().map(|answer| verdict(&answer.verdict, lease)).collect(),
                    pools,
                },
                pool::Mutation::Allocated(answers) => Response::Allocated {
                    verdicts: answers
                        .iter()
                        .map(|answer| verdict(&answer.verdict, |leases| leases.iter().map(lease).collect()))
                        .collect(),
                    pools,
                },
            }
        }
        other => panic!("an answer of another kind: {other:?}"),
    })
}

/// The session that a request speaks in; none when it opens one.
#[must_use]
pub fn session(request: &NodeRequest) -> Option<Session> {
    match request {
        NodeRequest::Open { .. } => None,
        NodeRequest::Report { session, .. }
        | NodeRequest::Release { session, .. }
        | NodeRequest::Adopt { session, .. }
        | NodeRequest::Update { session, .. }
        | NodeRequest::Allocate { session, .. }
        | NodeRequest::Heartbeat { session, .. } => Some(*session),
    }
}

/// The number of a mutation.
#[must_use]
pub const fn sequence(request: &NodeRequest) -> Option<u64> {
    match request {
        NodeRequest::Release { sequence, .. }
        | NodeRequest::Adopt { sequence, .. }
        | NodeRequest::Update { sequence, .. }
        | NodeRequest::Allocate { sequence, .. } => Some(*sequence),
        NodeRequest::Open { .. } | NodeRequest::Report { .. } | NodeRequest::Heartbeat { .. } => None,
    }
}

/// Why the pool did not do what a node asked.
#[must_use]
pub const fn refusal(reply: &Reply) -> Option<&Refusal> {
    match reply {
        Reply::Opened(Err(refusal))
        | Reply::Reported(Err(refusal))
        | Reply::Mutated(Err(refusal))
        | Reply::Beat(Err(refusal)) => Some(refusal),
        _ => None,
    }
}
