//! `LeaseService`: decode, authenticate, submit, encode, and nothing else.

use std::time::Duration;

use headroom_core::Position;
use headroom_proto::lease as pb;
use headroom_proto::lease::lease_service_server::LeaseService;
use headroom_shared::committer::{Done, Handle};
use headroom_shared::convert::{decode, encode};
use headroom_shared::tls;
use management_core::{
    CertificateHash, Change, Command, Mutation, PoolMachine, PoolState, Reply, Request as Ask, records_lost,
    same_history,
};
use tonic::{Request, Response, Status};

use crate::lease_convert as convert;

/// A request that still waits to be decided after this time is dropped undecided.
const QUEUE_LIMIT: Duration = Duration::from_millis(200);
/// The service.
pub struct LeaseApi {
    pool: Handle<PoolMachine>,
    comparing: tokio::sync::Mutex<()>,
}

/// Who speaks in which session.
struct Speaker {
    caller: CertificateHash,
    generation: u64,
    session: u64,
}

fn caller<T>(request: &Request<T>) -> Result<CertificateHash, Status> {
    tls::peer_hash(request)
        .map(CertificateHash)
        .ok_or_else(|| Status::unauthenticated("a client certificate of this deployment is needed"))
}

impl LeaseApi {
    /// The service over a pool.
    #[must_use]
    pub fn new(pool: Handle<PoolMachine>) -> Self {
        Self { pool, comparing: tokio::sync::Mutex::default() }
    }

    /// Who speaks; a session of another generation is stale whatever its number.
    fn speaker<T>(&self, request: &Request<T>, session: Option<pb::Session>) -> Result<Speaker, Status> {
        let caller = caller(request)?;
        let session = decode::required(session, "session")?;
        let here = self.pool.view().position;
        same_history(here, session.generation, session.number)
            .map_err(|refusal| convert::refusal(&refusal))?;
        Ok(Speaker { caller, generation: session.generation, session: session.number })
    }

    /// A node that has seen later records than this store holds proves that records were lost.
    async fn compare(&self, caller: CertificateHash, seen: Position) -> Result<(), Status> {
        if !records_lost(self.pool.view().position, seen) {
            return Ok(());
        }
        // One finds it; the others that knock at the same time then meet another generation.
        let _one = self.comparing.lock().await;
        let here = self.pool.view().position;
        if !records_lost(here, seen) {
            return Ok(());
        }
        let generation = getrandom::u64().map_err(|error| Status::internal(error.to_string()))?;
        let (seen, here) = (seen.sequence, here.sequence);
        let command = Command::RolledBack { caller, seen, here, generation };
        match self.pool.submit(command).await?.reply {
            Reply::RolledBack(Ok(())) => Ok(()),
            Reply::RolledBack(Err(refusal)) => Err(convert::refusal(&refusal)),
            other => Err(convert::unexpected(&other)),
        }
    }

    async fn speak(&self, speaker: Speaker, request: Ask) -> Result<Done<Reply>, Status> {
        let Speaker { caller, generation, session } = speaker;
        let command = Command::Speak { caller, generation, session, request };
        Ok(self.pool.submit_within(command, QUEUE_LIMIT).await?)
    }

    async fn mutate(
        &self,
        speaker: Speaker,
        sequence: u64,
        change: Change,
    ) -> Result<(Answered, Position), Status> {
        let done = self.speak(speaker, Ask::Mutate { sequence, change }).await?;
        match done.reply {
            Reply::Mutated(Ok((answer, pools))) => {
                Ok((Answered { answer, pools: convert::pools(&pools) }, done.position))
            }
            Reply::Mutated(Err(refusal)) => Err(convert::refusal(&refusal)),
            other => Err(convert::unexpected(&other)),
        }
    }
}

/// A mutation's answer with the pools as they are now.
struct Answered {
    answer: headroom_core::Shared<Mutation>,
    pools: Vec<pb::PoolState>,
}

