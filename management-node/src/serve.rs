//! The service: one committer, three listeners, and the tick that moves the pool's own clock.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use headroom_core::fingerprint::Fingerprint;
use headroom_core::time::Clock;
use headroom_proto::admin::admin_service_server::AdminServiceServer;
use headroom_proto::admin::license_service_server::LicenseServiceServer;
use headroom_proto::lease::lease_service_server::LeaseServiceServer;
use headroom_shared::clock::{self, BOOT_ID_PATH, SystemClock};
use headroom_shared::committer::{self, Committer, Handle, Options};
use headroom_shared::endpoints::Endpoints;
use headroom_shared::log::Log;
use headroom_shared::metrics;
use headroom_shared::rpc::{
    self, DescriptorError, Listen, MAX_MESSAGE, Patience, Shutdown, with_standard_services,
};
use management_core::{BootId, Command, LiveView, PoolMachine, Reply, Settings};
use tokio::sync::watch;
use tonic::service::Routes;

use crate::admin_api::AdminApi;
use crate::config::Config;
use crate::deployment::{self, Deployment};
use crate::lease_api::LeaseApi;
use crate::license_api::LicenseApi;
use crate::licensing::{Client, Licensing, refresh};
use crate::webhook::Webhook;
use crate::{observe, support};

/// How often the pool's clock is moved.
const TICK: Duration = Duration::from_millis(500);
/// How long heartbeats wait for each other: ten thousand nodes would have a thousand records a second.
const LINGER: Duration = Duration::from_millis(25);

/// Serves until told to end or the store fails.
///
/// # Errors
/// Whatever keeps it from serving.
pub async fn serve(state: &Path, config: Config) -> anyhow::Result<()> {
    rpc::allow_many_connections();
    let deployment = Arc::new(Deployment::open(state)?);
    deployment.keep_machine_id()?;
    let fingerprint = deployment::fingerprint(state, &config.machine_root, config.machine_identity)?;
    let boot_id =
        clock::boot_id(Path::new(BOOT_ID_PATH)).context("cannot tell which boot of the machine this is")?;
    let client = match config.licensing.as_str() {
        "" => None,
        address => Some(Client::new(address, config.authority(state).as_ref(), &config.proxy)?),
    };
    let webhook = Webhook::new(&config.alarm_webhook, &config.proxy)?;
    let shutdown = Shutdown::on_signal().context("cannot listen for signals")?;
    let log = deployment.log()?;
    let machine = Machine { fingerprint, boot_id: BootId(boot_id) };
    let (pool, mut committer) = begin(log, Arc::new(SystemClock), machine, config.settings()).await?;
    let key = deployment.machine_key(pool.view().state.site.certificate.is_some())?;
    let licensing = Arc::new(Licensing::new(pool.clone(), Arc::clone(&deployment), key, client));

    let nodes = rpc::bind(Listen::tls(config.listen, deployment.mutual_tls()?)).await?;
    let local = rpc::bind(Listen::unix(deployment.socket())).await?;
    let watched = rpc::bind(Listen::tcp(config.metrics)).await?;
    let endpoints = Endpoints::of_this_process()
        .with("grpc", nodes.address())
        .with("socket", local.address())
        .with("metrics", watched.address());
    let (show, live) = watch::channel(LiveView::default());
    let admin = AdminApi::new(pool.clone(), live.clone(), Arc::clone(&deployment), config.address.clone());
    let admin = AdminServiceServer::new(admin).max_decoding_message_size(MAX_MESSAGE);
    let for_nodes = routes_for_nodes(&pool).await?;
    let licenses = LicenseApi::new(pool.clone(), Arc::clone(&deployment), Arc::clone(&licensing));
    let licenses = LicenseServiceServer::new(licenses).max_decoding_message_size(MAX_MESSAGE);
    let (for_admins, _) = with_standard_services(
        Routes::new(admin).add_service(licenses),
        &["headroom.admin.v1.AdminService", "headroom.admin.v1.LicenseService"],
    )
    .await?;

    let published = endpoints.publish(state).context("cannot write endpoints.json")?;
    tracing::info!(grpc = nodes.address(), socket = local.address(), "serving");
    let ticking = tokio::spawn(tick(pool.clone(), show, shutdown.clone()));
    let mut following = vec![tokio::spawn(support::log(pool.clone()))];
    following.extend(webhook.map(|webhook| tokio::spawn(webhook.run(pool.clone()))));
    let refreshing = refresh::run(licensing, pool.clone(), config.license_refresh, shutdown.clone());
    following.push(tokio::spawn(refreshing));
    let sampled = pool.clone();
    let for_prometheus = metrics::route(move || {
        let sample = observe::sample(&sampled, &live.borrow());
        async { sample }
    });
    let patience = Patience::default();
    let serving = async {
        tokio::try_join!(
            nodes.serve(for_nodes, patience, &shutdown),
            local.serve(for_admins, patience, &shutdown),
            watched.serve(for_prometheus, patience, &shutdown),
        )
    };
    let outcome = tokio::select! {
        served = serving => served.map(|_| ()).map_err(anyhow::Error::new),
        error = committer.failed() => Err(anyhow::Error::new(error).context("the store failed; nothing more is answered")),
    };
    shutdown.trigger();
    drop(published);
    ticking.abort();
    for task in following {
        task.abort();
    }
    if outcome.is_ok() {
        committer.stop().await.context("the store failed at the end")?;
        tracing::info!("ended");
    }
    outcome
}

/// The machine that a pool runs on.
pub struct Machine {
    /// What licenses are bound to.
    pub fingerprint: Fingerprint,
    /// This boot of it.
    pub boot_id: BootId,
}

/// Recovers the pool from its log and begins, on whatever log and clock it is given.
///
/// # Errors
/// What is wrong with the log.
pub async fn begin(
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    machine: Machine,
    settings: Settings,
) -> anyhow::Result<(Handle<PoolMachine>, Committer)> {
    let options = Options { linger: LINGER, ..Options::default() };
    let (pool, committer) = committer::start::<PoolMachine>(log, clock, options)?;
    let Machine { fingerprint, boot_id } = machine;
    pool.submit(Command::Start { settings, fingerprint, boot_id }).await?;
    Ok((pool, committer))
}

/// What conferencing nodes ask of a pool.
///
/// # Errors
/// When the services cannot be described.
pub async fn routes_for_nodes(pool: &Handle<PoolMachine>) -> Result<Routes, DescriptorError> {
    let leases = LeaseServiceServer::new(LeaseApi::new(pool.clone())).max_decoding_message_size(MAX_MESSAGE);
    let (routes, _) =
        with_standard_services(Routes::new(leases), &["headroom.lease.v1.LeaseService"]).await?;
    Ok(routes)
}

/// Moves the pool's clock, and shows liveness as of then to those who must not wait for the store.
pub async fn tick(pool: Handle<PoolMachine>, show: watch::Sender<LiveView>, shutdown: Shutdown) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ended = shutdown.wait();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            _ = interval.tick() => {
                let around = observe::around(&pool);
                match pool.submit(Command::Tick { around }).await.map(|done| done.reply) {
                    Ok(Reply::Live(live)) => drop(show.send_replace(live)),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        }
    }
}
