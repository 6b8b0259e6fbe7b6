//! Requests to the licensing server, and what its answers change.
//!
//! A request's number is raised with the record that keeps the request, before anybody sees it. An answer
//! is applied only to a request that is open, and only forward: what it lists replaces what this pool
//! believed about its licenses, unless a later answer was applied before.

use headroom_core::activation::{
    Answer, Ending, Holding, Outcome, RefusalReason, Request, VerifiedAnswer, Wish,
};
use headroom_core::entitlement::EntitlementKey;
use headroom_core::license::{Nonce, PublicKey, VerifiedLicense};
use headroom_core::{LicenseId, Millis, Now, Shared, Text};
use minicbor::{Decode, Encode};

use crate::command::{Applied, Refusal, Wanted};
use crate::event::Event;
use crate::license_clock::LicenseClock;
use crate::machine::PoolTx;
use crate::state::{Installed, Pool};

/// Most requests that await an answer.
pub const MAX_REQUESTS: usize = 100;

/// A request that awaits its answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LicenseRequest {
    /// The request.
    #[n(0)]
    pub request: Request,
    /// An administrator carries it by hand.
    #[n(1)]
    pub manual: bool,
    /// It was shown to somebody who may have it answered.
    #[n(2)]
    pub exported: bool,
    /// It was or may have been received by the licensing server.
    #[n(3)]
    pub sent: bool,
    /// Why it could not be sent.
    #[n(4)]
    pub trouble: Text,
}

impl LicenseRequest {
    /// Whether the licensing server may answer it some day.
    #[must_use]
    pub const fn out(&self) -> bool {
        self.exported || self.sent
    }
}

/// What became of a request on its way.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Mark {
    /// It was shown to somebody who may have it answered.
    #[n(0)]
    Exported,
    /// It is about to be sent.
    #[n(1)]
    Sent,
    /// It was certainly not received.
    #[n(2)]
    Unsent(#[n(0)] Text),
    /// It may have been received, and no answer came.
    #[n(3)]
    Unanswered(#[n(0)] Text),
}

/// How a license left the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Left {
    /// It was returned, revoked or replaced, by the vendor's books.
    #[n(0)]
    Ended(#[n(0)] Ending),
    /// It is not among the machine's licenses any more.
    #[n(1)]
    NotHeld,
    /// An administrator deleted it.
    #[n(2)]
    Deleted,
}

impl Left {
    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ended(Ending::Returned) => "returned",
            Self::Ended(Ending::Revoked) => "revoked by the vendor",
            Self::Ended(Ending::Replaced) => "given to another machine by the vendor",
            Self::NotHeld => "not this machine's any more, by the vendor's books",
            Self::Deleted => "deleted",
        }
    }
}

/// This machine in the licensing server's books.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Site {
    /// The highest number of its requests.
    #[n(0)]
    pub sequence: u64,
    /// Revision of the newest answer applied.
    #[n(1)]
    pub revision: u64,
    /// Its certificate.
    #[n(2)]
    pub certificate: Option<headroom_core::signed::Signed<headroom_core::activation::MachineCertificate>>,
    /// Keys that were learned, each vouched for by one that was trusted before.
    #[n(3)]
    pub learned: Vec<PublicKey>,
    /// When the licensing server answered last, by its clock.
    #[n(4)]
    pub answered_at: Option<Millis>,
    /// When its books were last found ahead of these.
    #[n(5)]
    pub resynchronized_at: Option<Millis>,
}

impl Pool {
    /// The open request that wishes the same.
    fn open_request(&self, wish: &Wish) -> Option<&Shared<LicenseRequest>> {
        self.requests.values().find(|open| open.request.wish == *wish)
    }

    /// The installed license of a key.
    #[must_use]
    pub fn license_of_key(&self, key: EntitlementKey) -> Option<&Shared<Installed>> {
        self.licenses.values().find(|installed| installed.key == Some(key))
    }

    fn installed(&self, license: &LicenseId) -> Result<&Shared<Installed>, Refusal> {
        self.licenses.get(license).ok_or_else(|| Refusal::NoSuchLicense(license.clone()))
    }
}

/// Makes a request, or finds the one that wishes the same.
pub(crate) fn request(
    tx: &mut PoolTx<'_>,
    at: Millis,
    wanted: Wanted,
) -> Result<Shared<LicenseRequest>, Refusal> {
    if let Some(open) = tx.state().open_request(&wanted.wish) {
        return Ok(Shared::clone(open));
    }
    match &wanted.wish {
        Wish::Activate(key) => {
            if let Some(installed) = tx.state().license_of_key(*key) {
                return Err(Refusal::KeyInstalled(installed.document.license.clone()));
            }
        }
        Wish::Return(license) => {
            if !tx.state().installed(license)?.activated() {
                return Err(Refusal::NotActivated(license.clone()));
            }
        }
        Wish::Repair | Wish::Refresh | Wish::Fetch(_) => {}
    }
    if tx.state().requests.len() >= MAX_REQUESTS {
        return Err(Refusal::TooManyRequests { open: tx.state().requests.len() });
    }
    Ok(open(tx, at, wanted))
}

