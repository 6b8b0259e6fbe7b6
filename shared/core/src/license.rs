//! The license: a signed document that binds units to a machine for a time.
//!
//! As bytes it is a [`Signed`] document; as a file it is that in an armour of text, which people can
//! mail and paste.

mod document;
mod keys;

pub use document::{
    DocumentError, LicenseDocument, LicensedFeature, MAX_ATTRIBUTES, MAX_FEATURES, MAX_GRACE_DAYS, Metric,
    Nonce, Validity, validity,
};
pub use keys::{KeyError, KeyId, PublicKey, SigningKey, TrustedKeys};

pub use crate::signed::sign;
use crate::signed::{Document, Kind, MAX_SIGNED, Signed, SignedError, Verified};

/// Version of the envelope and of the document this version writes and reads.
pub const FORMAT: u32 = 1;
/// What the armour of a license file says.
pub const ARMOUR: &str = "HEADROOM LICENSE";

const BEGIN: &str = "-----BEGIN HEADROOM LICENSE-----";
const END: &str = "-----END HEADROOM LICENSE-----";

/// Why bytes are no acceptable license.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LicenseError {
    /// Too large to be one.
    #[error("the license file has {len} bytes, at most {MAX_SIGNED} are allowed")]
    TooLarge {
        /// Bytes given.
        len: usize,
    },
    /// Not text, or text that is no license.
    #[error("this is no license file: it does not begin with the line {BEGIN}")]
    NoLicense,
    /// Several licenses.
    #[error("the file holds {count} licenses: give one file for each")]
    Several {
        /// Begin or end lines found.
        count: usize,
    },
    /// The end is missing, or something follows it.
    #[error("the license file does not end with the line {END}: it is cut off, or something follows")]
    End,
    /// Damaged between the lines.
    #[error("the license file is damaged: {why}")]
    Damaged {
        /// What the reader says.
        why: String,
    },
    /// Not what the vendor signed, or not signed by him.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// Signed, but contradictory.
    #[error("the license contradicts itself: {0}")]
    Document(#[from] DocumentError),
}

/// A license of which nothing is believed yet.
pub type SignedLicense = Signed<LicenseDocument>;
/// A license whose signature by a trusted key was verified.
pub type VerifiedLicense = Verified<LicenseDocument>;

impl Document for LicenseDocument {
    const KIND: Kind = Kind { what: "license", domain: b"headroom license signature\0", format: FORMAT };
    type Error = LicenseError;

    fn check(&self) -> Result<(), LicenseError> {
        Ok(Self::check(self)?)
    }
}

fn damaged(error: impl std::fmt::Display) -> LicenseError {
    LicenseError::Damaged { why: error.to_string() }
}

impl SignedLicense {
    /// Reads a license file: exactly one armoured block, blank lines around it allowed.
    ///
    /// # Errors
    /// [`LicenseError`] says what is wrong with the file.
    pub fn parse(file: &[u8]) -> Result<Self, LicenseError> {
        if file.len() > MAX_SIGNED {
            return Err(LicenseError::TooLarge { len: file.len() });
        }
        let text = std::str::from_utf8(file).map_err(|_| LicenseError::NoLicense)?.trim();
        if !text.starts_with(BEGIN) {
            return Err(LicenseError::NoLicense);
        }
        let count = text.matches("-----BEGIN").count().max(text.matches("-----END").count());
        if count > 1 {
            return Err(LicenseError::Several { count });
        }
        if !text.ends_with(END) {
            return Err(LicenseError::End);
        }
        let block = pem::parse(text).map_err(damaged)?;
        if block.headers().iter().next().is_some() {
            return Err(damaged("headers are not expected"));
        }
        Ok(Self::from_bytes(block.into_contents())?)
    }

    /// The license as a file.
    #[must_use]
    pub fn to_file(&self) -> String {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new(ARMOUR, self.as_bytes()), config)
    }
}

#[cfg(test)]
mod tests;
