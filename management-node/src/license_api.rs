//! `LicenseService`: decode, submit or ask, encode, and nothing else. It is served on the Unix socket only,
//! so whoever reaches it is authorized.

use std::sync::Arc;

use headroom_core::activation::Wish;
use headroom_core::entitlement::EntitlementKey;
use headroom_core::license::{LicenseError, SignedLicense};
use headroom_core::time::Clock;
use headroom_core::{LicenseId, Millis, Shared};
use headroom_proto::admin as pb;
use headroom_proto::admin::license_service_server::LicenseService;
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::Handle;
use headroom_shared::convert::{FieldError, decode};
use headroom_shared::status;
use management_core::{Command, Installed, LicenseRequest, PoolMachine, Refusal, Reply};
use tonic::{Code, Request, Response, Status};

use crate::check;
use crate::deployment::Deployment;
use crate::lease_convert::{refusal, unexpected};
use crate::license_convert as convert;
use crate::licensing::{Licensing, LicensingError, Settled};

type Answer<T> = Result<Response<T>, Status>;

/// The service.
pub struct LicenseApi {
    pool: Handle<PoolMachine>,
    deployment: Arc<Deployment>,
    licensing: Arc<Licensing>,
}

impl From<LicensingError> for Status {
    fn from(error: LicensingError) -> Self {
        let text = error.to_string();
        match error {
            LicensingError::Refused(why) => refusal(&why),
            LicensingError::Submit(error) => error.into(),
            LicensingError::Answer(_) => status::bad_field("document", text),
            LicensingError::Unreachable(_) => status::reasoned(Code::Unavailable, "UNREACHABLE", text),
            LicensingError::Meanwhile => status::precondition("SETTLED_MEANWHILE", text),
            LicensingError::Defect(_) => Self::internal(text),
        }
    }
}

impl LicenseApi {
    /// The service over a pool.
    #[must_use]
    pub const fn new(
        pool: Handle<PoolMachine>,
        deployment: Arc<Deployment>,
        licensing: Arc<Licensing>,
    ) -> Self {
        Self { pool, deployment, licensing }
    }

    async fn submit(&self, command: Command) -> Result<Reply, Status> {
        Ok(self.pool.submit(command).await?.reply)
    }

    async fn change(&self, command: Command) -> Result<(), Status> {
        match self.submit(command).await? {
            Reply::Changed(changed) => changed.map_err(|why| refusal(&why)),
            other => Err(unexpected(&other)),
        }
    }

    fn settlement(&self, settled: &Settled) -> Option<pb::Settlement> {
        Some(convert::settlement(&self.pool.view().state, settled, now()))
    }

    async fn ask(&self, wish: Wish, manual: bool) -> Result<Option<pb::Settlement>, Status> {
        let word = wish.word();
        let settled = self.licensing.ask(wish, manual).await?;
        match &settled {
            Settled::Applied(applied) => tracing::info!(wish = word, outcome = ?applied.outcome, "answered"),
            Settled::Stored(open) => tracing::info!(wish = word, trouble = %open.trouble, "request stored"),
        }
        Ok(self.settlement(&settled))
    }

    /// The request that a text names: by its id, its key or its license, or the only one there is.
    fn request(&self, name: &str) -> Result<Shared<LicenseRequest>, Status> {
        let state = &self.pool.view().state;
        let key: Option<EntitlementKey> = name.parse().ok();
        let named = |open: &&Shared<LicenseRequest>| match &open.request.wish {
            _ if name.is_empty() => true,
            Wish::Activate(its) if key == Some(*its) => true,
            Wish::Return(license) if license.as_str() == name => true,
            _ => convert::request_id(open).starts_with(name),
        };
        let found: Vec<_> = state.requests.values().filter(named).collect();
        match found.as_slice() {
            [one] => Ok(Shared::clone(one)),
            [] => Err(refusal(&Refusal::NoSuchRequest)),
            several => {
                let text = format!("{} requests await an answer: name one of `license list`", several.len());
                Err(FieldError::new("request", text).into())
            }
        }
    }
}

fn now() -> Millis {
    SystemClock.now().wall
}

#[tonic::async_trait]
impl LicenseService for LicenseApi {
    async fn install_license(
        &self,
        request: Request<pb::InstallLicenseRequest>,
    ) -> Answer<pb::InstallLicenseResponse> {
        let wrong = |error: LicenseError| status::bad_field("document", error.to_string());
        let signed = SignedLicense::parse(&request.into_inner().document).map_err(wrong)?;
        let trusted = self.pool.view().state.trusted(self.deployment.vendors());
        let (document, signed) = signed.verify(&trusted).map_err(wrong)?.into_parts();
        let (id, at) = (document.license.clone(), now());
        let installed = Box::new(Installed::from_file(document, signed.as_bytes().to_vec(), at));
        match self.submit(Command::InstallLicense(installed)).await? {
            Reply::Installed(Ok(())) => {
                tracing::info!(license = %id, "license installed");
                let state = &self.pool.view().state;
                let license = state.licenses.get(&id).map(|installed| convert::license(state, installed, at));
                Ok(Response::new(pb::InstallLicenseResponse { license }))
            }
            Reply::Installed(Err(why)) => Err(refusal(&why)),
            other => Err(unexpected(&other)),
        }
    }

