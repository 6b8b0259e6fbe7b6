//! What the fuzz targets share: a key that is trusted, and payloads that are signed as they are, so that
//! random bytes get past the signature to the reader behind it.

use std::marker::PhantomData;

use headroom_core::license::{SigningKey, TrustedKeys};
use headroom_core::signed::{Document, Kind, Signed, SignedError, sign};
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

/// The key that signs.
pub fn key() -> SigningKey {
    SigningKey::from_seed(&[42; 32])
}

/// Who is trusted: that key, and the one that the seeds' certificates are signed with.
pub fn trusted() -> TrustedKeys {
    [key(), SigningKey::from_seed(&[1; 32])].iter().map(SigningKey::public_key).collect()
}

/// Bytes in the place of a document of kind `T`.
struct Raw<T>(Vec<u8>, PhantomData<fn() -> T>);

impl<T> Clone for Raw<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<C, T> Encode<C> for Raw<T> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.writer_mut().write_all(&self.0).map_err(minicbor::encode::Error::write)
    }
}

impl<'b, C, T> Decode<'b, C> for Raw<T> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(Self(d.input().to_vec(), PhantomData))
    }
}

impl<T: Document> Document for Raw<T> {
    const KIND: Kind = T::KIND;
    type Error = SignedError;
}

/// Bytes as a signed document of kind `T`; nothing when they are too many.
pub fn signed<T: Document>(payload: &[u8]) -> Option<Signed<T>> {
    let raw = Raw::<T>(payload.to_vec(), PhantomData);
    let bytes = sign(raw, &key()).ok()?.signed().as_bytes().to_vec();
    Signed::from_bytes(bytes).ok()
}
