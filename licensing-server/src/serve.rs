//! The running service.

use std::net::SocketAddr;

use anyhow::Context;
use headroom_proto::licensing::activation_service_server::{self, ActivationServiceServer};
use headroom_proto::licensing::licensing_service_server::{self, LicensingServiceServer};
use headroom_shared::committer::Committer;
use headroom_shared::endpoints::Endpoints;
use headroom_shared::rpc::{self, Listen, Patience, Shutdown};
use headroom_shared::{config, telemetry, tls};
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

use crate::cli;
use crate::folder::Folder;
use crate::http;
use crate::office::Office;

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

/// What everybody may ask: gRPC and XML.
async fn public_routes(office: Office) -> anyhow::Result<Routes> {
    let routes = Routes::new(ActivationServiceServer::new(office.clone()));
    let names = [activation_service_server::SERVICE_NAME];
    let (routes, _) = rpc::with_standard_services(routes, &names).await?;
    Ok(routes.into_axum_router().merge(http::route(office)).into())
}

/// What the vendor does, too.
async fn vendor_routes(office: Office) -> anyhow::Result<Routes> {
    let routes = Routes::new(LicensingServiceServer::new(office.clone()))
        .add_service(ActivationServiceServer::new(office));
    let names = [licensing_service_server::SERVICE_NAME, activation_service_server::SERVICE_NAME];
    Ok(rpc::with_standard_services(routes, &names).await?.0)
}

/// Serves until a signal, or until the register fails.
///
/// # Errors
/// What kept it from serving.
pub async fn serve(folder: &Folder, flags: &cli::Serve, json: bool) -> anyhow::Result<()> {
    telemetry::init("licensing-server", json);
    let settings: Settings = config::load(&folder.config(), &Flags { listen: flags.listen })?;
    rpc::allow_many_connections();
    let shutdown = Shutdown::on_signal()?;
    let certificate = folder.server()?;
    // The register first: only who has it may take the socket's place.
    let (office, committer) = Office::open(folder).await?;
    let socket = rpc::bind(Listen::unix(folder.socket())).await?;
    let public = rpc::bind(Listen::tls(settings.listen, tls::plain_server(&certificate)?)).await?;
    let endpoints =
        Endpoints::of_this_process().with("grpc", public.address()).with("socket", socket.address());
    tracing::info!(grpc = public.address(), socket = socket.address(), "serving");
    let _published = endpoints.publish(folder.path()).context("cannot write endpoints.json")?;
    let (all, some) = (vendor_routes(office.clone()).await?, public_routes(office).await?);
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
