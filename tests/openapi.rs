//! The description of a node's HTTP interface, and requests made from it at random.

use headroom_tests::{Deployment, python, repository};
use hyper::Method;
use tokio::process::Command;

/// What must hold of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      negative_data_rejection,positive_data_acceptance,unsupported_method";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_as_its_description_says_whatever_it_is_asked() {
    let deployment = Deployment::start().await;
    let node = deployment.agent("node-a").await;
    let described = node.json(Method::GET, "/v1/openapi.json", None).await.expect("the description");
    assert_eq!(described.body["openapi"], "3.1.0");
    let paths = described.body["paths"].as_object().expect("paths");
    for path in [
        "/v1/calls",
        "/v1/calls/{call}",
        "/v1/legs",
        "/v1/legs/{leg}",
        "/v1/status",
        "/v1/drain",
        "/v1/events",
    ] {
        assert!(paths.contains_key(path), "{path} is not described");
    }

    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(python().with_file_name("schemathesis"));
    command.current_dir(folder.path());
    command.arg("--config-file").arg(repository().join("tests/schemathesis.toml"));
    command.args(["run", &format!("http://{}/v1/openapi.json", node.address()), "--checks", CHECKS]);
    // A stream of events does not end, and a node that drains grants nothing.
    command.args([
        "--exclude-path",
        "/v1/events",
        "--exclude-path",
        "/v1/drain",
        "--max-examples",
        "100",
        "--seed",
        "1",
        "--no-color",
    ]);
    let output = command.kill_on_drop(true).output().await.expect("schemathesis runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    deployment.stop().await;
}
