//! Two thousand worlds in every run of the tests, 300 unruly ones, 300 with platforms and 60 of clocks; and those that
//! once broke a promise.

mod scenarios;

use headroom_simulator::plan::Profile;
use headroom_simulator::run::{self, Figures, Worlds};

/// Worlds of one run.
const SEEDS: u64 = 2_000;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs worlds that must keep every promise, and be hostile enough for all of these to be seen in them.
fn kept(only: Option<Profile>, count: u64, seen: &[&str]) -> Figures {
    let (figures, failed) = run::seeds(Worlds { only, first: 0, count }, threads(), 3, |_| {});
    assert!(failed.is_empty(), "seeds that broke a promise: {failed:#?}");
    for name in seen {
        assert!(figures.counts.get(name).is_some_and(|count| *count > 0), "no {name}: {:?}", figures.counts);
    }
    figures
}

#[test]
fn two_thousand_worlds_keep_every_promise_and_replay_exactly() {
    let seen =
        ["clone found", "rollback found", "session lapsed", "over-commit", "report", "call granted alone"];
    let figures = kept(None, SEEDS, &seen);
    assert_eq!((figures.seeds, figures.repeated), (SEEDS, SEEDS / 100));
}

#[test]
fn three_hundred_unruly_worlds_keep_every_promise() {
    let asked = ["question that comes twice", "id used again, its end not told yet", "request of a stranger"];
    kept(Some(Profile::Unruly), 300, &asked);
}

#[test]
fn three_hundred_worlds_with_platforms_keep_every_promise() {
    kept(Some(Profile::Feeds), 300, &["event told again", "over-commit", "revoked", "crash of a node"]);
}

#[test]
fn sixty_worlds_of_clocks_keep_every_promise() {
    let clocks = ["clock jump", "power off", "power off, wrong clock at boot", "denied by a node alone"];
    kept(Some(Profile::Clocks), 60, &clocks);
}

#[test]
fn worlds_that_broke_a_promise_once_keep_it() {
    let seeds: [(&str, &[u64]); 14] = [
        (
            "a request under way in a session whose number was given again after records were lost",
            &[2_269_439],
        ),
        ("an id used again before the answer to a question about it", &[2_095_202]),
        ("hundreds of legs of which somebody always leaves", &[2_143_458]),
        ("clocks that were set between two questions to the kernel", &[5_591, 9_221, 1_000_774]),
        (
            "a clock in 1970 that was believed, clocks that were not saved on a stalled disk",
            &[1_001_479, 1_007_340, 1_010_404, 1_143_494],
        ),
        ("a journal lost with requests under way, a machine switched off twice in weeks", &[5_825, 7_887]),
        ("heartbeats from before a revocation that come after it", &[103_535, 129_558, 139_120]),
        ("a contact noted behind a stalled write", &[118_353]),
        ("a machine suspended for longer than a media server may be silent", &[143_739]),
        ("a leg that ended while its call was asked for again", &[1_074_366]),
        ("a store that lost the end of a leg released by force", &[1_114_731]),
        ("a list made before an answer that was late", &[1_190_999, 1_466_876, 1_498_383]),
        ("a leg that ended while the end of an earlier one of its id was owed", &[1_560_390]),
        ("an end of a leg that was not known, or not any more", &[1_355_364, 1_506_520]),
    ];
    for (what, seed) in seeds.iter().flat_map(|(what, seeds)| seeds.iter().map(move |seed| (what, *seed))) {
        let (_, failed) = run::seeds(Worlds { only: None, first: seed, count: 1 }, 1, 1, |_| {});
        assert!(failed.is_empty(), "{what}: {failed:#?}");
    }
}
