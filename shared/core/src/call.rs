//! Calls and legs as media servers describe them.

use minicbor::{Decode, Encode};

use crate::ids::{CallId, LegId, NodeName, SourceId, Text};

/// Most legs in one request.
pub const MAX_LEGS: usize = 512;
/// Legs of a gateway call: one in, one out.
pub const MAX_GATEWAY_LEGS: usize = 2;
/// Most subjects, and most needs, of a leg.
pub const MAX_SUBJECTS: usize = 16;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $n:literal $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(index_only)]
        pub enum $name { $($(#[$vdoc])* #[n($n)] $variant),* }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word used in JSON, on the command line and in tables.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Reads the word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.word() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}
pub(crate) use words;

words!(
    /// What kind of service a call reaches.
    Service {
        /// A virtual meeting room.
        1 Vmr = "vmr",
        /// A virtual auditorium.
        2 Auditorium = "auditorium",
        /// A virtual reception.
        3 Reception = "reception",
        /// A point-to-point gateway call.
        4 Gateway = "gateway",
    }
);
words!(
    /// A hosted meeting service that a gateway call interworks with.
    Interop {
        /// Hosted Microsoft Teams.
        1 Teams = "teams",
        /// Hosted Google Meet.
        2 Meet = "meet",
        /// A Microsoft Teams Room.
        3 TeamsRooms = "teams_rooms",
        /// A Zoom Room.
        4 ZoomRooms = "zoom_rooms",
    }
);
words!(
    /// A leg's signalling protocol.
    Protocol {
        /// SIP.
        1 Sip = "sip",
        /// H.323.
        2 H323 = "h323",
        /// WebRTC.
        3 Webrtc = "webrtc",
        /// An RTMP stream.
        4 Rtmp = "rtmp",
        /// Lync / Skype for Business.
        5 Skype = "skype",
    }
);
words!(
    /// Who began a leg.
    Direction {
        /// The participant.
        1 In = "in",
        /// The media server.
        2 Out = "out",
    }
);
words!(
    /// The presentation a leg sends or receives.
    Presentation {
        /// None.
        1 None = "none",
        /// Images or PDF.
        2 Slides = "slides",
        /// Below HD.
        3 Standard = "standard",
        /// Full-motion HD.
        4 FullMotion = "full_motion",
    }
);

/// What a leg sends or receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Media {
    /// Audio.
    #[n(0)]
    pub audio: bool,
    /// Video.
    #[n(1)]
    pub video: bool,
    /// Presentation.
    #[n(2)]
    pub presentation: Presentation,
    /// The leg sends the presentation.
    #[n(3)]
    pub presenting: bool,
}

impl Media {
    /// Neither media nor presentation.
    pub const CONTROL_ONLY: Self =
        Self { audio: false, video: false, presentation: Presentation::None, presenting: false };
    /// Audio and video.
    pub const AUDIO_VIDEO: Self =
        Self { audio: true, video: true, presentation: Presentation::None, presenting: false };
}

/// What is said of a call as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CallInfo {
    /// The call.
    #[n(0)]
    pub call: CallId,
    /// What it reaches.
    #[n(1)]
    pub service: Service,
    /// What it interworks with.
    #[n(2)]
    pub interop: Option<Interop>,
    /// The conference.
    #[n(3)]
    pub conference: Text,
    /// What was dialled.
    #[n(4)]
    pub destination: Text,
    /// Who it is accounted to.
    #[n(5)]
    pub tenant: Text,
    /// The media server.
    #[n(6)]
    pub source: SourceId,
}

/// What is said of one leg.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Leg {
    /// The leg.
    #[n(0)]
    pub leg: LegId,
    /// The participant's address.
    #[n(1)]
    pub participant: Text,
    /// The protocol.
    #[n(2)]
    pub protocol: Protocol,
    /// Who began it.
    #[n(3)]
    pub direction: Direction,
    /// What it sends or receives.
    #[n(4)]
    pub media: Media,
    /// The node that will run it, when that is not the asker.
    #[n(5)]
    pub owner: Option<NodeName>,
    /// The leg whose unit it takes over.
    #[n(6)]
    pub replaces: Option<LegId>,
    /// Subjects of named features.
    #[n(7)]
    pub subjects: Vec<Text>,
    /// Named features it needs.
    #[n(8)]
    pub needs: Vec<Text>,
}

