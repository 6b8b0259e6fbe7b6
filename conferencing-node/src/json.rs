//! JSON of the local interface.

mod answers;
mod requests;
pub(crate) mod schema;

pub(crate) use answers::*;
pub(crate) use requests::*;
