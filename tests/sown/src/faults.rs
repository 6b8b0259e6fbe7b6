//! The faults, by the machine that they are sown into.

use crate::{Edit, Fault};

pub(crate) const fn edit(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit { file, find, replace }
}

const ALLOCATE: &str = "management-node/core/src/allocate.rs";
const POOL: &str = "management-node/core/src/machine.rs";
pub(crate) const POOL_APPLY: &str = "management-node/core/src/apply.rs";
const POOL_TICK: &str = "management-node/core/src/tick.rs";
const BOOK: &str = "management-node/core/src/book.rs";
const CAPACITY: &str = "management-node/core/src/capacity.rs";
pub(crate) const SESSION: &str = "management-node/core/src/session.rs";
const SETTLE: &str = "management-node/core/src/settle.rs";
const ADMIN: &str = "management-node/core/src/admin.rs";
pub(crate) const ACTIVATION: &str = "management-node/core/src/activation.rs";
const POOL_SNAPSHOT: &str = "management-node/core/src/snapshot.rs";
const COMMIT: &str = "shared/core/src/commit.rs";
pub(crate) const NODE: &str = "conferencing-node/core/src/machine.rs";
pub(crate) const FEED: &str = "conferencing-node/core/src/feed.rs";
pub(crate) const NODE_APPLY: &str = "conferencing-node/core/src/apply.rs";
const NODE_STATE: &str = "conferencing-node/core/src/state.rs";
pub(crate) const NODE_TICK: &str = "conferencing-node/core/src/tick.rs";
pub(crate) const ADMIT: &str = "conferencing-node/core/src/admit.rs";
pub(crate) const ANSWER: &str = "conferencing-node/core/src/answer.rs";
const FAILURE: &str = "conferencing-node/core/src/failure.rs";
pub(crate) const GRACE: &str = "conferencing-node/core/src/grace.rs";
pub(crate) const MUTATION: &str = "conferencing-node/core/src/mutation.rs";
const PREPARE: &str = "conferencing-node/core/src/prepare.rs";
pub(crate) const RECONCILE: &str = "conferencing-node/core/src/reconcile.rs";
pub(crate) const VERDICT: &str = "conferencing-node/core/src/verdict.rs";
pub(crate) const VENDOR: &str = "licensing-server/core/src/answer.rs";

