//! Scenes: what happens in a world that was written down instead of drawn, and what an operator sees there.

use headroom_core::{Call, CallId, Leg, LegId, Media, Millis, NodeName, Service};
use management_core::{HolderId, Pool};

use crate::caller::{incoming, meeting};
use crate::dice::Dice;
use crate::fault::Fault;
use crate::plan::Plan;
use crate::say::span;
use crate::story::Telling;
use crate::world::{Outcome, World};

/// Something that happens in a written world. Nodes are numbered from 0: a, b, …; all of it is at the first
/// media server of a node.
#[derive(Debug, Clone)]
pub enum Scene {
    /// A media server asks for a call.
    Call {
        /// Its node.
        node: usize,
        /// The call.
        call: &'static str,
        /// The legs.
        legs: Vec<Asked>,
    },
    /// A leg ends.
    End {
        /// Its node.
        node: usize,
        /// The leg.
        leg: &'static str,
    },
    /// A leg is to have other media.
    Change {
        /// Its node.
        node: usize,
        /// The leg.
        leg: &'static str,
        /// The media.
        media: Media,
    },
    /// An operator looks at everything.
    Look,
}

/// A leg that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    leg: &'static str,
    owner: Option<&'static str>,
    replaces: Option<&'static str>,
    media: Media,
}

/// A leg with audio and video.
#[must_use]
pub const fn leg(leg: &'static str) -> Asked {
    Asked { leg, owner: None, replaces: None, media: Media::AUDIO_VIDEO }
}

impl Asked {
    /// ... that another node runs: the call becomes one of a gateway.
    #[must_use]
    pub const fn on(self, node: &'static str) -> Self {
        Self { owner: Some(node), ..self }
    }

    /// ... that takes over from another leg.
    #[must_use]
    pub const fn instead_of(self, old: &'static str) -> Self {
        Self { replaces: Some(old), ..self }
    }

    /// ... without audio and video: it needs no unit.
    #[must_use]
    pub const fn control_only(self) -> Self {
        Self { media: Media::CONTROL_ONLY, ..self }
    }
}

/// A world that is written down.
pub struct Scenario(Plan);

impl Default for Scenario {
    fn default() -> Self {
        Self(Plan::quiet())
    }
}

impl Scenario {
    /// Set up otherwise than [`Plan::quiet`].
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.0);
        self
    }

    /// Something happens.
    #[must_use]
    pub fn scene(mut self, at: Millis, scene: Scene) -> Self {
        self.0.scenes.push((at, scene));
        self
    }

    /// A call is asked for.
    #[must_use]
    pub fn call(self, at: Millis, node: usize, call: &'static str, legs: &[Asked]) -> Self {
        self.scene(at, Scene::Call { node, call, legs: legs.to_vec() })
    }

    /// A leg ends.
    #[must_use]
    pub fn end(self, at: Millis, node: usize, leg: &'static str) -> Self {
        self.scene(at, Scene::End { node, leg })
    }

    /// An operator looks.
    #[must_use]
    pub fn look(self, at: Millis) -> Self {
        self.scene(at, Scene::Look)
    }

    /// Something goes wrong, or is done by an administrator.
    #[must_use]
    pub fn fault(mut self, at: Millis, fault: Fault) -> Self {
        self.0.faults.push((at, fault));
        self
    }

    /// Runs it until all books agree.
    #[must_use]
    pub fn run(self) -> Outcome {
        World::planned(self.0, Dice::new(1), Telling::News).run()
    }
}

fn id(text: &str) -> LegId {
    LegId::new(text).expect("a short id")
}

impl World {
    pub(crate) fn play(&mut self, scene: Scene) {
        match scene {
            Scene::Call { node, call, legs } => {
                let call = self.written_call(node, call, &legs);
                self.ask(node, 0, call);
            }
            Scene::End { node, leg } => self.leg_ends(node, 0, id(leg)),
            Scene::Change { node, leg, media } => self.ask_change(node, 0, id(leg), media),
            Scene::Look => self.operator_looks(),
        }
    }

