//! What a seed decides beforehand: how large the world is, how its services are set up, and which
//! misfortunes befall it when.

use headroom_core::Millis;

use crate::dice::Dice;
use crate::fault::{Fault, Who, Year};
use crate::scene::Scene;

/// How long a world lasts, and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// A few minutes with many calls and many faults.
    Minutes,
    /// Hours: sessions lapse, sources fall silent, licenses end.
    Hours,
    /// Weeks: grace, restarts and clocks.
    Weeks,
    /// So many legs that a report has several chunks.
    Crowd,
    /// Minutes in which those around the machines try them: media servers repeat questions late, use ids
    /// again, send lists that are long on the way and die as they ask, answers to attempts that were given up
    /// are listened to, much is wanted of the licensing server, a stranger has its keys too. Not drawn by chance.
    Unruly,
    /// Minutes in which the media servers are machines of platforms: they ask nobody, and tell what happened
    /// afterwards, in order, until it is heard. Not drawn by chance.
    Feeds,
    /// Half a day, mostly out of contact, in which clocks are set, machines are switched off, stand still, and start
    /// their services late. Not drawn by chance.
    Clocks,
}

impl Profile {
    const fn lasts_minutes(self) -> bool {
        matches!(self, Self::Minutes | Self::Unruly | Self::Feeds)
    }
}

/// What a seed decides beforehand.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the world is about.
    pub profile: Profile,
    /// Conferencing nodes.
    pub nodes: usize,
    /// Media servers on each.
    pub servers: usize,
    /// Units of `call` licensed by a file.
    pub capacity: u32,
    /// Units above these.
    pub overdraft: u32,
    /// The file's license ends then.
    pub expires: Option<Millis>,
    /// Until when there are calls and faults.
    pub active: Millis,
    /// Mean time between two calls on a node.
    pub call_every: Millis,
    /// Mean length of a leg.
    pub call_length: Millis,
    /// Most legs in a call.
    pub call_legs: usize,
    /// Of a thousand messages, so many are lost.
    pub loss: u64,
    /// ... arrive twice.
    pub twice: u64,
    /// ... arrive very late.
    pub late: u64,
    /// Longest ordinary time on the way.
    pub delay: i64,
    /// Longest time of a write to a disk.
    pub write: i64,
    /// Of a thousand steps of a committer, so many are its last.
    pub deadly: u64,
    /// Time between two ticks of a service.
    pub tick: Millis,
    /// A session lapses after this silence.
    pub ttl: Millis,
    /// Mean time between heartbeats.
    pub heartbeat: Millis,
    /// How long a node goes on alone.
    pub grace: Millis,
    /// Within what a decision is made.
    pub budget: Millis,
    /// Silent sources' legs end after this time.
    pub orphan_after: Millis,
    /// A node's service starts at most so long after its machine was switched on.
    pub slow_start: Millis,
    /// Most commands in a batch.
    pub batch: usize,
    /// Records between two snapshots.
    pub snapshot_every: u64,
    /// Keys that can be activated.
    pub keys: u8,
    /// People hang up early and change media, and answers to media servers are lost.
    pub moody: bool,
    /// What goes wrong when.
    pub faults: Vec<(Millis, Fault)>,
    /// What else happens when, in a world that is not drawn.
    pub scenes: Vec<(Millis, Scene)>,
}

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

