//! The management node as its administrator sees it: gRPC on the Unix socket in the state folder.

use std::path::Path;
use std::time::Duration;

use headroom_proto::admin;
use headroom_proto::admin::admin_service_client::AdminServiceClient;
use headroom_proto::admin::license_service_client::LicenseServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::Result;
use crate::agent::rpc;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A channel over a Unix socket; it connects when needed and again after a restart.
#[must_use]
pub fn unix_channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    Endpoint::from_static("http://localhost").timeout(LIMIT).connect_with_connector_lazy(service_fn(
        move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        },
    ))
}

/// The pool's administration.
#[derive(Debug, Clone)]
pub struct Pool {
    rpc: AdminServiceClient<Channel>,
    licenses: LicenseServiceClient<Channel>,
}

impl Pool {
    /// The management node behind a socket. Must be called within a runtime.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        let channel = unix_channel(socket);
        Self { rpc: AdminServiceClient::new(channel.clone()), licenses: LicenseServiceClient::new(channel) }
    }

    /// Use and capacity, alarms, counts.
    ///
    /// # Errors
    /// When the management node does not answer.
    pub async fn status(&self) -> Result<admin::GetPoolStatusResponse> {
        let answer = self.rpc.clone().get_pool_status(admin::GetPoolStatusRequest {}).await;
        answer.map(tonic::Response::into_inner).map_err(rpc("GetPoolStatus"))
    }

    /// The pool of calls; empty when nothing is licensed.
    ///
    /// # Errors
    /// When the management node does not answer.
    pub async fn calls_pool(&self) -> Result<admin::Pool> {
        Ok(self.status().await?.pools.into_iter().find(|p| p.feature == "call").unwrap_or_default())
    }

    /// Every call with its legs.
    ///
    /// # Errors
    /// When the management node does not answer.
    pub async fn calls(&self) -> Result<Vec<admin::ActiveCall>> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = admin::ListCallsRequest { page_token, ..admin::ListCallsRequest::default() };
            let answer = self.rpc.clone().list_calls(request).await.map_err(rpc("ListCalls"))?.into_inner();
            all.extend(answer.calls);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Every leg that holds a lease.
    ///
    /// # Errors
    /// When the management node does not answer.
    pub async fn legs(&self) -> Result<Vec<admin::LeasedLeg>> {
        Ok(self.calls().await?.into_iter().flat_map(|call| call.legs).collect())
    }

    /// The newest denials.
    ///
    /// # Errors
    /// When the management node does not answer.
    pub async fn denials(&self) -> Result<Vec<admin::DenialRecord>> {
        let answer = self.rpc.clone().list_denials(admin::ListDenialsRequest::default()).await;
        answer.map(|a| a.into_inner().denials).map_err(rpc("ListDenials"))
    }

    /// The nodes with their sessions.
    ///
    /// # Errors
    /// When the management node does not answer.
    pub async fn nodes(&self) -> Result<Vec<admin::Node>> {
        let answer = self.rpc.clone().list_nodes(admin::ListNodesRequest {}).await;
        answer.map(|a| a.into_inner().nodes).map_err(rpc("ListNodes"))
    }

    /// The installed licenses.
    ///
    /// # Errors
    /// When the management node does not answer.
    pub async fn licenses(&self) -> Result<Vec<admin::License>> {
        let answer = self.licenses.clone().list_licenses(admin::ListLicensesRequest {}).await;
        answer.map(|a| a.into_inner().licenses).map_err(rpc("ListLicenses"))
    }

    /// Takes a leg's lease back.
    ///
    /// # Errors
    /// When the leg holds none, or the management node does not answer.
    pub async fn force_release(&self, node: &str, leg: &str) -> Result<()> {
        let request = admin::ForceReleaseRequest { node: node.to_owned(), leg: leg.to_owned() };
        self.rpc.clone().force_release(request).await.map(drop).map_err(rpc("ForceRelease"))
    }
}
