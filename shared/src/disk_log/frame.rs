//! A record as it stands in a file: a header that says what follows, then the record.
//!
//! | bytes | what, numbers big endian |
//! | --- | --- |
//! | 0–3 | `HRF` and the version of this layout |
//! | 4–7 | length of the record |
//! | 8–15 | its number |
//! | 16–23 | identity of the history from this record on |
//! | 24–55 | SHA-256 of the record |
//! | 56–63 | the first bytes of the SHA-256 of all before |

use headroom_core::record::{Hash, Link};

/// Bytes of a header.
const HEADER: usize = 64;
/// Bytes of a header that its own hash covers.
const COVERED: usize = 56;
const MARK: [u8; 4] = *b"HRF\x01";
const CUT: &str = "it was cut short";

/// A record, and what its header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'b> {
    pub(super) link: Link,
    pub(super) generation: u64,
    pub(super) record: &'b [u8],
}

impl<'b> Frame<'b> {
    /// As it is written, or `None` for a record of more than 4 GiB.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let length = u32::try_from(self.record.len()).ok()?;
        let mut bytes = Vec::with_capacity(HEADER + self.record.len());
        bytes.extend(MARK);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.link.sequence.to_be_bytes());
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend(self.link.hash.0);
        bytes.extend(&Hash::of(&bytes).0[..HEADER - COVERED]);
        bytes.extend(self.record);
        Some(bytes)
    }

    /// Bytes that it takes.
    pub(super) fn length(&self) -> usize {
        HEADER + self.record.len()
    }

    /// The frame at the beginning of some bytes, or what is wrong with it.
    pub(super) fn first(bytes: &'b [u8]) -> Result<Self, &'static str> {
        let (link, generation, length) = header(bytes)?;
        let record = bytes[HEADER..].get(..length).ok_or(CUT)?;
        if Hash::of(record) != link.hash {
            return Err("its hash differs from its content's");
        }
        Ok(Self { link, generation, record })
    }
}

/// Whether more than one record was begun in some bytes that do not begin with a whole one: bytes follow
/// its end, or another header does.
pub(super) fn more_than_one(bytes: &[u8]) -> bool {
    let ends = |(_, _, length): (_, _, usize)| bytes.len() > HEADER + length;
    let marks = bytes.windows(MARK.len()).enumerate().skip(1).filter(|(_, window)| **window == MARK);
    header(bytes).is_ok_and(ends) || marks.map(|(at, _)| at).any(|at| header(&bytes[at..]).is_ok())
}

/// What the header at the beginning of some bytes says: the record, the history's identity, the length.
fn header(bytes: &[u8]) -> Result<(Link, u64, usize), &'static str> {
    let header = bytes.get(..HEADER).ok_or(CUT)?;
    let (covered, check) = header.split_at(COVERED);
    if !covered.starts_with(&MARK) || !Hash::of(covered).0.starts_with(check) {
        return Err("its header is not what was written");
    }
    let mut fields = &covered[MARK.len()..];
    let mut read = || {
        let length = u32::from_be_bytes(take(&mut fields)?);
        let (sequence, generation) = (take(&mut fields)?, take(&mut fields)?);
        let link = Link { sequence: u64::from_be_bytes(sequence), hash: Hash(take(&mut fields)?) };
        Some((link, u64::from_be_bytes(generation), usize::try_from(length).ok()?))
    };
    read().ok_or(CUT)
}

/// The next bytes of a field, which are taken off.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*field)
}
