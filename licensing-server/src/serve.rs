//! The running service.

use std::net::SocketAddr;

use anyhow::Context;
use headroom_proto::licensing::licensing_service_server::{
    LicensingService, LicensingServiceServer, SERVICE_NAME,
};
use headroom_shared::committer::Committer;
use headroom_shared::endpoints::Endpoints;
use headroom_shared::rpc::{self, Listen, Patience, Shutdown};
use headroom_shared::{config, telemetry, tls};
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

use crate::cli;
use crate::folder::Folder;
use crate::office::{Counter, Office};

/// The service's settings: `licensing-server.toml` in the state folder, `HEADROOM_…`, flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Address of the TLS port.
    pub listen: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7300)) }
    }
}

#[derive(Serialize)]
struct Flags {
    listen: Option<SocketAddr>,
}

async fn routes(service: impl LicensingService) -> anyhow::Result<Routes> {
    let routes = Routes::new(LicensingServiceServer::new(service));
    Ok(rpc::with_standard_services(routes, &[SERVICE_NAME]).await?.0)
}

/// Serves until a signal, or until the register fails.
///
/// # Errors
/// What kept it from serving.
pub async fn serve(folder: &Folder, flags: &cli::Serve, json: bool) -> anyhow::Result<()> {
    telemetry::init("licensing-server", json);
    let settings: Settings = config::load(&folder.config(), &Flags { listen: flags.listen })?;
    let shutdown = Shutdown::on_signal()?;
    let certificate = folder.signing_key().and_then(|_| folder.server())?;
    // The register first: only who has it may take the socket's place.
    let (office, committer) = Office::open(folder).await?;
    let socket = rpc::bind(Listen::unix(folder.socket())).await?;
    let public = rpc::bind(Listen::tls(settings.listen, tls::plain_server(&certificate))).await?;
    let endpoints =
        Endpoints::of_this_process().with("grpc", public.address()).with("socket", socket.address());
    tracing::info!(grpc = public.address(), socket = socket.address(), "serving");
    let _published = endpoints.publish(folder.path()).context("cannot write endpoints.json")?;
    let (all, some) = (routes(office.clone()).await?, routes(Counter(office)).await?);
    let watched = watch(committer, shutdown.clone());
    let served = async {
        let ended = tokio::try_join!(
            socket.serve(all, Patience::default(), &shutdown),
            public.serve(some, Patience::default(), &shutdown),
        );
        // When one ends by failure, the register is still closed in order.
        shutdown.trigger();
        ended
    };
    let (served, register) = tokio::join!(served, watched);
    register.context("the register failed")?;
    served?;
    Ok(())
}

/// Keeps the register until the end; ends everything when it fails.
async fn watch(mut committer: Committer, shutdown: Shutdown) -> anyhow::Result<()> {
    tokio::select! {
        error = committer.failed() => {
            shutdown.trigger();
            Err(error.into())
        }
        () = shutdown.wait() => Ok(committer.stop().await?),
    }
}
