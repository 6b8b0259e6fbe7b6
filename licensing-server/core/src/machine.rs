//! The register as a [`Machine`].

use headroom_core::Now;
use headroom_core::machine::{Answer, Class, Machine, Tx};

use crate::command::{Command, Reply};
use crate::event::Event;
use crate::limit::Limits;
use crate::state::State;
use crate::{answer, vendor};

/// The register.
#[derive(Debug)]
pub struct Register;

/// A view while deciding.
pub(crate) type RegisterTx<'a> = Tx<'a, Register>;

impl Machine for Register {
    type State = State;
    type Volatile = Limits;
    type Command = Command;
    type Event = Event;
    type Reply = Reply;

    fn class(command: &Command) -> Class {
        match command {
            Command::Answer { .. } | Command::Reject { .. } => Class::Allocate,
            _ => Class::Background,
        }
    }

    fn handle(tx: &mut RegisterTx<'_>, now: Now, command: Command) -> Answer<Reply> {
        let decided = match command {
            Command::Answer { request, digest, source, fresh } => {
                answer::answer(tx, now, &request, digest, &source, &fresh)
            }
            Command::Reject { source, why } => answer::reject(tx, now, &source, &why),
            command => vendor::carry_out(tx, now.wall, command),
        };
        Answer::now(decided.unwrap_or_else(Reply::Refused))
    }

    fn apply(state: &mut State, event: &Event) {
        state.apply(event);
    }

    fn snapshot(state: &State) -> impl Iterator<Item = Event> + Send + '_ {
        state.snapshot()
    }
}
