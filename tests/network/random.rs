//! Worlds made of seeds: faults of all kinds, one after the other and at the same time.
//!
//! `HEADROOM_TEST_NETWORK_SEED=17` runs the world of one seed, `HEADROOM_TEST_NETWORK_SEEDS=1000` as many.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headroom_simulator::dice::Dice;

use crate::fault::Fault;
use crate::media::Fate;
use crate::pool::License;
use crate::world::{STEP, Shape, Traffic, World, secs};

/// Worlds of an ordinary run.
const SEEDS: u64 = 40;
/// How long things go wrong in a world.
const MINUTES: u32 = 2;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number")))
}

/// The seed that is asked for.
pub(crate) fn given() -> Option<u64> {
    number("HEADROOM_TEST_NETWORK_SEED")
}

/// What was seen, so that a world in which nothing happens is noticed.
type Figures = BTreeMap<&'static str, usize>;

fn shape(seed: u64, dice: &mut Dice) -> (Shape, Traffic) {
    let license = License {
        capacity: 2 + u32::try_from(dice.below(12)).expect("a few"),
        overdraft: u32::try_from(dice.below(3)).expect("a few"),
        ttl: secs(*dice.pick(&[12, 30, 120])),
    };
    let nodes = 2 + dice.index(3);
    let traffic = Traffic {
        every: secs(1 + dice.below(6)),
        length: secs(*dice.pick(&[2, 10, 40])),
        legs: 1 + dice.index(3),
    };
    (Shape { seed, nodes, license }, traffic)
}

/// One thing after the other goes wrong at each node, and at the pool.
fn torment(world: &mut World, dice: &mut Dice) {
    let mut links: Vec<Option<Duration>> = vec![None; world.nodes.len()];
    let mut pool: Option<Duration> = None;
    let until = world.now() + secs(60) * MINUTES;
    let span = |dice: &mut Dice| Duration::from_millis(*dice.pick(&[500, 2_000, 8_000, 20_000, 45_000]));
    while world.now() < until {
        let now = world.now();
        for (at, link) in links.iter_mut().enumerate() {
            match link {
                Some(end) if *end <= now => {
                    world.mend(at);
                    *link = None;
                }
                None if dice.chance(60) => {
                    world.strike(at, Fault::draw(dice));
                    *link = Some(now + span(dice));
                }
                _ => {}
            }
            if dice.chance(6) {
                // With a question under way, so that a grant can die before it was answered.
                world.call(at, 1);
                world.run(STEP);
                world.restart_node(at);
            }
        }
        match pool {
            Some(end) if end <= now => {
                world.start_pool();
                pool = None;
            }
            None if dice.chance(12) => {
                let end = now + span(dice) / 2;
                if dice.chance(500) {
                    world.cut_power();
                    links.fill(Some(end));
                } else {
                    world.kill_pool();
                }
                pool = Some(end);
            }
            _ => {}
        }
        world.run(secs(1));
    }
}

fn live(seed: u64) -> Figures {
    let mut dice = Dice::new(seed);
    let (shape, traffic) = shape(seed, &mut dice);
    let mut world = World::new(shape);
    world.traffic(Some(traffic));
    torment(&mut world, &mut dice);
    world.traffic(None);
    world.mend_all();
    world.agree("the last fault");
    let mut figures = Figures::new();
    let mut count = |what, like: fn(&Fate) -> bool| {
        figures.insert(what, world.nodes.iter().map(|node| node.media.count(like)).sum());
    };
    count("legs denied", |fate| matches!(fate, Fate::Denied(_)));
    count("legs that ran to their end", |fate| *fate == Fate::Over);
    count("legs unanswered", |fate| *fate == Fate::Unanswered);
    world.nothing_leaks();
    figures.insert("sessions", world.ledger.sessions());
    figures.insert("sessions lapsed", world.ledger.lapsed());
    figures.insert("leases adopted", world.ledger.adopted());
    figures.insert("records", usize::try_from(world.ledger.records()).expect("not so many"));
    figures
}

#[test]
fn worlds_of_seeds_agree_when_their_faults_are_over_and_keep_every_promise_until_then() {
    let seeds = match given() {
        Some(seed) => seed..seed + 1,
        None => 0..number("HEADROOM_TEST_NETWORK_SEEDS").unwrap_or(SEEDS),
    };
    let (next, sum) = (AtomicU64::new(seeds.start), Mutex::new(Figures::new()));
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|s| *s < seeds.end) {
                    let figures = live(seed);
                    let mut sum = sum.lock().expect("no world has failed while it counted");
                    figures.into_iter().for_each(|(what, count)| *sum.entry(what).or_default() += count);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no world has failed while it counted");
    println!("{} seeds: {sum:?}", seeds.end - seeds.start);
    if given().is_none() {
        assert!(sum.values().all(|count| *count > 0), "nothing is tested by what does not happen: {sum:?}");
    }
}
