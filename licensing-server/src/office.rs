//! The service: checks what is asked, signs, registers, answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use headroom_core::license::{
    LicenseDocument, LicensedFeature, MAX_FEATURES, Metric, Nonce, SignedLicense, SigningKey, sign,
};
use headroom_core::time::Clock;
use headroom_core::{Feature, LicenseId, Millis, Units};
use headroom_proto::licensing as pb;
use headroom_proto::licensing::licensing_service_server::LicensingService;
use headroom_shared::clock::SystemClock;
use headroom_shared::committer::{self, Committer, Handle};
use headroom_shared::convert::{FieldError, decode};
use headroom_shared::status;
use licensing_core::{Command, Issued, Refusal, Register, Reply};
use tonic::{Code, Request, Response, Status};

use crate::folder::Folder;

/// How often a fresh id is drawn when one is taken, which takes a coincidence of 48 random bits.
const ATTEMPTS: usize = 3;
/// How long a trial lasts when nobody says otherwise, in months.
const TRIAL_MONTHS: i64 = 3;

/// Signs and registers licenses. Cheap to clone.
#[derive(Clone)]
pub struct Office {
    register: Handle<Register>,
    key: SigningKey,
    clock: Arc<dyn Clock>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Office {
    /// Opens the register of a folder, in this process.
    ///
    /// # Errors
    /// When the folder is not usable, for example because a service uses it.
    pub async fn open(folder: &Folder) -> anyhow::Result<(Self, Committer)> {
        let (key, log) = (folder.signing_key()?, folder.log()?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (register, committer) =
            committer::start::<Register>(log, Arc::clone(&clock), committer::Options::default())
                .context("cannot recover the register")?;
        register.submit(Command::AddKey(key.public_key())).await?;
        Ok((Self { register, key, clock }, committer))
    }

    fn document(&self, request: &pb::IssueLicenseRequest) -> Result<LicenseDocument, FieldError> {
        let now = self.clock.now().wall;
        decode::at_most(request.features.len(), MAX_FEATURES, "features")?;
        let not_before = if request.not_before_ms == 0 { now } else { Millis(request.not_before_ms) };
        let not_after = match request.not_after_ms {
            0 if request.trial => Some(trial_end(not_before)?),
            0 => None,
            end => Some(Millis(end)),
        };
        let fingerprint =
            request.fingerprint.parse().map_err(|error| FieldError::new("fingerprint", error))?;
        let (id, nonce) = draw(now).map_err(|error| FieldError::new("", error))?;
        let document = LicenseDocument {
            license: id,
            sku: decode::id(&request.sku, "sku")?,
            plan: decode::id(&request.plan, "plan")?,
            customer: decode::id(&request.customer, "customer")?,
            features: decode::items(&request.features, "features", licensed)?,
            not_before,
            not_after,
            trial: request.trial,
            fingerprint,
            machine_sequence: 0,
            nonce,
            issued_at: now,
        };
        document.check()?;
        Ok(document)
    }

    fn sign(&self, request: &pb::IssueLicenseRequest) -> Result<SignedLicense, Status> {
        let document = self.document(request)?;
        let signed =
            sign(document, &self.key).map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(signed.into_parts().1)
    }

    async fn issue(&self, request: &pb::IssueLicenseRequest) -> Result<Arc<Issued>, Status> {
        let mut taken = None;
        for _ in 0..ATTEMPTS {
            let signed = self.sign(request)?;
            match self.register.submit(Command::Register(signed)).await?.reply {
                Reply::Issued(issued) => return Ok(issued),
                Reply::Refused(refusal @ Refusal::IdTaken(_)) => taken = Some(refusal),
                other => return Err(Status::internal(format!("the register answered {other:?}"))),
            }
        }
        Err(Status::internal(taken.map(|refusal| refusal.to_string()).unwrap_or_default()))
    }

    fn keys(&self) -> pb::ListSigningKeysResponse {
        let view = self.register.view();
        let keys = view.state.keys().rev().map(|known| pb::SigningKey {
            key_id: known.key.id().to_string(),
            public_key: known.key.as_bytes().to_vec(),
        });
        pb::ListSigningKeysResponse { keys: keys.collect() }
    }
}

fn licensed(grant: &pb::FeatureGrant) -> Result<LicensedFeature, FieldError> {
    Ok(LicensedFeature {
        feature: decode::id::<Feature>(&grant.feature, "feature")?,
        // The only metric that is sold so far.
        metric: Metric::Concurrent,
        quantity: Units(grant.quantity),
        overdraft: Units(grant.overdraft),
        attributes: BTreeMap::new(),
    })
}

fn trial_end(begin: Millis) -> Result<Millis, FieldError> {
    let end = jiff::Timestamp::from_millisecond(begin.0).ok().and_then(|begin| {
        begin.to_zoned(jiff::tz::TimeZone::UTC).checked_add(jiff::Span::new().months(TRIAL_MONTHS)).ok()
    });
    end.map(|end| Millis(end.timestamp().as_millisecond()))
        .ok_or_else(|| FieldError::new("not_before_ms", "is too far in the future"))
}

/// A fresh id and nonce. Ids begin with the date, so that a list of them reads in order.
fn draw(now: Millis) -> anyhow::Result<(LicenseId, Nonce)> {
    let (mut random, mut nonce) = ([0; 6], [0; 16]);
    for bytes in [&mut random[..], &mut nonce[..]] {
        getrandom::fill(bytes).context("the system gives no random numbers")?;
    }
    let day = jiff::Timestamp::from_millisecond(now.0)?.strftime("%Y%m%d").to_string();
    Ok((LicenseId::new(&format!("L{day}-{}", hex::encode(random)))?, Nonce(nonce)))
}

fn listed(issued: &Issued) -> pb::IssuedLicense {
    let document = &issued.document;
    let features = document.features.iter().map(|licensed| pb::FeatureGrant {
        feature: licensed.feature.to_string(),
        quantity: licensed.quantity.0,
        overdraft: licensed.overdraft.0,
    });
    pb::IssuedLicense {
        license: document.license.to_string(),
        sku: document.sku.to_string(),
        customer: document.customer.to_string(),
        fingerprint: document.fingerprint.to_string(),
        issued_at_ms: document.issued_at.0,
        features: features.collect(),
    }
}

#[tonic::async_trait]
impl LicensingService for Office {
    async fn issue_license(
        &self,
        request: Request<pb::IssueLicenseRequest>,
    ) -> Answer<pb::IssueLicenseResponse> {
        let issued = self.issue(request.get_ref()).await?;
        tracing::info!(license = %issued.document.license, sku = %issued.document.sku, "license issued");
        Ok(Response::new(pb::IssueLicenseResponse {
            license: issued.document.license.to_string(),
            document: issued.signed.to_file().into_bytes(),
        }))
    }

    async fn list_licenses(&self, _: Request<pb::ListLicensesRequest>) -> Answer<pb::ListLicensesResponse> {
        let licenses = self.register.view().state.licenses().map(listed).collect();
        Ok(Response::new(pb::ListLicensesResponse { licenses }))
    }

    async fn list_signing_keys(
        &self,
        _: Request<pb::ListSigningKeysRequest>,
    ) -> Answer<pb::ListSigningKeysResponse> {
        Ok(Response::new(self.keys()))
    }
}

/// What strangers may see: the public keys.
#[derive(Clone)]
pub struct Counter(pub Office);

fn closed() -> Status {
    let text = "served on the licensing server's Unix socket only";
    status::reasoned(Code::PermissionDenied, "SOCKET_ONLY", text)
}

#[tonic::async_trait]
impl LicensingService for Counter {
    async fn issue_license(&self, _: Request<pb::IssueLicenseRequest>) -> Answer<pb::IssueLicenseResponse> {
        Err(closed())
    }

    async fn list_licenses(&self, _: Request<pb::ListLicensesRequest>) -> Answer<pb::ListLicensesResponse> {
        Err(closed())
    }

    async fn list_signing_keys(
        &self,
        request: Request<pb::ListSigningKeysRequest>,
    ) -> Answer<pb::ListSigningKeysResponse> {
        self.0.list_signing_keys(request).await
    }
}
