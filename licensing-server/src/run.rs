//! What each command does.

use std::path::Path;

use anyhow::{Context, bail};
use headroom_proto::licensing as pb;
use headroom_shared::print;
use headroom_shared::tls::{check_new, write_public};
use serde_json::json;
use tonic::Status;

use crate::cli::{Cli, Command, Issue};
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

async fn issue(folder: &Folder, flags: Issue, json: bool) -> anyhow::Result<()> {
    if flags.out.as_os_str() != "-" {
        check_new(&flags.out)
            .with_context(|| format!("--out: no license was issued; cannot write {}", flags.out.display()))?;
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
    // Shown even when the register does not close well: it is signed and registered.
    let shown = answer.and_then(|answer| hand_out(answer, &flags.out, json));
    desk.close().await?;
    shown
}

fn hand_out(issued: pb::IssueLicenseResponse, out: &Path, json: bool) -> anyhow::Result<()> {
    let pb::IssueLicenseResponse { license, document } = issued;
    let text = String::from_utf8(document).context("the license is no text")?;
    if out.as_os_str() == "-" {
        let answer = || output::write_json(&json!({"license": license, "document": text}));
        return Ok(if json { answer() } else { print::write(&text) }?);
    }
    let file = out.display();
    if let Err(error) = write_public(out, text.as_bytes()) {
        // Signed and registered, so it must not get lost.
        print::write(&text)?;
        bail!("cannot write {file}: {error}. License {license} was issued and written to stdout instead");
    }
    if json {
        return Ok(output::write_json(&json!({"license": license, "file": out}))?);
    }
    Ok(print::write(&format!(
        "Issued license {license} to {file}. Install it there: management-node license install {file}\n"
    ))?)
}
