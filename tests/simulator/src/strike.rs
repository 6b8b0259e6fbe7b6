//! Faults as they happen, and how a world is mended.

use conferencing_core::Command as NodeCommand;
use headroom_core::Millis;
use management_core::Command;

use crate::disk::Disk;
use crate::fault::{Fault, Over, Who, Year};
use crate::host::EPOCH;
use crate::node::{Asker as NodeAsker, NodeEvent};
use crate::pool::{Asker, PoolEvent};
use crate::vendor::VendorEvent;
use crate::world::{Event, World};

/// The year 2036, from the beginning of 1970.
const Y2036: i64 = 66 * 365 * 86_400_000;

impl World {
    pub(crate) fn strike(&mut self, fault: Fault) {
        if !self.is_active() && !matches!(fault, Fault::Over(_)) {
            return;
        }
        let line = |world: &Self| format!("*** {}", crate::say::fault(&fault, &world.labels()));
        match fault {
            // Whether a node is known is looked at often, and seldom comes to anything.
            Fault::Over(Over::Enrol(_)) => self.detail(line),
            _ => self.tell(line),
        }
        if !matches!(fault, Fault::Over(_)) {
            self.count(fault.name());
        }
        match fault {
            Fault::Partition { node, to_pool, to_node, span } => self.cut(node, to_pool, to_node, span),
            Fault::Flap { node, times, each } => {
                let times = i64::try_from(times).unwrap_or(1);
                for turn in 0..times {
                    let cut = Fault::Partition { node: Some(node), to_pool: true, to_node: true, span: each };
                    self.schedule(each.times(2 * turn), Event::Fault(cut));
                }
            }
            Fault::Crash { who, down } => self.crash(who, down),
            Fault::Restarts { node, times, each } => {
                for turn in 1..=i64::try_from(times).unwrap_or(1) {
                    let crash = Fault::Crash { who: Who::Node(node), down: Millis(200) };
                    self.schedule(each.times(turn), Event::Fault(crash));
                }
            }
            Fault::Stall { who, span } => match who {
                Who::Pool => self.pool.stalled_until = self.pool.stalled_until.max(self.time.plus(span)),
                Who::Node(at) => self.stall(at, span),
                Who::Vendor => {}
            },
            Fault::FailWrite { who } => match who {
                Who::Pool => self.pool.fails = true,
                Who::Node(at) => self.nodes[at].fails = true,
                Who::Vendor => {}
            },
            Fault::Backup => self.pool.backup = Some(self.pool.disk.clone()),
            Fault::Restore => self.restore(),
            Fault::JumpClock { who, by } => self.jump(who, by),
            Fault::PowerOff { who, off, year, synchronized_after } => {
                if self.is_off(who) {
                    return;
                }
                self.power_off(who);
                let on = Over::PowerOn { who, year, synchronized_after };
                self.schedule(off, Event::Fault(Fault::Over(on)));
            }
            Fault::Suspend { node, span } => self.sleep(node, span, false),
            Fault::Pause { node, span } => self.sleep(node, span, true),
            Fault::Clone { node, span } => self.clone_node(node, span),
            Fault::Remove { node } => {
                let name = self.nodes[node].name.clone();
                let after = self.dice.span(1_000, 60_000);
                self.pool_submit(Command::RemoveNode(name), Asker::Removed(node, after));
            }
            Fault::ForceRelease { node } => self.force_release(node),
            Fault::CrashServer { node, server } => self.server_dies(node, server, false),
            Fault::MuteServer { node, server, span } => {
                self.nodes[node].servers[server].muted_until = self.time.plus(span);
            }
            Fault::SilentServer { node, server } => self.server_dies(node, server, true),
            Fault::Ask { what } => self.ask_vendor(what),
            Fault::TestMode { on } => self.pool_submit(Command::TestMode(on), Asker::Nobody),
            Fault::Drain { node, span } => {
                self.node_submit(node, NodeCommand::Drain { on: true }, NodeAsker::Nobody);
                self.schedule(span, Event::Fault(Fault::Over(Over::Undrain(node))));
            }
            Fault::LoseJournal { node } => self.lose_journal(node),
            Fault::Over(over) => self.is_over(over),
        }
    }

    fn is_over(&mut self, over: Over) {
        match over {
            Over::PowerOn { who, year, synchronized_after } => {
                self.power_on(who, year);
                self.schedule(synchronized_after, Event::Fault(Fault::Over(Over::Synchronized(who))));
            }
            Over::Synchronized(who) => {
                if let Some(host) = self.host(who) {
                    host.synchronize();
                }
            }
            Over::CloneGone(at) => self.clone_gone(at),
            Over::Enrol(at) => self.enrol(at),
            Over::Undrain(at) => {
                self.node_submit(at, NodeCommand::Drain { on: false }, NodeAsker::Nobody);
            }
        }
    }

    fn host(&mut self, who: Who) -> Option<&mut crate::host::Host> {
        match who {
            Who::Pool => Some(&mut self.pool.host),
            Who::Node(at) => Some(&mut self.nodes[at].host),
            Who::Vendor => None,
        }
    }