fn open(tx: &mut PoolTx<'_>, at: Millis, wanted: Wanted) -> Shared<LicenseRequest> {
    let Wanted { wish, nonce, manual, machine, software } = wanted;
    let site = &tx.state().site;
    let request = Request {
        wish,
        nonce,
        sequence: site.sequence + 1,
        revision: site.revision,
        fingerprint: match &tx.state().fingerprint {
            Some(fingerprint) => fingerprint.clone(),
            None => unreachable!("the machine is identified before anything is asked"),
        },
        machine,
        certificate: site.certificate.clone(),
        created_at: at,
        software,
    };
    let open = LicenseRequest { request, manual, exported: false, sent: false, trouble: Text::default() };
    let open = Shared::new(open);
    tx.emit(Event::Requested(Shared::clone(&open)));
    open
}

/// Notes what became of a request on its way.
pub(crate) fn mark(tx: &mut PoolTx<'_>, nonce: Nonce, mark: Mark) -> Result<Shared<LicenseRequest>, Refusal> {
    let Some(open) = tx.state().requests.get(&nonce) else { return Err(Refusal::NoSuchRequest) };
    let new = match &mark {
        Mark::Exported => !open.exported,
        Mark::Sent => !open.sent,
        Mark::Unsent(_) | Mark::Unanswered(_) => true,
    };
    if new {
        tx.emit(Event::RequestMarked { nonce, mark });
    }
    tx.state().requests.get(&nonce).cloned().ok_or(Refusal::NoSuchRequest)
}

/// Withdraws a request. A return that somebody may have answered cannot be withdrawn: its license would
/// count here while its key is used elsewhere.
pub(crate) fn cancel(tx: &mut PoolTx<'_>, at: Millis, nonce: Nonce) -> Result<(), Refusal> {
    let Some(open) = tx.state().requests.get(&nonce) else { return Err(Refusal::NoSuchRequest) };
    if let Wish::Return(license) = &open.request.wish
        && open.out()
    {
        return Err(Refusal::ReturnIsOut(license.clone()));
    }
    tx.emit(Event::RequestClosed { nonce, outcome: Text::clipped("cancelled"), at });
    Ok(())
}

/// Deletes a license that was installed from a file.
pub(crate) fn delete(tx: &mut PoolTx<'_>, at: Millis, license: &LicenseId) -> Result<(), Refusal> {
    if tx.state().installed(license)?.activated() {
        return Err(Refusal::MustBeReturned(license.clone()));
    }
    tx.emit(Event::LicenseRemoved { license: license.clone(), left: Left::Deleted, at });
    Ok(())
}

/// Applies an answer. `just_now`: it came at once, over the network.
pub(crate) fn apply(
    tx: &mut PoolTx<'_>,
    now: Now,
    verified: VerifiedAnswer,
    just_now: bool,
    again: Nonce,
) -> Result<Applied, Refusal> {
    let VerifiedAnswer { answer, licenses, trusted } = verified;
    let Some(open) = tx.state().requests.get(&answer.nonce).cloned() else {
        return Err(Refusal::AnswersNoRequest);
    };
    if answer.machine != open.request.machine.id() {
        return Err(Refusal::AnswersOtherMachine);
    }
    let behind = matches!(answer.outcome, Outcome::Refused(RefusalReason::ServerBehind, _));
    if !behind && answer.revision >= tx.state().site.revision {
        hold(tx, now.wall, &answer, licenses);
    }
    let learned: Vec<PublicKey> = trusted.iter().copied().collect();
    tx.emit(Event::Answered {
        sequence: answer.sequence,
        revision: if behind { 0 } else { answer.revision },
        at: answer.at,
        certificate: answer.certificate.clone(),
        learned,
        resynchronized: (answer.outcome == Outcome::Resynchronized).then_some(now.wall),
    });
    hear_time(tx, now, answer.at, just_now);
    // The server did not look at the wish: unless it came true, it is asked again, with a number of its own.
    let unheard =
        answer.outcome == Outcome::Resynchronized && !is_fulfilled(tx.state(), &open.request.wish, now.wall);
    let outcome = match &answer.outcome {
        Outcome::Refused(reason, text) => Text::clipped(&format!("{reason}: {text}")),
        Outcome::Resynchronized => Text::clipped("resynchronized"),
        Outcome::Done => Text::clipped("done"),
    };
    tx.emit(Event::RequestClosed { nonce: answer.nonce, outcome, at: now.wall });
    let renewed = unheard.then(|| {
        let wanted = Wanted {
            wish: open.request.wish.clone(),
            nonce: again,
            manual: open.manual,
            machine: open.request.machine,
            software: open.request.software.clone(),
        };
        self::open(tx, now.wall, wanted)
    });
    Ok(Applied { wish: open.request.wish.clone(), outcome: answer.outcome, offers: answer.offers, renewed })
}