    async fn list_licenses(&self, _: Request<pb::ListLicensesRequest>) -> Answer<pb::ListLicensesResponse> {
        let state = &self.pool.view().state;
        let (licenses, requests) = (convert::licenses(state, now()), convert::requests(state));
        Ok(Response::new(pb::ListLicensesResponse { licenses, requests }))
    }

    async fn add_license(&self, request: Request<pb::AddLicenseRequest>) -> Answer<pb::AddLicenseResponse> {
        let message = request.get_ref();
        let key = message.key.parse().map_err(|error| FieldError::new("key", error))?;
        let settlement = self.ask(Wish::Activate(key), message.manual).await?;
        Ok(Response::new(pb::AddLicenseResponse { settlement }))
    }

    async fn return_license(
        &self,
        request: Request<pb::ReturnLicenseRequest>,
    ) -> Answer<pb::ReturnLicenseResponse> {
        let license: LicenseId = decode::id(&request.get_ref().license, "license")?;
        let settlement = self.ask(Wish::Return(license), request.get_ref().manual).await?;
        Ok(Response::new(pb::ReturnLicenseResponse { settlement }))
    }

    async fn repair_licenses(
        &self,
        request: Request<pb::RepairLicensesRequest>,
    ) -> Answer<pb::RepairLicensesResponse> {
        let settlement = self.ask(Wish::Repair, request.get_ref().manual).await?;
        Ok(Response::new(pb::RepairLicensesResponse { settlement }))
    }

    async fn refresh_licenses(
        &self,
        request: Request<pb::RefreshLicensesRequest>,
    ) -> Answer<pb::RefreshLicensesResponse> {
        let settlement = self.ask(Wish::Refresh, request.get_ref().manual).await?;
        Ok(Response::new(pb::RefreshLicensesResponse { settlement }))
    }

    async fn fetch_licenses(
        &self,
        request: Request<pb::FetchLicensesRequest>,
    ) -> Answer<pb::FetchLicensesResponse> {
        let trial = match request.get_ref().trial.as_str() {
            "" => None,
            text => Some(decode::id(text, "trial")?),
        };
        let settlement = self.ask(Wish::Fetch(trial), request.get_ref().manual).await?;
        Ok(Response::new(pb::FetchLicensesResponse { settlement }))
    }

    async fn export_request(
        &self,
        request: Request<pb::ExportRequestRequest>,
    ) -> Answer<pb::ExportRequestResponse> {
        let nonce = self.request(&request.get_ref().request)?.request.nonce;
        let (xml, open) = self.licensing.export(nonce).await?;
        let stored = Some(convert::stored(&open));
        Ok(Response::new(pb::ExportRequestResponse { document: xml.into_bytes(), stored }))
    }

    async fn complete_request(
        &self,
        request: Request<pb::CompleteRequestRequest>,
    ) -> Answer<pb::CompleteRequestResponse> {
        let settled = self.licensing.complete(&request.get_ref().document).await?;
        Ok(Response::new(pb::CompleteRequestResponse { settlement: self.settlement(&settled) }))
    }

    async fn cancel_request(
        &self,
        request: Request<pb::CancelRequestRequest>,
    ) -> Answer<pb::CancelRequestResponse> {
        let nonce = self.request(&request.get_ref().request)?.request.nonce;
        self.change(Command::CancelRequest(nonce)).await?;
        Ok(Response::new(pb::CancelRequestResponse {}))
    }

    async fn delete_license(
        &self,
        request: Request<pb::DeleteLicenseRequest>,
    ) -> Answer<pb::DeleteLicenseResponse> {
        let license = decode::id(&request.get_ref().license, "license")?;
        self.change(Command::DeleteLicense(license)).await?;
        Ok(Response::new(pb::DeleteLicenseResponse {}))
    }

    async fn check_licenses(
        &self,
        _: Request<pb::CheckLicensesRequest>,
    ) -> Answer<pb::CheckLicensesResponse> {
        let reached = self.licensing.reach().await;
        let view = self.pool.view();
        let steps = check::steps(&view.state, self.licensing.address(), &reached, now());
        Ok(Response::new(pb::CheckLicensesResponse { steps }))
    }

    async fn set_test_mode(
        &self,
        request: Request<pb::SetTestModeRequest>,
    ) -> Answer<pb::SetTestModeResponse> {
        let on = request.get_ref().on;
        self.change(Command::TestMode(on)).await?;
        tracing::warn!(on, "test mode");
        Ok(Response::new(pb::SetTestModeResponse { test_mode: Some(self.test_mode()) }))
    }

    async fn get_test_mode(&self, _: Request<pb::GetTestModeRequest>) -> Answer<pb::GetTestModeResponse> {
        Ok(Response::new(pb::GetTestModeResponse { test_mode: Some(self.test_mode()) }))
    }
}

impl LicenseApi {
    fn test_mode(&self) -> pb::TestMode {
        let state = &self.pool.view().state;
        let left = state.test_mode_left(now());
        pb::TestMode {
            on: left.is_some(),
            left_ms: left.map_or(0, |left| left.0.unsigned_abs()),
            leases: state.test_mode.held,
            since_ms: state.test_mode.since.0,
        }
    }
}
