//! A machine's fingerprint: hashes of what identifies it, never the values themselves.
//!
//! Each source is hashed with [`SALT`], which is the same for the whole vendor and public: a machine
//! that is installed anew has the same fingerprint, so a trial cannot be repeated that way. The
//! hashes keep identifiers out of files, mails and logs; they do not withstand someone who tries
//! all MAC addresses, and need not: he would learn an address that the local network knows anyway.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

/// The vendor-wide salt. Changing it makes every license that was ever issued corrupt.
pub const SALT: &[u8] = b"headroom machine fingerprint v1";
/// How the text form begins.
pub const PREFIX: &str = "hrfp1-";

const HASH_LEN: usize = 16;
const CHECK_LEN: usize = 4;

/// What identifies a machine, as read; exists only until it is hashed.
#[derive(Clone, Default)]
pub struct Sources {
    /// The installation's machine id.
    pub machine_id: Option<String>,
    /// MAC addresses of its physical network interfaces, in any order.
    pub macs: Vec<String>,
    /// The UUID its firmware gives the product.
    pub product_uuid: Option<String>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values are not for logs.
        f.debug_struct("Sources")
            .field("machine_id", &self.machine_id.is_some())
            .field("macs", &self.macs.len())
            .field("product_uuid", &self.product_uuid.is_some())
            .finish()
    }
}

/// One source of a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The machine id.
    MachineId,
    /// The MAC addresses.
    MacAddresses,
    /// The product UUID.
    ProductUuid,
}

impl Source {
    /// Every source, in the order of the text form.
    pub const ALL: [Self; 3] = [Self::MachineId, Self::MacAddresses, Self::ProductUuid];

    const fn flag(self) -> u8 {
        match self {
            Self::MachineId => 1,
            Self::MacAddresses => 2,
            Self::ProductUuid => 4,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MachineId => "machine id",
            Self::MacAddresses => "MAC addresses",
            Self::ProductUuid => "product UUID",
        })
    }
}

/// Why there is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Nothing to tell the machine from others.
    #[error(
        "no source of a fingerprint is available: neither a machine id, a MAC address nor a product UUID"
    )]
    NoSource,
    /// Not the text of a fingerprint.
    #[error("a fingerprint begins with {PREFIX}")]
    Prefix,
    /// Not hexadecimal.
    #[error("a fingerprint continues in hexadecimal digits after {PREFIX}: {why}")]
    NotHex {
        /// What the reader says.
        why: String,
    },
    /// Another length than its first byte announces.
    #[error("the fingerprint has {found} digits after {PREFIX}, expected {expected}: is it cut off?")]
    Length {
        /// Digits given.
        found: usize,
        /// Digits expected.
        expected: usize,
    },
    /// Sources this version does not know.
    #[error("the fingerprint was made by a newer version: unknown sources {flags:#04x}")]
    UnknownSource {
        /// The unknown flags.
        flags: u8,
    },
    /// A typing error.
    #[error("the fingerprint's checksum does not match: one of its digits is wrong")]
    Checksum,
}

/// The hash of one source. Of different sources it is different, whatever their values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Part(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    [u8; HASH_LEN],
);

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Identifies a machine without telling how. Has at least one source.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct Fingerprint {
    #[n(0)]
    machine_id: Option<Part>,
    #[n(1)]
    macs: Option<Part>,
    #[n(2)]
    product_uuid: Option<Part>,
}

fn hash(tag: Source, values: &[String]) -> Part {
    let mut hasher = Sha256::new();
    for part in [SALT, &[tag.flag()]].into_iter().chain(values.iter().map(String::as_bytes)) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut part = [0; HASH_LEN];
    part.copy_from_slice(&hasher.finalize()[..HASH_LEN]);
    Part(part)
}

/// One spelling for one value; nothing for a value that identifies no machine.
fn normal(value: &str) -> Option<String> {
    let value = value.trim().to_ascii_lowercase();
    let says_something = value.chars().any(|c| c.is_ascii_alphanumeric() && !matches!(c, '0' | 'f'));
    says_something.then_some(value)
}

