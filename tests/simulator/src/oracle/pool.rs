//! The promises of the pool, checked after each of its commands.

use std::collections::BTreeMap;

use headroom_core::{Feature, Millis, Now, Position, Units};
use management_core::{
    CertificateHash, Change, Command, EndedHow, Event, HolderId, LeaseKey, Origin, Pool, Reply, Request,
};

use super::Broken;
use crate::pool::Envelope;
use crate::world::World;

/// What a command is, and how the pool stood before it.
pub struct PoolStep {
    kind: Kind,
    caller: Option<CertificateHash>,
    /// The session that it speaks in.
    session: Option<u64>,
    before: Pool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Asks for units.
    Asks,
    /// Says what runs.
    Tells,
    /// Gives back, or keeps a session.
    Other,
    /// Not of a node.
    Own,
}

impl PoolStep {
    /// Looks at a command before it is decided.
    #[must_use]
    pub fn before(world: &World, command: &Command) -> Self {
        let before = world.pool.process.as_ref().map(|process| process.state().clone()).unwrap_or_default();
        let mut step = Self { kind: Kind::Own, caller: None, session: None, before };
        match command {
            Command::Speak { caller, session, request, .. } => {
                step.caller = Some(*caller);
                step.session = Some(*session);
                step.kind = match request {
                    Request::Report { .. } => Kind::Tells,
                    Request::Heartbeat(_) | Request::DryRun(_) => Kind::Other,
                    Request::Mutate { change: Change::Allocate(_) | Change::Update(_), .. } => Kind::Asks,
                    Request::Mutate { change: Change::Adopt(_), .. } => Kind::Tells,
                    Request::Mutate { change: Change::Release(_), .. } => Kind::Other,
                };
            }
            Command::Open { caller, .. } => (step.kind, step.caller) = (Kind::Other, Some(*caller)),
            _ => {}
        }
        step
    }
}

/// Units that the licenses permit, counted here again.
fn limit(pool: &Pool, feature: &Feature, wall: Millis) -> Units {
    if pool.test_mode.on() {
        return Units::UNLIMITED;
    }
    let time = pool.license_time(wall);
    let mut sum = Units::ZERO;
    for installed in pool.licenses.values() {
        let document = &installed.document;
        let grace = Millis::DAY.times(i64::from(document.grace_days.unwrap_or(0)));
        let ended = document.not_after.is_some_and(|end| time >= end.plus(grace));
        let fits = pool.fingerprint.as_ref().is_some_and(|here| here.matches(&document.fingerprint));
        if installed.returning.is_some() || time < document.not_before || ended || !fits {
            continue;
        }
        for licensed in document.features.iter().filter(|licensed| licensed.feature == *feature) {
            sum = sum.plus(licensed.quantity).plus(licensed.overdraft);
        }
    }
    sum
}

fn uses(pool: &Pool) -> BTreeMap<Feature, Units> {
    pool.usage.iter().map(|(feature, usage)| (feature.clone(), usage.in_use)).collect()
}

impl World {
    /// The oracle's own books begin with what the process found.
    pub(crate) fn begin_pool_books(&mut self) {
        let Some(process) = &self.pool.process else { return };
        for (key, lease) in process.state().leases.iter() {
            self.oracle.books.insert(key, lease.charge);
        }
        for (id, holder) in &process.state().holders {
            if let Some(session) = &holder.session {
                self.oracle.sessions.insert(*id, session.number);
                if let Some(last) = &session.last {
                    self.oracle.answers.insert(session.number, (session.sequence, last.clone()));
                }
            }
        }
    }

    /// Checks what a command did.
    pub(crate) fn pool_decided(&mut self, step: PoolStep, events: &[Event], now: Now) {
        let Some(process) = &self.pool.process else { return };
        let after = process.state().clone();
        if !process.volatile().drift.is_empty() && !self.oracle.reverted && !self.has_clones() {
            self.violate("I9", "a heartbeat found the books apart".into());
        }
        let speaker = step.session.and_then(|number| self.speaker(&step, number));
        self.check(Self::within_limits(&step, &after, now.wall));
        self.check(Self::causes_recorded(&after, now.wall));
        self.check(self.fenced(&step, speaker, events));
        for event in events {
            self.check(self.own_only(&step, speaker, event));
            self.check(self.final_releases(&step, event));
            self.check(opened_in_order(&step.before, events, event));
            self.note_pool_event(event);
        }
        self.check(answers_in_order(&step.before, events));
        self.check(fenced_by_rollback(&step.before, &after, events));
        let sums = self.books_add_up(&after);
        self.check(sums);
    }