    fn cut(&mut self, node: Option<usize>, to_pool: bool, to_node: bool, span: Millis) {
        let until = self.time.plus(span);
        for (at, side) in self.nodes.iter_mut().enumerate() {
            if node.is_none_or(|node| node == at) {
                let deaf = |before: Millis, now: bool| if now { before.max(until) } else { before };
                side.deaf_pool_until = deaf(side.deaf_pool_until, to_pool);
                side.deaf_until = deaf(side.deaf_until, to_node);
            }
        }
    }

    fn crash(&mut self, who: Who, down: Millis) {
        match who {
            Who::Pool => self.pool_crash(down),
            Who::Node(at) => self.node_crash(at, Some(down)),
            Who::Vendor => self.vendor_crash(down),
        }
    }

    /// The store is what it was when it was copied; connections to the service that was are gone.
    fn restore(&mut self) {
        let Some(backup) = self.pool.backup.clone() else { return };
        let down = self.dice.span(100, 10_000);
        if self.pool.process.is_none() {
            // It is being started anyway, from what is there now.
            self.pool.left = None;
        }
        self.pool_crash(down);
        self.pool.disk = backup;
        self.pool.left = None;
        self.pool.epoch += 1;
        self.oracle.reverted = true;
    }

    fn stall(&mut self, at: usize, span: Millis) {
        let node = &mut self.nodes[at];
        if node.stalled_until <= self.time {
            node.stalled_since = self.time;
        }
        node.stalled_until = node.stalled_until.max(self.time.plus(span));
    }

    fn jump(&mut self, who: Who, by: i64) {
        if let Some(host) = self.host(who) {
            host.wrong_by += by;
            host.synchronized = false;
        }
        if let Who::Node(at) = who {
            // Believed after an hour up, for want of a better one.
            self.oracle.wrong_clock(at, Millis(by.max(0)));
        }
        if self.dice.chance(700) {
            let after = self.dice.span(0, 1_200_000);
            self.schedule(after, Event::Fault(Fault::Over(Over::Synchronized(who))));
        }
    }

    /// Whether a machine is off already, or stands still.
    fn is_off(&self, who: Who) -> bool {
        match who {
            Who::Pool => self.pool.off,
            Who::Node(at) => self.nodes[at].off || self.nodes[at].sleeps_until > self.time,
            Who::Vendor => true,
        }
    }

    fn power_off(&mut self, who: Who) {
        match who {
            Who::Pool => {
                self.pool_crash(Millis::DAY.times(10_000));
                self.pool.off = true;
            }
            Who::Node(at) => {
                let ran = self.nodes[at].process.is_some();
                self.node_crash(at, None);
                let node = &mut self.nodes[at];
                let stalled = node.stalled_until > self.time;
                (node.off, node.unsaved_since) = (true, if stalled { node.stalled_since } else { self.time });
                if !ran {
                    // It may not have run since the machine was switched on.
                    node.unsaved_since = node.unsaved_since.min(node.host.booted_at());
                }
                if !node.host.synchronized {
                    // A clock that ran for an hour was believed.
                    let behind = self.oracle.behind(at, &node.host, self.time);
                    self.oracle.misled(at, behind);
                }
                for server in 0..self.nodes[at].servers.len() {
                    self.server_dies(at, server, true);
                }
            }
            Who::Vendor => {}
        }
    }

    fn power_on(&mut self, who: Who, year: Year) {
        let time = self.time;
        // The end of all faults has switched it on before.
        let off = match who {
            Who::Pool => self.pool.off,
            Who::Node(at) => self.nodes[at].off && !self.nodes[at].gone,
            Who::Vendor => false,
        };
        let Some(host) = self.host(who).filter(|_| off) else { return };
        host.boot(time);
        host.synchronized = false;
        host.wrong_by = match year {
            Year::Right => 0,
            Year::Y1970 => -(EPOCH + time.0),
            Year::Y2036 => Y2036 - (EPOCH + time.0),
        };
        let wrong_by = host.wrong_by;
        match who {
            Who::Pool => {
                self.pool.off = false;
                self.schedule(Millis(0), Event::Pool(PoolEvent::Start));
            }
            Who::Node(at) => {
                self.nodes[at].off = false;
                self.oracle.unseen(at, time.since(self.nodes[at].unsaved_since));
                if year != Year::Right {
                    self.oracle.wrong_clock(at, Millis(wrong_by.max(0)));
                }
                let slow = self.plan.slow_start.0;
                let after = if slow > 0 { self.dice.span(0, slow) } else { Millis(0) };
                self.schedule(after, Event::Node(at, NodeEvent::Start));
                for server in 0..self.nodes[at].servers.len() {
                    self.server_returns(at, server);
                }
            }
            Who::Vendor => {}
        }
    }

    /// A machine stands still, at most until the faults are over.
    fn sleep(&mut self, at: usize, span: Millis, paused: bool) {
        let span = span.min(self.plan.active.since(self.time));
        if self.nodes[at].off || self.nodes[at].sleeps_until > self.time {
            return;
        }
        self.nodes[at].sleeps_until = self.time.plus(span);
        if paused {
            self.nodes[at].host.paused(span);
            self.oracle.stood_still(at, span);
        }
    }

