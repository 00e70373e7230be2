//! Replicas that somebody else runs, at addresses that the configuration lists: nothing is started, and nothing
//! stopped. They are heartbeaten, flatlined and taken back into service like any other; a "respawn" is only the
//! next attempt to reach one.
//!
//! A replica's name is its address as the configuration writes it, so that there is no second list to keep in step
//! when that one changes. `/add` cannot name one: its names have no colon. Those that are given with names of their own
//! (an overlay's processes on other machines) are looked up by them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Found, Runtime, RuntimeError};
use crate::config::FixedMember;
use crate::fleet::state::{Handle, Instance, Running};

/// How long it may take to find a host's address.
const LOOKING_UP: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub struct FixedRuntime {
    /// Host and port of those that are not called by their address.
    places: BTreeMap<String, (String, u16)>,
    present: Mutex<BTreeMap<String, Found>>,
}

impl FixedRuntime {
    /// Those of an overlay's processes that are on other machines.
    pub fn elsewhere(members: &[FixedMember]) -> Self {
        let elsewhere = members.iter().filter(|member| !member.is_here);
        let place = |member: &FixedMember| (member.name.clone(), (member.host.clone(), member.port));
        Self { places: elsewhere.map(place).collect(), ..Self::default() }
    }

    /// Whether a replica of this name has a place of its own.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn present(&self) -> MutexGuard<'_, BTreeMap<String, Found>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn running(&self, name: &str) -> Result<Running, RuntimeError> {
        let Some((host, port)) = self.places.get(name) else {
            let not_listed = || RuntimeError::NotListed { name: name.to_owned() };
            let address = name.parse().map_err(|_| not_listed())?;
            return Ok(Running { address, handle: Handle::Upstream(name.to_owned()) });
        };
        let no_host = |source| RuntimeError::NoHost { name: name.to_owned(), host: host.clone(), source };
        let found = tokio::time::timeout(LOOKING_UP, tokio::net::lookup_host((host.as_str(), *port))).await;
        let mut found = found.unwrap_or_else(|late| Err(late.into())).map_err(no_host)?;
        let address = found.next().ok_or_else(|| no_host(ErrorKind::NotFound.into()))?;
        Ok(Running { address, handle: Handle::Upstream(format!("{host}:{port}")) })
    }
}

impl Runtime for FixedRuntime {
    fn name(&self) -> &'static str {
        "static"
    }

    async fn prepare(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn vet(&self, names: &[String]) -> Result<(), RuntimeError> {
        match names.iter().find(|name| !self.has(name) && name.parse::<SocketAddr>().is_err()) {
            None => Ok(()),
            Some(name) => Err(RuntimeError::NotListed { name: name.clone() }),
        }
    }

    async fn spawn(&self, instance: &Instance) -> Result<Running, RuntimeError> {
        let running = self.running(&instance.name).await?;
        let found = Found { instance: instance.clone(), running: Some(running.clone()) };
        self.present().insert(instance.name.clone(), found);
        Ok(running)
    }

    async fn stop(&self, instance: &Instance, _grace: Duration) -> Result<(), RuntimeError> {
        let mut present = self.present();
        if present.get(&instance.name).is_some_and(|found| found.instance == *instance) {
            present.remove(&instance.name);
        }
        Ok(())
    }

    async fn own_addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    async fn clean_up(&self) {}

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        Ok(self.present().values().cloned().collect())
    }
}
