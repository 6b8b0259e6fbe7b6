//! What can go wrong, and what administrators do meanwhile.

use headroom_core::Millis;

/// A machine with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The management node.
    Pool,
    /// A conferencing node.
    Node(usize),
    /// The licensing server.
    Vendor,
}

/// What a wall clock shows when its machine is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Year {
    /// The truth.
    Right,
    /// The beginning of 1970: no battery.
    Y1970,
    /// Ten years ahead.
    Y2036,
}

/// Something that happens to a world.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Messages between a node, or all, and the pool are dropped, in one or both directions.
    Partition {
        /// The node; all when there is none.
        node: Option<usize>,
        /// Requests are dropped.
        to_pool: bool,
        /// Answers are dropped.
        to_node: bool,
        /// For how long.
        span: Millis,
    },
    /// The way to the pool comes and goes.
    Flap {
        /// The node.
        node: usize,
        /// How often.
        times: u64,
        /// How long each.
        each: Millis,
    },
    /// A process dies and is started again.
    Crash {
        /// Whose.
        who: Who,
        /// After so long.
        down: Millis,
    },
    /// A node's process dies again and again.
    Restarts {
        /// The node.
        node: usize,
        /// How often.
        times: u64,
        /// How long each lives.
        each: Millis,
    },
    /// A disk does not finish what it is writing.
    Stall {
        /// Whose.
        who: Who,
        /// For how long.
        span: Millis,
    },
    /// The next write fails; whether it is on the disk nobody knows.
    FailWrite {
        /// Whose.
        who: Who,
    },
    /// The pool's store is copied.
    Backup,
    /// The pool goes on with the copy.
    Restore,
    /// Somebody sets a wall clock.
    JumpClock {
        /// Whose.
        who: Who,
        /// By so much.
        by: i64,
    },
    /// A machine is switched off and on.
    PowerOff {
        /// Which.
        who: Who,
        /// It stays off for so long.
        off: Millis,
        /// What its wall clock shows then.
        year: Year,
        /// It is right and synchronized after so long.
        synchronized_after: Millis,
    },
    /// A node sleeps; its boot clock goes on.
    Suspend {
        /// The node.
        node: usize,
        /// For how long.
        span: Millis,
    },
    /// A node's virtual machine is paused; its clocks stand still.
    Pause {
        /// The node.
        node: usize,
        /// For how long.
        span: Millis,
    },
    /// A copy of a node's machine runs too.
    Clone {
        /// The node.
        node: usize,
        /// For how long.
        span: Millis,
    },
    /// A node is removed, and later enrolled anew.
    Remove {
        /// The node.
        node: usize,
    },
    /// An administrator takes a lease back.
    ForceRelease {
        /// The node that runs the leg.
        node: usize,
    },
    /// A media server dies with its legs and begins anew.
    CrashServer {
        /// Its node.
        node: usize,
        /// Which.
        server: usize,
    },
    /// A media server cannot reach its node for a while.
    MuteServer {
        /// Its node.
        node: usize,
        /// Which.
        server: usize,
        /// For how long.
        span: Millis,
    },
    /// A media server dies and stays away.
    SilentServer {
        /// Its node.
        node: usize,
        /// Which.
        server: usize,
    },
    /// Something is wanted of the licensing server.
    Ask {
        /// What: a refresh, an activation, a return, a repair.
        what: u64,
    },
    /// Test mode goes on or off.
    TestMode {
        /// On.
        on: bool,
    },
    /// A node takes no new calls for a while.
    Drain {
        /// The node.
        node: usize,
        /// For how long.
        span: Millis,
    },
    /// A node's state folder is lost, and it begins with an empty one.
    LoseJournal {
        /// The node.
        node: usize,
    },
    /// What a fault began is over.
    Over(Over),
}

/// What a fault began, and what ends by itself later.
#[derive(Debug, Clone)]
pub enum Over {
    /// A machine is switched on.
    PowerOn {
        /// Which.
        who: Who,
        /// What its wall clock shows.
        year: Year,
        /// It is right and synchronized after so long.
        synchronized_after: Millis,
    },
    /// A wall clock is right and synchronized.
    Synchronized(Who),
    /// A cloned machine is switched off for good.
    CloneGone(usize),
    /// A removed node is enrolled anew.
    Enrol(usize),
    /// A node takes new calls again.
    Undrain(usize),
}

impl Fault {
    /// Its name in figures.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Partition { to_pool: true, to_node: true, .. } => "partition",
            Self::Partition { .. } => "one-way partition",
            Self::Flap { .. } => "flapping link",
            Self::Crash { who: Who::Pool, .. } => "crash of the pool",
            Self::Crash { who: Who::Node(_), .. } => "crash of a node",
            Self::Crash { who: Who::Vendor, .. } => "crash of the licensing server",
            Self::Restarts { .. } => "restarts in a row",
            Self::Stall { .. } => "stalled disk",
            Self::FailWrite { .. } => "failed write",
            Self::Backup => "backup",
            Self::Restore => "store restored from a copy",
            Self::JumpClock { .. } => "clock jump",
            Self::PowerOff { year: Year::Right, .. } => "power off",
            Self::PowerOff { .. } => "power off, wrong clock at boot",
            Self::Suspend { .. } => "suspend",
            Self::Pause { .. } => "paused machine",
            Self::Clone { .. } => "cloned node",
            Self::Remove { .. } => "node removed and enrolled anew",
            Self::ForceRelease { .. } => "forced release",
            Self::CrashServer { .. } => "crash of a media server",
            Self::MuteServer { .. } => "media server cut off",
            Self::SilentServer { .. } => "media server gone",
            Self::Ask { .. } => "wish for the licensing server",
            Self::TestMode { .. } => "test mode",
            Self::Drain { .. } => "drained node",
            Self::LoseJournal { .. } => "lost journal",
            Self::Over(_) => "end of a fault",
        }
    }
}
