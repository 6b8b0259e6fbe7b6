//! Answers on stdout: tables for people, JSON for machines.

use std::io;

use comfy_table::{Table, presets};
use headroom_proto::licensing as pb;
use headroom_shared::json;
use headroom_shared::print::{line, word, write};
use prost::Message;
use serde_json::Value;

/// What was done: JSON, or the text for people.
pub(crate) fn done(json: bool, value: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    Ok(if json { line(value.to_string()) } else { write(&text()) }?)
}

fn features(grants: &[pb::FeatureGrant]) -> String {
    let feature = |grant: &pb::FeatureGrant| match grant.overdraft {
        0 => format!("{}={}", grant.feature, grant.quantity),
        overdraft => format!("{}={}+{overdraft}", grant.feature, grant.quantity),
    };
    grants.iter().map(feature).collect::<Vec<_>>().join(" ")
}

/// A list: JSON, a table, or the sentence that there is nothing.
fn list<M: Message, const N: usize>(
    (name, answer, json): (&str, &M, bool),
    nothing: &str,
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> io::Result<()> {
    if json {
        return line(json::of(&format!("headroom.licensing.v1.{name}"), answer).to_string());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    if table.is_empty() { line(nothing) } else { line(table.trim_fmt()) }
}

fn date(millis: i64) -> String {
    if millis == 0 {
        return "-".into();
    }
    let at = jiff::Timestamp::from_millisecond(millis);
    at.map_or_else(|_| millis.to_string(), |at| at.strftime("%Y-%m-%d %H:%MZ").to_string())
}

/// The end of a fingerprint tells machines apart; the whole is in the JSON.
fn machine(fingerprint: &str) -> String {
    let end: Vec<char> = fingerprint.chars().rev().take(8).collect();
    if end.is_empty() { "-".into() } else { format!("…{}", end.into_iter().rev().collect::<String>()) }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

/// Licenses with their machines.
pub(crate) fn activations(answer: &pb::ListActivationsResponse, json: bool) -> io::Result<()> {
    let rows = answer.activations.iter().map(|activation| {
        let terms = activation.terms.clone().unwrap_or_default();
        [
            activation.license.clone(),
            word(activation.state().as_str_name(), "ACTIVATION_STATE_"),
            or_dash(&activation.key),
            machine(&activation.fingerprint),
            features(&terms.features),
            or_dash(&terms.customer),
            date(activation.activated_at_ms),
            date(activation.heard_at_ms),
            activation.repairs.to_string(),
            activation.resynchronized.to_string(),
            or_dash(&activation.reason),
        ]
    });
    let header = [
        "LICENSE",
        "STATE",
        "KEY",
        "MACHINE",
        "FEATURES",
        "CUSTOMER",
        "ACTIVATED",
        "LAST HEARD",
        "REPAIRS",
        "RESYNCS",
        "REASON",
    ];
    list(("ListActivationsResponse", answer, json), "No license was activated or issued.", header, rows)
}

/// Entitlement keys.
pub(crate) fn keys(answer: &pb::ListKeysResponse, json: bool) -> io::Result<()> {
    let rows = answer.keys.iter().map(|key| {
        let terms = key.terms.clone().unwrap_or_default();
        let state = match (key.revoked_at_ms, key.active.as_str()) {
            (0, "") => "free".into(),
            (0, license) => format!("active: {license}"),
            _ => format!("revoked {}", date(key.revoked_at_ms)),
        };
        let until = match (terms.not_after_ms, terms.grace_days) {
            (end, 0) => date(end),
            (end, days) => format!("{} + {days} d", date(end)),
        };
        [
            key.key.clone(),
            state,
            features(&terms.features),
            until,
            terms.sku,
            terms.customer,
            machine(&key.assigned),
        ]
    });
    let header = ["KEY", "STATE", "FEATURES", "VALID UNTIL", "SKU", "CUSTOMER", "ASSIGNED"];
    list(("ListKeysResponse", answer, json), "No key was created.", header, rows)
}

/// Customers.
pub(crate) fn customers(answer: &pb::ListCustomersResponse, json: bool) -> io::Result<()> {
    let rows = answer.customers.iter().map(|c| [c.name.clone(), c.reference.clone(), date(c.added_at_ms)]);
    list(
        ("ListCustomersResponse", answer, json),
        "No customer was added.",
        ["NAME", "REFERENCE", "ADDED"],
        rows,
    )
}

/// Products that can be tried.
pub(crate) fn trials(answer: &pb::ListTrialsResponse, json: bool) -> io::Result<()> {
    let rows = answer.trials.iter().map(|trial| [trial.sku.clone(), features(&trial.features)]);
    list(("ListTrialsResponse", answer, json), "No product can be tried.", ["SKU", "FEATURES"], rows)
}

/// Public keys.
pub(crate) fn signing_keys(answer: &pb::ListSigningKeysResponse, json: bool) -> io::Result<()> {
    let rows = answer
        .keys
        .iter()
        .map(|key| [key.key_id.clone(), date(key.added_at_ms), hex::encode(&key.public_key)]);
    list(("ListSigningKeysResponse", answer, json), "No signing key.", ["KEY", "ADDED", "PUBLIC KEY"], rows)
}

/// What was asked.
pub(crate) fn audit(answer: &pb::ListAuditResponse, json: bool) -> io::Result<()> {
    let rows = answer.entries.iter().map(|entry| {
        [
            entry.number.to_string(),
            date(entry.at_ms),
            entry.source.clone(),
            or_dash(&entry.asked),
            or_dash(&entry.subject),
            or_dash(&entry.machine),
            entry.outcome.clone(),
        ]
    });
    let header = ["#", "AT", "FROM", "ASKED", "ABOUT", "MACHINE", "OUTCOME"];
    list(("ListAuditResponse", answer, json), "Nothing was asked.", header, rows)
}
