//! What the pages about media servers show is what a conferencing node answers, and the example clients work.

use headroom_tests::platform::BASIC;
use headroom_tests::{Deployment, python, repository, until};
use hyper::Method;
use serde_json::{Value, json};
use tokio::process::Command;

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

/// Asks what the page asks.
async fn replay(page: &str, ask: impl AsyncFn(Method, &str, Option<&Value>) -> (u16, Value)) {
    let exchanges = exchanges(page);
    assert!(exchanges.len() > 5, "{page}: {} exchanges", exchanges.len());
    for exchange in exchanges {
        let Exchange { method, path, body, status, answer } = exchange;
        let (code, real) = ask(method.clone(), &path, body.as_ref()).await;
        assert_eq!(code, status, "{page}: {method} {path}: {real}");
        if let Some(difference) = difference(&answer, &real) {
            panic!("{page}: {method} {path}: {difference}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exchanges_of_the_pages_about_freeswitch_and_asterisk_are_what_a_node_answers() {
    for page in ["freeswitch/README.md", "asterisk/README.md"] {
        let deployment = Deployment::one_node("3").await;
        let node = deployment.agent("node-a").await;
        replay(page, async |method, path, body| {
            let answer = node.json(method, path, body).await.expect("an answer");
            (answer.status, answer.body)
        })
        .await;
        deployment.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exchanges_of_the_page_about_event_feeds_are_what_a_node_answers() {
    let (deployment, port) = crate::feed::site("3", &[]).await;
    replay("feed/README.md", async |method, path, body| {
        assert_eq!(method == Method::GET, body.is_none(), "{path}");
        port.speak(path, BASIC, body.map(Value::to_string)).await.expect("an answer")
    })
    .await;
    let status = deployment.agent("node-a").await.status().await.expect("a status");
    assert_eq!((status.legs, status.feeds[0].seq, status.feeds[0].missed), (0, 4, 0), "{status:?}");
    deployment.stop().await;
}

/// A client's end: whether it succeeded, and what it said.
async fn said(mut command: Command) -> (bool, String) {
    let output = command.kill_on_drop(true).output().await.expect("the client runs");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.success(), text.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_clients_are_short_and_are_granted_denied_and_told_that_nobody_is_there() {
    let clients = repository().join("deploy/clients");
    let deployment = Deployment::one_node("1").await;
    let node = deployment.agent("node-a").await;
    let stubs = tempfile::tempdir().expect("a folder");
    let mut made = Command::new(python());
    made.args(["-m", "grpc_tools.protoc", "-I"]).arg(repository().join("proto"));
    made.arg(format!("--python_out={0}", stubs.path().display()));
    made.arg(format!("--grpc_python_out={0}", stubs.path().display()));
    made.args(["headroom/common/v1/common.proto", "headroom/admission/v1/admission.proto"]);
    let (made, text) = said(made).await;
    assert!(made, "{text}");

    let run = async |name: &str, target: &str, call: &str| {
        let file = clients.join(name);
        let lines = std::fs::read_to_string(&file).expect("the client").lines().count();
        assert!(lines < 40, "{name} has {lines} lines");
        let mut command = match name {
            "client.py" => Command::new(python()),
            _ => Command::new("sh"),
        };
        command.arg(file).args([target, call]).env("PYTHONPATH", stubs.path());
        said(command).await
    };
    let target = node.address().to_string();
    for name in ["client.py", "client.sh"] {
        let call = format!("call-of-{name}");
        let (well, text) = run(name, &target, &call).await;
        assert!(well && text.contains("granted") && text.contains("changed, 1 units now"), "{name}: {text}");
        assert!(text.contains("ended 1 leg"), "{name}: {text}");
    }
    node.admit(&call("full")).await.expect("an answer");
    for name in ["client.py", "client.sh"] {
        let (well, text) = run(name, &target, "one-too-many").await;
        assert!(!well && text.contains("denied, announce: You cannot join now"), "{name}: {text}");
        let (well, text) = run(name, "127.0.0.1:1", "nobody").await;
        assert!(!well && text.contains("not decided"), "{name}: {text}");
    }
    deployment.stop().await;
}

fn call(name: &str) -> Value {
    let media = json!({ "audio": true, "video": true });
    let leg = json!({ "leg": name, "protocol": "sip", "direction": "in", "media": media });
    json!({ "call": name, "service": "vmr", "legs": [leg] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_refuses_new_calls_waits_for_the_last_leg_and_says_when_it_is_too_long() {
    let deployment = Deployment::start().await;
    let node = deployment.agent("node-a").await;
    assert!(node.admit(&call("stays")).await.expect("an answer").granted());
    let drain = async |words: &[&str]| {
        let mut command = Command::new(headroom_tests::programs().join("conferencing-node"));
        command.arg("--state").arg(deployment.layout().service("node-a")).arg("drain").args(words);
        said(command).await
    };
    let (well, text) = drain(&["--deadline", "1s"]).await;
    assert!(!well && text.ends_with("draining: new calls are refused, 1 leg runs\n"), "{text}");
    let answer = node.admit(&call("new")).await.expect("an answer");
    assert_eq!((answer.status, answer.reason()), (403, "draining"));

    let (well, text) = drain(&["--off"]).await;
    assert_eq!((well, &*text), (true, "new calls are taken, 1 leg runs\n"));
    let (waits, ends) = tokio::join!(drain(&[]), async {
        until("it to wait", async || {
            let status = node.status().await.map_err(|error| error.to_string())?;
            if status.draining { Ok(()) } else { Err("it takes calls".into()) }
        })
        .await;
        node.end_leg("stays").await
    });
    ends.expect("an answer");
    assert!(waits.0 && waits.1.ends_with("draining: new calls are refused, 0 legs run\n"), "{}", waits.1);
    let (well, text) = drain(&["--off"]).await;
    assert_eq!((well, &*text), (true, "new calls are taken, 0 legs run\n"));
    assert!(node.admit(&call("new")).await.expect("an answer").granted());
    let (well, text) = drain(&["--off", "--deadline", "1s"]).await;
    assert!(!well && text.contains("cannot be used with"), "{text}");
    deployment.stop().await;
}