impl Plan {
    /// Draws a plan, of any kind that comes by chance or of this one.
    #[must_use]
    pub fn new(only: Option<Profile>, dice: &mut Dice) -> Self {
        let drawn = match dice.below(1000) {
            0 => Profile::Weeks,
            1..=3 => Profile::Crowd,
            4..=13 => Profile::Hours,
            _ => Profile::Minutes,
        };
        let profile = only.unwrap_or(drawn);
        let weeks = profile == Profile::Weeks;
        let active = match profile {
            Profile::Minutes | Profile::Feeds => dice.span(MINUTE / 3, 3 * MINUTE),
            // An id can be used again after a minute.
            Profile::Unruly => dice.span(2 * MINUTE, 6 * MINUTE),
            Profile::Hours => dice.span(HOUR / 2, 3 * HOUR),
            Profile::Weeks => dice.span(15 * DAY, 30 * DAY),
            Profile::Crowd => dice.span(MINUTE, 3 * MINUTE),
            Profile::Clocks => dice.span(4 * HOUR, 16 * HOUR),
        };
        let (call_every, call_length, call_legs) = match profile {
            Profile::Minutes | Profile::Unruly | Profile::Feeds => {
                (*dice.pick(&[2_000, 4_000, 8_000]), *dice.pick(&[10_000, 60_000]), 3)
            }
            Profile::Hours => (*dice.pick(&[20_000, 60_000]), 10 * MINUTE, 3),
            Profile::Weeks => (2 * HOUR, HOUR, 2),
            Profile::Crowd => (10_000, 20 * MINUTE, 500),
            Profile::Clocks => (30 * MINUTE, 10 * MINUTE, 2),
        };
        let calm = dice.chance(200);
        let ttl = if profile == Profile::Hours { 120_000 } else { *dice.pick(&[20_000, 40_000, 120_000]) };
        let mut plan = Self {
            profile,
            nodes: 1 + dice.index(if profile.lasts_minutes() { 3 } else { 2 }),
            servers: 1 + dice.index(2),
            capacity: if profile == Profile::Crowd { 3_000 } else { *dice.pick(&[1, 2, 4, 8, 20]) },
            overdraft: *dice.pick(&[0, 0, 1, 3]),
            expires: dice.chance(150).then(|| dice.span(0, active.0 * 2)),
            active,
            call_every: Millis(call_every),
            call_length: Millis(call_length),
            call_legs,
            loss: if calm { 0 } else { *dice.pick(&[0, 10, 50, 200]) },
            twice: if calm { 0 } else { *dice.pick(&[0, 20, 100]) },
            late: if calm { 0 } else { *dice.pick(&[0, 10, 50]) },
            delay: *dice.pick(&[1, 20, 200, 500]),
            write: *dice.pick(&[1, 5, 30, 300]),
            deadly: if calm || weeks { 0 } else { *dice.pick(&[0, 0, 1, 3]) },
            tick: Millis(*dice.pick(&[1_000, 2_000, 2_000])),
            ttl: Millis(ttl),
            heartbeat: Millis((ttl / 12).max(3_000)),
            grace: Millis(if weeks { 14 * DAY } else { *dice.pick(&[MINUTE, 10 * MINUTE, HOUR, 14 * DAY]) }),
            budget: Millis(*dice.pick(&[1, 300, 900, 900, 5_000])),
            orphan_after: Millis(*dice.pick(&[3 * MINUTE, 2 * HOUR])),
            slow_start: Millis(if profile == Profile::Clocks { 10 * MINUTE } else { 0 }),
            batch: *dice.pick(&[2, 16, 1_024]),
            snapshot_every: *dice.pick(&[20, 100, 400]),
            keys: u8::try_from(dice.below(3)).unwrap_or(0),
            moody: true,
            faults: Vec::new(),
            scenes: Vec::new(),
        };
        if weeks {
            plan.heartbeat = Millis(30_000);
            plan.ttl = Millis(120_000);
        }
        plan.faults = plan.draw_faults(dice);
        plan
    }

    /// Whether the media servers are machines of platforms.
    #[must_use]
    pub fn feeds(&self) -> bool {
        self.profile == Profile::Feeds
    }

    /// Whether those around the machines try them.
    #[must_use]
    pub fn unruly(&self) -> bool {
        self.profile == Profile::Unruly
    }

    /// Ten minutes in which nothing happens by chance: two nodes with a media server each, four units.
    #[must_use]
    pub fn quiet() -> Self {
        let never = Millis(10_000 * DAY);
        Self {
            profile: Profile::Hours,
            nodes: 2,
            servers: 1,
            capacity: 4,
            overdraft: 0,
            expires: None,
            active: Millis(10 * MINUTE),
            call_every: never,
            call_length: never,
            call_legs: 1,
            loss: 0,
            twice: 0,
            late: 0,
            delay: 20,
            write: 5,
            deadly: 0,
            tick: Millis(1_000),
            ttl: Millis(120_000),
            heartbeat: Millis(10_000),
            grace: Millis(14 * DAY),
            budget: Millis(900),
            orphan_after: Millis(2 * HOUR),
            slow_start: Millis(0),
            batch: 1_024,
            snapshot_every: 400,
            keys: 0,
            moody: false,
            faults: Vec::new(),
            scenes: Vec::new(),
        }
    }

    /// How many faults come, and when.
    fn draw_faults(&self, dice: &mut Dice) -> Vec<(Millis, Fault)> {
        let count = match self.profile {
            Profile::Minutes | Profile::Unruly | Profile::Feeds => *dice.pick(&[0, 2, 5, 10]),
            Profile::Hours => *dice.pick(&[5, 10, 20]),
            Profile::Weeks => 12,
            Profile::Crowd => 4,
            Profile::Clocks => *dice.pick(&[5, 10, 20]),
        };
        // A world has some kinds of faults, not all: so each kind also meets little else.
        let kinds: Vec<u64> = (0..1 + dice.below(5)).map(|_| self.draw_kind(dice)).collect();
        let mut faults: Vec<_> = (0..count)
            .map(|_| {
                let at = dice.span(0, self.active.0);
                let kind = *dice.pick(&kinds);
                (at, self.draw(kind, dice))
            })
            .collect();
        if matches!(self.profile, Profile::Weeks | Profile::Clocks) {
            faults.extend(self.long_outages(dice));
        }
        if self.profile == Profile::Clocks {
            faults.extend(self.reboots(&faults, dice));
        }
        faults.sort_by_key(|(at, _)| *at);
        faults
    }

