//! The promises of the licensing server.

use std::collections::BTreeSet;

use headroom_core::LicenseId;

use super::Broken;
use crate::licenses;
use crate::vendor::SITE;
use crate::world::World;

impl World {
    /// I10: a key is active on one machine at most.
    pub(crate) fn keys_once(&self) -> Result<(), Broken> {
        let Some(register) = &self.vendor.process else { return Ok(()) };
        let mut keys = BTreeSet::new();
        let active = register.state().activations.values().filter(|activation| activation.ended.is_none());
        match active.filter_map(|activation| activation.key).find(|key| !keys.insert(*key)) {
            Some(key) => Err(("I10", format!("{} is active twice", key.hint()))),
            None => Ok(()),
        }
    }

    /// I10: a license whose return was confirmed is not active any more.
    pub(crate) fn is_returned(&self, license: Option<&LicenseId>) -> Result<(), Broken> {
        let Some(register) = &self.vendor.process else { return Ok(()) };
        let known = license.and_then(|license| register.state().activations.get(license));
        match known.filter(|activation| activation.ended.is_none()) {
            Some(activation) => {
                let license = &activation.document.license;
                Err(("I10", format!("the return of {license} is confirmed, and it is still active")))
            }
            None => Ok(()),
        }
    }

    /// I10: the register and the pool agree on which licenses are this machine's, each once.
    pub(crate) fn vendor_at_rest(&self) -> Result<(), String> {
        if self.plan.keys == 0 {
            return Ok(());
        }
        let Some(register) = &self.vendor.process else { return Err("the licensing server is down".into()) };
        let Some(pool) = &self.pool.process else { return Err("the pool is down".into()) };
        let machine = licenses::machine_key(SITE).public_key().id();
        let active = register.state().of_machine(machine).filter(|activation| activation.ended.is_none());
        let there: Vec<_> = active.map(|activation| activation.document.license.clone()).collect();
        let here: Vec<_> =
            pool.state().licenses.values().filter(|installed| installed.activated()).cloned().collect();
        let mut keys: Vec<_> = here.iter().filter_map(|installed| installed.key).collect();
        let here: Vec<_> = here.iter().map(|installed| installed.document.license.clone()).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() < count {
            return Err(format!("a key is activated twice: {keys:?}"));
        }
        if here != there || !pool.state().requests.is_empty() {
            return Err(format!("licenses here {here:?}, at the licensing server {there:?}"));
        }
        Ok(())
    }
}
