//! The lease contract as a [`Model`]: what can happen in a state, and what it leads to.

use stateright::{Model, Property};

use crate::canonical::canonical;
use crate::case::Case;
use crate::message::{Change, Message, Reply, Wish};
use crate::node::answered_by;
use crate::promises::promises;
use crate::rule::Rule;
use crate::state::{Holder, LEGS, Leg, Legs, NODES, Node, Phase, Pool, Session, State, node_of};

/// The contract in a configuration, perhaps without one of its rules.
#[derive(Debug, Clone, Copy)]
pub struct Contract {
    /// The configuration.
    pub case: Case,
    /// The rule that is left out.
    pub without: Option<Rule>,
    /// States are left as they come, however many nobody can tell apart.
    pub plain: bool,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A media server asks for a leg.
    Ask(usize),
    /// A question's time is over, and the node lets the leg run.
    Decide(usize),
    /// A leg ends, running or asked for; or the node denies it by itself.
    End(usize),
    /// A media server is told that its leg may run.
    Tell(usize),
    /// A node sends its next mutation.
    Send(usize, Change),
    /// A node sends a heartbeat.
    Beat(usize),
    /// A node gives its session up.
    Reopen(usize),
    /// What a node decided is durable.
    Sync(usize),
    /// A message arrives. What it names can be looked at in either order.
    Arrive {
        /// The message.
        message: Message,
        /// The other order.
        turned: bool,
    },
    /// What the pool decided is durable.
    Commit,
    /// The pool has a node's session lapse.
    Lapse(usize),
    /// A license expires.
    Expire,
    /// An administrator takes a leg's lease back.
    Force(usize),
    /// The pool's process is killed.
    KillPool,
    /// A node's process is killed.
    KillNode(usize),
}

impl Contract {
    /// The contract with all its rules.
    #[must_use]
    pub const fn whole(case: Case) -> Self {
        Self { case, without: None, plain: false }
    }

    /// The contract without a rule, where that shows.
    #[must_use]
    pub fn without(rule: Rule) -> Self {
        Self { case: rule.case(), without: Some(rule), plain: false }
    }

    /// The one state that stands for all those that nobody can tell from this one.
    #[must_use]
    pub fn representative(&self, state: &State) -> State {
        let mut state = state.clone();
        canonical(self, &mut state);
        state
    }

    /// Whether a rule is left out.
    #[must_use]
    pub fn lacks(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }

