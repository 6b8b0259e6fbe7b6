//! Rules of the code itself: the pure crates stay pure, every word of the contracts is explained.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use headroom_proto::FILE_DESCRIPTOR_SET;
use headroom_tests::repository;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Crates that hold rules and nothing else.
const PURE: [&str; 4] = ["headroom-core", "management-core", "conferencing-core", "licensing-core"];
/// What they must not reach, however indirectly.
const IMPURE: [&str; 6] = ["tokio", "tonic", "prost", "sled", "tracing", "rand"];

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(repository().join("Cargo.toml"));
    // only what is built here: other systems' dependencies decide nothing
    command.other_options(["--filter-platform".to_owned(), "x86_64-unknown-linux-gnu".to_owned()]);
    command.exec().expect("cargo metadata")
}

/// Everything a package is built with, itself left out; each with the way to it.
fn reached(metadata: &Metadata, from: &PackageId) -> BTreeMap<String, String> {
    let nodes = &metadata.resolve.as_ref().expect("a resolved graph").nodes;
    let nodes: BTreeMap<_, _> = nodes.iter().map(|node| (&node.id, node)).collect();
    let mut ways = BTreeMap::new();
    let mut seen = BTreeSet::from([from]);
    let mut queue = VecDeque::from([(from, metadata[from].name.to_string())]);
    while let Some((id, way)) = queue.pop_front() {
        for dependency in &nodes[id].deps {
            let normal = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if normal && seen.insert(&dependency.pkg) {
                let name = metadata[&dependency.pkg].name.to_string();
                let way = format!("{way} -> {name}");
                ways.insert(name, way.clone());
                queue.push_back((&dependency.pkg, way));
            }
        }
    }
    ways
}

#[test]
fn the_pure_crates_reach_no_runtime_no_wire_no_store_no_log_and_no_randomness() {
    let metadata = metadata();
    for pure in PURE {
        let package = metadata.packages.iter().find(|p| p.name.as_str() == pure);
        let package = package.unwrap_or_else(|| panic!("{pure} is not in the workspace"));
        let ways = reached(&metadata, &package.id);
        for impure in IMPURE {
            // tonic-prost, tracing-core and their like are as impure as what they are named after
            let found =
                ways.iter().find(|(name, _)| *name == impure || name.starts_with(&format!("{impure}-")));
            // rand_core's traits alone bring no randomness
            assert!(found.is_none(), "{pure} is not pure: {}", found.map_or("", |(_, way)| way));
        }
    }
}

/// The walk itself finds what is there: else the test above proves nothing.
#[test]
fn the_walk_finds_indirect_dependencies() {
    let metadata = metadata();
    let package =
        metadata.packages.iter().find(|p| p.name.as_str() == "headroom-deploy").expect("headroom-deploy");
    let ways = reached(&metadata, &package.id);
    assert!(ways.contains_key("tokio") && ways.contains_key("h2"), "{ways:?}");
}

fn contracts() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the descriptors");
    set.file.into_iter().filter(|file| file.package().starts_with("headroom.")).collect()
}

/// Field numbers within descriptors, which make up the paths of source locations.
mod number {
    pub(super) const MESSAGE: i32 = 4;
    pub(super) const ENUM: i32 = 5;
    pub(super) const SERVICE: i32 = 6;
    pub(super) const FIELD: i32 = 2;
    pub(super) const NESTED: i32 = 3;
    pub(super) const NESTED_ENUM: i32 = 4;
    pub(super) const VALUE: i32 = 2;
    pub(super) const METHOD: i32 = 2;
}

fn at(path: &[i32], more: [usize; 2]) -> Vec<i32> {
    let more = more.map(|n| i32::try_from(n).expect("a small number"));
    path.iter().copied().chain(more).collect()
}

/// Every named thing of a message, with its path.
fn message(name: &str, m: &DescriptorProto, path: Vec<i32>, all: &mut Vec<(String, Vec<i32>)>) {
    let name = format!("{name}.{}", m.name());
    for (i, field) in m.field.iter().enumerate() {
        all.push((format!("{name}.{}", field.name()), at(&path, [number::FIELD as usize, i])));
    }
    for (i, nested) in m.nested_type.iter().enumerate() {
        message(&name, nested, at(&path, [number::NESTED as usize, i]), all);
    }
    for (i, e) in m.enum_type.iter().enumerate() {
        enumeration(&name, e, at(&path, [number::NESTED_ENUM as usize, i]), all);
    }
    all.push((name, path));
}

fn enumeration(
    name: &str,
    e: &prost_types::EnumDescriptorProto,
    path: Vec<i32>,
    all: &mut Vec<(String, Vec<i32>)>,
) {
    let name = format!("{name}.{}", e.name());
    for (i, value) in e.value.iter().enumerate() {
        all.push((format!("{name}.{}", value.name()), at(&path, [number::VALUE as usize, i])));
    }
    all.push((name, path));
}

#[test]
fn every_message_field_method_and_value_of_the_contracts_is_explained() {
    let files = contracts();
    assert!(files.len() >= 5, "only {} contracts", files.len());
    for file in files {
        let mut all = Vec::new();
        let package = file.package();
        for (i, m) in file.message_type.iter().enumerate() {
            message(package, m, at(&[], [number::MESSAGE as usize, i]), &mut all);
        }
        for (i, e) in file.enum_type.iter().enumerate() {
            enumeration(package, e, at(&[], [number::ENUM as usize, i]), &mut all);
        }
        for (i, service) in file.service.iter().enumerate() {
            let path = at(&[], [number::SERVICE as usize, i]);
            for (j, method) in service.method.iter().enumerate() {
                let path = at(&path, [number::METHOD as usize, j]);
                all.push((format!("{package}.{}.{}", service.name(), method.name()), path));
            }
            all.push((format!("{package}.{}", service.name()), path));
        }
        let source = file.source_code_info.as_ref().expect("descriptors with comments");
        let explained: BTreeSet<&[i32]> = source
            .location
            .iter()
            .filter(|l| l.leading_comments().trim().len() > 3)
            .map(|l| l.path.as_slice())
            .collect();
        let silent: Vec<_> = all
            .iter()
            .filter(|(_, path)| !explained.contains(path.as_slice()))
            .map(|(name, _)| name)
            .collect();
        assert!(!all.is_empty() && silent.is_empty(), "without a comment: {silent:?}");
    }
}
