//! Answers on stdout: tables for people, JSON for machines.

use std::io;

use comfy_table::{Table, presets};
use headroom_proto::licensing as pb;
use headroom_shared::json;
use headroom_shared::print::line;
use serde_json::Value;

/// Writes JSON, one line.
pub(crate) fn write_json(value: &Value) -> io::Result<()> {
    line(value.to_string())
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
        return write_json(&json::of("headroom.licensing.v1.ListLicensesResponse", answer));
    }
    if answer.licenses.is_empty() {
        return line("No license has been issued.");
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
    line(table.trim_fmt())
}

/// Public keys.
pub(crate) fn keys(answer: &pb::ListSigningKeysResponse, json: bool) -> io::Result<()> {
    if json {
        return write_json(&json::of("headroom.licensing.v1.ListSigningKeysResponse", answer));
    }
    let mut table = table(&["KEY", "PUBLIC KEY"]);
    for key in &answer.keys {
        table.add_row([key.key_id.clone(), hex::encode(&key.public_key)]);
    }
    line(table.trim_fmt())
}
