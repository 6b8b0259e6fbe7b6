//! The pool as a [`Machine`]: which commands are urgent, and who decides each.

use headroom_core::machine::{Answer, Class, Machine, Tx};
use headroom_core::{Millis, Now, Shared};

use crate::command::{Change, Command, Refusal, Reply, Request};
use crate::event::Event;
use crate::holder::Phase;
use crate::liveness::Liveness;
use crate::state::{CertificateHash, HolderId, OverCommitCause, Pool};
use crate::{activation, admin, alarms, allocate, session, settle, test_mode, tick};

/// The pool.
pub struct PoolMachine;

/// A view while deciding.
pub(crate) type PoolTx<'a> = Tx<'a, PoolMachine>;

impl Machine for PoolMachine {
    type State = Pool;
    type Volatile = Liveness;
    type Command = Command;
    type Event = Event;
    type Reply = Reply;

    fn class(command: &Command) -> Class {
        match command {
            Command::Speak { request, .. } => match request {
                Request::Mutate { change: Change::Release(_), .. } => Class::Release,
                Request::Mutate { change: Change::Adopt(_), .. } => Class::Adopt,
                Request::Mutate { .. } | Request::DryRun(_) => Class::Allocate,
                Request::Heartbeat(_) => Class::Heartbeat,
                Request::Report { .. } => Class::Report,
            },
            Command::Open { .. } | Command::RolledBack { .. } => Class::Session,
            _ => Class::Background,
        }
    }

    fn handle(tx: &mut PoolTx<'_>, now: Now, command: Command) -> Answer<Reply> {
        let mut cause = OverCommitCause::CapacityShrank;
        let mut looked = None;
        // A start looks at them itself, once it is known whether the machine was booted meanwhile.
        if !matches!(command, Command::Start { .. }) {
            look_at_clocks(tx, now);
        }
        let answer = match command {
            Command::Start { settings, fingerprint, boot_id } => {
                admin::start(tx, now, settings, fingerprint, boot_id);
                look_at_clocks(tx, now);
                Answer::now(Reply::Done)
            }
            Command::Tick { around } => {
                tick::tick(tx, now);
                looked = Some(around);
                Answer::now(Reply::Live(tx.volatile().view()))
            }
            Command::Request(wanted) => {
                Answer::now(Reply::Requested(activation::request(tx, now.wall, wanted)))
            }
            Command::MarkRequest { nonce, mark } => {
                Answer::now(Reply::Requested(activation::mark(tx, nonce, mark)))
            }
            Command::CancelRequest(nonce) => {
                Answer::now(Reply::Changed(activation::cancel(tx, now.wall, nonce)))
            }
            Command::ApplyAnswer { answer, just_now, again } => {
                let applied = activation::apply(tx, now, *answer, just_now, again);
                Answer::now(Reply::Applied(Box::new(applied)))
            }
            Command::DeleteLicense(license) => {
                Answer::now(Reply::Changed(activation::delete(tx, now.wall, &license)))
            }
            Command::TestMode(true) => Answer::now(Reply::Changed(test_mode::turn_on(tx, now.wall))),
            Command::TestMode(false) => {
                test_mode::turn_off(tx, now.wall);
                Answer::now(Reply::Changed(Ok(())))
            }
            Command::InstallLicense(installed) => {
                Answer::now(Reply::Installed(admin::install_license(tx, now, *installed)))
            }
            Command::AddNode { node, certificate } => {
                Answer::now(Reply::NodeAdded(admin::add_node(tx, now.wall, node, certificate)))
            }
            Command::RemoveNode(node) => {
                Answer::now(Reply::NodeRemoved(admin::remove_node(tx, now.wall, &node)))
            }
            Command::ForceRelease { node, leg } => {
                Answer::now(Reply::Forced(admin::force_release(tx, now.wall, &node, &leg)))
            }
            Command::Open { caller, request } => {
                Answer::now(Reply::Opened(session::open(tx, now.wall, caller, &request)))
            }
            Command::RolledBack { caller, seen, here, generation } => {
                let noted = session::rolled_back(tx, now.wall, caller, (seen, here));
                let renewed = noted.is_ok().then_some(generation);
                let live = tx.volatile_mut();
                live.renewed = renewed.or(live.renewed);
                Answer { generation: renewed, ..Answer::now(Reply::RolledBack(noted)) }
            }
            Command::Speak { caller, generation, session, request } => {
                if matches!(
                    request,
                    Request::Report { .. } | Request::Mutate { change: Change::Adopt(_), .. }
                ) {
                    // What time alone did to the licenses is not the adopted legs' doing.
                    settle_over_commit(tx, now.wall, OverCommitCause::CapacityShrank);
                    cause = OverCommitCause::AdoptedLegs;
                }
                speak(tx, now.wall, caller, (generation, session), request)
            }
        };
        settle_over_commit(tx, now.wall, cause);
        note_peaks(tx, now.wall);
        if let Some(around) = looked {
            alarms::watch(tx, now.wall, around);
        }
        answer
    }

    fn apply(state: &mut Pool, event: &Event) {
        state.apply(event);
    }

    fn snapshot(state: &Pool) -> impl Iterator<Item = Event> + Send + '_ {
        state.snapshot()
    }
}