    fn written_call(&self, at: usize, call: &str, legs: &[Asked]) -> Call {
        let gateway = legs.iter().any(|asked| asked.owner.is_some());
        let legs = legs.iter().map(|asked| Leg {
            media: asked.media,
            owner: asked.owner.map(|owner| NodeName::new(owner).expect("a short name")),
            replaces: asked.replaces.map(id),
            ..incoming(id(asked.leg))
        });
        let source = self.nodes[at].servers[0].source.clone();
        let mut call = meeting(CallId::new(call).expect("a short id"), source, legs.collect());
        if gateway {
            call.info.service = Service::Gateway;
        }
        call
    }

    /// A node's name; that of a clone has a mark.
    pub(crate) fn label(&self, at: usize) -> String {
        let node = &self.nodes[at];
        format!("{}{}", node.name, if node.clone { "'" } else { "" })
    }

    pub(crate) fn labels(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|at| self.label(at)).collect()
    }

    /// What the management node's and the nodes' own pages would show now.
    fn operator_looks(&mut self) {
        let mut lines = self.pool_view();
        for at in 0..self.nodes.len() {
            lines.extend(self.node_view(at));
        }
        for line in lines {
            self.tell(|_| format!("    | {line}"));
        }
    }

    fn pool_view(&self) -> Vec<String> {
        let Some(process) = &self.pool.process else { return vec!["pool: down".into()] };
        let (pool, now) = (&process.shown, self.pool.host.now(self.time));
        let mut lines = Vec::new();
        for state in pool.pool_states(now.wall) {
            let usage = pool.usage.get(&state.feature).copied().unwrap_or_default();
            let above = usage.over_commit.map(|(cause, _)| format!(", above the limit ({cause:?})"));
            lines.push(format!(
                "pool: {} of {} units of {} in use, overdraft {}{}",
                usage.in_use,
                state.capacity,
                state.feature,
                state.overdraft,
                above.unwrap_or_default()
            ));
        }
        lines.extend(pool.holders.iter().map(|(id, holder)| holder_view(pool, *id, holder)));
        let alarms = pool.alarms(&process.volatile().view(), now.wall);
        lines.extend(alarms.iter().map(|a| format!("pool: alarm {} {}: {}", a.name, a.subject, a.text)));
        lines
    }

    fn node_view(&self, at: usize) -> Vec<String> {
        let label = self.label(at);
        let node = &self.nodes[at];
        if node.sleeps_until > self.time {
            return vec![format!("{label}: stands still")];
        }
        let Some(process) = &node.process else { return vec![format!("{label}: down")] };
        let now = node.host.now(self.time);
        let status = conferencing_core::status::status(&process.shown, process.volatile(), now);
        let whole = |time: Millis| span(Millis(time.0 / 60_000 * 60_000));
        let age = if status.out_of_contact < Millis::MINUTE {
            String::new()
        } else {
            format!(" for {}, grace left: {}", whole(status.out_of_contact), whole(status.grace_left))
        };
        let mut lines = vec![format!(
            "{label}: contact {}{age}; {} legs, {} not leased yet, {} ends to tell",
            status.contact.word(),
            status.legs,
            status.optimistic,
            status.outbox
        )];
        lines.extend(status.alarms.iter().map(|alarm| format!("{label}: alarm {alarm}")));
        lines
    }
}

fn holder_view(pool: &Pool, id: HolderId, holder: &management_core::Holder) -> String {
    let legs: Vec<_> = pool.leases.of_holder(id).map(|(key, _)| key.leg).collect();
    let name = if holder.instance == 0 {
        holder.node.to_string()
    } else {
        format!("{} (clone {})", holder.node, holder.instance)
    };
    let state = match (&holder.session, holder.lapsed) {
        (Some(session), _) => format!("in session {}", session.number),
        (None, Some(leases)) => format!("lapsed with {leases} leases"),
        (None, None) => "without a session".to_owned(),
    };
    format!("pool: {name} {state}, leases: {}", crate::say::legs(&legs))
}