    fn draw_kind(&self, dice: &mut Dice) -> u64 {
        match self.profile {
            Profile::Clocks => *dice.pick(&OF_CLOCKS),
            Profile::Feeds => *dice.pick(&OF_FEEDS),
            _ => dice.below(KINDS),
        }
    }

    /// Outages about as long as the grace, with restarts every 59 minutes in some.
    fn long_outages(&self, dice: &mut Dice) -> Vec<(Millis, Fault)> {
        let mut faults = Vec::new();
        let (shortest, longest) =
            if self.profile == Profile::Weeks { (10 * DAY, 20 * DAY) } else { (HOUR, 10 * HOUR) };
        for node in 0..self.nodes {
            let begin = dice.span(HOUR, self.active.0 / 4);
            let span = dice.span(shortest, longest);
            faults.push((begin, Fault::Partition { node: Some(node), to_pool: true, to_node: true, span }));
            if dice.chance(500) {
                faults.push((begin, Fault::Restarts { node, times: 24 * 14, each: Millis(59 * MINUTE) }));
            }
        }
        faults
    }

    /// Who sets a clock may start the machine anew soon after.
    fn reboots(&self, faults: &[(Millis, Fault)], dice: &mut Dice) -> Vec<(Millis, Fault)> {
        let mut reboots = Vec::new();
        for (at, fault) in faults {
            if let Fault::JumpClock { who, .. } = fault
                && dice.chance(500)
            {
                let after = dice.span(0, 2 * MINUTE);
                let off = self.outage(dice);
                reboots.push((at.plus(after), self.power_off(*who, off, dice)));
            }
        }
        reboots
    }

    fn power_off(&self, who: Who, off: Millis, dice: &mut Dice) -> Fault {
        let year = *dice.pick(&[Year::Right, Year::Y1970, Year::Y2036]);
        let latest = if self.profile == Profile::Clocks { *dice.pick(&[MINUTE, 2 * HOUR]) } else { 2 * HOUR };
        Fault::PowerOff { who, off, year, synchronized_after: dice.span(0, latest) }
    }

    fn outage(&self, dice: &mut Dice) -> Millis {
        let longest = match self.profile {
            Profile::Minutes | Profile::Crowd | Profile::Unruly | Profile::Feeds => {
                *dice.pick(&[3_000, 30_000, 180_000])
            }
            Profile::Hours => *dice.pick(&[30_000, HOUR, 2 * HOUR]),
            Profile::Weeks => *dice.pick(&[HOUR, 2 * DAY, 16 * DAY]),
            Profile::Clocks => *dice.pick(&[5 * MINUTE, HOUR, 6 * HOUR]),
        };
        dice.span(100, longest)
    }

    fn draw(&self, kind: u64, dice: &mut Dice) -> Fault {
        let node = dice.index(self.nodes);
        let server = dice.index(self.servers);
        let span = self.outage(dice);
        let who = if dice.chance(300) { Who::Pool } else { Who::Node(node) };
        match kind {
            0 => {
                let (to_pool, to_node) = *dice.pick(&[(true, true), (true, false), (false, true)]);
                let node = dice.chance(700).then_some(node);
                Fault::Partition { node, to_pool, to_node, span }
            }
            1 => Fault::Flap { node, times: 2 + dice.below(8), each: dice.span(200, 15_000) },
            2 => Fault::Crash { who: Who::Pool, down: dice.span(10, 20_000) },
            3 => Fault::Crash { who: Who::Node(node), down: dice.span(10, 20_000) },
            4 => Fault::Restarts { node, times: 3 + dice.below(8), each: dice.span(500, 9_000) },
            5 => Fault::Stall { who, span },
            6 => Fault::FailWrite { who },
            7 => Fault::Backup,
            8 => Fault::Restore,
            9 => Fault::JumpClock {
                who,
                by: *dice.pick(&[1_000, -1_000, 25 * HOUR, -25 * HOUR, 15 * DAY, -15 * DAY]),
            },
            10 => self.power_off(who, span, dice),
            11 => Fault::Suspend { node, span },
            12 => Fault::Pause { node, span },
            13 => Fault::Clone { node, span },
            14 => Fault::Remove { node },
            15 => Fault::ForceRelease { node },
            16 => Fault::CrashServer { node, server },
            17 => Fault::MuteServer { node, server, span },
            18 => Fault::Ask { what: dice.below(4) },
            19 => Fault::TestMode { on: dice.chance(500) },
            20 => Fault::Drain { node, span },
            21 => Fault::LoseJournal { node },
            22 => Fault::Crash { who: Who::Vendor, down: dice.span(10, 20_000) },
            _ => Fault::SilentServer { node, server },
        }
    }
}

/// Those of worlds with platforms: no journal is lost and no machine copied, because a platform does not say what runs.
const OF_FEEDS: [u64; 19] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18, 19, 20];
/// Kinds of faults that are drawn.
const KINDS: u64 = 24;
/// Those that clocks have to do with: outages, crashes, stalled disks, and what happens to clocks and machines.
const OF_CLOCKS: [u64; 8] = [0, 3, 5, 9, 9, 10, 10, 12];
