//! Answers on stdout: tables for people, JSON for machines.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use headroom_proto::licensing as pb;
use serde_json::{Value, json};

/// Writes to stdout. A reader that has seen enough is no error.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes JSON, one line.
pub(crate) fn write_json(value: &Value) -> io::Result<()> {
    write(&format!("{value}\n"))
}

fn feature(grant: &pb::FeatureGrant) -> String {
    match grant.overdraft {
        0 => format!("{}={}", grant.feature, grant.quantity),
        overdraft => format!("{}={}+{overdraft}", grant.feature, grant.quantity),
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn date(millis: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(millis);
    at.map_or_else(|_| millis.to_string(), |at| at.strftime("%Y-%m-%d %H:%MZ").to_string())
}

/// Issued licenses.
pub(crate) fn licenses(answer: &pb::ListLicensesResponse, json: bool) -> io::Result<()> {
    if json {
        let licenses = answer.licenses.iter().map(|license| {
            let features = license.features.iter().map(|grant| {
                json!({"feature": grant.feature, "quantity": grant.quantity, "overdraft": grant.overdraft})
            });
            json!({
                "license": license.license,
                "sku": license.sku,
                "customer": license.customer,
                "fingerprint": license.fingerprint,
                "issued_at_ms": license.issued_at_ms,
                "features": features.collect::<Vec<_>>(),
            })
        });
        return write_json(&json!({"licenses": licenses.collect::<Vec<_>>()}));
    }
    if answer.licenses.is_empty() {
        return write("No license has been issued.\n");
    }
    let mut table = table(&["LICENSE", "ISSUED", "FEATURES", "SKU", "CUSTOMER", "MACHINE"]);
    for license in &answer.licenses {
        let features: Vec<String> = license.features.iter().map(feature).collect();
        // The end of a fingerprint tells machines apart; the whole is in the JSON.
        let machine: String = license.fingerprint.chars().rev().take(8).collect();
        table.add_row([
            license.license.clone(),
            date(license.issued_at_ms),
            features.join(" "),
            license.sku.clone(),
            license.customer.clone(),
            format!("…{}", machine.chars().rev().collect::<String>()),
        ]);
    }
    write(&format!("{}\n", table.trim_fmt()))
}

/// Public keys.
pub(crate) fn keys(answer: &pb::ListSigningKeysResponse, json: bool) -> io::Result<()> {
    if json {
        let keys = answer
            .keys
            .iter()
            .map(|key| json!({"key_id": key.key_id, "public_key": hex::encode(&key.public_key)}));
        return write_json(&json!({"keys": keys.collect::<Vec<_>>()}));
    }
    let mut table = table(&["KEY", "PUBLIC KEY"]);
    for key in &answer.keys {
        table.add_row([key.key_id.clone(), hex::encode(&key.public_key)]);
    }
    write(&format!("{}\n", table.trim_fmt()))
}
