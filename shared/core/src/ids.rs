//! Identifiers: one type each, checked once where they enter, cheap to clone.

use std::fmt;
use std::sync::Arc;

use minicbor::{Decode, Decoder, Encode, Encoder};

/// Longest identifier or free text from outside, in bytes.
pub const MAX_TEXT: usize = 255;
/// Longest node name, in bytes: it becomes a certificate's name.
pub const MAX_NODE_NAME: usize = 63;

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing given.
    #[error("must not be empty")]
    Empty,
    /// Too many bytes.
    #[error("has {len} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A character that is not allowed.
    #[error("has the character {found:?} at byte {at}, which is not allowed")]
    Character {
        /// The character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

fn check(text: &str, limit: usize, forbidden: fn(&str) -> Option<(usize, char)>) -> Result<(), IdError> {
    if text.len() > limit {
        return Err(IdError::TooLong { len: text.len(), limit });
    }
    match forbidden(text) {
        Some((at, found)) => Err(IdError::Character { found, at }),
        None => Ok(()),
    }
}

/// The first control character.
fn control(text: &str) -> Option<(usize, char)> {
    // Nearly all texts are plain, and many bytes at a time are seen to be.
    let plain = text.bytes().fold(true, |plain, byte| plain & (0x20..0x7f).contains(&byte));
    if plain { None } else { text.char_indices().find(|(_, c)| c.is_control()) }
}

/// The first character that a name cannot have.
fn unnameable(text: &str) -> Option<(usize, char)> {
    let nameable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.char_indices().find(|(_, c)| !nameable(*c))
}

/// One allocation for all: most texts of most legs are empty.
fn nothing() -> Arc<str> {
    static NOTHING: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from(""));
    Arc::clone(&NOTHING)
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $limit:expr, $forbidden:expr, empty: $empty:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks length and characters.
            ///
            /// # Errors
            /// [`IdError`] says what is wrong; the caller names the field.
            pub fn new(text: &str) -> Result<Self, IdError> {
                if text.is_empty() && !$empty {
                    return Err(IdError::Empty);
                }
                check(text, $limit, $forbidden)?;
                Ok(Self(if text.is_empty() { nothing() } else { Arc::from(text) }))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(&self.0)?;
                Ok(())
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                Self::new(d.str()?).map_err(minicbor::decode::Error::message)
            }
        }
    };
}

text_type!(
    /// A call, the same on every node that runs a leg of it.
    CallId, MAX_TEXT, control, empty: false
);
text_type!(
    /// A leg, unique on its node.
    LegId, MAX_TEXT, control, empty: false
);
text_type!(
    /// A media server that uses a conferencing node; empty is the default one.
    SourceId, MAX_TEXT, control, empty: true
);
text_type!(
    /// A conferencing node's name within its deployment.
    NodeName, MAX_NODE_NAME, unnameable, empty: false
);
text_type!(
    /// A license's id.
    LicenseId, MAX_TEXT, control, empty: false
);
text_type!(
    /// Free text from outside: addresses, conference names, references.
    Text, MAX_TEXT, control, empty: true
);

macro_rules! empty_default {
    ($($name:ident),*) => {$(
        impl Default for $name {
            fn default() -> Self {
                Self(nothing())
            }
        }

        impl $name {
            /// Whether nothing was given.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }
    )*};
}
empty_default!(SourceId, Text);

impl Text {
    /// As much of a text as fits; what is not allowed is left out. For sentences of our own, of which
    /// the end matters less than that they are there.
    #[must_use]
    pub fn clipped(text: &str) -> Self {
        let mut kept: String = text.chars().filter(|c| !c.is_control()).collect();
        while kept.len() > MAX_TEXT {
            kept.pop();
        }
        Self(if kept.is_empty() { nothing() } else { Arc::from(kept) })
    }
}

macro_rules! least {
    ($($name:ident),*) => {$(
        impl $name {
            /// The id no other is less than: where a range over them begins.
            #[must_use]
            pub fn least() -> Self {
                static LEAST: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from(" "));
                Self(Arc::clone(&LEAST))
            }
        }
    )*};
}
least!(LegId, LicenseId);

/// A lease, unique within a generation of the pool's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct LeaseId(#[n(0)] pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_refused_with_the_limit_it_breaks() {
        assert_eq!(LegId::new(""), Err(IdError::Empty));
        assert_eq!(LegId::new(&"x".repeat(256)), Err(IdError::TooLong { len: 256, limit: 255 }));
        assert_eq!(LegId::new("a\nb"), Err(IdError::Character { found: '\n', at: 1 }));
        assert_eq!(LegId::new("ä\u{85}"), Err(IdError::Character { found: '\u{85}', at: 2 }));
        assert_eq!(LegId::new("a\u{7f}"), Err(IdError::Character { found: '\u{7f}', at: 1 }));
        assert!(Text::new("Jürgen Müller").is_ok());
        assert_eq!(NodeName::new("a/b"), Err(IdError::Character { found: '/', at: 1 }));
        assert!(LegId::new(&"x".repeat(255)).is_ok());
        assert!(Text::new("").is_ok());
    }
}
