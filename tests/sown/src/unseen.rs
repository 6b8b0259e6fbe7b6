//! Faults that simulated worlds do not show, each with the reason that is known. They are here so that nobody
//! takes them for found: where another line of defence holds, that is well; where the worlds or the promises
//! are too narrow, they are what to widen next.

use crate::Fault;
use crate::faults::{
    ACTIVATION, ADMIT, ANSWER, GRACE, MUTATION, NODE, NODE_APPLY, NODE_TICK, POOL_APPLY, RECONCILE, SESSION,
    VENDOR, edit,
};

/// Each fault, and why no world shows it.
pub const UNSEEN: &[(Fault, &str)] = &[
    (
        Fault {
            name: "late-openings",
            what: "an OpenSession that arrives late begins a session, with the books of then",
            edits: &[edit(SESSION, "if request.open_number <= last {", "if request.open_number == 0 {")],
        },
        "numbers of sessions and of requests stop a late opening as well",
    ),
    (
        Fault {
            name: "rollback-unfenced",
            what: "a store that was found to be older than what nodes have seen lets their sessions go on",
            edits: &[edit(POOL_APPLY, "self.fence_all();", "")],
        },
        "the numbers of requests that the lost records held show it as well",
    ),
    (
        Fault {
            name: "doubt-in-memory",
            what: "a leg in doubt is confirmed by a restart, which forgets that nobody heard of its grant",
            edits: &[edit(
                NODE_APPLY,
                "            self.unconfirmed.insert(leg);\n        }\n    }",
                "            let _ = leg;\n        }\n    }",
            )],
        },
        "media servers list what they run, and their lists end what nobody heard of",
    ),
    (
        Fault {
            name: "any-answer-fits",
            what: "an answer to an earlier attempt is taken for one to the present request",
            edits: &[edit(
                ANSWER,
                "is_none_or(|flight| flight.id != request)",
                "is_none_or(|flight| flight.id < request)",
            )],
        },
        "the uplink listens to no attempt that it gave up, before the machine is asked",
    ),
    (
        Fault {
            name: "any-end-heard",
            what: "what the pool heard of an earlier leg of the same name counts for the one that ended since",
            edits: &[edit(
                NODE_APPLY,
                "                    if self.ending.get(&which.leg).is_some_and(|e| e.revision == which.revision) {\n                        self.take_ending(&which.leg);",
                "                    if self.ending.contains_key(&which.leg) {\n                        self.take_ending(&which.leg);",
            )],
        },
        "ids of legs are used again too seldom in these worlds",
    ),
    (
        Fault {
            name: "names-used-twice",
            what: "a leg is asked for before the pool heard that an earlier one of its name ended",
            edits: &[edit(
                MUTATION,
                "if call.legs.iter().any(|leg| owed(&leg.leg)) {",
                "if call.legs.iter().all(|leg| owed(&leg.leg)) && call.legs.is_empty() {",
            )],
        },
        "ids of legs are used again too seldom in these worlds",
    ),
    (
        Fault {
            name: "stale-list-cuts",
            what: "a media server's list ends legs that were granted after it was made",
            edits: &[edit(
                RECONCILE,
                "r.source() == source && r.revision <= as_of && !listed",
                "r.source() == source && r.revision > 0 && !listed",
            )],
        },
        "lists take less time here than a grant is protected for",
    ),
    (
        Fault {
            name: "fresh-grants-cut",
            what: "a list ends legs whose grant is still on its way to the media server",
            edits: &[edit(
                RECONCILE,
                ".filter(|r| !just_granted(r.id()))",
                ".filter(|r| !just_granted(r.id()) || state.legs.len() < 1_000)",
            )],
        },
        "no promise is checked for a leg whose grant is on its way to the media server",
    ),
    (
        Fault {
            name: "ended-begins-again",
            what: "an admission that arrives after the end of its leg begins it",
            edits: &[edit(
                ADMIT,
                "if state.is_dead(&leg, now.boot) {",
                "if state.is_dead(&leg, now.boot) && now.boot.0 < 0 {",
            )],
        },
        "media servers here never ask for a leg that has ended",
    ),
    (
        Fault {
            name: "restart-forgets-ends",
            what: "a restart of the agent forgets which legs have ended",
            edits: &[edit(
                NODE_APPLY,
                "if self.counters.boot_id != boot_id {",
                "if self.counters.boot_id != boot_id || nonce != Nonce::default() {",
            )],
        },
        "media servers here never ask for a leg that has ended",
    ),
    (
        Fault {
            name: "key-on-two-machines",
            what: "a key that is active on one machine can be activated on another",
            edits: &[edit(
                VENDOR,
                "return Err((RefusalReason::KeyInUse, text.into()));",
                "let _ = (RefusalReason::KeyInUse, text);",
            )],
        },
        "one management node is in these worlds",
    ),
    (
        Fault {
            name: "return-unrecorded",
            what: "a return is confirmed and the license stays active in the register",
            edits: &[edit(
                VENDOR,
                "                tx.emit(Event::Ended { license, how, at: self.at, reason: Text::default() });\n                Ok(())\n            }\n            Some(Some(Ending::Returned))",
                "                let _ = Event::Ended { license, how, at: self.at, reason: Text::default() };\n                Ok(())\n            }\n            Some(Some(Ending::Returned))",
            )],
        },
        "both sides agree that the license is still there",
    ),
    (
        Fault {
            name: "old-answers-applied",
            what: "an answer that was overtaken by a later one is applied",
            edits: &[edit(
                ACTIVATION,
                "if !behind && answer.revision >= tx.state().site.revision {",
                "if !behind {",
            )],
        },
        "the books are brought in line again before they are compared",
    ),
    (
        Fault {
            name: "clone-takes-over",
            what: "a clone is taken for the process that came before the original",
            edits: &[edit(SESSION, "return Ok((id, Kin::Clone));", "return Ok((id, Kin::Same));")],
        },
        "both machines run on by turns, and no promise is checked for whose books a holder has",
    ),
    (
        Fault {
            name: "restart-lowers-age",
            what: "a reboot forgets how long the machine has been up since",
            edits: &[edit(GRACE, "next.age = self.age.plus(r.boot);", "next.age = self.age;")],
        },
        "worlds of weeks are two in 2 000",
    ),
    (
        Fault {
            name: "time-off-forgotten",
            what: "the time that a machine was off does not count",
            edits: &[edit(
                GRACE,
                "next.age = next.age.plus(booted_at.since(from));",
                "next.age = next.age.max(booted_at.since(from));",
            )],
        },
        "worlds of weeks are two in 2 000",
    ),
    (
        Fault {
            name: "set-clock-believed",
            what: "a clock that somebody set counts as synchronized until the kernel is asked again",
            edits: &[edit(
                NODE,
                "let synchronized = volatile.synchronized && moved <= SET;",
                "let synchronized = volatile.synchronized && moved <= u64::MAX;",
            )],
        },
        "worlds of weeks are two in 2 000: 5 591 and 9 221 show it",
    ),
    (
        Fault {
            name: "clock-not-saved",
            what: "a node that decides nothing does not save its clocks",
            edits: &[edit(
                NODE_TICK,
                "if grace.stale(&r, SAVE) ||",
                "if grace.stale(&r, SAVE.times(600)) ||",
            )],
        },
        "worlds of weeks are two in 2 000",
    ),
    (
        Fault {
            name: "impatient",
            what: "calls of a media server that has been silent for some minutes are ended",
            edits: &[edit(
                NODE_TICK,
                "let after = volatile.options.orphan_after;",
                "let after = SILENT.max(Millis(0)).min(volatile.options.orphan_after);",
            )],
        },
        "media servers are seldom silent for so long",
    ),
];
