//! The owner task on a runtime that does not do what it should, on a clock that does not wait.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::config::{Config, Sources};
use crate::fleet::runtime::Found;
use crate::fleet::state::{Handle, Running};
use crate::proxy::upstream::Alarm;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// So many stops fail.
    StopsFail(u32),
    /// No stop ever returns.
    StopsHang,
    /// No spawn ever returns.
    SpawnsHang,
}

struct Bad {
    trouble: Trouble,
    stops: AtomicU32,
    listed: AtomicBool,
}

impl Runtime for Bad {
    fn name(&self) -> &'static str {
        "bad"
    }

    async fn prepare(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn vet(&self, _names: &[String]) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn spawn(&self, instance: &Instance) -> Result<Running, RuntimeError> {
        if self.trouble == Trouble::SpawnsHang {
            std::future::pending::<()>().await;
        }
        // Nobody listens there: it is starting all the time.
        let address = (Ipv4Addr::LOCALHOST, 1).into();
        Ok(Running { address, handle: Handle::Container(instance.name.clone()) })
    }

    async fn stop(&self, instance: &Instance, _grace: Duration) -> Result<(), RuntimeError> {
        let earlier = self.stops.fetch_add(1, Ordering::Relaxed);
        match self.trouble {
            Trouble::StopsHang => std::future::pending().await,
            Trouble::StopsFail(failing) if earlier < failing => {
                Err(RuntimeError::Unkillable { name: instance.name.clone(), pid: 1 })
            }
            _ => Ok(()),
        }
    }

    async fn own_addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    async fn clean_up(&self) {
        std::future::pending::<()>().await;
    }

    /// Once: the beginning needs it.
    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        if self.listed.swap(true, Ordering::Relaxed) { std::future::pending().await } else { Ok(Vec::new()) }
    }
}

/// A fleet of one, which has told of `until`.
async fn fleet(trouble: Trouble, until: &str) -> Fleet {
    let flags = [("state", ""), ("fleet.replicas", "1"), ("fleet.start_timeout", "30s")];
    let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
    let runtime = Bad { trouble, stops: AtomicU32::new(0), listed: AtomicBool::new(false) };
    let (_exits, ends) = mpsc::channel(1);
    let metrics = Arc::new(Metrics::new().unwrap());
    let past = Past::recall(&config.main).unwrap();
    let (events, alarm) = (Events::starting_at(0), Alarm::default());
    let around = Surroundings { metrics, events, alarm, workers: 1 };
    let (fleet, _) = begin(&config.main, past, runtime, ends, around).await.unwrap();
    let (_, mut live) = fleet.events().subscribe(0);
    while !told(&fleet).contains(&until) {
        live.recv().await.unwrap();
    }
    fleet
}

fn told(fleet: &Fleet) -> Vec<&'static str> {
    fleet.events().history().iter().map(|event| event.news.name()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_end_tries_again_what_could_not_be_stopped() {
    let fleet = fleet(Trouble::StopsFail(2), "started").await;
    assert_eq!(fleet.shutdown().await, [""; 0], "nothing is left");
    let ends = told(&fleet).into_iter().filter(|news| news.starts_with("stop")).collect::<Vec<_>>();
    assert_eq!(ends, ["stop_failed", "stop_failed", "stopped"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_has_a_deadline_and_says_what_is_left() {
    for trouble in [Trouble::StopsFail(u32::MAX), Trouble::StopsHang] {
        let (fleet, began) = (fleet(trouble, "started").await, Instant::now());
        assert_eq!(fleet.shutdown().await, ["Server-1"], "{trouble:?}");
        assert!(!told(&fleet).contains(&"stopped"), "{trouble:?}: {:?}", told(&fleet));
        assert!(began.elapsed() < Duration::from_secs(70), "{trouble:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_spawn_that_never_returns_is_a_failed_one_in_the_end() {
    let began = Instant::now();
    let fleet = fleet(Trouble::SpawnsHang, "spawn_failed").await;
    let view = fleet.snapshot().views[0].clone();
    assert!(view.last_error.is_some_and(|why| why.contains("was not started within 90s")));
    assert!(began.elapsed() <= Duration::from_secs(91), "{:?}", began.elapsed());
    assert_eq!(fleet.shutdown().await.len(), 1, "the next one hangs as well");
}
