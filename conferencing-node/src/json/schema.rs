//! What the words, ids and texts of the core are in a description of the interface.

use headroom_core::call::MAX_SUBJECTS;
use headroom_core::ids::{MAX_NODE_NAME, MAX_TEXT};
use headroom_core::{DenialReason, Direction, Interop, Presentation, Protocol, Service};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};

/// No control character. Lengths count bytes, so a text that is not plain ASCII may be shorter than described.
const PLAIN: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

fn string(least: usize, most: usize, pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(least))
        .max_length(Some(most))
        .pattern(Some(pattern))
}

fn nullable() -> SchemaType {
    SchemaType::from_iter([Type::String, Type::Null])
}

fn one_of(words: impl Iterator<Item = &'static str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words))
}

pub(crate) fn id() -> Schema {
    string(1, MAX_TEXT, PLAIN).into()
}

pub(crate) fn text() -> Schema {
    string(0, MAX_TEXT, PLAIN).into()
}

pub(crate) fn optional_id() -> Schema {
    string(0, MAX_TEXT, PLAIN).schema_type(nullable()).into()
}

pub(crate) fn optional_node() -> Schema {
    string(0, MAX_NODE_NAME, r"^[A-Za-z0-9._-]*$").schema_type(nullable()).into()
}

pub(crate) fn ids() -> Schema {
    ArrayBuilder::new().items(string(1, MAX_TEXT, PLAIN)).into()
}

pub(crate) fn some_texts() -> Schema {
    ArrayBuilder::new().items(string(1, MAX_TEXT, PLAIN)).max_items(Some(MAX_SUBJECTS)).into()
}

pub(crate) fn service() -> Schema {
    one_of(Service::ALL.iter().map(|word| word.word())).into()
}

pub(crate) fn interop() -> Schema {
    let words = Interop::ALL.iter().map(|word| Some(word.word())).chain([None]);
    ObjectBuilder::new().schema_type(nullable()).enum_values(Some(words)).into()
}

pub(crate) fn protocol() -> Schema {
    one_of(Protocol::ALL.iter().map(|word| word.word())).into()
}

pub(crate) fn direction() -> Schema {
    one_of(Direction::ALL.iter().map(|word| word.word())).into()
}

pub(crate) fn presentation() -> Schema {
    one_of(Presentation::ALL.iter().map(|word| word.word())).into()
}

pub(crate) fn reason() -> Schema {
    one_of(DenialReason::ALL.iter().map(|word| word.word())).into()
}
