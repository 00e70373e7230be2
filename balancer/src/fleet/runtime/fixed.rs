//! Replicas that somebody else runs, at addresses that the configuration lists: nothing is started, and nothing
//! stopped. They are heartbeaten, flatlined and taken back into service like any other; a "respawn" is only the
//! next attempt to reach one.
//!
//! A replica's name is its address as the configuration writes it, so that there is no second list to keep in step
//! when that one changes. `/add` cannot name one: its names have no colon.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Found, Runtime, RuntimeError};
use crate::fleet::state::{Handle, Instance, Running};

/// See the module.
#[derive(Debug, Default)]
pub struct FixedRuntime {
    present: Mutex<BTreeMap<String, Instance>>,
}

impl FixedRuntime {
    fn present(&self) -> MutexGuard<'_, BTreeMap<String, Instance>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn running(name: &str) -> Option<Running> {
    Some(Running { address: name.parse().ok()?, handle: Handle::Upstream(name.to_owned()) })
}

impl Runtime for FixedRuntime {
    fn name(&self) -> &'static str {
        "static"
    }

    async fn prepare(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn vet(&self, names: &[String]) -> Result<(), RuntimeError> {
        match names.iter().find(|name| running(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(RuntimeError::NotListed { name: name.clone() }),
        }
    }

    async fn spawn(&self, instance: &Instance) -> Result<Running, RuntimeError> {
        let running = running(&instance.name);
        let running = running.ok_or_else(|| RuntimeError::NotListed { name: instance.name.clone() })?;
        self.present().insert(instance.name.clone(), instance.clone());
        Ok(running)
    }

    async fn stop(&self, instance: &Instance, _grace: Duration) -> Result<(), RuntimeError> {
        let mut present = self.present();
        if present.get(&instance.name) == Some(instance) {
            present.remove(&instance.name);
        }
        Ok(())
    }

    async fn own_addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    async fn clean_up(&self) {}

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let found =
            |instance: &Instance| Found { instance: instance.clone(), running: running(&instance.name) };
        Ok(self.present().values().map(found).collect())
    }
}