impl Fingerprint {
    /// Hashes what identifies a machine. Letter case, surrounding blanks, and order and repetition
    /// of addresses make no difference; values of only zeros or only `f` do not count.
    ///
    /// # Errors
    /// [`FingerprintError::NoSource`] when nothing is given.
    pub fn new(sources: &Sources) -> Result<Self, FingerprintError> {
        let one =
            |tag, value: &Option<String>| value.as_deref().and_then(normal).map(|value| hash(tag, &[value]));
        let mut macs: Vec<String> = sources.macs.iter().filter_map(|mac| normal(mac)).collect();
        macs.sort();
        macs.dedup();
        Self {
            machine_id: one(Source::MachineId, &sources.machine_id),
            macs: (!macs.is_empty()).then(|| hash(Source::MacAddresses, &macs)),
            product_uuid: one(Source::ProductUuid, &sources.product_uuid),
        }
        .checked()
    }

    /// The fingerprint of no machine, for what is checked before there is one.
    #[must_use]
    pub const fn nowhere() -> Self {
        Self { machine_id: Some(Part([0; HASH_LEN])), macs: None, product_uuid: None }
    }

    fn checked(self) -> Result<Self, FingerprintError> {
        if Source::ALL.iter().all(|source| self.part(*source).is_none()) {
            return Err(FingerprintError::NoSource);
        }
        Ok(self)
    }

    const fn part(&self, source: Source) -> Option<Part> {
        match source {
            Source::MachineId => self.machine_id,
            Source::MacAddresses => self.macs,
            Source::ProductUuid => self.product_uuid,
        }
    }

    /// Whether both are the same machine: no source differs, and they have one in common.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let common = |source: &Source| self.part(*source).is_some() && other.part(*source).is_some();
        self.differences(other).is_empty() && Source::ALL.iter().any(common)
    }

    /// The sources that differ; none does when both match. The product UUID is compared only where both
    /// know it: on most machines only root may read it, and a service need not run as root.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Source> {
        let differs = |source: &Source| match (source, self.part(*source), other.part(*source)) {
            (Source::ProductUuid, None, _) | (Source::ProductUuid, _, None) => false,
            (_, one, two) => one != two,
        };
        Source::ALL.into_iter().filter(differs).collect()
    }

    /// The sources it is made of.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        Source::ALL.into_iter().filter(|source| self.part(*source).is_some()).collect()
    }

    /// The hashes of its sources.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        Source::ALL.into_iter().filter_map(|source| self.part(source))
    }

    fn body(&self) -> Vec<u8> {
        let mut bytes = vec![0];
        for source in Source::ALL {
            if let Some(Part(hash)) = self.part(source) {
                bytes[0] |= source.flag();
                bytes.extend_from_slice(&hash);
            }
        }
        bytes
    }
}

fn checksum(body: &[u8]) -> [u8; CHECK_LEN] {
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&Sha256::digest(body)[..CHECK_LEN]);
    check
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        write!(f, "{PREFIX}{}{}", hex::encode(&body), hex::encode(checksum(&body)))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(FingerprintError::Prefix)?;
        let bytes =
            hex::decode(digits).map_err(|error| FingerprintError::NotHex { why: error.to_string() })?;
        let flags = bytes.first().copied().unwrap_or_default();
        let known: u8 = Source::ALL.iter().map(|source| source.flag()).sum();
        if flags & !known != 0 {
            return Err(FingerprintError::UnknownSource { flags: flags & !known });
        }
        let expected = 1 + HASH_LEN * (flags.count_ones() as usize) + CHECK_LEN;
        if bytes.len() != expected {
            return Err(FingerprintError::Length { found: digits.len(), expected: 2 * expected });
        }
        let (body, check) = bytes.split_at(expected - CHECK_LEN);
        if check != checksum(body) {
            return Err(FingerprintError::Checksum);
        }
        let mut parts = body[1..].chunks_exact(HASH_LEN);
        let mut part = |source: Source| {
            let hash = if flags & source.flag() == 0 { None } else { parts.next() };
            hash.and_then(|hash| hash.try_into().ok()).map(Part)
        };
        Self {
            machine_id: part(Source::MachineId),
            macs: part(Source::MacAddresses),
            product_uuid: part(Source::ProductUuid),
        }
        .checked()
    }
}