    /// The holder that may speak in this session, by what was seen to happen.
    fn speaker(&self, step: &PoolStep, number: u64) -> Option<HolderId> {
        let (holder, _) = self.oracle.sessions.iter().find(|(_, current)| **current == number)?;
        let node = &step.before.holders.get(holder)?.node;
        let record = step.before.nodes.get(node)?;
        let theirs = Some(record.certificate) == step.caller && record.removed_at.is_none();
        theirs.then_some(*holder)
    }

    /// I1: units are granted within the limit; and nothing but a request or what runs raises use.
    fn within_limits(step: &PoolStep, after: &Pool, wall: Millis) -> Result<(), Broken> {
        let before = uses(&step.before);
        for (feature, units) in uses(after) {
            if units <= before.get(&feature).copied().unwrap_or_default() {
                continue;
            }
            let limit = limit(after, &feature, wall);
            match step.kind {
                Kind::Tells => {}
                Kind::Asks if units <= limit => {}
                Kind::Asks => {
                    return Err((
                        "I1",
                        format!("{units} units of {feature} were granted, {limit} are licensed"),
                    ));
                }
                Kind::Other | Kind::Own => {
                    return Err((
                        "I1",
                        format!("{feature} rose to {units} by something that asks for nothing"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// I2: above the limit there is a cause, within it there is none.
    fn causes_recorded(after: &Pool, wall: Millis) -> Result<(), Broken> {
        for (feature, usage) in &after.usage {
            let limit = limit(after, feature, wall);
            if (usage.in_use > limit) != usage.over_commit.is_some() {
                let cause = usage.over_commit;
                return Err((
                    "I2",
                    format!("{feature}: {} of {limit} in use, cause {cause:?}", usage.in_use),
                ));
            }
        }
        Ok(())
    }

    /// I6: who is fenced changes nothing.
    fn fenced(&self, step: &PoolStep, speaker: Option<HolderId>, events: &[Event]) -> Result<(), Broken> {
        let (Some(number), None) = (step.session, speaker) else { return Ok(()) };
        match events.iter().find(|event| concerns_leases(event)) {
            Some(event) => {
                Err(("I6", format!("session {number} is not current and changed something: {event:?}")))
            }
            None => Ok(()),
        }
    }

    /// I16: what a node says ends no lease of another.
    fn own_only(&self, step: &PoolStep, speaker: Option<HolderId>, event: &Event) -> Result<(), Broken> {
        let Event::LeaseEnded { key, how, .. } = event else { return Ok(()) };
        let Some(speaker) = speaker.filter(|speaker| *speaker != key.holder) else { return Ok(()) };
        let reserved = step.before.leases.get(key).is_some_and(|lease| lease.origin == Origin::Reserved);
        if reserved || *how == EndedHow::Unclaimed {
            return Ok(());
        }
        Err(("I16", format!("{speaker:?} ended {} of {:?}", key.leg, key.holder)))
    }

    /// I5: what its node released is not granted again, unless its media server asked anew.
    fn final_releases(&self, step: &PoolStep, event: &Event) -> Result<(), Broken> {
        let Event::LeaseGranted(packed) = event else { return Ok(()) };
        let lease = packed.lease();
        let key = LeaseKey { holder: packed.holder(), leg: lease.leg.leg.clone() };
        let Some(Some(heard)) = self.oracle.released.get(&key) else { return Ok(()) };
        let Some(holder) = step.before.holders.get(&key.holder) else { return Ok(()) };
        let nodes = self.nodes.iter().enumerate().filter(|(_, node)| node.name == holder.node);
        let mut nodes = nodes.map(|(at, _)| at).peekable();
        // One that is reserved is asked for elsewhere; machines with one identity name legs alike.
        let forgot = self.nodes.iter().any(|node| node.journals > 0);
        if self.has_clones() || forgot || lease.origin == Origin::Reserved {
            return Ok(());
        }
        let asked = |at: usize| self.oracle.nodes.get(&at).and_then(|truth| truth.asked.get(&key.leg));
        if nodes.any(|at| asked(at).is_some_and(|asked| asked >= heard)) || self.may_be_late(*heard) {
            return Ok(());
        }
        Err(("I5", format!("{} was released and is leased again", key.leg)))
    }

    /// The use by feature is the sum of the leases, as far as events told of them.
    fn books_add_up(&mut self, after: &Pool) -> Result<(), Broken> {
        self.oracle.since_sum += 1;
        if self.oracle.since_sum < 32 {
            return Ok(());
        }
        self.oracle.since_sum = 0;
        let mut sums: BTreeMap<Feature, Units> = BTreeMap::new();
        let mut calls = std::collections::BTreeSet::new();
        for (key, charge) in &self.oracle.books {
            // A feature that is held by call counts once for it.
            if charge.feature.per_call() {
                let Some(lease) = after.leases.get(key) else { continue };
                if !calls.insert((charge.feature.clone(), lease.info.call.clone())) {
                    continue;
                }
            }
            let sum = sums.entry(charge.feature.clone()).or_default();
            *sum = sum.plus(charge.units);
        }
        for (feature, units) in uses(after) {
            let sum = sums.get(&feature).copied().unwrap_or_default();
            if sum != units {
                return Err((
                    "I1",
                    format!("{units} units of {feature} are said to be in use, the leases hold {sum}"),
                ));
            }
        }
        Ok(())
    }

    /// When the end of a leg was heard by its node.
    fn heard(&self, key: &LeaseKey) -> Option<Millis> {
        let pool = self.pool.process.as_ref()?.state();
        let node = &pool.holders.get(&key.holder)?.node;
        let at = self.nodes.iter().position(|side| side.name == *node)?;
        self.oracle.nodes.get(&at)?.heard.get(&key.leg).copied()
    }

    fn note_pool_event(&mut self, event: &Event) {
        let heard = match event {
            Event::LeaseEnded { key, how: EndedHow::Released, .. } => self.heard(key),
            _ => None,
        };
        let oracle = &mut self.oracle;
        match event {
            Event::LeaseGranted(packed) => {
                let lease = packed.lease();
                let key = LeaseKey { holder: packed.holder(), leg: lease.leg.leg.clone() };
                oracle.released.remove(&key);
                oracle.books.insert(key, lease.charge);
            }
            Event::LeaseChanged { key, charge, .. } => {
                oracle.books.insert(key.clone(), charge.clone());
            }
            Event::LeaseEnded { key, how, .. } => {
                oracle.books.remove(key);
                if *how == EndedHow::Released {
                    oracle.released.insert(key.clone(), heard);
                }
            }
            Event::SessionOpened { holder, number, .. } => {
                oracle.sessions.insert(*holder, *number);
            }
            Event::SessionLapsed { holder, .. } => {
                oracle.sessions.remove(holder);
            }
            Event::RolledBack(_) => oracle.sessions.clear(),
            _ => {}
        }
    }

    /// What became durable at the pool.
    pub(crate) fn pool_durable(&mut self, events: &[Event]) {
        for event in events {
            if self.story.has(None)
                && let Some(line) = told(event)
            {
                self.tell(|_| format!("pool: {line}"));
            }
            let name = match event {
                Event::CloneFound { .. } => "clone found",
                Event::SessionLapsed { .. } => "session lapsed",
                Event::RolledBack(_) => "rollback found",
                Event::OverCommitBegan { .. } => "over-commit",
                Event::ReportTaken { complete: true, .. } => "report",
                Event::LeaseEnded { how: EndedHow::Unclaimed, .. } => "reserved lease not claimed",
                _ => continue,
            };
            self.count(name);
        }
    }

    /// I4 and I12, on an answer that goes out to a node.
    pub(crate) fn check_answer(
        &mut self,
        envelope: &Envelope,
        reply: &Reply,
        position: Position,
        sealed: u64,
    ) {
        let proves = matches!(
            reply,
            Reply::Opened(Ok(_)) | Reply::Reported(Ok(_)) | Reply::Mutated(Ok(_)) | Reply::Beat(Ok(_))
        );
        if proves && position.sequence <= sealed {
            let text =
                format!("an answer proves record {}, its request came after {sealed}", position.sequence);
            self.violate("I12", text);
        }
        let Reply::Mutated(Ok((mutation, _))) = reply else { return };
        let Some(sequence) = crate::wire::sequence(&envelope.request) else { return };
        let Some(session) = crate::wire::session(&envelope.request) else { return };
        match self.oracle.answers.get(&session.number) {
            Some((last, before)) if *last == sequence && before != mutation => {
                self.violate(
                    "I4",
                    format!("number {sequence} of session {} got two answers", session.number),
                );
            }
            _ => {
                self.oracle.answers.insert(session.number, (sequence, mutation.clone()));
            }
        }
    }

    /// Whether two machines use one identity.
    pub(crate) fn has_clones(&self) -> bool {
        self.nodes.iter().any(|node| node.clone)
    }
}

/// I6: a session is opened with a higher number than the one before. I16: a process that was superseded gets
/// books of its own.
fn opened_in_order(before: &Pool, events: &[Event], event: &Event) -> Result<(), Broken> {
    let Event::SessionOpened { holder, nonce, open_number, .. } = event else { return Ok(()) };
    let Some(known) = before.holders.get(holder) else { return Ok(()) };
    if *open_number <= known.open_number {
        let last = known.open_number;
        return Err(("I6", format!("{holder:?} is opened by number {open_number}, after {last}")));
    }
    let found = events.iter().any(|event| matches!(event, Event::CloneFound { .. }));
    if known.superseded.contains(nonce) && !found {
        return Err(("I16", format!("{holder:?} is taken over by a process that was superseded there")));
    }
    Ok(())
}

/// I6: no session goes on over lost records.
fn fenced_by_rollback(before: &Pool, after: &Pool, events: &[Event]) -> Result<(), Broken> {
    let sessions = |pool: &Pool| -> BTreeMap<HolderId, u64> {
        pool.holders.iter().filter_map(|(id, holder)| Some((*id, holder.session.as_ref()?.number))).collect()
    };
    if !events.iter().any(|event| matches!(event, Event::RolledBack(_))) {
        return Ok(());
    }
    let before = sessions(before);
    match sessions(after).into_iter().find(|(id, number)| before.get(id) == Some(number)) {
        Some((id, number)) => Err(("I6", format!("session {number} of {id:?} goes on over lost records"))),
        None => Ok(()),
    }
}

/// I10: an answer that was overtaken by a later one changes no license.
fn answers_in_order(before: &Pool, events: &[Event]) -> Result<(), Broken> {
    let revision = events.iter().find_map(|event| match event {
        Event::Answered { revision, .. } => Some(*revision),
        _ => None,
    });
    let changes = |event: &Event| matches!(event, Event::LicenseInstalled(_) | Event::LicenseRemoved { .. });
    match revision.filter(|revision| *revision < before.site.revision) {
        Some(revision) if events.iter().any(changes) => {
            let last = before.site.revision;
            Err(("I10", format!("answer {revision} changes licenses after answer {last}")))
        }
        _ => Ok(()),
    }
}

/// What an event means to those who are concerned, if to anybody.
fn told(event: &Event) -> Option<String> {
    Some(match event {
        Event::CloneFound { node, .. } => format!("two machines use the identity of {node}"),
        Event::SessionLapsed { leases, .. } => format!("a session lapses with {leases} leases"),
        Event::OverCommitBegan { feature, cause, .. } => {
            format!("use of {feature} is above the limit ({cause:?})")
        }
        Event::OverCommitEnded { feature } => format!("use of {feature} is within the limit again"),
        Event::LicenseInstalled(installed) => format!("license {} is installed", installed.document.license),
        Event::LicenseRemoved { license, left, .. } => format!("license {license} is gone: {}", left.text()),
        Event::NodeRemoved { node, .. } => format!("{node} is removed"),
        Event::NodeAdded { node, .. } => format!("{node} is enrolled"),
        Event::LeaseEnded { key, how, .. } => match how {
            EndedHow::Released | EndedHow::Replaced => return None,
            how => format!("the lease of {} ends ({how:?})", key.leg),
        },
        _ => return None,
    })
}

fn concerns_leases(event: &Event) -> bool {
    matches!(
        event,
        Event::LeaseGranted(_)
            | Event::LeaseChanged { .. }
            | Event::LeaseEnded { .. }
            | Event::ReportTaken { .. }
            | Event::ReportRestarted { .. }
            | Event::Mutated { .. }
            | Event::PastLeg(_)
            | Event::PastRecorded { .. }
            | Event::RevocationTold { .. }
            | Event::RevocationDone { .. }
    )
}
