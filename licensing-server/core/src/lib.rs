//! The vendor's register as a pure machine: the keys licenses are signed with, and every license
//! that was ever signed.
//!
//! Signing happens before the machine is asked, because the secret key has no place in commands.
//! The machine takes only what verifies with a key it knows, so the register cannot hold a license
//! that the vendor's customers would refuse.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use headroom_core::license::{
    KeyId, LicenseDocument, LicenseError, Nonce, PublicKey, SignedLicense, TrustedKeys,
};
use headroom_core::machine::{Answer, Class, Machine, Tx};
use headroom_core::{LicenseId, Millis, Now};
use imbl::{OrdMap, Vector};
use minicbor::{Decode, Encode};

/// A key licenses are signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct KnownKey {
    /// The public key.
    #[n(0)]
    pub key: PublicKey,
    /// When it was made.
    #[n(1)]
    pub added_at: Millis,
}

/// A license that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Issued {
    /// What it says.
    #[n(0)]
    pub document: LicenseDocument,
    /// The bytes that were signed, as the customer has them.
    #[n(1)]
    pub signed: SignedLicense,
}

/// What survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    keys: Vector<KnownKey>,
    licenses: OrdMap<LicenseId, Arc<Issued>>,
    by_nonce: OrdMap<Nonce, LicenseId>,
}

impl State {
    /// The keys, oldest first.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &KnownKey> {
        self.keys.iter()
    }

    /// Whether a key is known.
    #[must_use]
    pub fn knows(&self, id: KeyId) -> bool {
        self.keys.iter().any(|known| known.key.id() == id)
    }

    /// The licenses, ordered by id.
    pub fn licenses(&self) -> impl Iterator<Item = &Issued> {
        self.licenses.values().map(|issued| &**issued)
    }

    /// One license.
    #[must_use]
    pub fn license(&self, id: &LicenseId) -> Option<&Arc<Issued>> {
        self.licenses.get(id)
    }

    /// The license that answered a request.
    #[must_use]
    pub fn answered(&self, nonce: Nonce) -> Option<&Arc<Issued>> {
        self.licenses.get(self.by_nonce.get(&nonce)?)
    }

    fn trusted(&self) -> TrustedKeys {
        self.keys.iter().map(|known| known.key).collect()
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Command {
    /// Takes a public key into use. A known key is no error.
    AddKey(PublicKey),
    /// Registers a license that was just signed. A nonce that was answered before gets the answer
    /// of then, whatever this license says.
    Register(SignedLicense),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// A key was taken into use.
    #[n(0)]
    KeyAdded(#[n(0)] KnownKey),
    /// A license was issued.
    #[n(1)]
    LicenseIssued(#[n(0)] Issued),
}

/// Why a license is not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not verify.
    #[error(transparent)]
    License(#[from] LicenseError),
    /// Its id belongs to another license.
    #[error("a license with the id {0} exists already")]
    IdTaken(LicenseId),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The key is in use.
    KeyKnown(KeyId),
    /// The license that answers the request.
    Issued(Arc<Issued>),
    /// Nothing was registered.
    Refused(Refusal),
}

/// The register.
#[derive(Debug)]
pub struct Register;

impl Machine for Register {
    type State = State;
    type Volatile = ();
    type Command = Command;
    type Event = Event;
    type Reply = Reply;

    fn class(_: &Command) -> Class {
        Class::Background
    }

    fn handle(tx: &mut Tx<'_, Self>, now: Now, command: Command) -> Answer<Reply> {
        Answer::now(match command {
            Command::AddKey(key) => {
                if !tx.state().knows(key.id()) {
                    tx.emit(Event::KeyAdded(KnownKey { key, added_at: now.wall }));
                }
                Reply::KeyKnown(key.id())
            }
            Command::Register(signed) => register(tx, &signed).map_or_else(Reply::Refused, Reply::Issued),
        })
    }

    fn apply(state: &mut State, event: &Event) {
        match event {
            Event::KeyAdded(known) => state.keys.push_back(*known),
            Event::LicenseIssued(issued) => {
                let id = issued.document.license.clone();
                state.by_nonce.insert(issued.document.nonce, id.clone());
                state.licenses.insert(id, Arc::new(issued.clone()));
            }
        }
    }

    fn snapshot(state: &State) -> impl Iterator<Item = Event> + Send + '_ {
        let keys = state.keys.iter().map(|known| Event::KeyAdded(*known));
        keys.chain(state.licenses.values().map(|issued| Event::LicenseIssued(Issued::clone(issued))))
    }
}

fn register(tx: &mut Tx<'_, Register>, signed: &SignedLicense) -> Result<Arc<Issued>, Refusal> {
    let (document, signed) = signed.verify(&tx.state().trusted())?.into_parts();
    let (id, nonce) = (document.license.clone(), document.nonce);
    if let Some(earlier) = tx.state().answered(nonce) {
        return Ok(Arc::clone(earlier));
    }
    if tx.state().license(&id).is_some() {
        return Err(Refusal::IdTaken(id));
    }
    let issued = Issued { document, signed };
    tx.emit(Event::LicenseIssued(issued.clone()));
    Ok(Arc::new(issued))
}