/// A call and the legs of it that are asked for together.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Call {
    /// The call as a whole.
    #[n(0)]
    pub info: CallInfo,
    /// The legs, in the order asked.
    #[n(1)]
    pub legs: Vec<Leg>,
}

/// What makes a call's shape unacceptable, beyond single fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No leg.
    #[error("legs: a call needs at least one leg")]
    NoLegs,
    /// Too many legs.
    #[error("legs: {count} legs given, at most {MAX_LEGS} are allowed in one request")]
    TooManyLegs {
        /// Legs given.
        count: usize,
    },
    /// A leg twice.
    #[error("legs[{index}].leg: {leg} is given twice")]
    DuplicateLeg {
        /// Index of the second one.
        index: usize,
        /// The leg.
        leg: LegId,
    },
    /// A leg that replaces one of the same request.
    #[error("legs[{index}].replaces: names a leg that is asked for in the same request")]
    ReplacesAsked {
        /// Index of the leg.
        index: usize,
    },
    /// Interworking on a call that is no gateway call.
    #[error("interop: {interop} is only for calls with service gateway, this is {service}")]
    InteropWithoutGateway {
        /// The interworking named.
        interop: Interop,
        /// The service named.
        service: Service,
    },
    /// More than two legs of a gateway call.
    #[error("legs: a gateway call has an inbound and an outbound leg, {count} legs given")]
    GatewayLegs {
        /// Legs given.
        count: usize,
    },
}

impl ShapeError {
    /// The field at fault, for rich error details.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::NoLegs | Self::TooManyLegs { .. } | Self::GatewayLegs { .. } => "legs".into(),
            Self::DuplicateLeg { index, .. } => format!("legs[{index}].leg"),
            Self::ReplacesAsked { index } => format!("legs[{index}].replaces"),
            Self::InteropWithoutGateway { .. } => "interop".into(),
        }
    }
}

impl Call {
    /// Checks what no single field shows.
    ///
    /// # Errors
    /// [`ShapeError`] names the field.
    pub fn check(&self) -> Result<(), ShapeError> {
        let count = self.legs.len();
        if count == 0 {
            return Err(ShapeError::NoLegs);
        }
        if count > MAX_LEGS {
            return Err(ShapeError::TooManyLegs { count });
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, leg) in self.legs.iter().enumerate() {
            if !seen.insert(&leg.leg) {
                return Err(ShapeError::DuplicateLeg { index, leg: leg.leg.clone() });
            }
        }
        let asked = |leg: &Leg| leg.replaces.as_ref().is_some_and(|replaced| seen.contains(replaced));
        if let Some(index) = self.legs.iter().position(asked) {
            return Err(ShapeError::ReplacesAsked { index });
        }
        match (self.info.service, self.info.interop) {
            (Service::Gateway, _) if count > MAX_GATEWAY_LEGS => Err(ShapeError::GatewayLegs { count }),
            (Service::Gateway, _) | (_, None) => Ok(()),
            (service, Some(interop)) => Err(ShapeError::InteropWithoutGateway { interop, service }),
        }
    }
}

/// A leg that runs, as reports and adoptions carry it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunningLeg {
    /// Its call.
    #[n(0)]
    pub info: CallInfo,
    /// The leg.
    #[n(1)]
    pub leg: Leg,
    /// What its node counts for it.
    #[n(2)]
    pub charge: crate::Charge,
    /// When it was admitted, by the node's wall clock.
    #[n(3)]
    pub admitted_at: crate::Millis,
}
