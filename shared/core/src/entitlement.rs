//! The entitlement key: the secret that a customer types to activate a plan.
//!
//! 25 characters of Crockford's base 32 in five groups: 110 random bits and a checksum of 15. As one
//! number the key is a multiple of 32 749, a prime above the alphabet's size, which makes every
//! wrong character and every exchange of two neighbours show.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Decoder, Encode, Encoder};

/// Letters that people do not mistake for others (Douglas Crockford, Base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a key.
pub const CHARACTERS: usize = 25;
const GROUP: usize = 5;
const CHECK_BITS: u32 = 15;
/// Random bytes a key is made of; two bits of the last one are not used.
pub const RANDOM_BYTES: usize = 14;
const UNUSED_BITS: u32 = 2;
/// The largest prime below 2^15.
const MODULUS: u128 = 32_749;

/// Why a text is no entitlement key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too many characters or too few.
    #[error("an entitlement key has {CHARACTERS} characters, {found} are given")]
    Length {
        /// Characters given, hyphens and blanks left out.
        found: usize,
    },
    /// A character that keys do not have.
    #[error("an entitlement key has letters and digits only, {found:?} is none of them")]
    Character {
        /// The character.
        found: char,
    },
    /// A typing error.
    #[error("this is no entitlement key: a character is wrong or two are exchanged")]
    Checksum,
}

/// An entitlement key. Shown whole only where its owner asks for it; [`Self::hint`] names it in logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntitlementKey(u128);

impl EntitlementKey {
    /// The key no other is less than: where a range over keys begins.
    pub const LEAST: Self = Self(0);

    /// The key of so many random bits.
    #[must_use]
    pub fn from_random(random: [u8; RANDOM_BYTES]) -> Self {
        let number = random.iter().fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
        let payload = (number >> UNUSED_BITS) << CHECK_BITS;
        Self(payload + (MODULUS - payload % MODULUS) % MODULUS)
    }

    /// Its first group, which names it and opens nothing.
    #[must_use]
    pub fn hint(&self) -> String {
        format!("{}-…", &self.to_string()[..GROUP])
    }
}

impl fmt::Display for EntitlementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in 0..CHARACTERS {
            if at > 0 && at % GROUP == 0 {
                f.write_str("-")?;
            }
            let digit = (self.0 >> (5 * (CHARACTERS - 1 - at))) & 31;
            let letter = usize::try_from(digit).map_or(b'?', |digit| ALPHABET[digit]);
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for EntitlementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The whole is not for logs.
        f.write_str(&self.hint())
    }
}

/// A character's value; what is easily mistaken is read as what it is mistaken for.
fn value(letter: char) -> Option<u128> {
    let letter = match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let at = ALPHABET.iter().position(|known| char::from(*known) == letter)?;
    u128::try_from(at).ok()
}

impl FromStr for EntitlementKey {
    type Err = KeyError;

    /// Letter case, hyphens and blanks make no difference; `O` is read as 0, `I` and `L` as 1.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let letters = || text.chars().filter(|c| *c != '-' && !c.is_whitespace());
        if let Some(found) = letters().find(|c| value(*c).is_none()) {
            return Err(KeyError::Character { found });
        }
        let found = letters().count();
        if found != CHARACTERS {
            return Err(KeyError::Length { found });
        }
        let number = letters().filter_map(value).fold(0, |number, digit| (number << 5) | digit);
        Self::checked(number)
    }
}

impl EntitlementKey {
    fn checked(number: u128) -> Result<Self, KeyError> {
        if number.is_multiple_of(MODULUS) { Ok(Self(number)) } else { Err(KeyError::Checksum) }
    }
}

impl<C> Encode<C> for EntitlementKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0.to_be_bytes())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for EntitlementKey {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?.try_into().map_err(minicbor::decode::Error::custom)?;
        Self::checked(u128::from_be_bytes(bytes)).map_err(minicbor::decode::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_reads_as_people_write_it() {
        let key = EntitlementKey::from_random([0x5a; RANDOM_BYTES]);
        let text = key.to_string();
        assert_eq!(text.len(), CHARACTERS + 4);
        assert_eq!(text.to_lowercase().replace('-', " ").parse(), Ok(key));
        assert_eq!(format!(" {}\n", text.replace('0', "o").replace('1', "l")).parse(), Ok(key));
        assert_eq!(text[..24].parse::<EntitlementKey>(), Err(KeyError::Length { found: 20 }));
        assert_eq!("".parse::<EntitlementKey>(), Err(KeyError::Length { found: 0 }));
        let foreign = text.replacen(&text[..1], "é", 1);
        assert_eq!(foreign.parse::<EntitlementKey>(), Err(KeyError::Character { found: 'é' }));
        assert_eq!(format!("{key:?}"), format!("{}-…", &text[..5]));
    }

    proptest! {
        #[test]
        fn every_wrong_character_and_every_exchange_of_neighbours_is_found(
            random in any::<[u8; RANDOM_BYTES]>(),
        ) {
            let key = EntitlementKey::from_random(random);
            let bytes = minicbor::to_vec(key).expect("encodes");
            prop_assert_eq!(minicbor::decode::<EntitlementKey>(&bytes).expect("decodes"), key);
            let letters: Vec<char> = key.to_string().chars().filter(|c| *c != '-').collect();
            prop_assert_eq!(letters.iter().collect::<String>().parse(), Ok(key));
            for at in 0..letters.len() {
                for other in ALPHABET.iter().map(|c| char::from(*c)).filter(|c| *c != letters[at]) {
                    let mut wrong = letters.clone();
                    wrong[at] = other;
                    let read = wrong.iter().collect::<String>().parse::<EntitlementKey>();
                    prop_assert_eq!(read, Err(KeyError::Checksum));
                }
                if at > 0 && letters[at - 1] != letters[at] {
                    let mut wrong = letters.clone();
                    wrong.swap(at - 1, at);
                    let read = wrong.iter().collect::<String>().parse::<EntitlementKey>();
                    prop_assert_eq!(read, Err(KeyError::Checksum));
                }
            }
        }
    }
}
