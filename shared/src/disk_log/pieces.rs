//! How items become keys and values: every value at most [`PIECE`] bytes.
//!
//! A sled node that grows above a quarter of a segment is moved to a file of its own under `blobs/`
//! which sled never syncs. A node holds up to about 17 values, so small values keep everything in
//! the one file that is synced. Longer items are split over several keys.
//!
//! key = tag ‖ numbers ‖ piece ‖ pieces, all big endian: what is missing shows in the keys.

use sled::Tree;

use crate::log::{Item, LogError};

/// Most bytes in one value.
pub(super) const PIECE: usize = 6 * 1024;

pub(super) const CHUNK: u8 = b'c';
pub(super) const MANIFEST: u8 = b'm';

/// What is kept in pieces.
#[derive(Clone, Copy)]
pub(super) enum Stored {
    /// A snapshot's list of chunks.
    Manifest(u64),
    /// A chunk of a snapshot.
    Chunk { snapshot: u64, index: u32 },
}

impl From<Stored> for Item {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Manifest(snapshot) => Self::Manifest(snapshot),
            Stored::Chunk { snapshot, index } => Self::Chunk { snapshot, index },
        }
    }
}

/// The keys of a stored thing begin with this, and no other one's do.
fn prefix(stored: Stored) -> Vec<u8> {
    match stored {
        Stored::Manifest(snapshot) => numbered(MANIFEST, snapshot),
        Stored::Chunk { snapshot, index } => {
            let mut key = numbered(CHUNK, snapshot);
            key.extend(index.to_be_bytes());
            key
        }
    }
}

/// Tag and sequence: where the keys of one snapshot begin.
pub(super) fn numbered(tag: u8, sequence: u64) -> Vec<u8> {
    let mut key = vec![tag];
    key.extend(sequence.to_be_bytes());
    key
}

/// The sequence in a key that [`numbered`] began.
pub(super) fn sequence_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

/// A key and its value.
type Piece<'b> = (Vec<u8>, &'b [u8]);

/// The keys and values that an item becomes. It must not be there with another number of pieces.
pub(super) fn split(stored: Stored, bytes: &[u8]) -> Result<Vec<Piece<'_>>, LogError> {
    let (prefix, item) = (prefix(stored), Item::from(stored));
    let pieces = u32::try_from(bytes.len().div_ceil(PIECE).max(1)).map_err(|_| {
        LogError::io("write", item.to_string(), format!("{} bytes are too many", bytes.len()))
    })?;
    // An empty item has one empty piece: its absence must show.
    let mut rest = bytes;
    let next = |piece: u32| {
        let (value, after) = rest.split_at(rest.len().min(PIECE));
        rest = after;
        ([&prefix[..], &piece.to_be_bytes(), &pieces.to_be_bytes()].concat(), value)
    };
    Ok((0..pieces).map(next).collect())
}

/// Reads an item back, whole or not at all.
pub(super) fn get(tree: &Tree, stored: Stored) -> Result<Vec<u8>, LogError> {
    let (prefix, item) = (prefix(stored), Item::from(stored));
    let mut bytes = Vec::new();
    let mut found = 0;
    let mut expected = None;
    for entry in tree.scan_prefix(&prefix) {
        let (key, value) = entry.map_err(|error| LogError::damaged(item, error.to_string()))?;
        let Some((piece, pieces)) = piece_of(&key[prefix.len()..]) else {
            return Err(LogError::damaged(item, format!("it has a strange key {}", hex::encode(&key))));
        };
        if piece != found || *expected.get_or_insert(pieces) != pieces {
            return Err(LogError::damaged(item, format!("piece {found} is missing")));
        }
        found += 1;
        bytes.extend_from_slice(&value);
    }
    match expected {
        None => Err(LogError::damaged(item, "it is missing")),
        Some(pieces) if pieces != found => {
            Err(LogError::damaged(item, format!("{found} of {pieces} pieces are there")))
        }
        Some(_) => Ok(bytes),
    }
}

fn piece_of(suffix: &[u8]) -> Option<(u32, u32)> {
    let (piece, pieces) = suffix.split_at_checked(4)?;
    Some((u32::from_be_bytes(piece.try_into().ok()?), u32::from_be_bytes(pieces.try_into().ok()?)))
}
