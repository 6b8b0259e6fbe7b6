//! Questions that nobody answers, and media servers that die.

use crate::media::{Pending, ServerEvent, What};
use crate::node::Asker;
use crate::world::World;

impl World {
    /// The node's process died: questions have no answer.
    pub(crate) fn servers_unanswered(&mut self, at: usize) {
        for (_, pending) in std::mem::take(&mut self.nodes[at].pending) {
            self.unanswered(at, pending);
        }
    }

    /// A question waited for too long to be looked at.
    pub(crate) fn not_looked_at(&mut self, at: usize, who: &Asker) {
        self.count("question not looked at in time");
        let (Asker::Call(ask) | Asker::Change(ask)) = who else { return };
        if let Some(pending) = self.nodes[at].pending.remove(ask) {
            self.unanswered(at, pending);
        }
    }

    /// A question has no answer. Some are asked again.
    fn unanswered(&mut self, at: usize, pending: Pending) {
        if let What::Call(call) = pending.what
            && self.dice.chance(500)
            && !self.plan.unruly()
        {
            let after = self.dice.span(500, 5_000);
            self.server_soon(at, pending.server, after, ServerEvent::Ask(call, pending.asked));
        }
    }

    /// A media server dies with its legs. It begins anew, unless it is gone.
    pub(crate) fn server_dies(&mut self, at: usize, server: usize, gone: bool) {
        if self.plan.feeds() {
            return self.feed_starts(at, server);
        }
        self.tell(|world| format!("{}: dies with its legs", world.server_label(at, server)));
        self.nodes[at].pending.retain(|_, pending| pending.server != server);
        let mine = &mut self.nodes[at].servers[server];
        mine.deaths += 1;
        let over: Vec<_> = std::mem::take(&mut mine.running).into_keys().collect();
        mine.gone |= gone;
        for leg in over {
            self.oracle.over(at, &leg, self.time);
        }
    }

    pub(crate) fn server_returns(&mut self, at: usize, server: usize) {
        if std::mem::take(&mut self.nodes[at].servers[server].gone) {
            self.begin_server(at, server);
            self.say_ends(at, server);
        }
        self.nodes[at].servers[server].muted_until = self.time;
        if self.plan.feeds() {
            self.tell_next(at, server);
        }
    }
}
