//! Documents that one side signs and another verifies: licenses, requests and answers of an
//! activation, machine certificates, successions of signing keys.
//!
//! The bytes are verified first and then parsed, once: [`Signed`] reads only the envelope,
//! [`Signed::verify`] gives the [`Verified`] document, and nothing else does. What is signed is
//! `DOMAIN ‖ format ‖ key id ‖ payload`, so a signature made for another purpose, format or key says
//! nothing about a document.

use std::fmt;
use std::marker::PhantomData;

use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::license::{KeyId, PublicKey, SigningKey, TrustedKeys};

/// Largest signed document, in bytes.
pub const MAX_SIGNED: usize = 256 * 1024;

/// A kind of document.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What it is called in messages.
    pub what: &'static str,
    /// Keeps signatures of different kinds apart.
    pub domain: &'static [u8],
    /// Version that is written and read.
    pub format: u32,
}

/// Something that is signed.
pub trait Document: Encode<()> + for<'b> Decode<'b, ()> + Clone {
    /// Its kind.
    const KIND: Kind;
    /// Why a signed one is not accepted.
    type Error: From<SignedError>;

    /// Checks what no single field shows.
    ///
    /// # Errors
    /// What contradicts itself.
    fn check(&self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Why bytes are no acceptable document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// Too large to be one.
    #[error("the {what} has {len} bytes, at most {MAX_SIGNED} are allowed")]
    TooLarge {
        /// The kind.
        what: &'static str,
        /// Bytes given.
        len: usize,
    },
    /// Not what was written.
    #[error("the {what} is damaged: {why}")]
    Damaged {
        /// The kind.
        what: &'static str,
        /// What the reader says.
        why: String,
    },
    /// Written by a newer version.
    #[error("the {what} has format {found}, this version reads format {reads}: update this software")]
    Format {
        /// The kind.
        what: &'static str,
        /// The document's format.
        found: u32,
        /// The format that is read.
        reads: u32,
    },
    /// Signed by somebody else.
    #[error("the {what} is signed with key {key}, which is not trusted here (trusted: {trusted})")]
    UnknownKey {
        /// The kind.
        what: &'static str,
        /// The key named.
        key: KeyId,
        /// The keys trusted.
        trusted: String,
    },
    /// Not what was signed.
    #[error("the {what}'s signature by key {key} does not match its content: it was changed or damaged")]
    Signature {
        /// The kind.
        what: &'static str,
        /// The key named.
        key: KeyId,
    },
}

#[derive(Encode, Decode)]
pub(crate) struct Envelope {
    #[n(0)]
    pub(crate) format: u32,
    #[n(1)]
    pub(crate) key: KeyId,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) payload: Vec<u8>,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) signature: [u8; 64],
}

/// A value as it is stored and signed.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing to a vector cannot fail, and derived encoders have no errors of their own.
    minicbor::to_vec(value).unwrap_or_else(|error| unreachable!("encoding to memory failed: {error}"))
}

impl Kind {
    fn damaged(&self, why: impl fmt::Display) -> SignedError {
        SignedError::Damaged { what: self.what, why: why.to_string() }
    }

    /// The format, which stands first, before anything is read that depends on it.
    fn check_format(&self, bytes: &[u8]) -> Result<(), SignedError> {
        let mut decoder = Decoder::new(bytes);
        decoder.array().map_err(|error| self.damaged(error))?;
        match decoder.u32().map_err(|error| self.damaged(error))? {
            found if found == self.format => Ok(()),
            found => Err(SignedError::Format { what: self.what, found, reads: self.format }),
        }
    }

    pub(crate) fn message(&self, key: KeyId, payload: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.domain.len() + 12 + payload.len());
        message.extend_from_slice(self.domain);
        message.extend_from_slice(&self.format.to_be_bytes());
        message.extend_from_slice(&key.0);
        message.extend_from_slice(payload);
        message
    }
}

/// What is signed: the format once more, and the document.
fn payload<T: Document>(document: &T) -> Vec<u8> {
    let mut bytes = encode(&T::KIND.format);
    bytes.insert(0, 0x82); // an array of two
    bytes.extend_from_slice(&encode(document));
    bytes
}

/// A document of which nothing is believed yet. Keeps the signed bytes as they came, so that they
/// can be stored and verified again.
pub struct Signed<T> {
    bytes: Vec<u8>,
    document: PhantomData<fn() -> T>,
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), document: PhantomData }
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for Signed<T> {}

impl<T: Document> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({}, {} bytes)", T::KIND.what, self.bytes.len())
    }
}

