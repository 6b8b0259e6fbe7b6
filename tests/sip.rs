//! Real SIP calls: sipp calls sipp through Kamailio, each call admitted by a conferencing node and the pool.

use std::time::Duration;

use headroom_deploy::fleet::Options;
use headroom_tests::sip::{Kamailio, Load, Media, ONE, Scenario, Sipp};
use headroom_tests::{Deployment, until};

const SECOND: Duration = Duration::from_secs(1);

/// A conference, by its name; numbers are gateway calls.
const CONFERENCE: &str = "lobby";
const NUMBER: &str = "4930123";

async fn one_node(capacity: &str) -> Deployment {
    let change = |options: Options| Options {
        nodes: vec![("node-a".into(), 0)],
        capacity: capacity.into(),
        ..options
    };
    Deployment::start_with(change).await
}

async fn in_use(deployment: &Deployment, units: u32) {
    until(&format!("{units} units in use"), async || {
        let pool = deployment.pool().calls_pool().await.map_err(|error| error.to_string())?;
        if pool.in_use == units { Ok(()) } else { Err(format!("{} in use", pool.in_use)) }
    })
    .await;
}

fn answers(times: u32) -> Scenario {
    let _ = times;
    Scenario::by("callee")
        .is_called()
        .says("180 Ringing", Media::None)
        .says("200 OK", Media::AudioVideo)
        .hears("ACK")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_admitted_and_gives_its_unit_back() {
    let deployment = one_node("10").await;
    let node = deployment.agent("node-a").await;
    let kamailio = Kamailio::start(node.address(), &[]).await;
    let callee =
        Sipp::callee(kamailio.callee(), &answers(1).hears("BYE").says_within("200 OK", Media::None), Some(1));
    let call = Scenario::by("anna").invites(Media::AudioVideo).answered().waits(SECOND).hangs_up();
    let caller = Sipp::caller(kamailio.port(), CONFERENCE, &call, ONE);
    in_use(&deployment, 1).await;
    caller.done().await;
    callee.done().await;
    in_use(&deployment, 0).await;
    let _ = (NUMBER, Load { calls: 1, rate: 1 });
    deployment.stop().await;
}
