//! Properties over random histories of the register.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Activate(usize, u8),
    Return(usize, usize),
    Repair(usize, u8),
    Refresh(usize),
    Try(usize),
    Rollback(usize),
    Repeat,
    Revoke(u8),
    Replace(u8),
    Change(u8, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize, 0..4_u8).prop_map(|(s, k)| Step::Activate(s, k)),
        3 => (0..3_usize, 0..3_usize).prop_map(|(s, l)| Step::Return(s, l)),
        1 => (0..3_usize, any::<u8>()).prop_map(|(s, m)| Step::Repair(s, m)),
        2 => (0..3_usize).prop_map(Step::Refresh),
        1 => (0..3_usize).prop_map(Step::Try),
        1 => (0..3_usize).prop_map(Step::Rollback),
        1 => Just(Step::Repeat),
        1 => (0..4_u8).prop_map(Step::Revoke),
        1 => (0..4_u8).prop_map(Step::Replace),
        1 => (0..4_u8, 1..50_u32).prop_map(|(k, u)| Step::Change(k, u)),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is asked, in whatever order, by machines that forget: a key is active at most once,
    /// the newest answer of a machine lists exactly its active licenses, and a restart changes nothing.
    #[test]
    fn no_history_has_a_key_twice_and_every_history_survives_a_restart(steps in steps()) {
        let mut world = World::new();
        for seed in 0..4 {
            world.sell(seed, 10);
        }
        world.run(Command::OfferTrial(Offer { sku: text("HR-TRY"), features: call(3) }));
        let mut sites = [Site::new(1), Site::new(2), Site::new(3)];
        let mut old = sites.clone();
        let mut last: Option<(Request, AnswerDraft)> = None;
        for (round, step) in steps.into_iter().enumerate() {
            if round == 10 {
                old = sites.clone();
            }
            let (site, wish) = match step {
                Step::Activate(site, seed) => (site, Wish::Activate(key(seed))),
                Step::Return(site, nth) => {
                    let id = world.bench.state.activations.keys().nth(nth).cloned();
                    (site, Wish::Return(id.unwrap_or_else(LicenseId::least)))
                }
                Step::Repair(site, mac) => {
                    sites[site].mac = format!("52:54:00:00:{site:02x}:{mac:02x}");
                    (site, Wish::Repair)
                }
                Step::Refresh(site) => (site, Wish::Refresh),
                Step::Try(site) => (site, Wish::Fetch(Some(text("HR-TRY")))),
                Step::Rollback(site) => {
                    // The folder's copy, with nonces of its own from then on.
                    let nonces = sites[site].nonces + 1_000;
                    sites[site] = Site { nonces, ..old[site].clone() };
                    continue;
                }
                Step::Repeat => {
                    if let Some((request, answer)) = &last {
                        let again = world.send(request);
                        let its = world.bench.state.machines.get(&answer.machine).map(|m| m.revision);
                        if its == Some(answer.revision) {
                            prop_assert_eq!(&again, answer);
                        }
                        prop_assert_eq!(&again.outcome, &answer.outcome);
                    }
                    continue;
                }
                Step::Revoke(seed) => {
                    world.run(Command::RevokeKey { key: key(seed), reason: text("x") });
                    continue;
                }
                Step::Replace(seed) => {
                    world.run(Command::Replace { key: key(seed), reason: text("x") });
                    continue;
                }
                Step::Change(seed, units) => {
                    let change = Change { features: Some(call(units)), ..Change::default() };
                    world.run(Command::ChangeKey { key: key(seed), change });
                    continue;
                }
            };
            let request = sites[site].request(wish);
            let answer = world.send(&request);
            let state = &world.bench.state;
            let machine = request.machine.id();
            let active: Vec<_> = state.of_machine(machine).filter(|a| a.ended.is_none()).collect();
            prop_assert_eq!(ids(&answer), active.iter().map(|a| a.document.license.clone()).collect::<Vec<_>>());
            for seed in 0..4 {
                let its = state.activations.values().filter(|a| a.key == Some(key(seed)) && a.ended.is_none());
                let its: Vec<_> = its.map(|a| a.document.license.clone()).collect();
                prop_assert!(its.len() <= 1, "{its:?}");
                let known = state.entitlements.get(&key(seed)).expect("sold");
                prop_assert_eq!(known.active.clone(), its.first().cloned());
                prop_assert!(known.revoked.is_none() || its.is_empty());
            }
            sites[site].heard(&answer);
            if state.machines.contains_key(&machine) {
                last = Some((request, answer));
            }
        }
        let before = world.bench.state.clone();
        world.bench.restart();
        prop_assert_eq!(&world.bench.state, &before);
        let mut rebuilt = State::default();
        for event in before.snapshot() {
            let bytes = minicbor::to_vec(&event).expect("encodes");
            rebuilt.apply(&minicbor::decode(&bytes).expect("decodes"));
        }
        prop_assert_eq!(rebuilt, before);
    }
}
