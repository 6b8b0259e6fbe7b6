//! What each command does.

use anyhow::{Context, bail};
use headroom_core::activation::MAX_XML;
use headroom_proto::licensing as pb;
use headroom_shared::print;
use headroom_shared::tls::{check_new, write_public};
use serde_json::json;
use tonic::{Response, Status};

use crate::cli::{Activation, Cli, Command, Customer, Issue, Key, SigningKey, Trial};
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
        Command::Init { names } => init(&folder, &names, json),
        Command::Serve(flags) => serve::serve(&folder, &flags, json).await,
        command => {
            check(&command)?;
            let desk = Desk::open(&folder).await?;
            // Shown even when the register does not close well: it is durable.
            let shown = ask(&desk, command, json).await;
            desk.close().await?;
            shown
        }
    }
}

/// What must be known before anything is made.
fn check(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Issue(flags) if flags.out.as_os_str() != "-" => check_new(&flags.out)
            .with_context(|| format!("--out: no license was issued; cannot write {}", flags.out.display())),
        _ => Ok(()),
    }
}

/// An answer, or its refusal without the transport's wrapping.
fn told<T>(answer: Result<Response<T>, Status>) -> anyhow::Result<T> {
    answer.map(Response::into_inner).map_err(|status| anyhow::anyhow!("{}", status.message()))
}

async fn ask(desk: &Desk, command: Command, json: bool) -> anyhow::Result<()> {
    let (mut licensing, mut activation) = (desk.licensing(), desk.activation());
    match command {
        Command::Customer(command) => customer(desk, command, json).await,
        Command::Key(command) => key(desk, command, json).await,
        Command::Trial(command) => trial(desk, command, json).await,
        Command::Activation(Activation::List) => {
            let answer = told(licensing.list_activations(pb::ListActivationsRequest {}).await)?;
            Ok(output::activations(&answer, json)?)
        }
        Command::Activation(Activation::Replace { key, reason }) => {
            let request = pb::ReplaceActivationRequest { key: key.to_string(), reason: reason.to_string() };
            let license = told(licensing.replace_activation(request).await)?.license;
            output::done(json, &json!({"license": license}), || {
                format!("License {license} ended; {key} can be activated on another machine.\n")
            })
        }
        Command::Answer { request } => {
            let document = print::read(&request, MAX_XML)
                .with_context(|| format!("cannot read {}", request.display()))?;
            let answer = told(activation.answer_machine(pb::AnswerMachineRequest { document }).await)?;
            let xml = String::from_utf8(answer.document).context("the answer is no text")?;
            output::done(json, &json!({"document": xml}), || xml.clone())
        }
        Command::Issue(flags) => issue(desk, flags, json).await,
        Command::SigningKey(SigningKey::List) => {
            let answer = told(activation.list_signing_keys(pb::ListSigningKeysRequest {}).await)?;
            Ok(output::signing_keys(&answer, json)?)
        }
        Command::SigningKey(SigningKey::Rotate) => {
            let answer = told(licensing.rotate_signing_key(pb::RotateSigningKeyRequest {}).await)?;
            let key = answer.key.unwrap_or_default().key_id;
            output::done(json, &json!({"key_id": key}), || {
                format!(
                    "Signing with {key} from now on. Machines learn it with their next answer; vendor.pub has it \
                     for new ones.\nThe old secret key is gone: keep a copy of the folder.\n"
                )
            })
        }
        Command::Audit { limit } => {
            let request = pb::ListAuditRequest { page_size: limit, page_token: String::new() };
            Ok(output::audit(&told(licensing.list_audit(request).await)?, json)?)
        }
        Command::Init { .. } | Command::Serve(_) => unreachable!("handled without a desk"),
    }
}

async fn customer(desk: &Desk, command: Customer, json: bool) -> anyhow::Result<()> {
    let mut licensing = desk.licensing();
    match command {
        Customer::Add { name, reference } => {
            let request = pb::AddCustomerRequest { name: name.to_string(), reference: reference.to_string() };
            told(licensing.add_customer(request).await)?;
            output::done(json, &json!({"name": name.as_str()}), || format!("Added customer {name}.\n"))
        }
        Customer::List => {
            let answer = told(licensing.list_customers(pb::ListCustomersRequest {}).await)?;
            Ok(output::customers(&answer, json)?)
        }
    }
}

