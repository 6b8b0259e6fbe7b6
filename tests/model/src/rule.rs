//! The contract's rules that can be left out, to show that each one is needed and that the model can fail.

use crate::case::Case;
use crate::state::{Chances, Legs};

/// A rule of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A leg decided by its node is adopted.
    AdoptOwnDecisions,
    /// A running leg that the pool denies too late is adopted.
    AdoptAfterLateDenial,
    /// A late denial ends nothing.
    LateDenialCutsNothing,
    /// A late grant for a leg that has ended is given back.
    GiveBackLateGrants,
    /// Mutations are numbered.
    NumberedMutations,
    /// A session's opening fences the one before.
    Fencing,
    /// A session that lapsed changes nothing.
    LapsedIsOver,
    /// Openings are numbered: a late one is refused.
    NumberedOpenings,
    /// Books that differ are reported.
    ReportWhenBooksDiffer,
    /// Nothing is released before a report's last chunk.
    ReleaseAfterLastChunk,
    /// A chunk that comes again is not taken again.
    ChunksOnce,
    /// What a session settles is what the pool was told, not what runs by then.
    SettleWhatWasTold,
    /// Nothing that adds units is granted while more is in use than the licenses permit.
    LimitWhenOverCommitted,
    /// The pool answers when what it says is durable.
    PoolAnswersWhenDurable,
    /// A node answers its media server when the grant is in its journal.
    NodeAnswersWhenDurable,
    /// A leg released by force is not recorded again.
    Tombstones,
    /// An ended leg's lease stays to be given back until the pool has said that it has it back.
    OutboxUntilAcknowledged,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::AdoptOwnDecisions,
        Self::AdoptAfterLateDenial,
        Self::LateDenialCutsNothing,
        Self::GiveBackLateGrants,
        Self::NumberedMutations,
        Self::Fencing,
        Self::LapsedIsOver,
        Self::NumberedOpenings,
        Self::ReportWhenBooksDiffer,
        Self::ReleaseAfterLastChunk,
        Self::ChunksOnce,
        Self::SettleWhatWasTold,
        Self::LimitWhenOverCommitted,
        Self::PoolAnswersWhenDurable,
        Self::NodeAnswersWhenDurable,
        Self::Tombstones,
        Self::OutboxUntilAcknowledged,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdoptOwnDecisions => "adopt-own-decisions",
            Self::AdoptAfterLateDenial => "adopt-after-late-denial",
            Self::LateDenialCutsNothing => "late-denial-cuts-nothing",
            Self::GiveBackLateGrants => "give-back-late-grants",
            Self::NumberedMutations => "numbered-mutations",
            Self::Fencing => "fencing",
            Self::LapsedIsOver => "lapsed-is-over",
            Self::NumberedOpenings => "numbered-openings",
            Self::ReportWhenBooksDiffer => "report-when-books-differ",
            Self::ReleaseAfterLastChunk => "release-after-last-chunk",
            Self::ChunksOnce => "chunks-once",
            Self::SettleWhatWasTold => "settle-what-was-told",
            Self::LimitWhenOverCommitted => "limit-when-over-committed",
            Self::PoolAnswersWhenDurable => "pool-answers-when-durable",
            Self::NodeAnswersWhenDurable => "node-answers-when-durable",
            Self::Tombstones => "tombstones",
            Self::OutboxUntilAcknowledged => "outbox-until-acknowledged",
        }
    }

    /// What is done without it.
    #[must_use]
    pub const fn without(self) -> &'static str {
        match self {
            Self::AdoptOwnDecisions => "a leg decided by its node is taken as held",
            Self::AdoptAfterLateDenial => "a running leg denied late is taken as held",
            Self::LateDenialCutsNothing => "a late denial ends the running leg",
            Self::GiveBackLateGrants => "a late grant for an ended leg is forgotten",
            Self::NumberedMutations => "a mutation is carried out whenever it arrives",
            Self::Fencing => "requests of earlier sessions are served",
            Self::LapsedIsOver => "requests of a session that lapsed are served",
            Self::NumberedOpenings => "openings are served in order of arrival",
            Self::ReportWhenBooksDiffer => "a session is active at once whatever the books say",
            Self::ReleaseAfterLastChunk => "a report's first chunk releases what it does not name",
            Self::ChunksOnce => "a chunk is taken as often as it arrives",
            Self::SettleWhatWasTold => "a session settles what runs when it begins",
            Self::LimitWhenOverCommitted => "only a pool that is exactly full denies",
            Self::PoolAnswersWhenDurable => "the pool answers before its commit is durable",
            Self::NodeAnswersWhenDurable => "a node answers before its journal is durable",
            Self::Tombstones => "a leg released by force can be recorded again",
            Self::OutboxUntilAcknowledged => "an end is forgotten once its release was sent",
        }
    }

    /// Whether its absence gives life to requests that nobody would take otherwise.
    #[must_use]
    pub const fn revives_requests(self) -> bool {
        matches!(
            self,
            Self::NumberedMutations
                | Self::Fencing
                | Self::LapsedIsOver
                | Self::NumberedOpenings
                | Self::ChunksOnce
        )
    }

    /// A configuration in which its absence shows.
    #[must_use]
    pub fn case(self) -> Case {
        let one_license = |case: Case| Case { capacity: 1, ..case };
        let chances = match self {
            Self::LimitWhenOverCommitted => Chances { licenses: 1, ..Chances::default() },
            Self::PoolAnswersWhenDurable => Chances { pool_kills: 1, ..Chances::default() },
            Self::NodeAnswersWhenDurable => Chances { node_kills: 1, ..Chances::default() },
            Self::Tombstones => Chances { force: 1, sessions: 1, ..Chances::default() },
            Self::NumberedOpenings => Chances { sessions: 2, ..Chances::default() },
            _ => Chances { sessions: 1, ..Chances::default() },
        };
        let case = Case { chances, symmetric: false, ..Case::new(self.name()) };
        match self {
            Self::AdoptAfterLateDenial | Self::LateDenialCutsNothing => one_license(case),
            Self::NumberedOpenings | Self::Fencing => Case { legs: Legs::one(0).and(Legs::one(2)), ..case },
            _ => case,
        }
    }
}