fn speak(
    tx: &mut PoolTx<'_>,
    at: Millis,
    caller: CertificateHash,
    session: (u64, u64),
    request: Request,
) -> Answer<Reply> {
    let holder = session::current(tx, caller, session);
    if let Ok(holder) = holder
        && !matches!(request, Request::DryRun(_))
    {
        let clock = tx.volatile().clock;
        tx.volatile_mut().heard.insert(holder, clock);
    }
    match request {
        Request::Report { report, chunk, legs, total } => {
            let place = (report, chunk);
            let reported = holder.and_then(|holder| session::report(tx, at, holder, place, legs, total));
            proving(reported, Reply::Reported)
        }
        Request::DryRun(calls) => {
            Answer::now(Reply::DryRun(holder.map(|holder| {
                (allocate::dry_run(tx.state(), at, holder, calls), tx.state().pool_states(at))
            })))
        }
        Request::Heartbeat(heartbeat) => {
            let beat = holder.and_then(|holder| session::heartbeat(tx, at, holder, heartbeat));
            proving(beat, Reply::Beat)
        }
        Request::Mutate { sequence, change } => {
            let mutated = holder.and_then(|holder| mutate(tx, at, holder, sequence, change));
            proving(mutated.map(|answer| (answer, tx.state().pool_states(at))), Reply::Mutated)
        }
    }
}

/// An answer is contact, and so proves a commit; a refusal is none, and who is refused writes nothing.
fn proving<T>(result: Result<T, Refusal>, reply: impl FnOnce(Result<T, Refusal>) -> Reply) -> Answer<Reply> {
    let commit = result.is_ok();
    Answer { commit, ..Answer::now(reply(result)) }
}

/// Decides a numbered change once, and answers a retry as before.
fn mutate(
    tx: &mut PoolTx<'_>,
    at: Millis,
    id: HolderId,
    given: u64,
    change: Change,
) -> Result<Shared<crate::Mutation>, Refusal> {
    let session = tx.state().holders.get(&id).and_then(|holder| holder.session.as_ref());
    let Some(session) = session else { return Err(Refusal::SessionStale { given: 0 }) };
    if given == session.sequence
        && let Some(last) = &session.last
    {
        return if change.fits(last) {
            Ok(Shared::clone(last))
        } else {
            Err(Refusal::SequenceReused { given })
        };
    }
    if let Phase::Reporting { next, .. } = session.phase {
        return Err(Refusal::ReportRequired { due: next });
    }
    let due = session.sequence + 1;
    if given != due {
        return Err(Refusal::SequenceOrder { given, due });
    }
    let answer = match change {
        Change::Allocate(calls) => crate::Mutation::Allocated(allocate::allocate(tx, at, id, calls)),
        Change::Update(legs) => settle::update(tx, at, id, &legs),
        Change::Release(legs) => settle::release(tx, at, id, &legs),
        Change::Adopt(legs) => {
            let (leases, revoked) = settle::adopt(tx, at, id, legs);
            crate::Mutation::Adopted(leases, revoked)
        }
    };
    let answer = Shared::new(answer);
    tx.emit(Event::Mutated { holder: id, sequence: given, answer: Shared::clone(&answer) });
    Ok(answer)
}

impl Change {
    /// Whether an answer is of this change's kind.
    fn fits(&self, answer: &crate::Mutation) -> bool {
        use crate::Mutation;
        matches!(
            (self, answer),
            (Self::Allocate(_), Mutation::Allocated(_))
                | (Self::Update(_), Mutation::Updated(_))
                | (Self::Release(_), Mutation::Released)
                | (Self::Adopt(_), Mutation::Adopted(..))
        )
    }
}

/// Has license time go on, and ends what it ends, before anything is decided by it.
fn look_at_clocks(tx: &mut PoolTx<'_>, now: Now) {
    if let Some((clock, leap)) = tx.state().clock.and_then(|clock| clock.look(now)) {
        activation::set_clock(tx, clock, leap);
    }
    test_mode::watch(tx, now.wall);
}

/// Notes where use is higher than ever. A report adopts before it releases, so while one is under way
/// the books can show more than ever ran.
fn note_peaks(tx: &mut PoolTx<'_>, at: Millis) {
    let higher: Vec<_> = tx.state().usage.iter().filter(|(_, usage)| usage.in_use > usage.peak).collect();
    if higher.is_empty() || !tx.state().reported.is_empty() {
        return;
    }
    let features: Vec<_> = higher.into_iter().map(|(feature, _)| feature.clone()).collect();
    for feature in features {
        tx.emit(Event::PeakReached { feature, at });
    }
}

/// Notes where use rose above the licenses, where it is within them again, and how full pools are.
fn settle_over_commit(tx: &mut PoolTx<'_>, at: Millis, cause: OverCommitCause) {
    let (mut changes, mut crests) = (Vec::new(), Vec::new());
    for (feature, usage) in &tx.state().usage {
        let pool = tx.state().instant(feature, at);
        match (!pool.over_commit().is_zero(), usage.over_commit) {
            (true, None) => changes.push(Event::OverCommitBegan { feature: feature.clone(), cause, at }),
            (false, Some(_)) => changes.push(Event::OverCommitEnded { feature: feature.clone() }),
            _ => {}
        }
        if alarms::notable(&pool) {
            crests.push((feature.clone(), pool));
        }
    }
    for event in changes {
        tx.emit(event);
    }
    for (feature, pool) in crests {
        alarms::note_crest(tx, feature, pool);
    }
}
