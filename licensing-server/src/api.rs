//! gRPC: decode, submit or read, encode, and nothing else.

use headroom_core::Text;
use headroom_core::entitlement::{EntitlementKey, RANDOM_BYTES};
use headroom_proto::licensing as pb;
use headroom_proto::licensing::activation_service_server::ActivationService;
use headroom_proto::licensing::licensing_service_server::LicensingService;
use headroom_shared::convert::{FieldError, decode};
use headroom_shared::status;
use licensing_core::{Command, Refusal, Reply, Source};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Extensions, Request, Response, Status};

use crate::convert;
use crate::office::{Office, Unanswered, by_hand, network};

const DEFAULT_AUDIT: usize = 100;
const MAX_AUDIT_PAGE: usize = 10_000;

type Answer<T> = Result<Response<T>, Status>;

impl From<Unanswered> for Status {
    fn from(error: Unanswered) -> Self {
        let text = error.to_string();
        match error {
            Unanswered::Request(_) => status::bad_field("document", text),
            Unanswered::Submit(error) => error.into(),
            Unanswered::Defect(_) => Self::internal(text),
            Unanswered::Refused(refusal) => refused(&refusal, text),
        }
    }
}

fn refused(refusal: &Refusal, text: String) -> Status {
    match refusal {
        Refusal::Limited { retry_after, .. } => {
            status::limited(text, std::time::Duration::from_millis(retry_after.0.unsigned_abs()))
        }
        Refusal::NoSuchCustomer(_) | Refusal::NoSuchKey | Refusal::NoSuchTrial(_) => {
            status::reasoned(Code::NotFound, "NOT_FOUND", text)
        }
        Refusal::Terms(error) => status::bad_field(error.field(), error.to_string()),
        Refusal::KeyTaken => status::reasoned(Code::AlreadyExists, "ALREADY_EXISTS", text),
        Refusal::KeyRevoked
        | Refusal::NotActive
        | Refusal::Succession(_)
        | Refusal::NotSuccessor(_)
        | Refusal::TooLarge { .. }
        | Refusal::TooMany { .. } => status::precondition("REFUSED", text),
    }
}

fn internal(error: &anyhow::Error) -> Status {
    Status::internal(format!("{error:#}"))
}

fn unexpected(reply: &Reply) -> Status {
    Status::internal(format!("the register answered {reply:?}"))
}

/// Where a request comes from: an address of the network, or the Unix socket.
pub(crate) fn source(extensions: &Extensions) -> Source {
    let tcp = extensions.get::<TcpConnectInfo>().cloned();
    let info =
        tcp.or_else(|| extensions.get::<TlsConnectInfo<TcpConnectInfo>>().map(|tls| tls.get_ref().clone()));
    match info {
        Some(info) => network(info.remote_addr().map(|address| address.ip())),
        None => by_hand(),
    }
}

#[tonic::async_trait]
impl ActivationService for Office {
    async fn answer_machine(
        &self,
        request: Request<pb::AnswerMachineRequest>,
    ) -> Answer<pb::AnswerMachineResponse> {
        let source = source(request.extensions());
        let document = self.answer(&request.get_ref().document, source).await?.into_bytes();
        Ok(Response::new(pb::AnswerMachineResponse { document }))
    }

    async fn list_signing_keys(
        &self,
        _: Request<pb::ListSigningKeysRequest>,
    ) -> Answer<pb::ListSigningKeysResponse> {
        let keys = self.state().keys.iter().rev().map(convert::signing_key).collect();
        Ok(Response::new(pb::ListSigningKeysResponse { keys }))
    }
}

#[tonic::async_trait]
impl LicensingService for Office {
    async fn rotate_signing_key(
        &self,
        _: Request<pb::RotateSigningKeyRequest>,
    ) -> Answer<pb::RotateSigningKeyResponse> {
        let known = self.rotate().await.map_err(|error| internal(&error))?;
        tracing::info!(key = %known.key.id(), "signing with a new key");
        Ok(Response::new(pb::RotateSigningKeyResponse { key: Some(convert::signing_key(&known)) }))
    }

    async fn add_customer(
        &self,
        request: Request<pb::AddCustomerRequest>,
    ) -> Answer<pb::AddCustomerResponse> {
        let name: Text = decode::id(&request.get_ref().name, "name")?;
        if name.is_empty() {
            return Err(FieldError::new("name", "must not be empty").into());
        }
        let reference = decode::id(&request.get_ref().reference, "reference")?;
        self.submit(Command::AddCustomer { name, reference }).await?;
        Ok(Response::new(pb::AddCustomerResponse {}))
    }

    async fn list_customers(
        &self,
        _: Request<pb::ListCustomersRequest>,
    ) -> Answer<pb::ListCustomersResponse> {
        let customers = self.state().customers.iter().map(convert::customer).collect();
        Ok(Response::new(pb::ListCustomersResponse { customers }))
    }

