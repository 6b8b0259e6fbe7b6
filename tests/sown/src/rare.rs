//! Faults that worlds as chance makes them show too rarely: each with the kind of world that shows it.

use crate::Fault;
use crate::faults::{
    ACTIVATION, ADMIT, ANSWER, FEED, GRACE, MUTATION, NODE, NODE_APPLY, NODE_TICK, POOL_APPLY, RECONCILE,
    SESSION, VENDOR, VERDICT, edit,
};

/// The kind of world, as `simulate --only` has it, and the faults that it shows.
pub const RARE: &[(&str, &[Fault])] = &[
    (
        "minutes",
        &[
            Fault {
                name: "late-openings",
                what: "an OpenSession that arrives late begins a session, with the books of then",
                edits: &[edit(SESSION, "if request.open_number <= last {", "if request.open_number == 0 {")],
            },
            Fault {
                name: "rollback-unfenced",
                what: "a store that was found to be older than what nodes have seen lets their sessions go on",
                edits: &[edit(POOL_APPLY, "self.fence_all();", "")],
            },
            Fault {
                name: "return-unrecorded",
                what: "a return is confirmed and the license stays active in the register",
                edits: &[edit(
                    VENDOR,
                    "                tx.emit(Event::Ended { license, how, at: self.at, reason: Text::default() });\n                Ok(())\n            }\n            Some(Some(Ending::Returned))",
                    "                let _ = Event::Ended { license, how, at: self.at, reason: Text::default() };\n                Ok(())\n            }\n            Some(Some(Ending::Returned))",
                )],
            },
            Fault {
                name: "clone-takes-over",
                what: "a clone is taken for the process that came before the original",
                edits: &[edit(SESSION, "return Ok((id, Kin::Clone));", "return Ok((id, Kin::Same));")],
            },
        ],
    ),
    (
        "feeds",
        &[
            Fault {
                name: "told-and-doubted",
                what: "a leg that a platform tells of counts as a grant of which nobody has heard",
                edits: &[edit(FEED, "    confirm(tx, [&id].into_iter());\n", "")],
            },
            Fault {
                name: "told-ends-unheard",
                what: "the end of a leg that a platform tells is counted and not carried out",
                edits: &[edit(
                    FEED,
                    "return end_legs(tx, now, vec![leg]),",
                    "return end_legs(tx, now, vec![leg].split_off(1)),",
                )],
            },
            Fault {
                name: "quiet-platform-cut",
                what: "legs of a platform that has had nothing to tell for some minutes are ended",
                edits: &[edit(
                    FEED,
                    "{ otherwise.max(QUIET) }",
                    "{ otherwise.min(Millis::SECOND.times(40)) }",
                )],
            },
        ],
    ),
    (
        "unruly",
        &[
            Fault {
                name: "doubt-in-memory",
                what: "a leg in doubt is confirmed by a restart, which forgets that nobody heard of its grant",
                edits: &[edit(
                    NODE_APPLY,
                    "            self.unconfirmed.insert(leg);\n        }\n    }",
                    "            let _ = leg;\n        }\n    }",
                )],
            },
            Fault {
                name: "old-answers-applied",
                what: "an answer that was overtaken by a later one is applied",
                edits: &[edit(
                    ACTIVATION,
                    "if !behind && answer.revision >= tx.state().site.revision {",
                    "if !behind {",
                )],
            },
            Fault {
                name: "any-answer-fits",
                what: "an answer to an earlier attempt is taken for one to the present request",
                edits: &[edit(
                    ANSWER,
                    "is_none_or(|flight| flight.id != request)",
                    "is_none_or(|flight| flight.id < request)",
                )],
            },
            Fault {
                name: "stale-list-cuts",
                what: "a media server's list ends legs that were granted after it was made",
                edits: &[edit(
                    RECONCILE,
                    "r.source() == source && r.revision <= as_of && !listed",
                    "r.source() == source && r.revision > 0 && !listed",
                )],
            },
            Fault {
                name: "fresh-grants-cut",
                what: "a list ends legs whose grant is still on its way to the media server",
                edits: &[edit(
                    RECONCILE,
                    ".filter(|r| !just_granted(r.id()))",
                    ".filter(|r| !just_granted(r.id()) || state.legs.len() < 1_000)",
                )],
            },
            Fault {
                name: "ended-begins-again",
                what: "an admission that arrives after the end of its leg begins it",
                edits: &[edit(
                    ADMIT,
                    "if state.is_dead(&leg, now.boot) {",
                    "if state.is_dead(&leg, now.boot) && now.boot.0 < 0 {",
                )],
            },
            Fault {
                name: "restart-forgets-ends",
                what: "a restart of the agent forgets which legs have ended",
                edits: &[edit(
                    NODE_APPLY,
                    "if self.counters.boot_id != boot_id {",
                    "if self.counters.boot_id != boot_id || nonce != Nonce::default() {",
                )],
            },
            Fault {
                name: "key-on-two-machines",
                what: "a key that is active on one machine can be activated on another",
                edits: &[edit(
                    VENDOR,
                    "return Err((RefusalReason::KeyInUse, text.into()));",
                    "let _ = (RefusalReason::KeyInUse, text);",
                )],
            },
            Fault {
                name: "ids-confused",
                what: "the end of an earlier leg of an id gives back the lease of the one that runs under it",
                edits: &[
                    edit(
                        MUTATION,
                        ".filter(|leg| !state.ending.contains_key(*leg) && !volatile.stuck.contains(*leg))\n        .filter_map",
                        ".filter(|leg| !volatile.stuck.contains(*leg))\n        .filter_map",
                    ),
                    edit(
                        VERDICT,
                        ".filter(|_| runs && held.is_some())",
                        ".filter(|_| runs && held.is_none())",
                    ),
                    edit(
                        RECONCILE,
                        "Some(record) => record.revision != ending.revision && !revoked.contains(leg),",
                        "Some(_) => false,",
                    ),
                ],
            },
        ],
    ),
    (
        "hours",
        &[Fault {
            name: "impatient",
            what: "calls of a media server that has been silent for some minutes are ended",
            edits: &[edit(
                NODE_TICK,
                "let after = volatile.options.orphan_after;",
                "let after = SILENT.max(Millis(0)).min(volatile.options.orphan_after);",
            )],
        }],
    ),
    (
        "clocks",
        &[
            Fault {
                name: "clock-not-saved",
                what: "a node that decides nothing does not save its clocks",
                edits: &[edit(
                    NODE_TICK,
                    "if grace.stale(&r, SAVE) ||",
                    "if grace.stale(&r, SAVE.times(600)) ||",
                )],
            },
            Fault {
                name: "set-clock-believed",
                what: "a clock that somebody set counts as synchronized until the kernel is asked again",
                edits: &[edit(
                    NODE,
                    "let synchronized = volatile.synchronized && moved <= SET;",
                    "let synchronized = volatile.synchronized && moved <= u64::MAX;",
                )],
            },
            Fault {
                name: "restart-lowers-age",
                what: "a reboot forgets how long the machine has been up since",
                edits: &[edit(GRACE, "next.age = self.age.plus(r.boot);", "next.age = self.age;")],
            },
            Fault {
                name: "time-off-forgotten",
                what: "the time that a machine was off does not count",
                edits: &[edit(
                    GRACE,
                    "next.age = next.age.plus(booted_at.since(from));",
                    "next.age = next.age.max(booted_at.since(from));",
                )],
            },
        ],
    ),
];

