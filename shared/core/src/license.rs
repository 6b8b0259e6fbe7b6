//! The license: a signed document that binds units to a machine for a time.
//!
//! The bytes are verified first and then parsed, once: [`SignedLicense::parse`] reads only the
//! envelope, [`SignedLicense::verify`] gives the [`VerifiedLicense`], and nothing else does.
//! What is signed is `DOMAIN ‖ envelope format ‖ key id ‖ payload`, so a signature made for another
//! purpose, format or key says nothing about a license.

mod document;
mod keys;

use minicbor::{Decode, Decoder, Encode, Encoder};

pub use document::{
    DocumentError, LicenseDocument, LicensedFeature, MAX_ATTRIBUTES, MAX_FEATURES, Metric, Nonce, Validity,
    validity,
};
pub use keys::{KeyError, KeyId, SigningKey, TrustedKeys, VendorKey};

/// Version of the envelope and of the document this version writes and reads.
pub const FORMAT: u32 = 1;
/// Largest license file, in bytes.
pub const MAX_FILE: usize = 256 * 1024;
/// What the armour of a license file says.
pub const ARMOUR: &str = "HEADROOM LICENSE";

const DOMAIN: &[u8] = b"headroom license signature\0";
const BEGIN: &str = "-----BEGIN HEADROOM LICENSE-----";
const END: &str = "-----END HEADROOM LICENSE-----";

/// Why bytes are no acceptable license.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LicenseError {
    /// Too large to be one.
    #[error("the license file has {len} bytes, at most {MAX_FILE} are allowed")]
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
    /// Written by a newer version.
    #[error("the license has format {found}, this version reads format {FORMAT}: update this software")]
    Format {
        /// The license's format.
        found: u32,
    },
    /// Signed by somebody else.
    #[error("the license is signed with key {key}, which is not trusted here (trusted: {trusted})")]
    UnknownKey {
        /// The key named.
        key: KeyId,
        /// The keys trusted.
        trusted: String,
    },
    /// Not what the vendor signed.
    #[error("the license's signature by key {key} does not match its content: it was changed or damaged")]
    Signature {
        /// The key named.
        key: KeyId,
    },
    /// Signed, but contradictory.
    #[error("the license contradicts itself: {0}")]
    Document(#[from] DocumentError),
}

#[derive(Encode, Decode)]
struct Envelope {
    #[n(0)]
    format: u32,
    #[n(1)]
    key: KeyId,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    payload: Vec<u8>,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    signature: [u8; 64],
}

#[derive(Encode, Decode)]
struct Payload {
    #[n(0)]
    format: u32,
    #[n(1)]
    document: LicenseDocument,
}

fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing to a vector cannot fail, and derived encoders have no errors of their own.
    minicbor::to_vec(value).unwrap_or_else(|error| unreachable!("encoding to memory failed: {error}"))
}

fn damaged(error: impl std::fmt::Display) -> LicenseError {
    LicenseError::Damaged { why: error.to_string() }
}

/// The format, which stands first, before anything is read that depends on it.
fn check_format(bytes: &[u8]) -> Result<(), LicenseError> {
    let mut decoder = Decoder::new(bytes);
    decoder.array().map_err(damaged)?;
    match decoder.u32().map_err(damaged)? {
        FORMAT => Ok(()),
        found => Err(LicenseError::Format { found }),
    }
}

fn message(key: KeyId, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(DOMAIN.len() + 12 + payload.len());
    message.extend_from_slice(DOMAIN);
    message.extend_from_slice(&FORMAT.to_be_bytes());
    message.extend_from_slice(&key.0);
    message.extend_from_slice(payload);
    message
}

/// A license of which nothing is believed yet. Keeps the signed bytes as they came, so that they
/// can be stored and verified again.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedLicense {
    bytes: Vec<u8>,
}

impl std::fmt::Debug for SignedLicense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignedLicense({} bytes)", self.bytes.len())
    }
}

