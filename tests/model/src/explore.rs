//! Looks at every state: what is promised of each, and whether rest stays reachable from each.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::case::Case;
use crate::contract::{Action, Contract};
use crate::promises::promises;
use crate::rule::Rule;
use crate::state::State;

pub use crate::promises::AT_REST;

/// Shows every state of a contract once, nearest first.
pub fn each_state(contract: &Contract, mut show: impl FnMut(&State)) {
    walk(contract, |state, _| show(state), |_| {});
}

/// What an exploration to the end has found.
#[derive(Debug)]
pub struct Explored {
    /// States that differ.
    pub states: usize,
    /// Steps to the farthest of them.
    pub depth: usize,
    /// How many are states of rest.
    pub rests: usize,
    /// States from which no state of rest can be reached.
    pub stuck: usize,
    /// How many promises were looked at in each state.
    pub promises: usize,
    /// Promises that were broken.
    pub broken: Vec<Broken>,
    /// How long it took.
    pub took: Duration,
}

/// A broken promise, and how it came to that.
#[derive(Debug)]
pub struct Broken {
    /// The promise.
    pub promise: &'static str,
    /// What happened, and the state it led to.
    pub steps: Vec<(Action, State)>,
}

/// Explores a configuration to the end: the checker looks at the promises, and beside it the way to rest is
/// looked for.
///
/// # Panics
/// When the two do not find the same number of states.
#[must_use]
pub fn explore(case: Case, threads: usize) -> Explored {
    let (contract, began) = (Contract::whole(case), Instant::now());
    let ((broken, counted), (graph, stuck)) = std::thread::scope(|scope| {
        let walk = scope.spawn(|| {
            let graph = Graph::of(&contract);
            let stuck = graph.stuck();
            (graph, stuck)
        });
        (check(&contract, threads), walk.join().expect("the walk ends"))
    });
    assert!(!broken.is_empty() || counted == graph.ends.len(), "two ways to explore find the same states");
    Explored {
        states: graph.ends.len(),
        depth: graph.depth,
        rests: graph.rests.iter().filter(|rest| **rest).count(),
        stuck,
        // With the one that is looked for beside.
        promises: every_promise().len() + 1,
        broken,
        took: began.elapsed(),
    }
}

/// Looks at the promises in every state, and counts the states.
fn check(contract: &Contract, threads: usize) -> (Vec<Broken>, usize) {
    let checker = contract.checker().threads(threads.max(1)).spawn_bfs().join();
    let broken = checker.discoveries().into_iter().map(|(promise, path)| broken(promise, path.into_vec()));
    (broken.collect(), checker.unique_state_count())
}

/// The names of all promises that are looked at in each state.
#[must_use]
pub fn every_promise() -> Vec<&'static str> {
    promises().into_iter().map(|promise| promise.name).collect()
}