/// Changes that make no difference by themselves, since something else sees to the same. That they fit is tested, and
/// they can be sown by name.
pub const REDUNDANT: &[(&str, &[Fault])] = &[(
    "unruly",
    &[
        // One mutation is under way at a time, and a leg that uses an id again is held by the pool only once the one
        // before it is released: while that is under way, no other end of the id is owed.
        Fault {
            name: "any-end-heard",
            what: "what the pool heard of an earlier leg of the same name counts for the one that ended since",
            edits: &[edit(
                NODE_APPLY,
                "                    if self.ending.get(&which.leg).is_some_and(|e| e.revision == which.revision) {\n                        self.take_ending(&which.leg);",
                "                    if self.ending.contains_key(&which.leg) {\n                        self.take_ending(&which.leg);",
            )],
        },
        // Where the pool takes the lease of the earlier leg for that of the one that runs, the earlier end is not told
        // any more. `ids-confused` takes that away too.
        Fault {
            name: "names-used-twice",
            what: "a leg is asked for before the pool heard that an earlier one of its name ended",
            edits: &[edit(
                MUTATION,
                "if call.legs.iter().any(|leg| owed(&leg.leg)) {",
                "if call.legs.iter().all(|leg| owed(&leg.leg)) && call.legs.is_empty() {",
            )],
        },
    ],
)];