    async fn create_key(&self, request: Request<pb::CreateKeyRequest>) -> Answer<pb::CreateKeyResponse> {
        let message = request.into_inner();
        let terms = convert::terms(message.terms.as_ref(), self.now())?;
        let assigned = match message.fingerprint.as_str() {
            "" => None,
            text => Some(convert::fingerprint(text)?),
        };
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|error| Status::internal(error.to_string()))?;
        let key = EntitlementKey::from_random(random);
        self.submit(Command::CreateKey { key, terms, assigned }).await?;
        tracing::info!(key = key.hint(), "entitlement key created");
        Ok(Response::new(pb::CreateKeyResponse { key: key.to_string() }))
    }

    async fn change_key(&self, request: Request<pb::ChangeKeyRequest>) -> Answer<pb::ChangeKeyResponse> {
        let (key, change) = (convert::key(&request.get_ref().key)?, convert::change(request.get_ref())?);
        match self.submit(Command::ChangeKey { key, change }).await? {
            Reply::Key(entitlement) => {
                let key = Some(convert::entitlement(key, &entitlement));
                Ok(Response::new(pb::ChangeKeyResponse { key }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn revoke_key(&self, request: Request<pb::RevokeKeyRequest>) -> Answer<pb::RevokeKeyResponse> {
        let key = convert::key(&request.get_ref().key)?;
        let reason = decode::id(&request.get_ref().reason, "reason")?;
        match self.submit(Command::RevokeKey { key, reason }).await? {
            Reply::Key(entitlement) => {
                tracing::info!(key = key.hint(), "entitlement key revoked");
                let key = Some(convert::entitlement(key, &entitlement));
                Ok(Response::new(pb::RevokeKeyResponse { key }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn list_keys(&self, request: Request<pb::ListKeysRequest>) -> Answer<pb::ListKeysResponse> {
        let (state, customer) = (self.state(), &request.get_ref().customer);
        let wanted = state.entitlements.iter().filter(|(_, entitlement)| {
            customer.is_empty() || entitlement.terms.customer.as_str() == customer
        });
        let mut keys: Vec<_> = wanted.map(|(key, e)| convert::entitlement(*key, e)).collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.created_at_ms));
        Ok(Response::new(pb::ListKeysResponse { keys }))
    }

    async fn issue_license(
        &self,
        request: Request<pb::IssueLicenseRequest>,
    ) -> Answer<pb::IssueLicenseResponse> {
        let fresh = self.fresh().map_err(|error| internal(&error))?;
        let mut terms = convert::terms(request.get_ref().terms.as_ref(), self.now())?;
        if terms.trial && terms.not_after.is_none() {
            terms.not_after = Some(fresh.trial_end);
        }
        let fingerprint = convert::fingerprint(&request.get_ref().fingerprint)?;
        match self.submit(Command::Issue { terms, fingerprint, fresh }).await? {
            Reply::Issued(activation) => {
                let license = activation.document.license.to_string();
                tracing::info!(license, sku = %activation.document.sku, "license issued");
                let document = self.sign(activation.document.clone())?.to_file().into_bytes();
                Ok(Response::new(pb::IssueLicenseResponse { license, document }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn list_activations(
        &self,
        _: Request<pb::ListActivationsRequest>,
    ) -> Answer<pb::ListActivationsResponse> {
        let state = self.state();
        let activations = state.activations.values().map(|a| convert::activation(&state, a)).collect();
        Ok(Response::new(pb::ListActivationsResponse { activations }))
    }

    async fn replace_activation(
        &self,
        request: Request<pb::ReplaceActivationRequest>,
    ) -> Answer<pb::ReplaceActivationResponse> {
        let key = convert::key(&request.get_ref().key)?;
        let reason: Text = decode::id(&request.get_ref().reason, "reason")?;
        if reason.is_empty() {
            return Err(FieldError::new("reason", "must not be empty: it is kept for the audit").into());
        }
        match self.submit(Command::Replace { key, reason }).await? {
            Reply::Ended(license) => {
                tracing::info!(%license, "activation replaced");
                Ok(Response::new(pb::ReplaceActivationResponse { license: license.to_string() }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn offer_trial(&self, request: Request<pb::OfferTrialRequest>) -> Answer<pb::OfferTrialResponse> {
        let offer = convert::offer(request.get_ref().trial.as_ref())?;
        self.submit(Command::OfferTrial(offer)).await?;
        Ok(Response::new(pb::OfferTrialResponse {}))
    }

    async fn withdraw_trial(
        &self,
        request: Request<pb::WithdrawTrialRequest>,
    ) -> Answer<pb::WithdrawTrialResponse> {
        let sku = decode::id(&request.get_ref().sku, "sku")?;
        self.submit(Command::WithdrawTrial(sku)).await?;
        Ok(Response::new(pb::WithdrawTrialResponse {}))
    }

    async fn list_trials(&self, _: Request<pb::ListTrialsRequest>) -> Answer<pb::ListTrialsResponse> {
        let trials = self.state().trials.values().map(convert::trial).collect();
        Ok(Response::new(pb::ListTrialsResponse { trials }))
    }

    async fn list_audit(&self, request: Request<pb::ListAuditRequest>) -> Answer<pb::ListAuditResponse> {
        let message = request.get_ref();
        let before = decode::page(&message.page_token)?.unwrap_or(u64::MAX);
        let size = decode::page_size(message.page_size, DEFAULT_AUDIT, MAX_AUDIT_PAGE);
        let state = self.state();
        let mut found = state.audited(before);
        let entries: Vec<_> = found.by_ref().take(size).map(|(n, entry)| convert::audit(n, entry)).collect();
        let last = entries.last().map(|entry| entry.number.to_string());
        let next_page_token = found.next().and(last).unwrap_or_default();
        Ok(Response::new(pb::ListAuditResponse { entries, next_page_token }))
    }
}
