//! Records: numbered, dated, chained by hash. One encoding for every service.
//!
//! A record is `header ‖ events`. The header is CBOR `[format, sequence, time, hash of the record
//! before, number of events]`; each event follows as CBOR of its own.

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::machine::Durable;
use crate::time::Millis;

/// Version of the record format.
pub const FORMAT: u32 = 1;

/// Hash of a record.
#[derive(Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Hash(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 32],
);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Hash {
    /// SHA-256 of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// A place in a history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Position {
    /// Random identity of the history.
    #[n(0)]
    pub generation: u64,
    /// Number of the last record, 0 before the first.
    #[n(1)]
    pub sequence: u64,
}

/// Where a chain stands: the next record follows this.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Link {
    /// Number of the last record.
    #[n(0)]
    pub sequence: u64,
    /// Its hash.
    #[n(1)]
    pub hash: Hash,
}

/// A record that is ready to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What it follows.
    pub after: Link,
    /// Where the chain stands with it: its own number and hash.
    pub link: Link,
    /// The record.
    pub bytes: Vec<u8>,
    /// With this record the history gets this identity: what was handed out before speaks of another.
    pub generation: Option<u64>,
}

#[derive(Encode, Decode)]
struct Header {
    #[n(0)]
    format: u32,
    #[n(1)]
    sequence: u64,
    #[n(2)]
    time: Millis,
    #[n(3)]
    before: Hash,
    #[n(4)]
    events: u32,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("record {sequence} cannot be decoded: {why}")]
    Undecodable {
        /// The record that was expected.
        sequence: u64,
        /// What the decoder says.
        why: String,
    },
    /// Written by a newer version.
    #[error("record {sequence} has format {found}, this version reads up to {FORMAT}")]
    Format {
        /// The record.
        sequence: u64,
        /// Its format.
        found: u32,
    },
    /// Another number than expected.
    #[error("record {expected} is missing: found record {found} in its place")]
    Sequence {
        /// The number expected.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The chain is broken.
    #[error("record {sequence} does not follow record {}: the hash differs", sequence - 1)]
    Chain {
        /// The record.
        sequence: u64,
    },
}

/// Seals events into the record that follows `after`.
#[must_use]
pub fn seal<E: Durable>(after: Link, time: Millis, events: &[E]) -> (Link, Vec<u8>) {
    let header = Header {
        format: FORMAT,
        sequence: after.sequence + 1,
        time,
        before: after.hash,
        events: u32::try_from(events.len()).unwrap_or(u32::MAX),
    };
    let mut bytes = Vec::with_capacity(64 + events.len() * 64);
    encode_into(&header, &mut bytes);
    for event in events {
        encode_into(event, &mut bytes);
    }
    (Link { sequence: header.sequence, hash: Hash::of(&bytes) }, bytes)
}

fn encode_into<T: Encode<()>>(value: &T, bytes: &mut Vec<u8>) {
    // Writing to a vector cannot fail, and derived encoders have no errors of their own.
    if let Err(error) = minicbor::encode(value, &mut *bytes) {
        unreachable!("encoding to memory failed: {error}");
    }
}

/// Opens the record that must follow `after`.
///
/// # Errors
/// [`RecordError`] names the record.
pub fn open<E: Durable>(after: Link, bytes: &[u8]) -> Result<(Link, Millis, Vec<E>), RecordError> {
    let sequence = after.sequence + 1;
    let undecodable =
        |error: minicbor::decode::Error| RecordError::Undecodable { sequence, why: error.to_string() };
    let mut decoder = minicbor::Decoder::new(bytes);
    let header: Header = decoder.decode().map_err(undecodable)?;
    if header.format > FORMAT {
        return Err(RecordError::Format { sequence, found: header.format });
    }
    if header.sequence != sequence {
        return Err(RecordError::Sequence { expected: sequence, found: header.sequence });
    }
    if header.before != after.hash {
        return Err(RecordError::Chain { sequence });
    }
    let mut events = Vec::new();
    for _ in 0..header.events {
        events.push(decoder.decode().map_err(undecodable)?);
    }
    if decoder.position() != bytes.len() {
        let why = format!("{} bytes follow the last event", bytes.len() - decoder.position());
        return Err(RecordError::Undecodable { sequence, why });
    }
    Ok((Link { sequence, hash: Hash::of(bytes) }, header.time, events))
}

/// Encodes events as one snapshot chunk.
#[must_use]
pub fn seal_chunk<E: Durable>(events: &[E]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(events.len() * 64);
    for event in events {
        encode_into(event, &mut bytes);
    }
    bytes
}

/// Decodes a snapshot chunk.
///
/// # Errors
/// What the decoder says.
pub fn open_chunk<E: Durable>(bytes: &[u8]) -> Result<Vec<E>, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let mut events = Vec::new();
    while decoder.position() < bytes.len() {
        events.push(decoder.decode()?);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_chain_reads_back_and_every_flipped_bit_is_found(batches in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..5), 1..5), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut link = Link::default();
            let mut records = Vec::new();
            for batch in &batches {
                let (next, bytes) = seal(link, Millis(7), batch);
                records.push(bytes);
                link = next;
            }
            let read = |records: &[Vec<u8>]| {
                let mut link = Link::default();
                let mut read = Vec::new();
                for bytes in records {
                    let (next, _, events) = open::<u64>(link, bytes)?;
                    read.push(events);
                    link = next;
                }
                Ok::<_, RecordError>((link, read))
            };
            prop_assert_eq!(read(&records), Ok((link, batches)));
            let which = at.index(records.len());
            let byte = at.index(records[which].len());
            records[which][byte] ^= 1 << bit;
            // Damage to the last record shows in the final link, damage before it breaks the chain.
            prop_assert!(read(&records).map_or(true, |(end, _)| end != link));
        }
    }
}