/// Whether the books are already as a wish wants them.
fn is_fulfilled(state: &Pool, wish: &Wish, at: Millis) -> bool {
    match wish {
        Wish::Activate(key) => state.license_of_key(*key).is_some(),
        Wish::Return(license) => !state.licenses.contains_key(license),
        Wish::Repair => {
            state.licenses.values().all(|i| state.license_state(i, at) != crate::LicenseState::Corrupt)
        }
        Wish::Refresh | Wish::Fetch(None) => true,
        Wish::Fetch(Some(_)) => false,
    }
}

/// Holds what the answer lists, and nothing that came from an activation besides.
fn hold(tx: &mut PoolTx<'_>, at: Millis, answer: &Answer, licenses: Vec<VerifiedLicense>) {
    let held: std::collections::BTreeSet<LicenseId> =
        licenses.iter().map(|license| license.document().license.clone()).collect();
    for (license, Holding { key, .. }) in licenses.into_iter().zip(&answer.holdings) {
        let (document, signed) = license.into_parts();
        let signed = signed.as_bytes().to_vec();
        let known = tx.state().licenses.get(&document.license);
        if known.is_some_and(|known| known.signed == signed && known.key == *key && known.returning.is_none())
        {
            continue;
        }
        let since = known.map_or(at, |known| known.at);
        let returning = known.and_then(|known| known.returning);
        let installed = Installed { document, signed, at: since, key: *key, returning };
        tx.emit(Event::LicenseInstalled(Shared::new(installed)));
    }
    let ended =
        |id: &LicenseId| answer.ended.iter().find(|ended| ended.license == *id).map(|ended| ended.how);
    let gone: Vec<_> = tx
        .state()
        .licenses
        .iter()
        .filter(|(id, _)| !held.contains(*id))
        .filter_map(|(id, installed)| match ended(id) {
            Some(how) => Some((id.clone(), Left::Ended(how))),
            None => installed.activated().then(|| (id.clone(), Left::NotHeld)),
        })
        .collect();
    for (license, left) in gone {
        tx.emit(Event::LicenseRemoved { license, left, at });
    }
}

/// Hears a time that the vendor signed.
pub(crate) fn hear_time(tx: &mut PoolTx<'_>, now: Now, at: Millis, just_now: bool) {
    if let Some((clock, leap)) = tx.state().clock.and_then(|clock| clock.signed(now, at, just_now)) {
        set_clock(tx, clock, leap);
    }
}

/// Sets license time; what counts in it moves with its leaps.
pub(crate) fn set_clock(tx: &mut PoolTx<'_>, clock: LicenseClock, leap: Millis) {
    tx.emit(Event::ClockSet { clock, leap });
}

impl Pool {
    pub(crate) fn mark_request(&mut self, nonce: Nonce, mark: &Mark) {
        let Some(open) = self.requests.get_mut(&nonce).map(Shared::make_mut) else { return };
        match mark {
            Mark::Exported => open.exported = true,
            Mark::Sent => open.sent = true,
            Mark::Unsent(why) => {
                open.sent = false;
                open.trouble = why.clone();
            }
            Mark::Unanswered(why) => open.trouble = why.clone(),
        }
    }

    pub(crate) fn add_request(&mut self, open: &Shared<LicenseRequest>) {
        self.site.sequence = self.site.sequence.max(open.request.sequence);
        if let Wish::Return(license) = &open.request.wish
            && let Some(installed) = self.licenses.get_mut(license).map(Shared::make_mut)
        {
            installed.returning = Some(open.request.nonce);
        }
        self.requests.insert(open.request.nonce, Shared::clone(open));
    }

    pub(crate) fn close_request(&mut self, nonce: Nonce) {
        self.requests.remove(&nonce);
        // A license whose return came to nothing counts again.
        let returning: Vec<_> = self
            .licenses
            .iter()
            .filter(|(_, installed)| installed.returning == Some(nonce))
            .map(|(id, _)| id.clone())
            .collect();
        for license in returning {
            if let Some(installed) = self.licenses.get_mut(&license).map(Shared::make_mut) {
                installed.returning = None;
            }
        }
    }
}
