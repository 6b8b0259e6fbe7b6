//! `headroom-deploy` as people use it: up, call, cut, heal, explain, down; and what it says when it
//! cannot.

use std::path::Path;
use std::process::Output;

use headroom_tests::programs;
use tokio::process::Command;

/// Runs the command to its end.
async fn deploy(state: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(programs().join("headroom-deploy"));
    command.arg("--state").arg(state).args(words).kill_on_drop(true);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(240), command.output()).await;
    ended.expect("headroom-deploy ends").expect("headroom-deploy runs")
}

/// What it printed, when it ended as expected.
async fn expect(state: &Path, words: &[&str], success: bool) -> String {
    let output = deploy(state, words).await;
    let text =
        [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
    assert_eq!(output.status.success(), success, "{words:?}: {text}");
    text
}

/// Ends a detached deployment also when the test fails.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let mut command = std::process::Command::new(programs().join("headroom-deploy"));
        let _ = command.arg("--state").arg(self.0).arg("down").output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_deployment_is_used_from_other_terminals_and_ends_without_leaks() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("demo");
    let _down = Down(&state);
    let text = expect(&state, &["up", "--detach", "--free-ports"], true).await;
    assert!(text.contains("running in the background"), "{text}");

    let text = expect(&state, &["call", "start", "node-b"], false).await;
    assert!(text.contains("insufficient_licenses"), "{text}");
    let text = expect(&state, &["explain", "last"], true).await;
    assert!(text.contains("insufficient_licenses") || text.contains("denied"), "{text}");
    expect(&state, &["call", "end"], true).await;
    let text = expect(&state, &["call", "fill"], true).await;
    assert!(text.contains("1 calls granted") || text.contains("0 calls granted"), "{text}");
    for (words, said) in [(["cut", "node-a"], "is cut off"), (["heal", "node-a"], "can reach")] {
        let text = expect(&state, &words, true).await;
        assert!(text.contains(said), "{text}");
    }
    let text = expect(&state, &["cut", "node-x"], false).await;
    assert!(text.contains("node-a, node-b"), "{text}");
    let text = expect(&state, &["up", "--free-ports"], false).await;
    assert!(text.contains("runs in") && text.contains("deploy/down"), "{text}");

    let text = expect(&state, &["down"], true).await;
    assert!(text.contains("0 leaked leases") && text.contains("all services ended well"), "{text}");
    let text = expect(&state, &["down"], false).await;
    assert!(text.contains("no deployment runs"), "{text}");

    // what was left behind is ours: it goes on with its license and its nodes
    let text = expect(&state, &["up", "--detach", "--free-ports", "--empty"], true).await;
    assert!(text.contains("running in the background"), "{text}");
    let text = expect(&state, &["call", "start", "node-a"], true).await;
    assert!(text.contains("granted"), "{text}");
    let text = expect(&state, &["down"], true).await;
    assert!(text.contains("1 legs ended") && text.contains("0 leaked leases"), "{text}");
}

#[tokio::test]
async fn a_folder_with_something_else_in_it_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("thesis.txt"), "years of work").expect("a file");
    let text = expect(folder.path(), &["up", "--plain"], false).await;
    assert!(text.contains("no deployment of ours") && text.contains("--state DIR"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_holder_and_nothing_is_made() {
    // when somebody else has the port, that will do as well
    let _held = std::net::TcpListener::bind("127.0.0.1:7400");
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("demo");
    let text = expect(&state, &["up", "--plain"], false).await;
    assert!(text.contains("is taken") && text.contains("(process "), "{text}");
    assert!(!state.exists());
}

#[tokio::test]
async fn asking_where_nothing_runs_says_how_to_start() {
    let folder = tempfile::tempdir().expect("a folder");
    for words in [&["down"][..], &["cut", "node-a"], &["call", "fill"]] {
        let text = expect(folder.path(), words, false).await;
        assert!(text.contains("deploy/up"), "{text}");
    }
}
