//! Puts the service together: what runs behind it, the local interface, and a clean end.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use conferencing_core::{BootId, Nonce};
use headroom_proto::admission::admission_service_server::AdmissionServiceServer;
use headroom_shared::clock::{self, SystemClock};
use headroom_shared::committer;
use headroom_shared::disk_log::DiskLog;
use headroom_shared::endpoints::Endpoints;
use headroom_shared::metrics;
use headroom_shared::rpc::{
    Listen, Patience, Shutdown, allow_many_connections, bind, with_standard_services,
};
use headroom_shared::tls::{self, NodeBundle};
use tonic::service::Routes;

use crate::agent::Agent;
use crate::config::{Config, SOCKET, Unfit};
use crate::feed::disconnect::Disconnects;
use crate::feed::intake::Intake;
use crate::running::{Running, Surroundings};
use crate::{feed, grpc, http, observe, uplink};

fn journal(state: &Path) -> anyhow::Result<DiskLog> {
    let dir = state.join("log");
    if dir.exists() {
        return DiskLog::open(&dir).context("cannot open the journal");
    }
    std::fs::create_dir_all(state)
        .with_context(|| format!("cannot make the state folder {}", state.display()))?;
    let generation = getrandom::u64().context("no randomness")?;
    tracing::info!(dir = %dir.display(), "the first run: a journal is made");
    DiskLog::create(&dir, generation).context("cannot make the journal")
}

/// Serves until a signal ends it.
///
/// # Errors
/// What keeps it from serving, or what ended it.
pub async fn run(state: &Path, config: &Config) -> anyhow::Result<()> {
    serve_until(state, config, &Shutdown::on_signal()?).await
}

/// Serves until told to end.
///
/// # Errors
/// What keeps it from serving, or what ended it.
pub async fn serve_until(state: &Path, config: &Config, shutdown: &Shutdown) -> anyhow::Result<()> {
    allow_many_connections();
    let address = config.address()?;
    let path = config.bundle.as_ref().ok_or(Unfit::NoBundle)?;
    let bundle = NodeBundle::load(path)?;
    let pool = uplink::endpoint(&bundle, config.management.as_deref())?.connect_lazy();
    let tcp = bind(Listen::tcp(address)).await?;
    let watched = bind(Listen::tcp(config.metrics)).await?;
    let feed = match config.feed()? {
        Some(feed) => {
            let credentials = feed::credentials::Credentials::load(feed.credentials)?;
            let tls = tls::Credentials::read(feed.certificate, feed.key).and_then(|c| tls::plain_server(&c));
            let tls = tls.context("feed_certificate, feed_key")?;
            let listener = bind(Listen::tls(feed.listen, tls)).await.context("feed_listen")?;
            Some((listener, credentials))
        }
        None => None,
    };
    let journal = journal(state)?;
    let socket = bind(Listen::unix(state.join(SOCKET))).await?;
    let boot_id = clock::boot_id(&config.boot_id_file)
        .with_context(|| format!("boot_id_file: cannot read {}", config.boot_id_file.display()))?;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).context("no randomness")?;
    let around = Surroundings {
        journal: Arc::new(journal),
        clock: Arc::new(SystemClock),
        boot_id: BootId(boot_id),
        nonce: Nonce(nonce),
        node: bundle.node()?,
        pool,
        jitter: Box::new(uplink::jitter),
        committing: committer::Options::default(),
    };
    let mut running = Running::start(around, config.options(), shutdown).await?;
    let agent = running.agent();
    let routes = routes(&agent).await?;
    let endpoints = Endpoints::of_this_process()
        .with("http", tcp.address())
        .with("grpc", tcp.address())
        .with("metrics", watched.address())
        .with("socket", socket.address());
    let (endpoints, feed) = match feed {
        Some((listener, credentials)) => {
            tracing::info!(address = listener.address(), "platforms may tell their events");
            let endpoints = endpoints.with("feed", listener.address());
            (endpoints, Some((listener, platforms(&agent, config, credentials)?)))
        }
        None => (endpoints, None),
    };
    let tcp_address = tcp.address().to_owned();
    let serving = async {
        let sampled = Arc::clone(&agent);
        let for_prometheus = metrics::route(move || observe::sample(Arc::clone(&sampled)));
        let patience = Patience::default();
        let platforms = async {
            match feed {
                Some((feed, routes)) => return feed.serve(routes, patience, shutdown).await,
                None => shutdown.wait().await,
            }
            Ok(())
        };
        let (tcp, socket, watched, platforms) = tokio::join!(
            ended(tcp.serve(routes.clone(), patience, shutdown), shutdown),
            ended(socket.serve(routes, patience, shutdown), shutdown),
            ended(watched.serve(for_prometheus, patience, shutdown), shutdown),
            ended(platforms, shutdown),
        );
        tcp.and(socket).and(watched).and(platforms)
    };
    let published = endpoints.publish(state).context("cannot write endpoints.json")?;
    tracing::info!(node = %bundle.name, address = %tcp_address, "serving");
    let outcome = tokio::select! {
        outcome = serving => outcome.map_err(anyhow::Error::from),
        failure = running.failed() => Err(anyhow::Error::from(failure).context("the journal failed")),
    };
    shutdown.trigger();
    drop(published);
    drop(agent);
    let ended = running.stop(outcome.is_ok()).await;
    outcome?;
    ended.context("the journal failed at the end")?;
    tracing::info!("ended");
    Ok(())
}

/// One listener that ends takes the other along.
async fn ended<E>(serving: impl Future<Output = Result<(), E>>, shutdown: &Shutdown) -> Result<(), E> {
    let outcome = serving.await;
    shutdown.trigger();
    outcome
}

/// What platforms on other hosts say and ask.
fn platforms(
    agent: &Arc<Agent>,
    config: &Config,
    credentials: feed::credentials::Credentials,
) -> anyhow::Result<Routes> {
    let start =
        |url: &String| Disconnects::start(Arc::clone(agent), url, config.disconnect_authority.as_deref());
    let disconnects = config.disconnect.as_ref().map(start).transpose()?;
    Ok(Routes::from(http::feed::router(Intake::new(Arc::clone(agent), disconnects), credentials)))
}

async fn routes(agent: &Arc<Agent>) -> anyhow::Result<Routes> {
    let service = AdmissionServiceServer::new(grpc::Admission::new(Arc::clone(agent)));
    let routes = Routes::from(http::router(Arc::clone(agent))).add_service(service);
    let (routes, _) = with_standard_services(routes, &[grpc::NAME]).await?;
    Ok(routes)
}