/// Faults that worlds as chance makes them show.
pub const FAULTS: &[Fault] = &[
    // ------------------------------------------------------------ the pool: how much
    Fault {
        name: "room-before-adding",
        what: "a call is admitted while there is room at all, whatever it needs",
        edits: &[edit(ALLOCATE, "pool.in_use(feature).plus(need) <= limit", "pool.in_use(feature) <= limit")],
    },
    Fault {
        name: "overdraft-twice",
        what: "the overdraft counts twice",
        edits: &[edit(
            ALLOCATE,
            "capacity.capacity.plus(capacity.overdraft);",
            "capacity.capacity.plus(capacity.overdraft).plus(capacity.overdraft);",
        )],
    },
    Fault {
        name: "increases-unasked",
        what: "media that need more units get them without a look at what is free",
        edits: &[edit(SETTLE, "if !more.is_zero()\n", "if more.is_zero()\n")],
    },
    Fault {
        name: "returned-still-counts",
        what: "a license that is being returned still counts",
        edits: &[edit(
            CAPACITY,
            "LicenseState::ReturnPending => continue,\n                LicenseState::Active",
            "LicenseState::ReturnPending | LicenseState::Active",
        )],
    },
    Fault {
        name: "change-counts-twice",
        what: "a lease that changes keeps its old units in use",
        edits: &[edit(BOOK, "self.uncount(before.call, &before.charge);", "")],
    },
    Fault {
        name: "over-commit-stays",
        what: "the mark of use above the limit stays when use is back within it",
        edits: &[edit(POOL_APPLY, "usage.over_commit = None;", "let _ = usage;")],
    },
    Fault {
        name: "over-commit-unmarked",
        what: "use above the limit has no recorded cause",
        edits: &[edit(
            POOL,
            "(true, None) => changes.push(Event::OverCommitBegan { feature: feature.clone(), cause, at }),",
            "(true, None) if at.0 < 0 => {\n                changes.push(Event::OverCommitBegan { feature: feature.clone(), cause, at });\n            }",
        )],
    },
    // ------------------------------------------------------------ the pool: numbered requests, fencing
    Fault {
        name: "repeats-carried-out",
        what: "a mutation that is repeated is carried out again",
        edits: &[
            edit(POOL, "if given == session.sequence\n", "if given == u64::MAX\n"),
            edit(POOL, "if given != due {", "if given > due {"),
        ],
    },
    Fault {
        name: "no-fencing",
        what: "a session that was superseded still speaks for its node",
        edits: &[edit(
            SESSION,
            ".find(|(_, holder)| holder.session.as_ref().is_some_and(|session| session.number == number))",
            ".find(|(_, holder)| holder.session.is_some() && number > 0)",
        )],
    },
    Fault {
        name: "lapsed-session-speaks",
        what: "a session that lapsed goes on as if its leases were still there",
        edits: &[edit(
            POOL_APPLY,
            "holder.session = None;\n                    holder.lapsed = Some(*leases);",
            "holder.lapsed = Some(*leases);",
        )],
    },
    Fault {
        name: "heartbeat-proves-nothing",
        what: "heartbeats, reports and mutations are answered without a commit of their own",
        edits: &[edit(POOL, "let commit = result.is_ok();", "let commit = result.is_err();")],
    },
    // ------------------------------------------------------------ the pool: reports, adoption, ends
    Fault {
        name: "no-report-asked",
        what: "a session begins without a report although the books differ",
        edits: &[edit(
            SESSION,
            "let active = books.map(|holder| holder.set).unwrap_or_default() == request.legs;",
            "let active = books.map(|holder| holder.set).unwrap_or_default() == request.legs || at.0 > 0;",
        )],
    },
    Fault {
        name: "unreported-stay",
        what: "leases that a complete report does not name stay",
        edits: &[edit(
            SESSION,
            "lease.origin != Origin::Reserved && !tx.state().reported.contains(key))",
            "lease.origin == Origin::Reserved && !tx.state().reported.contains(key))",
        )],
    },
    Fault {
        name: "drift-in-between",
        what: "a heartbeat compares books while a mutation is under way",
        edits: &[edit(
            SESSION,
            "let comparable = open && sequence == beat.sequence;",
            "let comparable = open && sequence >= beat.sequence;",
        )],
    },
    Fault {
        name: "buried-alive",
        what: "a leg released by force stays marked when its node has said that it ended",
        edits: &[edit(
            SETTLE,
            "tx.emit(Event::RevocationDone { key: key.clone() });\n        }\n    }\n    Mutation::Released",
            "let _ = Event::RevocationDone { key: key.clone() };\n        }\n    }\n    Mutation::Released",
        )],
    },
    Fault {
        name: "forced-release-undone",
        what: "a leg released by force is recorded again when its node adopts it",
        edits: &[edit(
            SETTLE,
            "if tx.state().is_buried(holder, &running) {",
            "if tx.state().is_buried(holder, &running) && at.0 < 0 {",
        )],
    },
    Fault {
        name: "adopted-as-before",
        what: "a leg that is adopted with other media keeps what it held before",
        edits: &[edit(
            SETTLE,
            "if lease.leg.media != running.leg.media || lease.charge != charge {\n            ",
            "if lease.leg.media != running.leg.media && lease.charge == charge {\n            ",
        )],
    },
    Fault {
        name: "silence-for-ever",
        what: "the session of a node that is gone never lapses",
        edits: &[edit(
            POOL_TICK,
            "or_insert(clock)) >= ttl).collect()",
            "or_insert(clock)) >= ttl.times(10_000)).collect()",
        )],
    },
    Fault {
        name: "reserved-for-ever",
        what: "a lease reserved for another node stays when nobody claims it",
        edits: &[edit(POOL_TICK, "if live.clock >= due {", "if live.clock >= due.times(10_000) {")],
    },
    Fault {
        name: "removed-node-holds",
        what: "the leases of a node that is removed stay",
        edits: &[edit(
            ADMIN,
            "tx.emit(Event::LeaseEnded { key, how: EndedHow::NodeRemoved, at });",
            "let _ = Event::LeaseEnded { key, how: EndedHow::NodeRemoved, at };",
        )],
    },
    Fault {
        name: "release-of-anyone",
        what: "a release ends the lease of that leg whoever holds it",
        edits: &[edit(
            SETTLE,
            "    for leg in legs {\n        let key = LeaseKey { holder, leg: leg.clone() };\n        if tx.state().leases.contains(&key) {",
            "    for leg in legs {\n        let all: Vec<_> = tx.state().holders.keys().copied().collect();\n        let held = |holder: &HolderId| {\n            tx.state().leases.contains(&LeaseKey { holder: *holder, leg: leg.clone() })\n        };\n        let holder = all.into_iter().find(held).unwrap_or(holder);\n        let key = LeaseKey { holder, leg: leg.clone() };\n        if tx.state().leases.contains(&key) {",
        )],
    },
    // ------------------------------------------------------------ durability
    Fault {
        name: "answers-overtake",
        what: "an answer that changes nothing does not wait for the record in flight that it saw",
        edits: &[edit(
            COMMIT,
            "        if self.flying.is_some() {\n            return None;\n        }",
            "        if self.flying.is_some() && (self.open.commit || !self.open.events.is_empty()) {\n            return None;\n        }",
        )],
    },
    Fault {
        name: "no-empty-record",
        what: "an answer that must prove a commit is given without one when nothing changed",
        edits: &[edit(
            COMMIT,
            "if batch.events.is_empty() && !batch.commit {",
            "if batch.events.is_empty() {",
        )],
    },
    Fault {
        name: "shown-too-early",
        what: "the state that is shown and put into snapshots is ahead of what is durable",
        edits: &[edit(
            COMMIT,
            "let Flying { state, now, bytes, events, answers } = self.flying.take()?;",
            "let Flying { state: _, now, bytes, events, answers } = self.flying.take()?;\n        let state = self.state.clone();",
        )],
    },
    Fault {
        name: "snapshot-without-revocations",
        what: "a snapshot of the pool leaves out which legs were released by force",
        edits: &[edit(
            POOL_SNAPSHOT,
            "            .chain(tombstones)\n",
            "            .chain(tombstones.take(0))\n",
        )],
    },
    Fault {
        name: "snapshot-without-ends",
        what: "a snapshot of a node leaves out the ends that the pool has not heard of",
        edits: &[edit(NODE_STATE, "            .chain(ending)\n", "            .chain(ending.take(0))\n")],
    },
    // ------------------------------------------------------------ the node: grace and clocks
    Fault {
        name: "age-by-the-wall",
        what: "the age of grace is measured by the wall clock",
        edits: &[edit(
            GRACE,
            "let passed = r.boot.since(self.boot);\n",
            "let passed = r.wall.since(self.wall);\n",
        )],
    },
    Fault {
        name: "any-clock-believed",
        what: "the wall clock is believed as soon as a machine is up",
        edits: &[edit(
            GRACE,
            "let believed = r.synchronized || r.boot >= TRUSTED_AFTER;",
            "let believed = r.synchronized || r.boot < TRUSTED_AFTER;",
        )],
    },
    Fault {
        name: "contact-believes",
        what: "contact in a boot whose clock is not believed yet leaves that clock to measure from",
        edits: &[edit(
            GRACE,
            "wall_unknown: next.wall_unknown || next.off_since.is_some(),",
            "wall_unknown: next.wall_unknown,",
        )],
    },
    Fault {
        name: "grace-without-end",
        what: "a node grants alone for longer than its grace",
        edits: &[edit(
            ADMIT,
            "} else if grace.age >= volatile.options.grace {",
            "} else if grace.age >= volatile.options.grace.times(2) {",
        )],
    },
    Fault {
        name: "grace-without-contact",
        what: "a node that never had contact grants alone",
        edits: &[edit(ADMIT, "if grace.refused || !grace.had_contact {", "if grace.refused {")],
    },
    Fault {
        name: "removed-node-grants",
        what: "a node that was told it is removed goes on granting alone",
        edits: &[edit(ADMIT, "if grace.refused || !grace.had_contact {", "if !grace.had_contact {")],
    },
    Fault {
        name: "any-answer-is-contact",
        what: "a refusal by the pool counts as contact",
        edits: &[edit(
            FAILURE,
            "            let volatile = tx.volatile_mut();\n            volatile.stales += 1;",
            "            let r = reading(tx.volatile(), now);\n            let grace = tx.state().counters.grace.contact(&r);\n            tx.emit(Event::Clock { grace });\n            let volatile = tx.volatile_mut();\n            volatile.stales += 1;",
        )],
    },
    // ------------------------------------------------------------ the node: its outbox
    Fault {
        name: "ends-untold",
        what: "the pool is not told that a leg ended which was not in its media server's list",
        edits: &[edit(
            NODE_APPLY,
            "if !unheld || (why == Why::Replaced && !self.ending.contains_key(leg)) {",
            "if (!unheld && why != Why::NotListed) || why == Why::Replaced {",
        )],
    },
    Fault {
        name: "late-grants-kept",
        what: "a lease that is granted after the caller hung up is not given back",
        edits: &[edit(VERDICT, "None => item.admitted.unwrap_or(0),", "None => continue,")],
    },
    Fault {
        name: "late-adoption-kept",
        what: "a leg that ended while it was being adopted is not released",
        edits: &[edit(
            NODE_APPLY,
            "            if let Some(held) = held {\n                let ending =",
            "            if let Some(held) = held.filter(|_| lease.is_none()) {\n                let ending =",
        )],
    },
    Fault {
        name: "own-decisions-unadopted",
        what: "a call that the node granted alone is taken for one that is leased",
        edits: &[edit(ADMIT, "let held = leases.map(|_| charge);", "let held = Some(charge);")],
    },
    Fault {
        name: "report-total-wrong",
        what: "the total of a report leaves out its first leg",
        edits: &[edit(
            PREPARE,
            "        for record in snapshot.values() {\n            set.add(",
            "        for record in snapshot.values().skip(1) {\n            set.add(",
        )],
    },
    Fault {
        name: "reported-means-nothing",
        what: "what a report brought into the pool's books is not noted as held",
        edits: &[edit(RECONCILE, "        if !known {\n", "        if known {\n")],
    },
    // ------------------------------------------------------------ the node: what ends a call
    Fault {
        name: "late-denial-cuts",
        what: "a denial that comes after the node decided for itself ends the call",
        edits: &[edit(
            VERDICT,
            "    if matches!(verdict, Verdict::Denied(_)) {\n        withdraw(tx, item.denied);\n    }",
            "    if matches!(verdict, Verdict::Denied(_)) {\n        withdraw(tx, item.denied);\n        let legs = item.call.legs.iter().map(|leg| leg.leg.clone());\n        let legs = legs.filter(|leg| tx.state().legs.contains_key(leg)).collect();\n        admit::end(tx, now, legs, crate::event::Why::Told);\n    }",
        )],
    },
    // ------------------------------------------------------------ licenses
    Fault {
        name: "returned-license-stays",
        what: "a license that the answer does not list any more stays with the pool",
        edits: &[edit(
            ACTIVATION,
            ".filter(|(id, _)| !held.contains(*id))\n        .filter_map(",
            ".filter(|(id, _)| held.contains(*id) && !held.contains(*id))\n        .filter_map(",
        )],
    },
    Fault {
        name: "activated-again",
        what: "a request that is repeated activates its key once more",
        edits: &[
            edit(
                VENDOR,
                "record.answers.iter().find(|answered| answered.draft.nonce == self.request.nonce)",
                "record.answers.iter().find(|answered| answered.draft.sequence == u64::MAX)",
            ),
            edit(
                VENDOR,
                "record.is_some_and(|record| !record.unused(request.sequence)) || request.sequence == 0",
                "request.sequence == 0",
            ),
            edit(
                VENDOR,
                "            if active.machine == Some(self.machine) {\n                return Ok(());\n            }",
                "            if active.machine == Some(self.machine) {\n                let terms = entitlement.terms.clone();\n                return self.bind(tx, &terms, Some(key), number);\n            }",
            ),
        ],
    },
];
