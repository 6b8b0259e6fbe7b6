//! Why a command was not carried out, with the numbers.

use headroom_core::fingerprint::Fingerprint;
use headroom_core::{LegId, LicenseId, Millis, NodeName};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The certificate belongs to no node of the deployment any more.
    #[error("this node was removed from the deployment")]
    Revoked,
    /// The certificate is this deployment's, and this store has never heard of it: as after a restore
    /// from a backup. The node is to go on by itself, not to count as removed.
    #[error("this store does not know the node's certificate; was it restored from an older copy?")]
    Unknown,
    /// The session was superseded or has lapsed.
    #[error("session {given} is not the current one")]
    SessionStale {
        /// The session named.
        given: u64,
    },
    /// A later opening was seen.
    #[error("open_number: {given} is not above {last}, the last one seen")]
    OpenNumberOld {
        /// The number given.
        given: u64,
        /// The last one seen.
        last: u64,
    },
    /// The node must report first.
    #[error("the session is not open for mutations before the report is complete; chunk {due} is due")]
    ReportRequired {
        /// The chunk that is due.
        due: u32,
    },
    /// A chunk out of order.
    #[error("chunk: chunk {chunk} of report {report} is not due")]
    ChunkOrder {
        /// The report given.
        report: u32,
        /// The chunk given.
        chunk: u32,
    },
    /// The report does not add up; it begins again with chunk 0.
    #[error("total: the report says {stated} legs, {taken} arrived, or their digests differ")]
    ReportMismatch {
        /// Legs stated.
        stated: u64,
        /// Legs that arrived.
        taken: u64,
    },
    /// A mutation's number is not the next one.
    #[error("sequence: {given} given, {due} is due")]
    SequenceOrder {
        /// The number given.
        given: u64,
        /// The number due.
        due: u64,
    },
    /// The node names a mutation that this store does not hold.
    #[error("sequence: {given} is not known, the last one here is {last}")]
    SequenceUnknown {
        /// The number given.
        given: u64,
        /// The last one here.
        last: u64,
    },
    /// Too many nodes report at once.
    #[error("{reporting} nodes are reporting, at most {limit} may; {waiting} wait")]
    Busy {
        /// Nodes that report.
        reporting: usize,
        /// Nodes that wait to, this one among them.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// A repeated number with another kind of change.
    #[error("sequence: {given} was used for another kind of change")]
    SequenceReused {
        /// The number given.
        given: u64,
    },
    /// No node of that name.
    #[error("node: there is no node {0}")]
    NoSuchNode(NodeName),
    /// A node of that name exists.
    #[error("node: {0} is enrolled already; remove it first")]
    NodeExists(NodeName),
    /// The certificate is in use.
    #[error("certificate: it belongs to node {0}")]
    CertificateTaken(NodeName),
    /// The leg holds no lease.
    #[error("leg: {leg} holds no lease on node {node}")]
    NoSuchLease {
        /// The node.
        node: NodeName,
        /// The leg.
        leg: LegId,
    },
    /// A different license of that id is installed.
    #[error("license: another license with the id {0} is installed")]
    LicenseExists(headroom_core::LicenseId),
    /// No license of that id.
    #[error("license: there is no license {0}")]
    NoSuchLicense(LicenseId),
    /// The license was not activated by this machine.
    #[error("license: {0} was installed from a file; only what was activated can be returned")]
    NotActivated(LicenseId),
    /// A license that was activated is returned, not deleted.
    #[error("license: {0} was activated with a key; return it, so that the key can be used again")]
    MustBeReturned(LicenseId),
    /// A license that was activated comes with the answer to its request only.
    #[error(
        "license: {0} comes by an activation: add its key with `license add`, or complete its request with the \
         whole answer"
    )]
    NeedsItsAnswer(LicenseId),
    /// The key's license is installed.
    #[error("key: it is active here already, with license {0}")]
    KeyInstalled(LicenseId),
    /// Too many requests wait.
    #[error("request: {open} requests await their answers, which is the limit; complete or cancel some")]
    TooManyRequests {
        /// Requests that wait.
        open: usize,
    },
    /// No such request.
    #[error("request: no such request awaits an answer")]
    NoSuchRequest,
    /// A return that may have been received cannot be withdrawn.
    #[error(
        "request: the return of {0} was exported or sent, so the vendor may have carried it out: complete it \
         with his answer, which may also be a refusal"
    )]
    ReturnIsOut(LicenseId),
    /// The answer is for a request that is not open.
    #[error(
        "answer: it answers no request that is open here: it was completed or cancelled before, or belongs to \
         another management node"
    )]
    AnswersNoRequest,
    /// The answer is for another machine.
    #[error("answer: it is for another machine")]
    AnswersOtherMachine,
    /// Test mode is on.
    #[error("test mode is on already, for {} more minutes", left.minutes_begun())]
    TestModeOn {
        /// How much longer.
        left: Millis,
    },
    /// Leases of the last test mode remain.
    #[error("{leases} leases that were taken in the last test mode are still held: they must end first")]
    TestModeHeld {
        /// How many.
        leases: u64,
    },
    /// The license is for another machine.
    #[error("license: it is bound to machine {bound}, this one is {here}")]
    OtherMachine {
        /// The machine it is bound to.
        bound: Box<Fingerprint>,
        /// This machine.
        here: Box<Fingerprint>,
    },
}
