//! How the command line reaches an office: the running service's through its socket, or its own when no
//! service runs. Either way the same requests meet the same code.

use headroom_proto::licensing::activation_service_client::ActivationServiceClient;
use headroom_proto::licensing::activation_service_server::ActivationServiceServer;
use headroom_proto::licensing::licensing_service_client::LicensingServiceClient;
use headroom_proto::licensing::licensing_service_server::LicensingServiceServer;
use headroom_shared::committer::Committer;
use headroom_shared::rpc::{ConnectError, MAX_MESSAGE, unix_channel, within};
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Channel;

use crate::folder::Folder;
use crate::office::Office;

/// Most bytes of an answer: lists are not paged.
const MAX_ANSWER: usize = 64 * MAX_MESSAGE;

/// An office within reach.
pub struct Desk {
    channel: Channel,
    own: Option<(Committer, JoinHandle<()>)>,
}

impl Desk {
    /// Finds the running service, or opens the register itself.
    ///
    /// # Errors
    /// When neither is possible.
    pub async fn open(folder: &Folder) -> anyhow::Result<Self> {
        match unix_channel(&folder.socket()).await {
            Ok(channel) => Ok(Self { channel, own: None }),
            Err(ConnectError::NotRunning { .. }) => {
                let (office, committer) = Office::open(folder).await?;
                let routes = Routes::new(LicensingServiceServer::new(office.clone()))
                    .add_service(ActivationServiceServer::new(office));
                let (channel, serving) = within(routes).await?;
                Ok(Self { channel, own: Some((committer, serving)) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the vendor does.
    #[must_use]
    pub fn licensing(&self) -> LicensingServiceClient<Channel> {
        LicensingServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// What everybody may ask.
    #[must_use]
    pub fn activation(&self) -> ActivationServiceClient<Channel> {
        ActivationServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Leaves; an own register is closed in order.
    ///
    /// # Errors
    /// When the register failed meanwhile.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Some((committer, serving)) = self.own {
            committer.stop().await?;
            serving.abort();
        }
        Ok(())
    }
}