impl<T: Document> Signed<T> {
    /// Reads the signed bytes, as [`Self::as_bytes`] gave them.
    ///
    /// # Errors
    /// [`SignedError`] says what is wrong with them.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SignedError> {
        let kind = T::KIND;
        if bytes.len() > MAX_SIGNED {
            return Err(SignedError::TooLarge { what: kind.what, len: bytes.len() });
        }
        kind.check_format(&bytes)?;
        let envelope: Envelope = minicbor::decode(&bytes).map_err(|error| kind.damaged(error))?;
        // One document, one encoding: nothing may hide before, between or after the fields.
        if encode(&envelope) != bytes {
            return Err(kind.damaged("its envelope holds more than it should"));
        }
        Ok(Self { bytes, document: PhantomData })
    }

    /// A document that came in another form, and the signature that came beside it.
    #[must_use]
    pub fn from_parts(document: &T, key: KeyId, signature: [u8; 64]) -> Self {
        let envelope = Envelope { format: T::KIND.format, key, payload: payload(document), signature };
        Self { bytes: encode(&envelope), document: PhantomData }
    }

    /// The signed bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Verifies the signature, and only then reads what was signed.
    ///
    /// # Errors
    /// Key not trusted, signature wrong, or a document this version cannot accept.
    pub fn verify(&self, trusted: &TrustedKeys) -> Result<Verified<T>, T::Error> {
        let kind = T::KIND;
        let Envelope { key, payload, signature, .. } =
            minicbor::decode(&self.bytes).map_err(|error| kind.damaged(error))?;
        let public = trusted.get(key).ok_or_else(|| SignedError::UnknownKey {
            what: kind.what,
            key,
            trusted: trusted.names(),
        })?;
        if !public.verifies(&kind.message(key, &payload), &signature) {
            return Err(SignedError::Signature { what: kind.what, key }.into());
        }
        kind.check_format(&payload)?;
        let mut decoder = Decoder::new(&payload);
        decoder.array().and_then(|_| decoder.u32()).map_err(|error| kind.damaged(error))?;
        let document: T = decoder.decode().map_err(|error| kind.damaged(error))?;
        if decoder.position() != payload.len() {
            return Err(kind.damaged("something follows the signed document").into());
        }
        document.check()?;
        Ok(Verified { document, key, signature, signed: self.clone() })
    }
}

impl<C, T> Encode<C> for Signed<T> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.bytes)?;
        Ok(())
    }
}

impl<'b, C, T: Document> Decode<'b, C> for Signed<T> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::from_bytes(d.bytes()?.to_vec()).map_err(minicbor::decode::Error::custom)
    }
}

/// A document whose signature by a trusted key was verified.
#[derive(Clone)]
pub struct Verified<T> {
    document: T,
    key: KeyId,
    signature: [u8; 64],
    signed: Signed<T>,
}

impl<T: fmt::Debug> fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verified").field(&self.document).field(&self.key).finish()
    }
}

impl<T: PartialEq> PartialEq for Verified<T> {
    fn eq(&self, other: &Self) -> bool {
        self.document == other.document && self.signed == other.signed
    }
}

impl<T: Eq> Eq for Verified<T> {}

impl<T> Verified<T> {
    /// What it says.
    #[must_use]
    pub const fn document(&self) -> &T {
        &self.document
    }

    /// Who signed it.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// The signature alone.
    #[must_use]
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The signed bytes, to store and to verify again.
    #[must_use]
    pub const fn signed(&self) -> &Signed<T> {
        &self.signed
    }

    /// Gives the parts away.
    #[must_use]
    pub fn into_parts(self) -> (T, Signed<T>) {
        (self.document, self.signed)
    }
}

/// Signs a document. The same document and key always give the same bytes.
///
/// # Errors
/// When the document contradicts itself or is too large.
pub fn sign<T: Document>(document: T, key: &SigningKey) -> Result<Verified<T>, T::Error> {
    document.check()?;
    let (kind, payload) = (T::KIND, payload(&document));
    let key_id = key.public_key().id();
    let signature = key.sign(&kind.message(key_id, &payload));
    let signed = Signed::from_parts(&document, key_id, signature);
    if signed.bytes.len() > MAX_SIGNED {
        return Err(SignedError::TooLarge { what: kind.what, len: signed.bytes.len() }.into());
    }
    Ok(Verified { document, key: key_id, signature, signed })
}

/// A signing key's word for the next one: who trusts the one may trust the other.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Succession {
    /// The key that is to be trusted too.
    #[n(0)]
    pub key: PublicKey,
    /// When it was made.
    #[n(1)]
    pub at: crate::Millis,
}

impl Document for Succession {
    const KIND: Kind = Kind { what: "succession of keys", domain: b"headroom key succession\0", format: 1 };
    type Error = SignedError;
}

impl TrustedKeys {
    /// Trusts what trusted keys vouch for, in whatever order the successions are given. What nobody
    /// trusted vouches for is passed over.
    #[must_use]
    pub fn follow(&self, successions: &[Signed<Succession>]) -> Self {
        let mut trusted = self.clone();
        for _ in 0..successions.len() {
            let found: Vec<_> =
                successions.iter().filter_map(|signed| signed.verify(&trusted).ok()).collect();
            trusted = trusted.iter().copied().chain(found.iter().map(|s| s.document().key)).collect();
        }
        trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Millis;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn vouch(from: u8, to: u8) -> Signed<Succession> {
        let succession = Succession { key: key(to).public_key(), at: Millis(1) };
        sign(succession, &key(from)).expect("signs").signed().clone()
    }

    #[test]
    fn trust_follows_a_chain_of_successions_in_any_order_and_nothing_else() {
        let trusted = TrustedKeys::from(key(1).public_key());
        let followed = trusted.follow(&[vouch(3, 4), vouch(2, 3), vouch(8, 9), vouch(1, 2)]);
        for (seed, is) in [(1, true), (2, true), (3, true), (4, true), (8, false), (9, false)] {
            assert_eq!(followed.get(key(seed).public_key().id()).is_some(), is, "key {seed}");
        }
    }

    #[test]
    fn a_signature_for_one_kind_says_nothing_about_another() {
        #[derive(Clone, Debug, Encode, Decode)]
        struct Other(#[n(0)] PublicKey, #[n(1)] Millis);
        impl Document for Other {
            const KIND: Kind = Kind { what: "other", domain: b"another domain\0", format: 1 };
            type Error = SignedError;
        }
        let bytes = vouch(1, 2).as_bytes().to_vec();
        let other = Signed::<Other>::from_bytes(bytes).expect("the same envelope");
        let error = other.verify(&key(1).public_key().into()).expect_err("another domain");
        assert!(matches!(error, SignedError::Signature { what: "other", .. }), "{error}");
    }
}