async fn key(desk: &Desk, command: Key, json: bool) -> anyhow::Result<()> {
    let mut licensing = desk.licensing();
    let changed = match command {
        Key::Create { terms, assign } => {
            let fingerprint = assign.map(|machine| machine.to_string()).unwrap_or_default();
            let request = pb::CreateKeyRequest { terms: Some(terms.message(false)), fingerprint };
            let key = told(licensing.create_key(request).await)?.key;
            return output::done(json, &json!({"key": key}), || format!("{key}\n"));
        }
        Key::List { customer } => {
            let request = pb::ListKeysRequest { customer: customer.to_string() };
            return Ok(output::keys(&told(licensing.list_keys(request).await)?, json)?);
        }
        Key::Change { key, features, not_after, grace_days } => {
            let not_after_ms = not_after.map(|end| end.0.map_or(0, |at| at.0));
            let request = pb::ChangeKeyRequest { key: key.to_string(), features, not_after_ms, grace_days };
            told(licensing.change_key(request).await)?.key
        }
        Key::Revoke { key, reason } => {
            let request = pb::RevokeKeyRequest { key: key.to_string(), reason: reason.to_string() };
            told(licensing.revoke_key(request).await)?.key
        }
    };
    Ok(output::keys(&pb::ListKeysResponse { keys: changed.into_iter().collect() }, json)?)
}

async fn trial(desk: &Desk, command: Trial, json: bool) -> anyhow::Result<()> {
    let mut licensing = desk.licensing();
    match command {
        Trial::Offer { sku, features } => {
            let trial = Some(pb::Trial { sku: sku.to_string(), features });
            told(licensing.offer_trial(pb::OfferTrialRequest { trial }).await)?;
            output::done(json, &json!({"sku": sku.as_str()}), || {
                format!("{sku} can be tried: management-node license fetch --trial {sku}\n")
            })
        }
        Trial::Withdraw { sku } => {
            told(licensing.withdraw_trial(pb::WithdrawTrialRequest { sku: sku.to_string() }).await)?;
            output::done(json, &json!({"sku": sku.as_str()}), || format!("{sku} can be tried no more.\n"))
        }
        Trial::List => {
            Ok(output::trials(&told(licensing.list_trials(pb::ListTrialsRequest {}).await)?, json)?)
        }
    }
}

fn init(folder: &Folder, names: &[String], json: bool) -> anyhow::Result<()> {
    let key = folder.init(names)?;
    let (vendor_key, authority) = (folder.vendor_key(), folder.authority());
    let answer = json!({
        "state": folder.path(),
        "key_id": key.id().to_string(),
        "public_key": hex::encode(key.as_bytes()),
        "vendor_key": vendor_key,
        "authority": authority,
    });
    output::done(json, &answer, || {
        format!(
            "Made signing key {} and an empty register in {}.\n\
             Management nodes need two files of it, which are no secret: {} and {}\n\
             The folder holds the secret key: keep it safe, and keep a copy.\n",
            key.id(),
            folder.path().display(),
            vendor_key.display(),
            authority.display(),
        )
    })
}

async fn issue(desk: &Desk, flags: Issue, json: bool) -> anyhow::Result<()> {
    let fingerprint = flags.fingerprint.to_string();
    let request = pb::IssueLicenseRequest { fingerprint, terms: Some(flags.terms.message(flags.trial)) };
    let pb::IssueLicenseResponse { license, document } = told(desk.licensing().issue_license(request).await)?;
    let text = String::from_utf8(document).context("the license is no text")?;
    let out = &flags.out;
    if out.as_os_str() == "-" {
        return output::done(json, &json!({"license": license, "document": text}), || text.clone());
    }
    let file = out.display();
    if let Err(error) = write_public(out, text.as_bytes()) {
        // Signed and registered, so it must not get lost.
        print::write(&text)?;
        bail!("cannot write {file}: {error}. License {license} was issued and written to stdout instead");
    }
    output::done(json, &json!({"license": license, "file": out}), || {
        format!(
            "Issued license {license} to {file}. Install it there: management-node license install {file}\n"
        )
    })
}
