//! What happens to a pool. Numbered fields: older and newer versions read each other's records.

use headroom_core::activation::MachineCertificate;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::license::{Nonce as RequestNonce, PublicKey};
use headroom_core::signed::Signed;
use headroom_core::{
    Charge, DenialReason, Feature, LegId, LegSet, LicenseId, Media, Millis, NodeName, Shared, Text,
};
use minicbor::{Decode, Encode};

use crate::activation::{Left, LicenseRequest, Mark, Site};
use crate::alarms::{AlarmKey, AlarmRecord};
use crate::command::Mutation;
use crate::holder::{Holder, Node};
use crate::leases::Packed;
use crate::license_clock::LicenseClock;
use crate::notes::Note;
use crate::state::{
    CertificateHash, Counters, Denial, Ended, EndedHow, HolderId, Installed, LeaseKey, Nonce,
    OverCommitCause, Rollback, Tombstone, Usage,
};
use crate::test_mode::TestMode;

/// What happened.
#[derive(Debug, Clone, Encode, Decode)]
pub enum Event {
    /// The machine was identified.
    #[n(0)]
    Identified(#[n(0)] Fingerprint),
    /// A license was installed.
    #[n(1)]
    LicenseInstalled(#[n(0)] Shared<Installed>),
    /// A node was enrolled, or enrolled anew with another certificate.
    #[n(2)]
    NodeAdded {
        /// Its name.
        #[n(0)]
        node: NodeName,
        /// Its certificate.
        #[n(1)]
        certificate: CertificateHash,
        /// When.
        #[n(2)]
        at: Millis,
    },
    /// A node was removed.
    #[n(3)]
    NodeRemoved {
        /// Its name.
        #[n(0)]
        node: NodeName,
        /// When.
        #[n(1)]
        at: Millis,
    },
    /// A second machine uses a node's identity: it gets a holder of its own.
    #[n(4)]
    CloneFound {
        /// The node.
        #[n(0)]
        node: NodeName,
        /// Number of the machine.
        #[n(1)]
        instance: u32,
    },
    /// A session was opened; the holder's earlier one is fenced.
    #[n(5)]
    SessionOpened {
        /// The holder.
        #[n(0)]
        holder: HolderId,
        /// The session's number.
        #[n(1)]
        number: u64,
        /// The process.
        #[n(2)]
        nonce: Nonce,
        /// Number of the opening.
        #[n(3)]
        open_number: u64,
        /// The books agree: no report is needed.
        #[n(4)]
        active: bool,
        /// When.
        #[n(5)]
        at: Millis,
        /// The node's journal is new here: it numbers its past events anew.
        #[n(6)]
        new_journal: bool,
    },
    /// A session lapsed; its leases end with events of their own.
    #[n(6)]
    SessionLapsed {
        /// The holder.
        #[n(0)]
        holder: HolderId,
        /// Leases returned.
        #[n(1)]
        leases: u64,
        /// When.
        #[n(2)]
        at: Option<Millis>,
    },
    /// A chunk of a report was taken.
    #[n(7)]
    ReportTaken {
        /// The holder.
        #[n(0)]
        holder: HolderId,
        /// The report.
        #[n(5)]
        report: u32,
        /// The chunk.
        #[n(1)]
        chunk: u32,
        /// The legs it named.
        #[n(2)]
        legs: Vec<LegId>,
        /// The legs of all chunks so far, as the node sent them.
        #[n(3)]
        taken: LegSet,
        /// The report is complete.
        #[n(4)]
        complete: bool,
    },
    /// A report did not add up and begins again.
    #[n(8)]
    ReportRestarted {
        /// The holder.
        #[n(0)]
        holder: HolderId,
    },
    /// A leg holds a lease now.
    #[n(9)]
    LeaseGranted(#[n(0)] Packed),
    /// A leg's media changed.
    #[n(10)]
    LeaseChanged {
        /// The lease.
        #[n(0)]
        key: LeaseKey,
        /// The media now.
        #[n(1)]
        media: Media,
        /// What it holds now.
        #[n(2)]
        charge: Charge,
        /// When.
        #[n(3)]
        at: Millis,
    },
    /// A lease ended.
    #[n(11)]
    LeaseEnded {
        /// The lease.
        #[n(0)]
        key: LeaseKey,
        /// How.
        #[n(1)]
        how: EndedHow,
        /// When.
        #[n(2)]
        at: Millis,
    },
    /// A numbered mutation was decided.
    #[n(12)]
    Mutated {
        /// The holder.
        #[n(0)]
        holder: HolderId,
        /// Its number.
        #[n(1)]
        sequence: u64,
        /// Its answer.
        #[n(2)]
        answer: Shared<Mutation>,
    },
    /// A request was denied.
    #[n(13)]
    Denied(#[n(0)] Shared<Denial>),
    /// More units are in use than the licenses permit.
    #[n(14)]
    OverCommitBegan {
        /// Of what.
        #[n(0)]
        feature: Feature,
        /// Why.
        #[n(1)]
        cause: OverCommitCause,
        /// When.
        #[n(2)]
        at: Millis,
    },
    /// More units are in use than ever before.
    #[n(21)]
    PeakReached {
        /// Of what.
        #[n(0)]
        feature: Feature,
        /// When.
        #[n(1)]
        at: Millis,
    },
    /// Use is within the licenses again.
    #[n(15)]
    OverCommitEnded {
        /// Of what.
        #[n(0)]
        feature: Feature,
    },
    /// The media server was told of a leg released by force.
    #[n(16)]
    RevocationTold {
        /// The leg.
        #[n(0)]
        key: LeaseKey,
    },
    /// A leg released by force has ended.
    #[n(17)]
    RevocationDone {
        /// The leg.
        #[n(0)]
        key: LeaseKey,
    },
    /// Past events of a node are recorded up to a number.
    #[n(18)]
    PastRecorded {
        /// The holder.
        #[n(0)]
        holder: HolderId,
        /// The number.
        #[n(1)]
        number: u64,
    },
    /// A leg that began and ended out of contact, for the history.
    #[n(19)]
    PastLeg(#[n(0)] Ended),
    /// The store was found older than what a node has seen: every session is fenced.
    #[n(22)]
    RolledBack(#[n(0)] Rollback),
    /// A lease of a snapshot. What follows from it is restored by parts.
    #[n(23)]
    LeaseRestored(#[n(0)] Packed),
    /// Something is asked of the licensing server.
    #[n(24)]
    Requested(#[n(0)] Shared<LicenseRequest>),
    /// A request is on its way, or was not.
    #[n(25)]
    RequestMarked {
        /// The request.
        #[n(0)]
        nonce: RequestNonce,
        /// What became of it.
        #[n(1)]
        mark: Mark,
    },
    /// A request was answered or withdrawn.
    #[n(26)]
    RequestClosed {
        /// The request.
        #[n(0)]
        nonce: RequestNonce,
        /// What became of it.
        #[n(1)]
        outcome: Text,
        /// When.
        #[n(2)]
        at: Millis,
    },
    /// The licensing server answered; the licenses it listed have events of their own.
    #[n(27)]
    Answered {
        /// The highest number of this machine that it has seen.
        #[n(0)]
        sequence: u64,
        /// Revision of its books.
        #[n(1)]
        revision: u64,
        /// When, by its clock.
        #[n(2)]
        at: Millis,
        /// This machine's certificate.
        #[n(3)]
        certificate: Option<Signed<MachineCertificate>>,
        /// The keys that are trusted with it.
        #[n(4)]
        learned: Vec<PublicKey>,
        /// When its books were found ahead of these, if they were.
        #[n(5)]
        resynchronized: Option<Millis>,
    },
    /// A license is not this machine's any more.
    #[n(28)]
    LicenseRemoved {
        /// The license.
        #[n(0)]
        license: LicenseId,
        /// How it left.
        #[n(1)]
        left: Left,
        /// When.
        #[n(2)]
        at: Millis,
    },
    /// License time was marked.
    #[n(29)]
    ClockSet {
        /// The clock from now on.
        #[n(0)]
        clock: LicenseClock,
        /// How far license time leapt beyond what had passed.
        #[n(1)]
        leap: Millis,
    },
    /// Test mode went on.
    #[n(30)]
    TestModeOn {
        /// When.
        #[n(0)]
        at: Millis,
        /// When it ends, in license time.
        #[n(1)]
        until: Millis,
    },
    /// Test mode went off.
    #[n(31)]
    TestModeOff {
        /// When.
        #[n(0)]
        at: Millis,
        /// Its time was over.
        #[n(1)]
        by_itself: bool,
    },
    /// An alarm was raised.
    #[n(32)]
    AlarmRaised {
        /// Which.
        #[n(0)]
        key: AlarmKey,
        /// One sentence.
        #[n(1)]
        text: Text,
        /// When.
        #[n(2)]
        at: Millis,
        /// It was raised a short while ago, so nobody is told again.
        #[n(3)]
        quiet: bool,
    },
    /// An alarm's condition is over.
    #[n(33)]
    AlarmCleared {
        /// Which.
        #[n(0)]
        key: AlarmKey,
        /// When.
        #[n(1)]
        at: Millis,
        /// Nobody was told that it was on again.
        #[n(2)]
        quiet: bool,
    },
    /// An alarm that was cleared long ago leaves the book.
    #[n(34)]
    AlarmForgotten(#[n(0)] AlarmKey),
    /// A part of a snapshot.
    #[n(20)]
    Restored(#[n(0)] Box<Part>),
}

/// A part of a snapshot that is no lease. Each sets one thing and derives nothing.
#[derive(Debug, Clone, Encode, Decode)]
pub enum Part {
    /// A node.
    #[n(0)]
    Node(#[n(0)] NodeName, #[n(1)] Shared<Node>),
    /// A certificate.
    #[n(1)]
    Certificate(#[n(0)] CertificateHash, #[n(1)] NodeName),
    /// A holder.
    #[n(2)]
    Holder(#[n(0)] HolderId, #[n(1)] Shared<Holder>),
    /// Use of a feature.
    #[n(3)]
    Usage(#[n(0)] Feature, #[n(1)] Usage),
    /// Legs a report in progress has named.
    #[n(4)]
    Reported(#[n(0)] LeaseKey),
    /// A leg released by force.
    #[n(5)]
    Tombstone(#[n(0)] LeaseKey, #[n(1)] Tombstone),
    /// A denial.
    #[n(6)]
    Denial(#[n(0)] u64, #[n(1)] Shared<Denial>),
    /// Denials of a minute.
    #[n(7)]
    Minute(#[n(0)] i64, #[n(1)] DenialReason, #[n(2)] u64),
    /// An ended lease.
    #[n(8)]
    Ended(#[n(0)] u64, #[n(1)] Ended),
    /// What was handed out last.
    #[n(9)]
    Counters(#[n(0)] Counters),
    /// A license.
    #[n(10)]
    License(#[n(0)] LicenseId, #[n(1)] Shared<Installed>),
    /// When the store was found older than what a node has seen.
    #[n(11)]
    Rollback(#[n(0)] Rollback),
    /// A lease that is reserved and not claimed.
    #[n(12)]
    Reserved(#[n(0)] LeaseKey),
    /// This machine in the licensing server's books.
    #[n(13)]
    Site(#[n(0)] Site),
    /// A request that awaits its answer.
    #[n(14)]
    Request(#[n(0)] Shared<LicenseRequest>),
    /// License time.
    #[n(15)]
    Clock(#[n(0)] LicenseClock),
    /// Test mode.
    #[n(16)]
    TestMode(#[n(0)] TestMode),
    /// An alarm in the book.
    #[n(17)]
    Alarm(#[n(0)] AlarmKey, #[n(1)] AlarmRecord),
    /// A line of the support log.
    #[n(18)]
    Note(#[n(0)] u64, #[n(1)] Shared<Note>),
}
