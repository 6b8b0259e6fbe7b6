//! Between protobuf and the core's types, at one edge only.
//!
//! [`decode`] checks everything that comes from outside and names the field at fault with its full
//! path; [`encode`] cannot fail.

pub mod decode;
pub mod encode;

use headroom_core::call::ShapeError;
use headroom_core::license::DocumentError;

/// A field that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {description}")]
pub struct FieldError {
    /// The field's path, for example `calls[1].legs[0].protocol`.
    pub field: String,
    /// What is wrong with it, with the limit it breaks.
    pub description: String,
}

impl FieldError {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, description: impl std::fmt::Display) -> Self {
        Self { field: field.into(), description: description.to_string() }
    }

    /// The same, where the field is part of `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        let field = match (outer.is_empty(), self.field.is_empty()) {
            (true, _) => self.field,
            (false, true) => outer.to_owned(),
            (false, false) => format!("{outer}.{}", self.field),
        };
        Self { field, ..self }
    }

    /// The same, where the field is part of the `index`th of `outer`.
    #[must_use]
    pub fn within_item(self, outer: &str, index: usize) -> Self {
        self.within(&format!("{outer}[{index}]"))
    }

    fn of_checked(field: String, text: &str) -> Self {
        // The core's texts begin with the field; here it has a place of its own.
        let description = text.strip_prefix(&format!("{field}: ")).unwrap_or(text).to_owned();
        Self { field, description }
    }
}

impl From<ShapeError> for FieldError {
    fn from(error: ShapeError) -> Self {
        Self::of_checked(error.field(), &error.to_string())
    }
}

impl From<DocumentError> for FieldError {
    fn from(error: DocumentError) -> Self {
        Self::of_checked(error.field(), &error.to_string())
    }
}

#[cfg(test)]
mod tests;
