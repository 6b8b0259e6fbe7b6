//! What the pool does: with requests, by the passing of time, for an administrator, and after a kill.

use crate::contract::Contract;
use crate::message::{Answer, Change, Message, Reply, Request, Verdict, Wish};
use crate::rule::Rule;
use crate::state::{Books, Breach, Holder, Leg, Legs, Phase, Session, State};

impl Contract {
    /// Takes a request, and says whether that did anything. With `turned`, the calls of one request are
    /// judged in the other order.
    pub(crate) fn take(&self, state: &mut State, request: Request, turned: bool) -> bool {
        let before = state.pool.books;
        let Some(answer) = self.serve(state, request, turned) else { return false };
        self.watch_fence(state, &before, request);
        self.keep(state, before);
        let reply = Reply { node: request.node, session: request.session, answer };
        // An answer without changes waits too: it may say what is not durable yet.
        if state.pool.durable.is_some() && !self.lacks(Rule::PoolAnswersWhenDurable) {
            if let Err(place) = state.pool.unsent.binary_search(&reply) {
                state.pool.unsent.insert(place, reply);
            }
        } else {
            say(state, reply);
        }
        true
    }

    /// Keeps what a restart would find. Where no kill can come any more, every decision is durable at
    /// once: nobody could tell the difference.
    fn keep(&self, state: &mut State, before: Books) {
        if state.chances.pool_kills > 0 && state.pool.durable.is_none() && before != state.pool.books {
            state.pool.durable = Some(before);
        }
    }

    /// What was decided is durable: now it can be told.
    pub(crate) fn commit(state: &mut State) {
        state.pool.durable = None;
        for reply in std::mem::take(&mut state.pool.unsent) {
            say(state, reply);
        }
    }

    /// The process is killed, and the next one finds what was durable. Sessions are among that.
    pub(crate) fn kill_pool(state: &mut State) {
        if let Some(durable) = state.pool.durable.take() {
            state.pool.books = durable;
        }
        state.pool.unsent.clear();
        state.chances.pool_kills -= 1;
    }

    /// A node was not heard for so long that its leases return.
    pub(crate) fn lapse(&self, state: &mut State, node: usize) {
        let before = state.pool.books;
        let holder = &mut state.pool.books[node];
        (holder.session, holder.held) = (Session::Lapsed, Legs::default());
        state.chances.sessions -= 1;
        self.keep(state, before);
    }

    /// An administrator takes a lease back.
    pub(crate) fn force(&self, state: &mut State, node: usize, leg: usize) {
        let before = state.pool.books;
        let holder = &mut state.pool.books[node];
        holder.held = holder.held.but(Legs::one(leg));
        holder.buried = holder.buried.and(Legs::one(leg));
        state.chances.force -= 1;
        self.keep(state, before);
    }

    fn serve(&self, state: &mut State, request: Request, turned: bool) -> Option<Answer> {
        let holder = state.pool.books[usize::from(request.node)];
        if let Wish::Open { legs } = request.wish {
            return self.open(state, request, legs);
        }
        let stale = request.session != holder.open;
        let over = stale && !(self.lacks(Rule::Fencing) && request.session < holder.open);
        if over || holder.session == Session::Lapsed && !self.lacks(Rule::LapsedIsOver) {
            return None;
        }
        match request.wish {
            Wish::Open { .. } => None,
            Wish::Report { chunk, legs, last } => self.report(state, request.node, (chunk, last), legs),
            Wish::Mutation { sequence, change, legs } => {
                self.mutate(state, request, sequence, change, legs, turned)
            }
            Wish::Heartbeat => Some(Answer::Beaten { revoked: holder.buried }),
        }
    }

    /// Begins a session, which ends the one before.
    fn open(&self, state: &mut State, request: Request, legs: Legs) -> Option<Answer> {
        let holder = &mut state.pool.books[usize::from(request.node)];
        let late = request.session <= holder.open;
        if late && (request.session == holder.open || !self.lacks(Rule::NumberedOpenings)) {
            return None;
        }
        let same = holder.held == legs || self.lacks(Rule::ReportWhenBooksDiffer);
        let session =
            if same { Session::Active } else { Session::Reporting { next: 0, legs: Legs::default() } };
        *holder = Holder { open: request.session, session, sequence: 0, last: None, ..*holder };
        Some(Answer::Opened { report: !same })
    }

