//! Power cuts, and kills at every step of the work on disk: `tests/README.md` says what is promised and how the
//! disk is modelled.

mod cuts;
mod disk;
mod load;
mod recording;
mod shim;
mod slow;
mod steps;

use conferencing_core::Node;
use headroom_tests::known::number_from;
use management_core::PoolMachine;

use cuts::{Figures, choose, cut};
use load::{Shape, Which};

/// Killed and started again after so many steps: at first while the store is made.
const MAKING: [u32; 8] = [5, 15, 27, 28, 29, 30, 31, 40];
const STEPS: [u32; 3] = [900, 300, 1_500];
/// And so often that many a snapshot is cut short.
const OFTEN: [u32; 12] = [410, 160, 205, 330, 275, 190, 220, 310, 170, 240, 290, 800];
/// sled writes over a segment of its file when it has filled another one in between.
const SEGMENT: usize = 512 * 1024;

/// A share of all cuts, in hundredths.
fn cuts(share: usize) -> usize {
    (number_from("HEADROOM_TEST_CUTS", 1_000) as usize * share).div_ceil(100)
}

fn seed() -> u64 {
    number_from("HEADROOM_TEST_SEED", 1).into()
}

#[test]
fn a_power_cut_anywhere_loses_nothing_acknowledged_by_a_pool_and_leaves_a_store_that_opens() {
    let steps = [&MAKING[..], &OFTEN].concat();
    let pool = recording::of_load::<PoolMachine>("pool", Which::Pool, Shape::Snapshots, &steps);
    let report = cut(&pool, cuts(34), seed());
    println!("{report}");
    assert!(report.figures.nothing_lost(), "{report}");
}

#[test]
fn a_power_cut_anywhere_loses_nothing_acknowledged_by_a_node_and_leaves_a_store_that_opens() {
    let steps = [&MAKING[..], &OFTEN].concat();
    let node = recording::of_load::<Node>("node", Which::Node, Shape::Snapshots, &steps);
    let report = cut(&node, cuts(26), seed() + 1);
    println!("{report}");
    assert!(report.figures.nothing_lost(), "{report}");
}

#[test]
fn a_power_cut_while_a_store_recovers_from_another_one_loses_nothing_acknowledged() {
    const EACH: usize = 20;
    let steps = [&MAKING[..], &STEPS].concat();
    let pool = recording::of_load::<PoolMachine>("pool", Which::Pool, Shape::Snapshots, &steps);
    let mut all = Figures::default();
    for (number, first) in (0..).zip(choose(&pool, cuts(4).div_ceil(EACH), seed() + 6)) {
        let again = recording::of_load_after(&pool, first, Which::Pool);
        all += cut(&again, EACH, seed() + 7 + number).figures;
    }
    println!("pool, cut again while it recovers, seed {}: {all}", seed() + 7);
    assert!(all.nothing_lost(), "{all}");
}

#[test]
fn a_power_cut_while_sled_uses_its_file_anew_loses_nothing_acknowledged() {
    let pool = recording::of_load::<PoolMachine>("pool, medium", Which::Pool, Shape::Segments, &OFTEN);
    let report = cut(&pool, cuts(2), seed() + 2);
    let most = recording::most_unsynced(&pool.entries);
    println!("{report}; at most {most} bytes were written to sled's file between two syncs");
    assert!(report.figures.nothing_lost(), "{report}");
    assert!(most < SEGMENT, "{most} bytes were written between two syncs");
}

#[test]
fn a_power_cut_while_files_of_records_follow_each_other_loses_nothing_acknowledged() {
    let pool = recording::of_load::<PoolMachine>("pool, large", Which::Pool, Shape::Rotations, &[600, 900]);
    let report = cut(&pool, cuts(2), seed() + 3);
    println!("{report}");
    assert!(report.figures.nothing_lost(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_anywhere_loses_nothing_that_a_real_management_node_acknowledged() {
    let management = recording::of_management::<PoolMachine>(&STEPS).await;
    let report = cut(&management, cuts(16), seed() + 4);
    println!("{report}");
    assert!(report.figures.nothing_lost(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_anywhere_loses_nothing_that_a_real_conferencing_node_acknowledged() {
    let conferencing = recording::of_conferencing::<Node>(&STEPS).await;
    let report = cut(&conferencing, cuts(16), seed() + 5);
    println!("{report}");
    assert!(report.figures.nothing_lost(), "{report}");
}