#[tonic::async_trait]
impl LeaseService for LeaseApi {
    async fn open_session(
        &self,
        request: Request<pb::OpenSessionRequest>,
    ) -> Result<Response<pb::OpenSessionResponse>, Status> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let asked = convert::open_request(&message)?;
        if let Some(seen) = message.seen.map(decode::position) {
            self.compare(caller, seen).await?;
        }
        let command = Command::Open { caller, request: asked };
        let done = self.pool.submit_within(command, QUEUE_LIMIT).await?;
        match done.reply {
            Reply::Opened(Ok(opened)) => {
                tracing::info!(node = %opened.node, session = opened.session, report = opened.report_required, "session opened");
                Ok(Response::new(convert::opened(opened, done.position)))
            }
            Reply::Opened(Err(refusal)) => {
                tracing::warn!(%refusal, "session refused");
                Err(convert::refusal(&refusal))
            }
            other => Err(convert::unexpected(&other)),
        }
    }

    async fn report(
        &self,
        request: Request<pb::ReportRequest>,
    ) -> Result<Response<pb::ReportResponse>, Status> {
        let speaker = self.speaker(&request, request.get_ref().session)?;
        let message = request.into_inner();
        let total = message.total.as_ref().map(decode::leg_set).transpose();
        let ask = Ask::Report {
            report: message.report,
            chunk: message.chunk,
            legs: decode::running_legs(&message.legs, "legs")?,
            total: total.map_err(|error| error.within("total"))?,
        };
        let done = self.speak(speaker, ask).await?;
        match done.reply {
            Reply::Reported(Ok(reported)) => Ok(Response::new(pb::ReportResponse {
                chunk: reported.chunk,
                complete: reported.complete,
                revoked: convert::leg_names(&reported.revoked),
                position: Some(encode::position(done.position)),
            })),
            Reply::Reported(Err(refusal)) => Err(convert::refusal(&refusal)),
            other => Err(convert::unexpected(&other)),
        }
    }

    async fn allocate(
        &self,
        request: Request<pb::AllocateRequest>,
    ) -> Result<Response<pb::AllocateResponse>, Status> {
        let speaker = self.speaker(&request, request.get_ref().session)?;
        let message = request.into_inner();
        let calls = decode::calls(&message.calls, "calls")?;
        let (answers, pools, position) = if message.dry_run {
            let done = self.speak(speaker, Ask::DryRun(calls)).await?;
            match done.reply {
                Reply::DryRun(Ok((answers, pools))) => (
                    answers.iter().map(convert::call_answer).collect(),
                    convert::pools(&pools),
                    done.position,
                ),
                Reply::DryRun(Err(refusal)) => return Err(convert::refusal(&refusal)),
                other => return Err(convert::unexpected(&other)),
            }
        } else {
            let (answered, position) =
                self.mutate(speaker, message.sequence, Change::Allocate(calls)).await?;
            let Mutation::Allocated(answers) = &*answered.answer else {
                return Err(convert::unexpected(&answered.answer));
            };
            (answers.iter().map(convert::call_answer).collect(), answered.pools, position)
        };
        Ok(Response::new(pb::AllocateResponse { answers, pools, position: Some(encode::position(position)) }))
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::UpdateResponse>, Status> {
        let speaker = self.speaker(&request, request.get_ref().session)?;
        let message = request.into_inner();
        let change = Change::Update(decode::leg_updates(&message.legs, "legs")?);
        let (answered, position) = self.mutate(speaker, message.sequence, change).await?;
        let Mutation::Updated(answers) = &*answered.answer else {
            return Err(convert::unexpected(&answered.answer));
        };
        Ok(Response::new(pb::UpdateResponse {
            answers: answers.iter().map(convert::leg_answer).collect(),
            pools: answered.pools,
            position: Some(encode::position(position)),
        }))
    }

    async fn release(
        &self,
        request: Request<pb::ReleaseRequest>,
    ) -> Result<Response<pb::ReleaseResponse>, Status> {
        let speaker = self.speaker(&request, request.get_ref().session)?;
        let message = request.into_inner();
        let change = Change::Release(decode::leg_ids(&message.legs, "legs")?);
        let (answered, position) = self.mutate(speaker, message.sequence, change).await?;
        Ok(Response::new(pb::ReleaseResponse {
            pools: answered.pools,
            position: Some(encode::position(position)),
        }))
    }

    async fn adopt(&self, request: Request<pb::AdoptRequest>) -> Result<Response<pb::AdoptResponse>, Status> {
        let speaker = self.speaker(&request, request.get_ref().session)?;
        let message = request.into_inner();
        let change = Change::Adopt(decode::running_legs(&message.legs, "legs")?);
        let (answered, position) = self.mutate(speaker, message.sequence, change).await?;
        let Mutation::Adopted(leases, revoked) = &*answered.answer else {
            return Err(convert::unexpected(&answered.answer));
        };
        Ok(Response::new(pb::AdoptResponse {
            leases: leases.iter().map(convert::lease).collect(),
            revoked: convert::leg_names(revoked),
            pools: answered.pools,
            position: Some(encode::position(position)),
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let speaker = self.speaker(&request, request.get_ref().session)?;
        let beat = convert::heartbeat(request.get_ref())?;
        let done = self.speak(speaker, Ask::Heartbeat(beat)).await?;
        match done.reply {
            Reply::Beat(Ok(beat)) => {
                if let Some(here) = beat.drift {
                    let message = request.get_ref();
                    tracing::error!(
                        session = message.session.map_or(0, |session| session.number),
                        sequence = message.sequence,
                        node = ?message.legs,
                        ?here,
                        "the books of a node and the pool differ at the same number: the node reports"
                    );
                }
                Ok(Response::new(beat_response(&beat.pools, &beat, done.position)))
            }
            Reply::Beat(Err(refusal)) => Err(convert::refusal(&refusal)),
            other => Err(convert::unexpected(&other)),
        }
    }
}

fn beat_response(
    pools: &[PoolState],
    beat: &management_core::Beat,
    position: Position,
) -> pb::HeartbeatResponse {
    pb::HeartbeatResponse {
        pools: convert::pools(pools),
        revoked: convert::leg_names(&beat.revoked),
        report_required: beat.report_required,
        past_recorded: beat.past_recorded,
        position: Some(encode::position(position)),
        licenses: convert::licenses(pools),
    }
}