    /// Takes a chunk of a report. Its legs are recorded even above the limit: they run.
    fn report(&self, state: &mut State, node: u8, (chunk, last): (u8, bool), legs: Legs) -> Option<Answer> {
        let running = state.legs_of(node.into(), |leg| leg == Leg::Running { held: true });
        let holder = &mut state.pool.books[usize::from(node)];
        let answer = Answer::Reported { chunk, revoked: legs.among(holder.buried) };
        let taken = match holder.session {
            Session::Reporting { next, legs } if chunk == next => legs,
            Session::Active if self.lacks(Rule::ChunksOnce) => Legs::default(),
            Session::Reporting { next, .. } if chunk > next => return None,
            // It is in the books already: its answer was lost, or it comes late.
            _ => return Some(answer),
        };
        let taken = taken.and(legs);
        let buried = if self.lacks(Rule::Tombstones) { Legs::default() } else { holder.buried };
        holder.held = holder.held.and(legs.but(buried));
        holder.session = Session::Reporting { next: chunk + 1, legs: taken };
        if last || self.lacks(Rule::ReleaseAfterLastChunk) {
            let cut = !holder.held.but(taken).among(running).none();
            holder.held = holder.held.among(taken);
            if last {
                holder.session = Session::Active;
            }
            if cut {
                state.breach.get_or_insert(Breach::Cut);
            }
        }
        Some(answer)
    }

    /// Carries a numbered mutation out once, and answers a retry as before.
    fn mutate(
        &self,
        state: &mut State,
        request: Request,
        sequence: u8,
        change: Change,
        legs: Legs,
        turned: bool,
    ) -> Option<Answer> {
        let holder = state.pool.books[usize::from(request.node)];
        if !self.lacks(Rule::NumberedMutations) {
            if let (true, Some(verdict)) = (sequence == holder.sequence, holder.last) {
                return (verdict.change == change).then_some(Answer::Mutated { sequence, verdict });
            }
            if sequence != holder.sequence + 1 || matches!(holder.session, Session::Reporting { .. }) {
                return None;
            }
        }
        if was_answered(state, request, sequence) {
            state.breach.get_or_insert(Breach::CarriedOutTwice);
        }
        let (mut granted, mut revoked) = (Legs::default(), Legs::default());
        let node = usize::from(request.node);
        match change {
            Change::Allocate => granted = self.allocate(state, node, legs, turned),
            Change::Adopt => {
                let books = &mut state.pool.books[node];
                revoked = if self.lacks(Rule::Tombstones) { revoked } else { legs.among(books.buried) };
                granted = legs.but(revoked);
                books.held = books.held.and(granted);
            }
            Change::Release => {
                let books = &mut state.pool.books[node];
                books.held = books.held.but(legs);
                books.buried = books.buried.but(legs);
            }
        }
        let verdict = Verdict { change, granted, revoked };
        let books = &mut state.pool.books[node];
        (books.sequence, books.last) = (sequence, Some(verdict));
        Some(Answer::Mutated { sequence, verdict })
    }

    /// Grants or denies each leg. One that holds a lease already is answered the same grant.
    fn allocate(&self, state: &mut State, node: usize, legs: Legs, turned: bool) -> Legs {
        let mut granted = Legs::default();
        let mut order: Vec<_> = legs.each().collect();
        if turned {
            order.reverse();
        }
        for leg in order {
            let (used, limit) = (state.pool.in_use(), u32::from(state.pool.capacity));
            let holder = &mut state.pool.books[node];
            let fits = if self.lacks(Rule::LimitWhenOverCommitted) { used != limit } else { used < limit };
            if holder.held.has(leg) {
                granted = granted.and(Legs::one(leg));
            } else if fits && (!holder.buried.has(leg) || self.lacks(Rule::Tombstones)) {
                granted = granted.and(Legs::one(leg));
                holder.held = holder.held.and(Legs::one(leg));
                if state.pool.in_use() > limit {
                    state.breach.get_or_insert(Breach::AboveLimit);
                }
            }
        }
        granted
    }

    /// Notes when a session that was over has changed the books.
    fn watch_fence(&self, state: &mut State, before: &Books, request: Request) {
        let holder = before[usize::from(request.node)];
        let over = match request.wish {
            Wish::Open { .. } => request.session < holder.open,
            _ => request.session != holder.open || holder.session == Session::Lapsed,
        };
        if over && *before != state.pool.books {
            state.breach.get_or_insert(Breach::Fence);
        }
    }
}

/// Whether a mutation's answer is under way or has arrived.
fn was_answered(state: &State, request: Request, number: u8) -> bool {
    let node = &state.nodes[usize::from(request.node)];
    let heard = node.open == request.session
        && matches!(node.phase, Phase::Active { sequence } if sequence >= number);
    heard || answers(state, request.node, request.session, number).next().is_some()
}

/// The answers to a mutation that are under way.
fn answers(state: &State, node: u8, session: u8, number: u8) -> impl Iterator<Item = Verdict> {
    state.network.iter().filter_map(move |message| match message {
        Message::Reply(Reply {
            node: to,
            session: within,
            answer: Answer::Mutated { sequence, verdict },
        }) if (*to, *within, *sequence) == (node, session, number) => Some(*verdict),
        _ => None,
    })
}

/// Sends a reply.
fn say(state: &mut State, reply: Reply) {
    if let Answer::Mutated { sequence, verdict } = reply.answer
        && answers(state, reply.node, reply.session, sequence).any(|before| before != verdict)
    {
        state.breach.get_or_insert(Breach::AnsweredOtherwise);
    }
    state.send(Message::Reply(reply));
}