/// The shortest way to one of these promises broken, without a rule; none if they are kept.
#[must_use]
pub fn counterexample(rule: Rule, promises: &[&'static str]) -> Option<Broken> {
    let mut best: Option<Broken> = None;
    loop {
        let enough = HasDiscoveries::AnyOf(promises.iter().copied().collect());
        let mut checker = Contract::without(rule).checker().finish_when(enough);
        if let Some(best) = &best {
            // The checker does not stop at the first it finds: is there one in fewer steps?
            checker = checker.target_max_depth(best.steps.len() + 1);
        }
        let found = checker.spawn_bfs().join().discoveries().into_iter();
        let found = found.filter(|(promise, _)| promises.contains(promise));
        let found = found.map(|(promise, path)| broken(promise, path.into_vec()));
        let Some(shorter) = found.min_by_key(|broken| (broken.steps.len(), broken.promise)) else {
            return best;
        };
        best = Some(shorter);
    }
}

fn broken(promise: &'static str, path: Vec<(State, Option<Action>)>) -> Broken {
    let actions: Vec<_> = path.iter().filter_map(|(_, action)| *action).collect();
    let states = path.into_iter().skip(1).map(|(state, _)| state);
    Broken { promise, steps: actions.into_iter().zip(states).collect() }
}

/// Fingerprints are as good as hashed.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Every state by number, with the states that can come next.
struct Graph {
    /// Numbers of the next states, of one state after the other.
    next: Vec<u32>,
    /// Where those of each state end.
    ends: Vec<usize>,
    /// Whether it is a state of rest.
    rests: Vec<bool>,
    /// Steps to the farthest state.
    depth: usize,
}

impl Graph {
    fn of(contract: &Contract) -> Self {
        let (mut next, mut ends, mut rests, mut depth) = (Vec::new(), Vec::new(), Vec::new(), 0);
        walk(
            contract,
            |state, steps| {
                rests.push(state.rests());
                depth = steps;
            },
            |numbers| {
                next.extend_from_slice(numbers);
                ends.push(next.len());
            },
        );
        Self { next, ends, rests, depth }
    }

    fn begin(&self, state: usize) -> usize {
        if state == 0 { 0 } else { self.ends[state - 1] }
    }

    /// How many states have no way to rest: goes from all states of rest backwards.
    fn stuck(&self) -> usize {
        let count = self.ends.len();
        let mut begins = vec![0usize; count + 1];
        for next in &self.next {
            begins[*next as usize + 1] += 1;
        }
        for state in 0..count {
            begins[state + 1] += begins[state];
        }
        let (mut before, mut free) = (vec![0u32; self.next.len()], begins.clone());
        for (from, state) in (0u32..).zip(0..count) {
            for next in &self.next[self.begin(state)..self.ends[state]] {
                before[free[*next as usize]] = from;
                free[*next as usize] += 1;
            }
        }
        let mut found = self.rests.clone();
        let mut waiting: Vec<_> = (0..count).filter(|state| found[*state]).collect();
        while let Some(state) = waiting.pop() {
            for earlier in &before[begins[state]..begins[state + 1]] {
                let earlier = *earlier as usize;
                if !found[earlier] {
                    found[earlier] = true;
                    waiting.push(earlier);
                }
            }
        }
        found.into_iter().filter(|found| !found).count()
    }
}

/// Goes through all states by breadth: shows each with its distance, and then the numbers of the next ones.
/// Only states that were not looked at yet are kept whole.
fn walk(contract: &Contract, mut show: impl FnMut(&State, usize), mut lead: impl FnMut(&[u32])) {
    let mut numbers: HashMap<u64, u32, BuildHasherDefault<Same>> = HashMap::default();
    let (mut waiting, mut actions, mut next) = (VecDeque::new(), Vec::new(), Vec::new());
    for state in contract.init_states() {
        number(&mut numbers, &state);
        waiting.push_back((state, 0));
    }
    while let Some((state, steps)) = waiting.pop_front() {
        show(&state, steps);
        contract.actions(&state, &mut actions);
        for action in actions.drain(..) {
            let Some(found) = contract.next_state(&state, action) else { continue };
            let (which, new) = number(&mut numbers, &found);
            next.push(which);
            if new {
                waiting.push_back((found, steps + 1));
            }
        }
        lead(&next);
        next.clear();
    }
}

/// A state's number, and whether it is new.
fn number(numbers: &mut HashMap<u64, u32, BuildHasherDefault<Same>>, state: &State) -> (u32, bool) {
    let due = u32::try_from(numbers.len()).expect("a model has fewer states");
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    let found = *numbers.entry(hasher.finish()).or_insert(due);
    (found, found == due)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_without_a_way_to_rest_are_found() {
        // From 0 to 1 and 2, from 1 to 3, which rests, from 2 and 4 to each other.
        let (next, ends) = (vec![1, 2, 3, 4, 2], vec![2, 3, 4, 4, 5]);
        let graph = |rests: [bool; 5]| Graph {
            next: next.clone(),
            ends: ends.clone(),
            rests: rests.into(),
            depth: 3,
        };
        assert_eq!(graph([false, false, false, true, false]).stuck(), 2);
        assert_eq!(graph([false, false, false, true, true]).stuck(), 0);
        assert_eq!(graph([false; 5]).stuck(), 5);
    }
}
