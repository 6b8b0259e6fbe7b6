//! The vendor's register as a pure machine: signing keys, customers, entitlement keys, machines and
//! the licenses that are bound to them.
//!
//! [`Register`] decides what a machine's request changes and what its answer says. It signs nothing:
//! the secret keys have no place here, and signing is the shell's last step, after what is signed is
//! durable. The same request always gives the same answer.

mod answer;
mod apply;
mod command;
mod event;
mod limit;
mod machine;
mod machines;
mod state;
mod vendor;

#[cfg(test)]
mod tests;

pub use command::{Change, Command, Fresh, Refusal, Reply, Source};
pub use event::{Event, Issued, Part};
pub use limit::{LIMIT_EVERY, LIMIT_FAILURES, Limits};
pub use machine::Register;
pub use machines::{AnswerDraft, Answered, MachineRecord};
pub use state::{
    Activation, AuditEntry, Counters, Customer, Entitlement, KnownKey, MAX_ANSWERS, MAX_AUDIT,
    MAX_HOLDING_BYTES, MAX_OFFER_BYTES, State, Terms,
};