impl<'b, C> Decode<'b, C> for Fingerprint {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        #[derive(Decode)]
        struct Raw {
            #[n(0)]
            machine_id: Option<Part>,
            #[n(1)]
            macs: Option<Part>,
            #[n(2)]
            product_uuid: Option<Part>,
        }
        let Raw { machine_id, macs, product_uuid } = d.decode_with(ctx)?;
        Self { machine_id, macs, product_uuid }.checked().map_err(minicbor::decode::Error::message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sources() -> Sources {
        Sources {
            machine_id: Some("0b2c5e7d9a1f4c3e8b6d2a7f5c9e1d3b".into()),
            macs: vec!["52:54:00:12:34:56".into(), "52:54:00:AB:CD:EF".into()],
            product_uuid: Some("4C4C4544-0044-4810-8031-B7C04F4A4B32".into()),
        }
    }

    #[test]
    fn the_same_machine_has_the_same_fingerprint_whatever_the_spelling() {
        let one = Fingerprint::new(&sources()).expect("a fingerprint");
        let mut other = sources();
        other.macs.reverse();
        other.macs.push("52:54:00:12:34:56".into());
        other.macs.push("00:00:00:00:00:00".into());
        other.macs[0] = other.macs[0].to_lowercase();
        other.machine_id = Some(format!("{}\n", other.machine_id.expect("given").to_uppercase()));
        assert!(one.matches(&Fingerprint::new(&other).expect("a fingerprint")));
    }

    #[test]
    fn a_changed_mac_address_is_another_machine_and_named() {
        let one = Fingerprint::new(&sources()).expect("a fingerprint");
        let mut other = sources();
        other.macs[1] = "52:54:00:ab:cd:ee".into();
        let other = Fingerprint::new(&other).expect("a fingerprint");
        assert!(!one.matches(&other));
        assert_eq!(one.differences(&other), [Source::MacAddresses]);
    }

    #[test]
    fn a_product_uuid_that_only_root_can_read_does_not_make_another_machine() {
        let root = Fingerprint::new(&sources()).expect("a fingerprint");
        let user = Fingerprint::new(&Sources { product_uuid: None, ..sources() }).expect("a fingerprint");
        assert!(root.matches(&user) && user.matches(&root));
        let other =
            Sources { product_uuid: Some("4C4C4544-0044-4810-8031-000000000001".into()), ..sources() };
        assert!(!root.matches(&Fingerprint::new(&other).expect("a fingerprint")));
        let alone = Sources { machine_id: None, macs: Vec::new(), ..sources() };
        assert!(!user.matches(&Fingerprint::new(&alone).expect("a fingerprint")));
    }

    #[test]
    fn a_machine_without_any_source_is_refused() {
        let nothing = Sources {
            machine_id: Some("  \n".into()),
            macs: vec!["00:00:00:00:00:00".into(), "ff:ff:ff:ff:ff:ff".into()],
            product_uuid: Some("00000000-0000-0000-0000-000000000000".into()),
        };
        assert_eq!(Fingerprint::new(&nothing), Err(FingerprintError::NoSource));
        assert!(minicbor::decode::<Fingerprint>(&[0x83, 0xf6, 0xf6, 0xf6]).is_err());
    }

    #[test]
    fn the_text_form_is_fixed_for_ever() {
        let text = Fingerprint::new(&sources()).expect("a fingerprint").to_string();
        assert_eq!(text, GOLDEN);
    }

    const GOLDEN: &str = "hrfp1-075fa074d0d0b576f4960f90237b970e11506a720af67542593e4cc16d3240501f2d957f867eed583c8906714b02bcaa9d3d622589";

    #[test]
    fn a_raw_value_is_nowhere_in_the_debug_output() {
        assert!(!format!("{:?}", sources()).contains("52:54"));
    }

    proptest! {
        #[test]
        fn every_combination_of_sources_reads_back_and_every_wrong_digit_is_found(
            machine in prop::option::of("[1-9a-e]{8}"),
            macs in prop::collection::vec("[1-9a-e]{2}:[0-9a-f]{2}", 0..4),
            product in prop::option::of("[1-9a-e]{8}"),
            at in any::<prop::sample::Index>(),
            digit in "[0-9a-f]",
        ) {
            let sources = Sources { machine_id: machine, macs, product_uuid: product };
            let Ok(fingerprint) = Fingerprint::new(&sources) else {
                prop_assert!(sources.macs.is_empty());
                return Ok(());
            };
            let text = fingerprint.to_string();
            prop_assert_eq!(text.parse::<Fingerprint>(), Ok(fingerprint.clone()));
            let bytes = minicbor::to_vec(&fingerprint).expect("encodes");
            prop_assert_eq!(&minicbor::decode::<Fingerprint>(&bytes).expect("decodes"), &fingerprint);
            let at = PREFIX.len() + at.index(text.len() - PREFIX.len());
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, &digit);
            if wrong != text {
                prop_assert!(wrong.parse::<Fingerprint>().is_err());
            }
            prop_assert!(text[..text.len() - 1].parse::<Fingerprint>().is_err());
        }
    }
}
