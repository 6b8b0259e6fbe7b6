//! What the pages about media servers show is what a conferencing node answers.

use headroom_deploy::agent::Agent;
use headroom_tests::{Deployment, repository};
use hyper::Method;
use serde_json::Value;

/// A request of a page, and what the page says comes of it.
#[derive(Debug)]
struct Exchange {
    method: Method,
    path: String,
    body: Option<Value>,
    status: u16,
    answer: Value,
}

/// The exchanges of a page: code blocks of a request line, a body, `=> STATUS` and the answer.
fn exchanges(page: &str) -> Vec<Exchange> {
    let text = std::fs::read_to_string(repository().join("deploy").join(page)).expect("the page");
    let blocks = text.split("```http\n").skip(1).filter_map(|rest| rest.split_once("\n```"));
    blocks
        .map(|(block, _)| {
            let (request, answer) = block.split_once("\n=> ").unwrap_or_else(|| panic!("no answer: {block}"));
            let (line, body) = request.split_once('\n').unwrap_or((request, ""));
            let (method, path) = line.split_once(' ').unwrap_or_else(|| panic!("no request: {line}"));
            let (status, answer) = answer.split_once('\n').unwrap_or((answer, "null"));
            let json =
                |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            Exchange {
                method: method.parse().expect("a method"),
                path: path.to_owned(),
                body: (!body.trim().is_empty()).then(|| json(body)),
                status: status.parse().expect("a status"),
                answer: json(answer),
            }
        })
        .collect()
}

/// Where the real answer is not what the page says: it may hold more members than that.
fn difference(said: &Value, real: &Value) -> Option<String> {
    match (said, real) {
        (Value::Object(said), Value::Object(real)) => said.iter().find_map(|(name, said)| {
            let Some(real) = real.get(name) else { return Some(format!("{name} is missing")) };
            difference(said, real).map(|difference| format!("{name}: {difference}"))
        }),
        (Value::Array(said), Value::Array(real)) if said.len() == real.len() => {
            said.iter().zip(real).find_map(|(said, real)| difference(said, real))
        }
        (said, real) if said == real => None,
        (said, real) => Some(format!("{real} instead of {said}")),
    }
}

async fn replay(node: &Agent, page: &str) {
    let exchanges = exchanges(page);
    assert!(exchanges.len() > 5, "{page}: {} exchanges", exchanges.len());
    for exchange in exchanges {
        let Exchange { method, path, body, status, answer } = exchange;
        let real = node.json(method.clone(), &path, body.as_ref()).await.expect("an answer");
        assert_eq!(real.status, status, "{page}: {method} {path}: {}", real.body);
        if let Some(difference) = difference(&answer, &real.body) {
            panic!("{page}: {method} {path}: {difference}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exchanges_of_the_pages_about_freeswitch_and_asterisk_are_what_a_node_answers() {
    for page in ["freeswitch/README.md", "asterisk/README.md"] {
        let deployment = Deployment::start_with(|options| headroom_deploy::fleet::Options {
            nodes: vec![("node-a".into(), 0)],
            capacity: "3".into(),
            ..options
        })
        .await;
        replay(&deployment.agent("node-a").await, page).await;
        deployment.stop().await;
    }
}
