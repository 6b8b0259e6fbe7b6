//! JSON of the local interface.

mod answers;
mod requests;
mod schema;

pub(crate) use answers::*;
pub(crate) use requests::*;
