//! What each command does.

use std::path::Path;

use anyhow::{Context, bail};
use headroom_proto::licensing as pb;
use headroom_shared::tls::write_public;
use serde_json::json;
use tonic::Status;

use crate::cli::{Cli, Command, Issue};
use headroom_shared::print;

use crate::desk::Desk;
use crate::folder::Folder;
use crate::{output, serve};

/// Does what the command line says.
///
/// # Errors
/// What to tell the user.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let (folder, json) = (Folder::at(cli.state), cli.json);
    match cli.command {
        Command::Init => init(&folder, json),
        Command::Serve(flags) => serve::serve(&folder, &flags, json).await,
        Command::Issue(flags) => issue(&folder, flags, json).await,
        Command::List => {
            let mut desk = Desk::open(&folder).await?;
            let answer = desk.list().await.map_err(told);
            desk.close().await?;
            Ok(output::licenses(&answer?, json)?)
        }
        Command::Keys => {
            let mut desk = Desk::open(&folder).await?;
            let answer = desk.keys().await.map_err(told);
            desk.close().await?;
            Ok(output::keys(&answer?, json)?)
        }
    }
}

/// A refusal without the transport's wrapping.
fn told(status: Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

fn init(folder: &Folder, json: bool) -> anyhow::Result<()> {
    let key = folder.init()?;
    let path = folder.vendor_key();
    if json {
        let answer = json!({
            "state": folder.path(),
            "key_id": key.id().to_string(),
            "public_key": hex::encode(key.as_bytes()),
            "vendor_key": path,
        });
        return Ok(output::write_json(&answer)?);
    }
    Ok(print::write(&format!(
        "Made signing key {} and an empty register in {}.\n\
         Management nodes trust it by its public key: management-node init --vendor-key {}\n\
         The folder holds the secret key: keep it safe, and keep a copy.\n",
        key.id(),
        folder.path().display(),
        path.display(),
    ))?)
}

/// Refuses before anything is signed what would fail afterwards.
fn check_out(out: &Path) -> anyhow::Result<()> {
    if out.exists() {
        bail!("--out: {} exists already and is left alone; no license was issued", out.display());
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("--out: the folder {} does not exist; no license was issued", folder.display());
    }
    Ok(())
}

async fn issue(folder: &Folder, flags: Issue, json: bool) -> anyhow::Result<()> {
    let to_stdout = flags.out.as_os_str() == "-";
    if !to_stdout {
        check_out(&flags.out)?;
    }
    let request = pb::IssueLicenseRequest {
        fingerprint: flags.fingerprint.to_string(),
        sku: flags.sku.to_string(),
        plan: flags.plan.to_string(),
        customer: flags.customer.to_string(),
        features: flags.features,
        not_before_ms: flags.not_before.map_or(0, |at| at.0),
        not_after_ms: flags.not_after.map_or(0, |at| at.0),
        trial: flags.trial,
    };
    let mut desk = Desk::open(folder).await?;
    let answer = desk.issue(request).await.map_err(told);
    desk.close().await?;
    let pb::IssueLicenseResponse { license, document } = answer?;
    let text = String::from_utf8(document).context("the license is no text")?;
    if to_stdout {
        let answer = || output::write_json(&json!({"license": license, "document": text}));
        return Ok(if json { answer() } else { print::write(&text) }?);
    }
    let file = flags.out.display();
    if let Err(error) = write_public(&flags.out, text.as_bytes()) {
        // Signed and registered, so it must not get lost.
        print::write(&text)?;
        bail!("cannot write {file}: {error}. License {license} was issued and written to stdout instead");
    }
    if json {
        return Ok(output::write_json(&json!({"license": license, "file": flags.out}))?);
    }
    Ok(print::write(&format!(
        "Issued license {license} to {file}. Install it there: management-node license install {file}\n"
    ))?)
}