impl SignedLicense {
    /// Reads a license file: exactly one armoured block, blank lines around it allowed.
    ///
    /// # Errors
    /// [`LicenseError`] says what is wrong with the file.
    pub fn parse(file: &[u8]) -> Result<Self, LicenseError> {
        if file.len() > MAX_FILE {
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
        Self::from_bytes(block.into_contents())
    }

    /// Reads the signed bytes, as [`Self::as_bytes`] gave them.
    ///
    /// # Errors
    /// [`LicenseError`] says what is wrong with them.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, LicenseError> {
        if bytes.len() > MAX_FILE {
            return Err(LicenseError::TooLarge { len: bytes.len() });
        }
        check_format(&bytes)?;
        let envelope: Envelope = minicbor::decode(&bytes).map_err(damaged)?;
        // One license, one encoding: nothing may hide before, between or after the fields.
        if encode(&envelope) != bytes {
            return Err(damaged("its envelope holds more than it should"));
        }
        Ok(Self { bytes })
    }

    /// The signed bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The license as a file.
    #[must_use]
    pub fn to_file(&self) -> String {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new(ARMOUR, self.bytes.clone()), config)
    }

    /// Verifies the signature, and only then reads what was signed.
    ///
    /// # Errors
    /// [`LicenseError`]: key not trusted, signature wrong, or a document this version cannot accept.
    pub fn verify(&self, trusted: &TrustedKeys) -> Result<VerifiedLicense, LicenseError> {
        let Envelope { key, payload, signature, .. } = minicbor::decode(&self.bytes).map_err(damaged)?;
        let vendor =
            trusted.get(key).ok_or_else(|| LicenseError::UnknownKey { key, trusted: trusted.names() })?;
        if !vendor.verifies(&message(key, &payload), &signature) {
            return Err(LicenseError::Signature { key });
        }
        check_format(&payload)?;
        let mut decoder = Decoder::new(&payload);
        let Payload { document, .. } = decoder.decode().map_err(damaged)?;
        if decoder.position() != payload.len() {
            return Err(damaged("something follows the signed document"));
        }
        document.check()?;
        Ok(VerifiedLicense { document, key, signed: self.clone() })
    }
}

impl<C> Encode<C> for SignedLicense {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.bytes)?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for SignedLicense {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::from_bytes(d.bytes()?.to_vec()).map_err(minicbor::decode::Error::custom)
    }
}

/// A license whose signature by a trusted key was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedLicense {
    document: LicenseDocument,
    key: KeyId,
    signed: SignedLicense,
}

impl VerifiedLicense {
    /// What it says.
    #[must_use]
    pub const fn document(&self) -> &LicenseDocument {
        &self.document
    }

    /// Who signed it.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// The signed bytes, to store and to verify again.
    #[must_use]
    pub const fn signed(&self) -> &SignedLicense {
        &self.signed
    }

    /// Gives the parts away.
    #[must_use]
    pub fn into_parts(self) -> (LicenseDocument, SignedLicense) {
        (self.document, self.signed)
    }
}

/// Signs a document. The same document and key always give the same bytes.
///
/// # Errors
/// [`LicenseError::Document`] when the document contradicts itself, [`LicenseError::TooLarge`].
pub fn sign(document: LicenseDocument, key: &SigningKey) -> Result<VerifiedLicense, LicenseError> {
    document.check()?;
    let payload = encode(&Payload { format: FORMAT, document: document.clone() });
    let key_id = key.vendor_key().id();
    let signature = key.sign(&message(key_id, &payload));
    let signed =
        SignedLicense { bytes: encode(&Envelope { format: FORMAT, key: key_id, payload, signature }) };
    let len = signed.to_file().len();
    if len > MAX_FILE {
        return Err(LicenseError::TooLarge { len });
    }
    Ok(VerifiedLicense { document, key: key_id, signed })
}

#[cfg(test)]
mod tests;
