//! Event feeds: a conferencing platform on other hosts tells of its legs after the fact, and may ask before.
//!
//! [`event`] and [`policy`] read what it says, [`intake`] has it recorded in order, [`disconnect`] asks the platform
//! to end legs that may not run, and [`credentials`] tells who may speak at all. The routes are those of
//! [`crate::http::feed`].

pub(crate) mod credentials;
pub(crate) mod disconnect;
pub(crate) mod event;
pub(crate) mod intake;
pub(crate) mod policy;

use std::str::FromStr;

use headroom_core::{IdError, Interop, Protocol, SourceId, Text};

/// How the sources of feeds begin.
const PREFIX: &str = "feed:";

/// The source that a machine of a platform is.
fn source(node: &str) -> Result<SourceId, IdError> {
    SourceId::new(&format!("{PREFIX}{node}"))
}

/// As much of a name from outside as names may hold.
fn plain<T: FromStr>(name: &str) -> Option<T> {
    Text::clipped(name).as_str().parse().ok()
}

/// The protocol; those of hosted meeting services are told by what they interwork with. Clients of the platform's
/// programming interface count like others by whether they have media.
fn protocol(word: &str) -> (Protocol, Option<Interop>) {
    match word.to_ascii_lowercase().as_str() {
        "h323" => (Protocol::H323, None),
        "mssip" => (Protocol::Skype, None),
        "rtmp" => (Protocol::Rtmp, None),
        "webrtc" | "api" => (Protocol::Webrtc, None),
        "teams" => (Protocol::Sip, Some(Interop::Teams)),
        "gms" | "ghm" => (Protocol::Sip, Some(Interop::Meet)),
        _ => (Protocol::Sip, None),
    }
}
