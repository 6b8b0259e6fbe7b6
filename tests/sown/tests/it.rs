//! Every fault still has its place in the sources. `sow` shows that each is found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use headroom_sown::{all, redundant};

#[test]
fn every_fault_can_be_sown_and_changes_something() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (_, fault) in all().chain(redundant()) {
        let mut texts = BTreeMap::new();
        for edit in fault.edits {
            let text = texts.entry(edit.file).or_insert_with(|| {
                std::fs::read_to_string(root.join(edit.file))
                    .unwrap_or_else(|error| panic!("{}: {error}", edit.file))
            });
            let sown = edit.sow(text).unwrap_or_else(|why| panic!("{}: {why}", fault.name));
            assert_ne!(sown, *text, "{}", fault.name);
            *text = sown;
        }
    }
}

#[test]
fn the_faults_are_many_and_each_has_a_name_of_its_own() {
    let names: BTreeSet<_> = all().chain(redundant()).map(|(_, fault)| fault.name).collect();
    assert_eq!(names.len(), all().count() + redundant().count());
    assert!(names.len() >= 30, "{}", names.len());
}