    /// Carries an action out; none where it changes nothing.
    fn act(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Ask(leg) => state.legs[leg] = Leg::Asking,
            Action::Decide(leg) => self.decide(state, leg),
            Action::End(leg) => Self::end(state, leg),
            Action::Tell(leg) => state.talking = state.talking.and(Legs::one(leg)),
            Action::Send(node, change) => self.mutation(state, node, change),
            Action::Beat(node) => Self::beat(state, node),
            Action::Reopen(node) => {
                if !finds_stale(state, node) {
                    state.chances.sessions -= 1;
                }
                Self::reopen(state, node);
            }
            Action::Sync(node) => state.nodes[node].journal = None,
            Action::Arrive { message: Message::Request(request), turned } => {
                return self.take(state, request, turned).then_some(());
            }
            Action::Arrive { message: Message::Reply(reply), turned } => {
                return self.hear(state, reply, turned).then_some(());
            }
            Action::Commit => Self::commit(state),
            Action::Lapse(node) => self.lapse(state, node),
            Action::Expire => {
                state.pool.capacity -= 1;
                state.chances.licenses -= 1;
            }
            Action::Force(leg) => self.force(state, node_of(leg), leg),
            Action::KillPool => Self::kill_pool(state),
            Action::KillNode(node) => Self::kill_node(state, node),
        }
        Some(())
    }

    fn leg_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for leg in self.case.legs.each() {
            let node = &state.nodes[node_of(leg)];
            let told = state.talking.has(leg);
            match state.legs[leg] {
                Leg::New if !told => actions.push(Action::Ask(leg)),
                Leg::Asking => actions.extend([Action::Decide(leg), Action::End(leg)]),
                Leg::Running { .. } | Leg::Revoked => {
                    actions.push(Action::End(leg));
                    let durable = node.journal.is_none() || self.lacks(Rule::NodeAnswersWhenDurable);
                    if !told && durable && state.legs[leg].runs() {
                        actions.push(Action::Tell(leg));
                    }
                }
                _ => {}
            }
            if state.chances.force > 0 && state.pool.books[node_of(leg)].held.has(leg) {
                actions.push(Action::Force(leg));
            }
        }
    }

    fn node_actions(state: &State, actions: &mut Vec<Action>) {
        for (number, node) in state.nodes.iter().enumerate() {
            if state.chances.node_kills > 0 {
                actions.push(Action::KillNode(number));
            }
            // Nothing is sent before what it says is durable.
            if node.journal.is_some() {
                actions.push(Action::Sync(number));
                continue;
            }
            if matches!(node.phase, Phase::Active { .. }) && node.flight.is_none() {
                let due = |change: &Change| !Self::due(state, number, *change).none();
                let changes = [Change::Allocate, Change::Adopt, Change::Release].into_iter().filter(due);
                actions.extend(changes.map(|change| Action::Send(number, change)));
                // One that brings nothing new changes nothing.
                if !state.pool.on_disk()[number].buried.none() {
                    actions.push(Action::Beat(number));
                }
            }
            let refused = match node.phase {
                // The pool has seen this opening, or a later one, and its answer was lost.
                Phase::Opening => state.pool.on_disk()[number].open >= node.open,
                _ => true,
            };
            if finds_stale(state, number) || refused && state.chances.sessions > 0 {
                actions.push(Action::Reopen(number));
            }
        }
    }

    fn pool_actions(state: &State, actions: &mut Vec<Action>) {
        if state.pool.durable.is_some() {
            actions.push(Action::Commit);
        }
        if state.chances.pool_kills > 0 {
            actions.push(Action::KillPool);
        }
        if state.chances.licenses > 0 {
            actions.push(Action::Expire);
        }
        if state.chances.sessions > 0 {
            let open = |node: &usize| state.pool.books[*node].session != Session::Lapsed;
            actions.extend((0..NODES).filter(open).map(Action::Lapse));
        }
    }

    fn arrivals(state: &State, actions: &mut Vec<Action>) {
        for message in &state.network {
            let two = match message {
                Message::Request(request) => match request.wish {
                    Wish::Mutation { change: Change::Allocate, legs, .. } => legs.count() > 1,
                    _ => false,
                },
                Message::Reply(reply) => {
                    if !can_hear(state, *reply) {
                        continue;
                    }
                    reply.node == 0 && state.nodes[0].phase == Phase::Opening
                }
            };
            let message = *message;
            actions.push(Action::Arrive { message, turned: false });
            if two {
                actions.push(Action::Arrive { message, turned: true });
            }
        }
    }
}

/// Whether a node may hear at any time that its session is over. A session that is over stays so, and
/// therefore it makes no difference when the pool said it.
fn finds_stale(state: &State, node: usize) -> bool {
    state.nodes[node].phase != Phase::Opening && !state.session_is_kept(node)
}

/// Whether a reply is that of the request under way. Where a node goes on to send something at once, what
/// it decided before is durable first.
fn can_hear(state: &State, reply: Reply) -> bool {
    let node = &state.nodes[usize::from(reply.node)];
    let ready = node.journal.is_none() || matches!(node.phase, Phase::Active { .. });
    ready && node.flight.is_some_and(|flight| answered_by(flight, reply))
}

impl Model for Contract {
    type State = State;
    type Action = Action;

    /// Both nodes have a session, and nothing runs.
    fn init_states(&self) -> Vec<State> {
        let none = Legs::default();
        let holder =
            Holder { open: 1, session: Session::Active, sequence: 0, last: None, held: none, buried: none };
        let node = Node {
            open: 1,
            phase: Phase::Active { sequence: 0 },
            flight: None,
            unknown: none,
            journal: None,
        };
        let books = [holder; NODES];
        vec![State {
            legs: [Leg::New; LEGS],
            talking: none,
            nodes: [node.clone(), node],
            pool: Pool { capacity: self.case.capacity, books, durable: None, unsent: Vec::new() },
            network: Vec::new(),
            chances: self.case.chances,
            breach: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.leg_actions(state, actions);
        Self::node_actions(state, actions);
        Self::pool_actions(state, actions);
        Self::arrivals(state, actions);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        self.act(&mut state, action)?;
        if !self.plain {
            canonical(self, &mut state);
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises()
    }
}
