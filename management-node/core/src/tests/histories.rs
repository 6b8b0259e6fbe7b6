//! Properties over random histories: the books always add up, and a snapshot is the state.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Ask { node: u8, call: u8, legs: u8, service: Service, interop: bool, owner: bool, replaces: Option<u8> },
    Update { node: u8, call: u8, media: Media },
    Release { node: u8, call: u8 },
    Adopt { node: u8, call: u8 },
    Reopen { node: u8, keep: u8 },
    Force { node: u8, call: u8 },
    Pass(u8),
    Restart,
}

fn media() -> impl Strategy<Value = Media> {
    (any::<bool>(), any::<bool>(), prop::sample::select(headroom_core::Presentation::ALL), any::<bool>())
        .prop_map(|(audio, video, presentation, presenting)| Media { audio, video, presentation, presenting })
}

fn step() -> impl Strategy<Value = Step> {
    let (node, call) = (0..3u8, 0..8u8);
    prop_oneof![
        8 => (node.clone(), call.clone(), 1..3u8, prop::sample::select(Service::ALL), any::<bool>(), any::<bool>(), prop::option::of(0..8u8))
            .prop_map(|(node, call, legs, service, interop, owner, replaces)| Step::Ask { node, call, legs, service, interop, owner, replaces }),
        3 => (node.clone(), call.clone(), media()).prop_map(|(node, call, media)| Step::Update { node, call, media }),
        5 => (node.clone(), call.clone()).prop_map(|(node, call)| Step::Release { node, call }),
        2 => (node.clone(), call.clone()).prop_map(|(node, call)| Step::Adopt { node, call }),
        1 => (node.clone(), 0..8u8).prop_map(|(node, keep)| Step::Reopen { node, keep }),
        1 => (node.clone(), call).prop_map(|(node, call)| Step::Force { node, call }),
        1 => (0..90u8).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

fn named(node: u8, call: u8) -> String {
    format!("{node}.{call}.0")
}

fn carry_out(f: &mut Fixture, peers: &mut [Peer], step: Step) {
    let stale = |peer: &Peer, f: &Fixture| {
        let holder = f.bench.state.holder_of(&peer.name).expect("enrolled");
        f.bench.state.holders.get(&holder).and_then(|h| h.session.as_ref()).is_none()
    };
    let index = |node: u8| usize::from(node);
    match step {
        Step::Ask { node, call: number, legs, service, interop, owner, replaces } => {
            if stale(&peers[index(node)], f) {
                return;
            }
            let next = peers[(index(node) + 1) % 3].name.clone();
            let peer = &mut peers[index(node)];
            let mut asked = call(&format!("call{number}"), service, Vec::new());
            asked.info.interop = (interop && service == Service::Gateway).then_some(Interop::Meet);
            asked.legs = (0..legs).map(|n| leg(&format!("{node}.{number}.{n}"))).collect();
            if owner && legs > 1 {
                asked.legs[1].owner = Some(next);
            }
            asked.legs[0].replaces =
                replaces.filter(|r| *r != number).map(|r| LegId::new(&named(node, r)).expect("id"));
            f.ask(peer, asked);
        }
        Step::Update { node, call, media } => {
            if !stale(&peers[index(node)], f) {
                f.update(&mut peers[index(node)], &named(node, call), media);
            }
        }
        Step::Release { node, call } => {
            if !stale(&peers[index(node)], f) {
                f.release(&mut peers[index(node)], &named(node, call));
            }
        }
        Step::Adopt { node, call: number } => {
            if !stale(&peers[index(node)], f) {
                let ran = call(&format!("call{number}"), Service::Vmr, vec![leg(&named(node, number))]);
                f.adopt(&mut peers[index(node)], &ran);
            }
        }
        Step::Reopen { node, keep } => {
            let legs: Vec<_> = (0..keep)
                .flat_map(|n| running(&call(&format!("call{n}"), Service::Vmr, vec![leg(&named(node, n))])))
                .collect();
            let total = set(&legs);
            let opened = f.open(&mut peers[index(node)], None, total).expect("opens");
            if opened.report_required {
                assert!(f.report(&peers[index(node)], 0, legs, Some(total)).expect("taken").complete);
            }
        }
        Step::Force { node, call } => {
            let _ = f.force(&peers[index(node)].clone(), &named(node, call));
        }
        Step::Pass(seconds) => f.pass(i64::from(seconds)),
        Step::Restart => f.restart(),
    }
}

/// Everything that is kept beside the leases follows from them.
fn check_books(pool: &Pool, at: Millis) {
    let mut calls = std::collections::BTreeSet::new();
    let mut units = std::collections::BTreeMap::<Feature, u32>::new();
    let mut paid = std::collections::BTreeSet::new();
    for (key, lease) in pool.leases.iter() {
        calls.insert(lease.info.call.clone());
        assert!(pool.leases.keys_of_call(&lease.info.call).any(|its| its == key));
        let feature = lease.charge.feature.clone();
        if !feature.per_call() || paid.insert((lease.info.call.clone(), feature.clone())) {
            *units.entry(feature).or_default() += lease.charge.units.0;
        }
    }
    assert_eq!(pool.leases.by_call(None).count(), pool.leases.len());
    assert_eq!(pool.counters.calls, calls.len() as u64);
    for (feature, usage) in &pool.usage {
        assert_eq!(usage.in_use.0, units.get(feature).copied().unwrap_or(0), "{feature}");
        assert!(usage.peak >= usage.in_use);
        assert_eq!(usage.over_commit.is_some(), !pool.instant(feature, at).over_commit().is_zero());
    }
    for key in &pool.reported {
        let session = pool.holders.get(&key.holder).and_then(|holder| holder.session.as_ref());
        assert!(session.is_some_and(|session| session.phase != Phase::Active), "{key:?}");
    }
    for key in pool.tombstones.keys() {
        assert!(!pool.leases.contains(key), "{key:?}");
    }
    assert!(pool.denial_bytes <= MAX_DENIAL_BYTES);
    for (id, holder) in &pool.holders {
        let (mut held, mut reserved, mut calls) = (LegSet::default(), 0, 0);
        for (key, lease) in pool.leases.of_holder(*id) {
            if lease.charge.feature == Feature::Call {
                calls += lease.charge.units.0;
            }
            if lease.origin == Origin::Reserved {
                reserved += 1;
                assert!(pool.reserved.contains(&key));
            } else {
                held.add(&key.leg, &lease.info.call, &lease.charge);
            }
        }
        assert_eq!((holder.set, holder.reserved, holder.units.0), (held, reserved, calls));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]
    #[test]
    fn the_books_add_up_after_every_step_and_a_snapshot_is_the_state(steps in prop::collection::vec(step(), 1..60)) {
        let mut f = Fixture::new();
        f.install(license("L", "call", 4, 1)).expect("installs");
        f.install(license("M", "connect.meet", 1, 0)).expect("installs");
        let mut peers = ["a", "b", "c"].map(|name| f.node(name));
        for step in steps {
            let before = f.in_use();
            let asks = matches!(step, Step::Ask { .. } | Step::Update { .. });
            carry_out(&mut f, &mut peers, step);
            check_books(&f.bench.state, f.now.wall);
            if asks && f.in_use() > before {
                prop_assert!(f.in_use() <= 5, "only what already runs goes above the limit");
            }
        }
        let mut copy = Pool::default();
        for event in f.bench.state.snapshot() {
            let bytes = minicbor::to_vec(&event).expect("encodes");
            copy.apply(&minicbor::decode(&bytes).expect("decodes"));
        }
        prop_assert!(copy == f.bench.state, "a snapshot rebuilds the state exactly");
        let before = f.bench.state.clone();
        f.bench.restart();
        prop_assert!(before == f.bench.state, "so do the events");
    }
}
