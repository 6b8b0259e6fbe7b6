//! Real SIP calls: sipp calls sipp through Kamailio, each call admitted by a conferencing node and the pool.

mod load;
mod stories;

use std::fmt::Display;
use std::io::Write as _;

use headroom_deploy::fleet::Options;
use headroom_proto::admin::LeasedLeg;
use headroom_tests::sip::{Kamailio, Load, Media, Scenario, Sipp};
use headroom_tests::{Deployment, until};

/// A conference has a name; numbers are gateway calls.
const CONFERENCE: &str = "lobby";
const NUMBER: &str = "4930123";

/// The pool, a conferencing node and a Kamailio beside it.
struct Site {
    deployment: Deployment,
    kamailio: Kamailio,
}

impl Site {
    /// With a license for so many calls, and settings of Kamailio's.
    async fn start(capacity: u32, settings: &[&str]) -> Self {
        // Here a busy machine must not make the node decide alone.
        Self::with(capacity, &[&["#!define HEADROOM_TIMEOUT 4"], settings].concat(), Some("3s")).await
    }

    /// With the budgets of real life.
    async fn in_real_time(capacity: u32, settings: &[&str]) -> Self {
        Self::with(capacity, settings, None).await
    }

    async fn with(capacity: u32, settings: &[&str], budget: Option<&str>) -> Self {
        let change = |options: Options| Options {
            nodes: vec![("node-a".into(), 0)],
            capacity: capacity.to_string(),
            budget: budget.map(str::to_owned),
            ..options
        };
        let deployment = Deployment::start_with(change).await;
        let node = deployment.agent("node-a").await;
        let kamailio = Kamailio::start(node.address(), settings).await;
        Self { deployment, kamailio }
    }

    /// A conference that is called so many times.
    fn conference(&self, scenario: &Scenario, calls: u32) -> Sipp {
        Sipp::callee(self.kamailio.media_server(), scenario, Some(calls))
    }

    /// Somebody who is called so many times.
    fn callee(&self, scenario: &Scenario, calls: u32) -> Sipp {
        Sipp::callee(self.kamailio.gateway(), scenario, Some(calls))
    }

    fn caller(&self, user: &str, scenario: &Scenario, load: Load) -> Sipp {
        Sipp::caller(self.kamailio.port(), user, scenario, load)
    }

    async fn units(&self) -> u32 {
        self.deployment.pool().calls_pool().await.expect("the pool answers").in_use
    }

    /// Waits until so many units are in use.
    async fn uses(&self, units: u32) {
        self.deployment.uses(units).await;
    }

    /// Waits until so many units are in use, or more.
    async fn uses_at_least(&self, units: u32) {
        self.deployment.pool_is(&format!("{units} units in use"), |pool| pool.in_use >= units).await;
    }

    /// Waits until the legs with leases are so.
    async fn legs_are(&self, what: &str, so: impl Fn(&[LeasedLeg]) -> bool) {
        until(what, async || {
            let legs = self.deployment.pool().legs().await.map_err(|error| error.to_string())?;
            let names = || legs.iter().map(|leg| leg.leg.as_str()).collect::<Vec<_>>();
            if so(&legs) { Ok(()) } else { Err(format!("{:?}", names())) }
        })
        .await;
    }

    /// Waits until these legs have leases, and no others.
    async fn holds(&self, wanted: &[&str]) {
        let what = format!("leases of {wanted:?}");
        self.legs_are(&what, |legs| legs.iter().map(|leg| leg.leg.as_str()).eq(wanted.iter().copied())).await;
    }

    /// Says that it is empty after what was done, and how much was in use at most so far.
    async fn is_empty_after(&self, what: &str) {
        self.deployment.is_empty().await;
        let peak = self.deployment.pool().calls_pool().await.expect("the pool answers").peak;
        say(format!("{what}: 0 units in use, peak so far {peak}"));
    }
}

/// Answers at once with these media; ringing first, the two could overtake each other in Kamailio's workers.
fn answers(media: Media) -> Scenario {
    Scenario::by("callee").is_called().says("200 OK", media).hears("ACK")
}

/// Answers, and is hung up on.
fn talks() -> Scenario {
    answers(Media::AudioVideo).is_hung_up_on()
}

/// Figures, which are shown also when all goes well.
fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "sip: {text}");
}
