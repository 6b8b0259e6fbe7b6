//! What an administrator does to a pool.

use headroom_core::fingerprint::Fingerprint;
use headroom_core::time::BootId;
use headroom_core::{Charge, LegId, Millis, NodeName, Now, Shared};

use crate::activation::{hear_time, set_clock};
use crate::command::Refusal;
use crate::event::Event;
use crate::license_clock::LicenseClock;
use crate::liveness::Settings;
use crate::machine::PoolTx;
use crate::session::holders_of;
use crate::state::{CertificateHash, EndedHow, Installed, LeaseKey};

pub(crate) fn start(
    tx: &mut PoolTx<'_>,
    now: Now,
    settings: Settings,
    fingerprint: Fingerprint,
    boot_id: BootId,
) {
    tx.volatile_mut().settings = settings;
    match tx.state().clock {
        None => set_clock(tx, LicenseClock::first(now, boot_id), Millis(0)),
        Some(clock) if clock.boot_id != boot_id => {
            let (clock, leap) = clock.rebooted(now, boot_id);
            set_clock(tx, clock, leap);
        }
        Some(_) => {}
    }
    if tx.state().fingerprint.as_ref() != Some(&fingerprint) {
        tx.emit(Event::Identified(fingerprint));
    }
}

pub(crate) fn install_license(tx: &mut PoolTx<'_>, now: Now, installed: Installed) -> Result<(), Refusal> {
    let document = &installed.document;
    // What came by an activation goes by a return; taken out of its answer it would stay for ever.
    if installed.activated() {
        return Err(Refusal::NeedsItsAnswer(document.license.clone()));
    }
    if let Some(before) = tx.state().licenses.get(&document.license) {
        return if before.signed == installed.signed {
            Ok(())
        } else {
            Err(Refusal::LicenseExists(document.license.clone()))
        };
    }
    if let Some(here) = &tx.state().fingerprint
        && !here.matches(&document.fingerprint)
    {
        return Err(Refusal::OtherMachine {
            bound: Box::new(document.fingerprint.clone()),
            here: Box::new(here.clone()),
        });
    }
    let issued_at = document.issued_at;
    tx.emit(Event::LicenseInstalled(Shared::new(installed)));
    hear_time(tx, now, issued_at, false);
    Ok(())
}

pub(crate) fn add_node(
    tx: &mut PoolTx<'_>,
    at: Millis,
    node: NodeName,
    certificate: CertificateHash,
) -> Result<(), Refusal> {
    if tx.state().nodes.get(&node).is_some_and(|record| record.removed_at.is_none()) {
        return Err(Refusal::NodeExists(node));
    }
    if let Some(owner) = tx.state().certificates.get(&certificate) {
        return Err(Refusal::CertificateTaken(owner.clone()));
    }
    tx.emit(Event::NodeAdded { node, certificate, at });
    Ok(())
}

/// Removes a node; every lease of its identity is released at once.
pub(crate) fn remove_node(tx: &mut PoolTx<'_>, at: Millis, node: &NodeName) -> Result<u64, Refusal> {
    if tx.state().nodes.get(node).is_none_or(|record| record.removed_at.is_some()) {
        return Err(Refusal::NoSuchNode(node.clone()));
    }
    let holders: Vec<_> = holders_of(tx.state(), node).map(|(id, _)| id).collect();
    let mut released = 0;
    for holder in holders {
        let keys: Vec<_> = tx.state().leases.of_holder(holder).map(|(key, _)| key).collect();
        for key in keys {
            released += 1;
            tx.emit(Event::LeaseEnded { key, how: EndedHow::NodeRemoved, at });
        }
        let live = tx.volatile_mut();
        live.heard.remove(&holder);
        live.optimistic.remove(&holder);
        live.slots.free(holder);
    }
    tx.emit(Event::NodeRemoved { node: node.clone(), at });
    Ok(released)
}

/// Takes a lease back; its node is told with the next heartbeat.
pub(crate) fn force_release(
    tx: &mut PoolTx<'_>,
    at: Millis,
    node: &NodeName,
    leg: &LegId,
) -> Result<Charge, Refusal> {
    if !tx.state().nodes.contains_key(node) {
        return Err(Refusal::NoSuchNode(node.clone()));
    }
    let found = holders_of(tx.state(), node)
        .find_map(|(holder, _)| tx.state().lease(holder, leg).map(|lease| (holder, lease.charge)));
    let (holder, charge) =
        found.ok_or_else(|| Refusal::NoSuchLease { node: node.clone(), leg: leg.clone() })?;
    let key = LeaseKey { holder, leg: leg.clone() };
    tx.emit(Event::LeaseEnded { key, how: EndedHow::Forced, at });
    Ok(charge)
}
