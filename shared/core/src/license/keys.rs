//! Keys: secret ones sign, public ones are trusted.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer};
use minicbor::{Decode, Decoder, Encode, Encoder};
use sha2::{Digest, Sha256};

/// Names a key: the first 8 bytes of the SHA-256 of the public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct KeyId(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 8],
);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not two words.
    #[error("a public key is one line: the key id, a blank, and the public key in 64 hexadecimal digits")]
    Form,
    /// The public key is not hexadecimal or has another length.
    #[error("the public key must be 64 hexadecimal digits: {why}")]
    NotHex {
        /// What the reader says.
        why: String,
    },
    /// The id belongs to another key.
    #[error("the key id is {given}, but this public key's id is {expected}: one of them is wrong")]
    IdMismatch {
        /// As given.
        given: String,
        /// As computed.
        expected: KeyId,
    },
    /// No usable point of the curve.
    #[error("the public key is no valid Ed25519 key")]
    Invalid,
}

/// A public key: the vendor's, which licenses are signed with, or a machine's, which signs its requests.
/// Its text form is `KEYID HEX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// Checks a public key.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] when it is no point of the curve, or one anybody can sign for.
    pub fn new(public: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| KeyError::Invalid)?;
        if key.is_weak() { Err(KeyError::Invalid) } else { Ok(Self(key)) }
    }

    /// The public key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&Sha256::digest(self.as_bytes())[..8]);
        KeyId(id)
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id(), hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut words = text.split_ascii_whitespace();
        let (Some(id), Some(digits), None) = (words.next(), words.next(), words.next()) else {
            return Err(KeyError::Form);
        };
        let mut public = [0; 32];
        hex::decode_to_slice(digits, &mut public)
            .map_err(|error| KeyError::NotHex { why: error.to_string() })?;
        let key = Self::new(&public)?;
        if !id.eq_ignore_ascii_case(&key.id().to_string()) {
            return Err(KeyError::IdMismatch { given: id.to_owned(), expected: key.id() });
        }
        Ok(key)
    }
}

impl<C> Encode<C> for PublicKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.as_bytes())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for PublicKey {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let public = d.bytes()?.try_into().map_err(minicbor::decode::Error::custom)?;
        Self::new(public).map_err(minicbor::decode::Error::custom)
    }
}

/// The public keys a license may be signed with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedKeys(BTreeMap<KeyId, PublicKey>);

impl TrustedKeys {
    /// The key of this name.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&PublicKey> {
        self.0.get(&id)
    }

    /// All keys, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values()
    }

    /// The names of all keys, for messages.
    #[must_use]
    pub fn names(&self) -> String {
        if self.0.is_empty() {
            return "none".into();
        }
        self.0.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.id(), key)).collect())
    }
}

impl From<PublicKey> for TrustedKeys {
    fn from(key: PublicKey) -> Self {
        [key].into_iter().collect()
    }
}

/// A secret key. Never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that 32 random bytes make; the same bytes always make the same key.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The bytes it was made from. Secret.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public_key().id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_key_reads_back_from_its_line_and_a_wrong_digit_is_found() {
        let key = SigningKey::from_seed(&[7; 32]).public_key();
        let text = key.to_string();
        assert_eq!(format!("{text}\n").parse(), Ok(key));
        assert_eq!(text.to_uppercase().parse(), Ok(key));
        let bytes = minicbor::to_vec(key).expect("encodes");
        assert_eq!(minicbor::decode::<PublicKey>(&bytes).expect("decodes"), key);
        for at in 0..text.len() {
            let mut wrong = text.clone();
            let digit = if &text[at..=at] == "0" { "1" } else { "0" };
            wrong.replace_range(at..=at, digit);
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
        assert_eq!("".parse::<PublicKey>(), Err(KeyError::Form));
        assert!(PublicKey::new(&[0; 32]).is_err(), "a key of small order");
    }

    #[test]
    fn the_secret_is_nowhere_in_the_debug_output() {
        let key = SigningKey::from_seed(&[0xab; 32]);
        assert!(!format!("{key:?}").contains("abab"));
    }
}
