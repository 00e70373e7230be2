//! Members of which some run here and some elsewhere: what runs here is started by its runtime, and the others, whom
//! somebody else starts, are only watched.

use std::net::IpAddr;
use std::time::Duration;

use super::fixed::FixedRuntime;
use super::{Found, Runtime, RuntimeError};
use crate::fleet::state::{Instance, Running};

/// See the module.
#[derive(Debug)]
pub struct MixedRuntime<R> {
    here: R,
    elsewhere: FixedRuntime,
}

impl<R> MixedRuntime<R> {
    /// `elsewhere` has the replicas that it has a place of, `here` has the others.
    pub fn new(here: R, elsewhere: FixedRuntime) -> Self {
        Self { here, elsewhere }
    }
}

impl<R: Runtime> Runtime for MixedRuntime<R> {
    fn name(&self) -> &'static str {
        self.here.name()
    }

    async fn prepare(&self) -> Result<(), RuntimeError> {
        self.here.prepare().await
    }

    async fn vet(&self, names: &[String]) -> Result<(), RuntimeError> {
        let here: Vec<_> = names.iter().filter(|name| !self.elsewhere.has(name)).cloned().collect();
        self.here.vet(&here).await
    }

    async fn spawn(&self, instance: &Instance) -> Result<Running, RuntimeError> {
        match self.elsewhere.has(&instance.name) {
            true => self.elsewhere.spawn(instance).await,
            false => self.here.spawn(instance).await,
        }
    }

    async fn stop(&self, instance: &Instance, grace: Duration) -> Result<(), RuntimeError> {
        match self.elsewhere.has(&instance.name) {
            true => self.elsewhere.stop(instance, grace).await,
            false => self.here.stop(instance, grace).await,
        }
    }

    async fn own_addresses(&self) -> Vec<IpAddr> {
        self.here.own_addresses().await
    }

    async fn clean_up(&self) {
        self.here.clean_up().await;
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let mut found = self.here.list().await?;
        found.append(&mut self.elsewhere.list().await?);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use slipring_hashing::ReplicaId;

    use super::*;
    use crate::config::{Contained, FixedMember};
    use crate::fleet::state::Handle;

    fn member(name: &str, host: &str, is_here: bool) -> FixedMember {
        FixedMember {
            name: name.into(),
            role: "any".into(),
            is_routed: true,
            host: host.into(),
            port: 7,
            is_here,
            process: Vec::new(),
            container: Contained::default(),
            watch: None,
            links: Vec::new(),
            digest: 0,
        }
    }

    fn instance(name: &str) -> Instance {
        Instance { id: ReplicaId(0), name: name.into(), incarnation: 1 }
    }

    #[tokio::test]
    async fn who_is_elsewhere_is_found_by_its_host_and_not_started() {
        let members = [member("far", "localhost", false), member("near", "localhost", true)];
        let members = [&members[..], &[member("lost", "no-such-host.invalid", false)]].concat();
        // What runs here is called by its address, in this test.
        let runtime = MixedRuntime::new(FixedRuntime::default(), FixedRuntime::elsewhere(&members));
        let (far, here) = (instance("far"), instance("127.0.0.1:9"));
        let running = runtime.spawn(&far).await.unwrap();
        assert!(running.address.ip().is_loopback() && running.address.port() == 7);
        assert_eq!(running.handle, Handle::Upstream("localhost:7".into()));
        runtime.spawn(&here).await.unwrap();
        assert!(matches!(runtime.spawn(&instance("near")).await, Err(RuntimeError::NotListed { .. })));
        assert!(matches!(runtime.spawn(&instance("lost")).await, Err(RuntimeError::NoHost { .. })));
        let listed = runtime.list().await.unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed.contains(&Found { instance: far.clone(), running: Some(running) }), "as it was found");
        runtime.stop(&far, Duration::ZERO).await.unwrap();
        runtime.stop(&here, Duration::ZERO).await.unwrap();
        assert_eq!(runtime.list().await.unwrap(), []);
    }
}
