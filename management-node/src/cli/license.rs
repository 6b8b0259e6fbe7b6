//! `license …` and `test-mode …`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use headroom_core::activation::MAX_XML;
use headroom_proto::admin as pb;
use headroom_proto::admin::license_service_client::LicenseServiceClient;
use headroom_shared::{json, print, rpc, tls};
use tonic::transport::Channel;

use super::{plain, show};
use crate::output;

const EXAMPLES: &str = "With a network:\n  \
    management-node license add KEY\n\n\
    Without one:\n  \
    management-node license add KEY --manual\n  \
    management-node license export --out request.xml      (have it answered: licensing-server answer)\n  \
    management-node license complete activation.xml\n\n\
    To another machine:\n  \
    management-node license return LICENSE                (there: license add KEY)\n\n\
    When something is wrong:\n  \
    management-node license check";

/// What to do with licenses.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum License {
    /// Activate an entitlement key; without a network the request is stored
    Add {
        /// The key
        key: String,
        /// Only store the request, to be carried by hand
        #[arg(long)]
        manual: bool,
    },
    /// Install a license file
    Install {
        /// The file
        file: PathBuf,
    },
    /// List licenses with their states, and stored requests
    List,
    /// Show one license, all of it
    Show {
        /// The license or its key
        license: String,
    },
    /// Write a stored request's XML, for somebody who has it answered
    Export {
        /// The request, its key or its license [default: the only one]
        #[arg(default_value = "")]
        request: String,
        /// Where to write it: a new file, or `-` for standard output
        #[arg(long, value_name = "FILE|-", default_value = "-")]
        out: PathBuf,
    },
    /// Complete a stored request with the XML that answers it
    Complete {
        /// The answer, or `-` for standard input
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
    },
    /// Withdraw a stored request
    Cancel {
        /// The request, its key or its license [default: the only one]
        #[arg(default_value = "")]
        request: String,
    },
    /// Return a license, so that its key can be activated on another machine; it counts nothing from now on
    Return {
        /// The license
        license: String,
        /// Only store the request, to be carried by hand
        #[arg(long)]
        manual: bool,
    },
    /// Bind the licenses to this machine again, after it changed
    Repair {
        /// Only store the request, to be carried by hand
        #[arg(long)]
        manual: bool,
    },
    /// Ask the licensing server what has changed, as happens once a day
    Refresh {
        /// Only store the request, to be carried by hand
        #[arg(long)]
        manual: bool,
    },
    /// Download what is assigned to this machine, list what can be tried, or begin a trial
    Fetch {
        /// The product to try for three months, once per machine
        #[arg(long, value_name = "PRODUCT", default_value = "")]
        trial: String,
        /// Only store the request, to be carried by hand
        #[arg(long)]
        manual: bool,
    },
    /// Delete a license that was installed from a file
    Delete {
        /// The license
        license: String,
    },
    /// Walk through what can be wrong, and say what to do
    Check,
}

/// What to do with test mode.
#[derive(Debug, Subcommand)]
pub enum TestMode {
    /// Everything is licensed without limits for 8 hours
    On,
    /// Licenses count again
    Off,
    /// Whether it is on, and for how long
    Status,
}

type Licenses = LicenseServiceClient<Channel>;

async fn connect(state: &Path) -> anyhow::Result<Licenses> {
    let channel = rpc::unix_channel(&state.join(crate::deployment::SOCKET)).await?;
    Ok(LicenseServiceClient::new(channel).max_decoding_message_size(64 * rpc::MAX_MESSAGE))
}

/// Does what is asked of licenses.
pub(super) async fn ask(state: &Path, json: bool, command: License) -> anyhow::Result<()> {
    let mut licenses = connect(state).await?;
    match command {
        License::Install { file } => {
            let document = std::fs::read(&file).with_context(|| file.display().to_string())?;
            let answer =
                licenses.install_license(pb::InstallLicenseRequest { document }).await.map_err(plain)?;
            let answer = answer.into_inner();
            show(json, json::of("headroom.admin.v1.InstallLicenseResponse", &answer), || {
                output::licenses(answer.license.as_slice())
            })
        }
        License::List => {
            let answer = list(&mut licenses).await?;
            show(json, json::of("headroom.admin.v1.ListLicensesResponse", &answer), || {
                output::licenses(&answer.licenses)?;
                output::requests(&answer.requests)
            })
        }
        License::Show { license } => {
            let found = list(&mut licenses).await?.licenses;
            let found = found.into_iter().find(|its| its.license == license || its.key == license);
            let found = found.with_context(|| format!("there is no license {license}"))?;
            show(json, json::of("headroom.admin.v1.License", &found), || output::license(&found))
        }
        License::Export { request, out } => export(&mut licenses, json, request, &out).await,
        License::Cancel { request } => {
            licenses.cancel_request(pb::CancelRequestRequest { request }).await.map_err(plain)?;
            show(json, serde_json::json!({}), || print::line("the request is withdrawn"))
        }
        License::Delete { license } => {
            let request = pb::DeleteLicenseRequest { license: license.clone() };
            licenses.delete_license(request).await.map_err(plain)?;
            show(json, serde_json::json!({ "license": license }), || {
                print::line(format!("deleted {license}"))
            })
        }
        License::Check => {
            let answer =
                licenses.check_licenses(pb::CheckLicensesRequest {}).await.map_err(plain)?.into_inner();
            show(json, json::of("headroom.admin.v1.CheckLicensesResponse", &answer), || {
                output::check(&answer)
            })?;
            let failed = answer.steps.iter().filter(|step| step.result() == pb::CheckResult::Failed).count();
            if failed > 0 { bail!("{failed} steps of the check failed") } else { Ok(()) }
        }
        other => settle(&mut licenses, json, other).await,
    }
}

