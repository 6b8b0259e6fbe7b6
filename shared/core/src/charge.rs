//! What is counted: features, units, and the charge of a leg.

use std::fmt;
use std::sync::Arc;

use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::ids::IdError;

/// Longest feature name, in bytes.
pub const MAX_FEATURE: usize = 63;

/// What is counted or switched on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// `call`: one concurrent call leg.
    Call,
    /// `connect.meet`: one concurrent call into Google Meet.
    ConnectMeet,
    /// `connect.teams`: one concurrent call into Microsoft Teams.
    ConnectTeams,
    /// `connect.teams_rooms`: one concurrent call of a Teams Room.
    ConnectTeamsRooms,
    /// `connect.zoom_rooms`: one concurrent call of a Zoom Room.
    ConnectZoomRooms,
    /// Any other feature.
    Other(Arc<str>),
}

impl Feature {
    /// The name, as in licenses.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Call => "call",
            Self::ConnectMeet => "connect.meet",
            Self::ConnectTeams => "connect.teams",
            Self::ConnectTeamsRooms => "connect.teams_rooms",
            Self::ConnectZoomRooms => "connect.zoom_rooms",
            Self::Other(name) => name,
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// A name is 1 to 63 lower-case letters, digits, dots and underscores.
    pub fn new(name: &str) -> Result<Self, IdError> {
        Ok(match name {
            "call" => Self::Call,
            "connect.meet" => Self::ConnectMeet,
            "connect.teams" => Self::ConnectTeams,
            "connect.teams_rooms" => Self::ConnectTeamsRooms,
            "connect.zoom_rooms" => Self::ConnectZoomRooms,
            "" => return Err(IdError::Empty),
            _ if name.len() > MAX_FEATURE => {
                return Err(IdError::TooLong { len: name.len(), limit: MAX_FEATURE });
            }
            _ => match name
                .char_indices()
                .find(|(_, c)| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_')))
            {
                Some((at, found)) => return Err(IdError::Character { found, at }),
                None => Self::Other(Arc::from(name)),
            },
        })
    }

    /// Whether one unit carries all legs of a call, from its first to its last.
    #[must_use]
    pub fn per_call(&self) -> bool {
        matches!(
            self,
            Self::ConnectMeet | Self::ConnectTeams | Self::ConnectTeamsRooms | Self::ConnectZoomRooms
        )
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Feature {
    type Err = IdError;
    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::new(name)
    }
}

impl<C> Encode<C> for Feature {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(self.as_str())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Feature {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(d.str()?).map_err(minicbor::decode::Error::message)
    }
}

/// A count of licensed units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Units(#[n(0)] pub u32);

impl Units {
    /// No units.
    pub const ZERO: Self = Self(0);
    /// As many as anybody wants: the capacity of every pool in test mode.
    pub const UNLIMITED: Self = Self(u32::MAX);
    /// One unit.
    pub const ONE: Self = Self(1);

    /// The sum, at most `u32::MAX`.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left above `other`, 0 when there is nothing.
    #[must_use]
    pub const fn above(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Whether this is no unit.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl std::iter::Sum for Units {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::UNLIMITED { f.write_str("unlimited") } else { self.0.fmt(f) }
    }
}

/// Units of a feature, held by one leg. With a feature that counts per call, each leg of the call
/// carries the charge and the pool counts it once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Charge {
    /// What pays.
    #[n(0)]
    pub feature: Feature,
    /// How much.
    #[n(1)]
    pub units: Units,
}

impl Charge {
    /// So many units of `call`.
    #[must_use]
    pub const fn calls(units: u32) -> Self {
        Self { feature: Feature::Call, units: Units(units) }
    }
}

impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.units, self.feature)
    }
}
