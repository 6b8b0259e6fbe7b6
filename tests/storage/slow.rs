//! A disk that takes its time: nobody is answered before the sync is done that the answer rests on.

use std::fs;
use std::future::Future;
use std::time::{Duration, Instant};

use headroom_deploy::fleet::Options;
use headroom_proto::admission::Contact;
use headroom_tests::known::Asked;
use headroom_tests::peer::{Peer, connect, granted, one_leg};
use headroom_tests::write_log::{self, Entry, Marks, Step};
use headroom_tests::{Deployment, stands, until};

use super::shim::Shim;

const NODE: &str = "node-a";

async fn takes_at_least<T>(delay: Duration, what: &str, answer: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = answer.await;
    assert!(begun.elapsed() >= delay, "{what} took {:?}, a sync takes {delay:?}", begun.elapsed());
    answer
}

/// Every answer comes after the end of a sync of the records that began after its own record was written.
fn every_answer_follows_its_sync(entries: &[Entry]) -> usize {
    let (mut written, mut begun, mut durable, mut answers) = (0, Vec::new(), 0, 0);
    for Entry { path, step } in entries {
        match step {
            Step::Written { data, .. } if path.starts_with("log/records/") => {
                let number = data.get(8..16).expect("a record's head").try_into().expect("eight bytes");
                written = u64::from_be_bytes(number);
            }
            Step::SyncBegun(sync) if path.starts_with("log/records/") => begun.push((*sync, written)),
            Step::SyncDone(sync) => {
                let covered = begun.iter().find(|(number, _)| number == sync).map(|(_, covered)| *covered);
                durable = durable.max(covered.unwrap_or_default());
            }
            Step::Answered { sequence, .. } => {
                assert!(*sequence > 0 && *sequence <= durable, "record {sequence}, and {durable} is durable");
                answers += 1;
            }
            _ => {}
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_slow_disk_nothing_is_acknowledged_before_its_sync_is_done_and_no_contact_is_given() {
    let (nodes, capacity) = (vec![(NODE.to_owned(), 0)], "1000".into());
    let mut deployment = Deployment::start_with(|options| Options { nodes, capacity, ..options }).await;
    deployment.agent(NODE).await;
    let other = deployment.enrol("peer").await;
    deployment.kill_node(NODE).await.expect("the node");
    deployment.kill_management().await;
    let (root, state) = (deployment.layout().root().to_owned(), deployment.layout().service("management"));
    let (log, delay) = (root.join("steps"), root.join("delay"));
    deployment.management_env = Shim::over(&state).log(&log).delay(&delay).env();
    deployment.start_management().await.expect("it starts");
    let marks = Marks::open(&log).expect("the marks");
    let address = deployment.management_address();
    let mut peer =
        Peer::open(connect(address, other.tls()).await.expect("a connection")).await.expect("a session");

    for (round, slow) in [300, 2_000].into_iter().enumerate() {
        fs::write(&delay, slow.to_string()).expect("a slow disk");
        let slow = Duration::from_millis(slow);
        let names: Vec<_> = (0..8).map(|call| format!("slow-{round}-{call}")).collect();
        let (calls, asked) = (names.iter().map(|name| one_leg(name)).collect(), Asked::Calls(names.clone()));
        marks.asked(&asked).expect("a mark");
        let answer = takes_at_least(slow, "a grant", peer.allocate(calls)).await.expect("granted");
        let sequence = answer.position.expect("a position").sequence;
        let held = granted(&answer).map(str::to_owned).collect();
        marks.answered(sequence, &asked, &held).expect("a mark");
        assert_eq!(held.len(), names.len());
        takes_at_least(slow, "a heartbeat", peer.beat()).await.expect("a sign of life is answered");
        takes_at_least(slow, "a release", peer.release(names)).await.expect("released");
        let begun = Instant::now();
        deployment.start_node(NODE).await.expect("it starts");
        let agent = deployment.node(NODE).expect("the node").agent.clone();
        until("contact", async || stands(&agent, Contact::In).await).await;
        assert!(begun.elapsed() >= slow, "contact after {:?}, a sync takes {slow:?}", begun.elapsed());
        deployment.kill_node(NODE).await.expect("the node");
    }
    fs::remove_file(&delay).expect("a fast disk");
    deployment.kill_management().await;
    assert_eq!(every_answer_follows_its_sync(&write_log::read(&log).expect("the log of the steps")), 2);
    deployment.management_env.clear();
    deployment.start_management().await.expect("it starts");
    deployment.stop().await;
}