async fn list(licenses: &mut Licenses) -> anyhow::Result<pb::ListLicensesResponse> {
    Ok(licenses.list_licenses(pb::ListLicensesRequest {}).await.map_err(plain)?.into_inner())
}

async fn export(licenses: &mut Licenses, json: bool, request: String, out: &Path) -> anyhow::Result<()> {
    let to_file = out.as_os_str() != "-";
    if to_file {
        tls::check_new(out)
            .with_context(|| format!("--out: nothing was exported; cannot write {}", out.display()))?;
    }
    let answer =
        licenses.export_request(pb::ExportRequestRequest { request }).await.map_err(plain)?.into_inner();
    let xml = String::from_utf8(answer.document).context("the request is no text")?;
    if !to_file {
        return show(json, serde_json::json!({ "document": xml }), || print::write(&xml));
    }
    tls::write_secret(out, xml.as_bytes()).with_context(|| out.display().to_string())?;
    show(json, serde_json::json!({ "file": out }), || {
        print::line(format!("wrote {}; have it answered, then: license complete FILE", out.display()))
    })
}

/// What the licensing server settles, now or later.
async fn settle(licenses: &mut Licenses, json: bool, command: License) -> anyhow::Result<()> {
    let settlement = match command {
        License::Add { key, manual } => {
            let answer = licenses.add_license(pb::AddLicenseRequest { key, manual }).await;
            answer.map_err(plain)?.into_inner().settlement
        }
        License::Return { license, manual } => {
            let answer = licenses.return_license(pb::ReturnLicenseRequest { license, manual }).await;
            answer.map_err(plain)?.into_inner().settlement
        }
        License::Repair { manual } => {
            let answer = licenses.repair_licenses(pb::RepairLicensesRequest { manual }).await;
            answer.map_err(plain)?.into_inner().settlement
        }
        License::Refresh { manual } => {
            let answer = licenses.refresh_licenses(pb::RefreshLicensesRequest { manual }).await;
            answer.map_err(plain)?.into_inner().settlement
        }
        License::Fetch { trial, manual } => {
            let answer = licenses.fetch_licenses(pb::FetchLicensesRequest { trial, manual }).await;
            answer.map_err(plain)?.into_inner().settlement
        }
        License::Complete { file } => {
            let document = print::read(&file, MAX_XML).with_context(|| file.display().to_string())?;
            let answer = licenses.complete_request(pb::CompleteRequestRequest { document }).await;
            answer.map_err(plain)?.into_inner().settlement
        }
        _ => unreachable!("handled before"),
    };
    let settlement = settlement.unwrap_or_default();
    let refused = !settlement.refusal.is_empty();
    let refusal = format!("{}: {}", settlement.refusal, settlement.text);
    if json || !refused {
        show(json, json::of("headroom.admin.v1.Settlement", &settlement), || {
            output::settlement(&settlement)
        })?;
    }
    if refused { bail!("the licensing server refused: {refusal}") } else { Ok(()) }
}

/// Does what is asked of test mode.
pub(super) async fn test_mode(state: &Path, json: bool, command: TestMode) -> anyhow::Result<()> {
    let mut licenses = connect(state).await?;
    let test_mode = match command {
        TestMode::Status => {
            let answer = licenses.get_test_mode(pb::GetTestModeRequest {}).await.map_err(plain)?;
            answer.into_inner().test_mode
        }
        TestMode::On | TestMode::Off => {
            let on = matches!(command, TestMode::On);
            let answer = licenses.set_test_mode(pb::SetTestModeRequest { on }).await.map_err(plain)?;
            answer.into_inner().test_mode
        }
    };
    let test_mode = test_mode.unwrap_or_default();
    show(json, json::of("headroom.admin.v1.TestMode", &test_mode), || output::test_mode(&test_mode))
}
