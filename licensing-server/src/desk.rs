//! How the command line reaches an office: the running service's through its socket, or its own
//! when no service runs. Either way the same requests meet the same code.

use headroom_proto::licensing as pb;
use headroom_proto::licensing::licensing_service_client::LicensingServiceClient;
use headroom_proto::licensing::licensing_service_server::LicensingService;
use headroom_shared::committer::Committer;
use headroom_shared::rpc::{ConnectError, unix_channel};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::folder::Folder;
use crate::office::Office;

/// An office within reach.
pub enum Desk {
    /// The service's.
    Running(LicensingServiceClient<Channel>),
    /// This process's own.
    Own(Office, Committer),
}

impl Desk {
    /// Finds the running service, or opens the register itself.
    ///
    /// # Errors
    /// When neither is possible.
    pub async fn open(folder: &Folder) -> anyhow::Result<Self> {
        match unix_channel(&folder.socket()).await {
            Ok(channel) => Ok(Self::Running(LicensingServiceClient::new(channel))),
            Err(ConnectError::NotRunning { .. }) => {
                let (office, committer) = Office::open(folder).await?;
                Ok(Self::Own(office, committer))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Issues a license.
    ///
    /// # Errors
    /// The office's refusal.
    pub async fn issue(
        &mut self,
        request: pb::IssueLicenseRequest,
    ) -> Result<pb::IssueLicenseResponse, Status> {
        match self {
            Self::Running(client) => client.issue_license(request).await,
            Self::Own(office, _) => office.issue_license(Request::new(request)).await,
        }
        .map(Response::into_inner)
    }

    /// Lists issued licenses.
    ///
    /// # Errors
    /// The office's refusal.
    pub async fn list(&mut self) -> Result<pb::ListLicensesResponse, Status> {
        let request = pb::ListLicensesRequest {};
        match self {
            Self::Running(client) => client.list_licenses(request).await,
            Self::Own(office, _) => office.list_licenses(Request::new(request)).await,
        }
        .map(Response::into_inner)
    }

    /// Lists the public keys.
    ///
    /// # Errors
    /// The office's refusal.
    pub async fn keys(&mut self) -> Result<pb::ListSigningKeysResponse, Status> {
        let request = pb::ListSigningKeysRequest {};
        match self {
            Self::Running(client) => client.list_signing_keys(request).await,
            Self::Own(office, _) => office.list_signing_keys(Request::new(request)).await,
        }
        .map(Response::into_inner)
    }

    /// Leaves; an own register is closed in order.
    ///
    /// # Errors
    /// When the register failed meanwhile.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Self::Own(_, committer) = self {
            committer.stop().await?;
        }
        Ok(())
    }
}