    /// A copy of the machine, with the journal as it is on the disk, begins to run beside it.
    fn clone_node(&mut self, at: usize, span: Millis) {
        if self.nodes[at].clone || self.nodes.len() >= self.plan.nodes + 2 {
            return;
        }
        let index = self.nodes.len();
        let copy = self.nodes[at].copied(index, self.time, &mut self.dice);
        self.nodes.push(copy);
        self.schedule(Millis(0), Event::Node(index, NodeEvent::Start));
        self.begin_servers(index);
        self.schedule(span, Event::Fault(Fault::Over(Over::CloneGone(index))));
    }

    fn clone_gone(&mut self, at: usize) {
        self.node_crash(at, None);
        (self.nodes[at].off, self.nodes[at].gone) = (true, true);
        for server in 0..self.nodes[at].servers.len() {
            self.server_dies(at, server, true);
        }
    }

    fn force_release(&mut self, at: usize) {
        let name = &self.nodes[at].name;
        let Some(process) = &self.pool.process else { return };
        let of_node = process.shown.holders.iter().find(|(_, holder)| holder.node == *name);
        let Some((holder, _)) = of_node else { return };
        let legs: Vec<_> = process.shown.leases.of_holder(*holder).map(|(key, _)| key.leg).collect();
        if legs.is_empty() {
            return;
        }
        let (node, leg) = (name.clone(), self.dice.pick(&legs).clone());
        self.pool_submit(Command::ForceRelease { node, leg }, Asker::Nobody);
    }

    fn lose_journal(&mut self, at: usize) {
        let down = self.dice.span(100, 5_000);
        self.node_crash(at, Some(down));
        let generation = self.dice.any();
        let node = &mut self.nodes[at];
        (node.disk, node.left) = (Disk::new(generation), None);
        node.journals += 1;
        self.oracle.journal_lost(at);
    }

    /// Ends every fault: from now on all have to find each other again.
    pub(crate) fn mend(&mut self) {
        let time = self.time;
        self.pool.stalled_until = time;
        self.pool.fails = false;
        if std::mem::take(&mut self.pool.off) {
            self.pool.host.boot(time);
        }
        self.schedule(Millis(0), Event::Pool(PoolEvent::Start));
        self.schedule(Millis(0), Event::Pool(PoolEvent::Appended(self.pool.lives)));
        self.schedule(Millis(0), Event::Vendor(VendorEvent::Start));
        self.enrol_all();
        self.pool_submit(Command::TestMode(false), Asker::Nobody);
        self.pool.host.synchronize();
        for at in 0..self.nodes.len() {
            if self.nodes[at].clone {
                self.clone_gone(at);
                continue;
            }
            self.mend_node(at);
        }
        self.contact_vendor();
    }

    pub(crate) fn enrol_after(&mut self, at: usize, after: Millis) {
        if !std::mem::replace(&mut self.nodes[at].enrolling, true) {
            self.schedule(after, Event::Fault(Fault::Over(Over::Enrol(at))));
        }
    }

    /// A node that the pool does not know, or knows otherwise, is enrolled anew.
    fn enrol(&mut self, at: usize) {
        self.nodes[at].enrolling = false;
        let node = &self.nodes[at];
        let (name, caller) = (node.name.clone(), node.caller);
        if let Some(process) = self.pool.process.as_ref().filter(|_| self.pool.listens) {
            let known = process.state().nodes.get(&name).filter(|known| known.removed_at.is_none());
            match known.map(|known| known.certificate) {
                Some(certificate) if certificate == caller => return,
                Some(_) => self.pool_submit(Command::RemoveNode(name), Asker::Nobody),
                None => {
                    self.nodes[at].enrol_anew();
                    self.pool_enrols(at);
                }
            }
        }
        self.enrol_after(at, Millis::SECOND);
    }

    /// A restored store may not know who was enrolled since.
    pub(crate) fn enrol_all(&mut self) {
        for at in 0..self.plan.nodes {
            self.enrol_after(at, Millis::SECOND);
        }
    }

    fn mend_node(&mut self, at: usize) {
        let time = self.time;
        let node = &mut self.nodes[at];
        (node.deaf_pool_until, node.deaf_until, node.stalled_until) = (time, time, time);
        node.fails = false;
        let off = std::mem::take(&mut node.off);
        if off {
            node.host.boot(time);
            let span = time.since(node.unsaved_since);
            self.oracle.unseen(at, span);
        }
        let node = &mut self.nodes[at];
        node.host.synchronize();
        let life = node.lives;
        self.schedule(Millis(0), Event::Node(at, NodeEvent::Appended(life)));
        self.schedule(Millis(0), Event::Node(at, NodeEvent::Start));
        self.node_submit(at, NodeCommand::Drain { on: false }, NodeAsker::Nobody);
        for server in 0..self.nodes[at].servers.len() {
            self.server_returns(at, server);
        }
    }
}
