//! What one client may have of what is there for all: connections, and requests a second.
//!
//! A client is an address, and of IPv6 the network that one subscriber gets (/64). Rates are kept as one number a
//! client, the time at which its bucket will be full again (GCRA); a full bucket is as good as none and is
//! forgotten, so that only who asks faster than once in a while is remembered at all.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// Clients that are remembered; those beyond them are served unlimited rather than not at all.
const MOST_REMEMBERED: usize = 100_000;

/// The most that one client may have; 0: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections at a time.
    pub connections: usize,
    /// Requests a second, on the average.
    pub rate: u32,
    /// Requests at once; 0: as many as in a second.
    pub burst: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Clients {
    limits: ClientLimits,
    began: Instant,
    present: Arc<DashMap<IpAddr, usize>>,
    full_at: Arc<DashMap<IpAddr, Duration>>,
}

/// A client's connection, counted until it is dropped.
#[derive(Debug)]
pub struct Guest(Option<Box<(Arc<Clients>, IpAddr)>>);

impl Guest {
    /// One that counts for nobody.
    pub fn uncounted() -> Self {
        Self(None)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some((clients, client)) = self.0.as_deref() {
            clients.present.remove_if_mut(client, |_, count| {
                *count -= 1;
                *count == 0
            });
        }
    }
}

impl Clients {
    /// Nobody has come yet.
    pub fn new(limits: ClientLimits) -> Arc<Self> {
        Arc::new(Self { limits, began: Instant::now(), present: Arc::default(), full_at: Arc::default() })
    }

    /// The same clients under other limits. A connection that came while there was no limit stays uncounted.
    pub fn under(&self, limits: ClientLimits) -> Arc<Self> {
        let (present, full_at) = (self.present.clone(), self.full_at.clone());
        Arc::new(Self { limits, began: self.began, present, full_at })
    }

    /// Counts a connection; `None`: the client has as many as it may.
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Guest> {
        if self.limits.connections == 0 {
            return Some(Guest(None));
        }
        self.enter_within(client, self.limits.connections)
    }

    /// The same where it may have `most`, whatever the limits are.
    pub fn enter_within(self: &Arc<Self>, client: IpAddr, most: usize) -> Option<Guest> {
        let client = subscriber(client);
        let mut count = self.present.entry(client).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(count);
        Some(Guest(Some(Box::new((self.clone(), client)))))
    }

    /// Counts a request, or says how long the client has to wait for the next. `client` says whose it is, if that is known;
    /// it is asked only if there is a limit.
    pub fn request(&self, client: impl FnOnce() -> Option<IpAddr>) -> Result<(), Duration> {
        if self.limits.rate == 0 {
            return Ok(());
        }
        client().map_or(Ok(()), |client| self.request_at(client, self.began.elapsed()))
    }

    fn request_at(&self, client: IpAddr, now: Duration) -> Result<(), Duration> {
        let client = subscriber(client);
        let full_at = self.full_at.get(&client).map(|full_at| *full_at);
        if full_at.is_none() && self.full_at.len() >= MOST_REMEMBERED {
            return Ok(());
        }
        let mut full_at = self.full_at.entry(client).or_insert(now);
        // Under earlier limits it may have been a longer way: nobody owes more than a whole bucket of today's.
        *full_at = (*full_at).min(now + size(self.limits));
        *full_at = take(*full_at, now, self.limits)?;
        Ok(())
    }

    /// A second has passed: who has a full bucket is forgotten.
    pub fn tick(&self) {
        if !self.full_at.is_empty() {
            self.forget(self.began.elapsed());
        }
    }

    fn forget(&self, now: Duration) {
        self.full_at.retain(|_, full_at| *full_at > now);
    }
}

/// Takes one token from the bucket that will be full at `full_at`: when it will be then, or how long until there
/// is one.
fn take(full_at: Duration, now: Duration, limits: ClientLimits) -> Result<Duration, Duration> {
    let next = full_at.max(now) + token(limits);
    match next.checked_sub(now + size(limits)) {
        None | Some(Duration::ZERO) => Ok(next),
        Some(missing) => Err(missing),
    }
}

/// How long it takes until there is one more token.
fn token(limits: ClientLimits) -> Duration {
    Duration::from_secs(1) / limits.rate.max(1)
}

/// How long it takes to fill an empty bucket.
fn size(limits: ClientLimits) -> Duration {
    token(limits) * if limits.burst == 0 { limits.rate } else { limits.burst }
}

fn subscriber(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn limited(rate: u32, burst: u32) -> Arc<Clients> {
        Clients::new(ClientLimits { connections: 2, rate, burst })
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let clients = limited(10, 3);
        let ask = |ms| clients.request_at([10, 0, 0, 1].into(), at(ms));
        assert_eq!([ask(0), ask(0), ask(0)], [Ok(()); 3]);
        assert_eq!(ask(0), Err(at(100)));
        assert_eq!(ask(40), Err(at(60)));
        assert_eq!((ask(100), ask(100)), (Ok(()), Err(at(100))));
        assert_eq!(clients.request_at([10, 0, 0, 2].into(), at(0)), Ok(()), "others do not suffer");
        clients.forget(at(500));
        assert!(clients.full_at.is_empty(), "a full bucket is none");
    }

    #[test]
    fn connections_are_given_back() {
        let clients = limited(0, 0);
        let enter = |last: u8| clients.enter([10, 0, 0, last].into());
        let (one, two) = (enter(1), enter(1));
        assert!(one.is_some() && two.is_some() && enter(1).is_none() && enter(2).is_some());
        drop(one);
        let again = enter(1);
        assert!(again.is_some() && enter(1).is_none());
        drop((two, again));
        assert!(clients.present.is_empty());
    }

    #[test]
    fn other_limits_hold_for_those_who_are_there() {
        let clients = limited(10, 1);
        let guest = clients.enter([10, 0, 0, 1].into());
        assert_eq!(clients.request_at([10, 0, 0, 1].into(), at(0)), Ok(()));
        let stricter = clients.under(ClientLimits { connections: 1, rate: 1, burst: 1 });
        assert!(stricter.enter([10, 0, 0, 1].into()).is_none());
        assert_eq!(stricter.request_at([10, 0, 0, 1].into(), at(0)), Err(at(100)));
        drop(guest);
        assert!(stricter.enter([10, 0, 0, 1].into()).is_some());
    }

    #[test]
    fn who_waits_under_strict_limits_does_not_under_generous_ones() {
        let clients = limited(1, 60);
        let from = [10, 0, 0, 1].into();
        assert!((0..60).all(|_| clients.request_at(from, at(0)).is_ok()));
        let generous = clients.under(ClientLimits { connections: 2, rate: 100, burst: 10 });
        assert_eq!(generous.request_at(from, at(0)), Err(at(10)), "an empty bucket, and no debt of a minute");
        assert_eq!(generous.request_at(from, at(10)), Ok(()));
        assert_eq!(generous.request_at(from, at(110)), Ok(()));
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let clients = limited(1, 1);
        let ask = |text: &str| clients.request_at(text.parse().unwrap(), at(0));
        assert!(ask("2001:db8::1").is_ok() && ask("2001:db8::ffff:2").is_err());
        assert!(ask("2001:db8:0:1::1").is_ok());
        assert!(ask("::ffff:10.0.0.1").is_ok() && ask("10.0.0.1").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_span_sees_more_than_burst_and_rate(steps in proptest::collection::vec(0_u64..300, 1..200), rate in 1_u32..50, burst in 1_u32..20) {
            let clients = limited(rate, burst);
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                if clients.request_at([10, 0, 0, 1].into(), at(now)).is_ok() {
                    taken.push(now);
                }
            }
            for (n, first) in taken.iter().enumerate() {
                for (m, last) in taken.iter().enumerate().skip(n) {
                    let most = f64::from(burst) + f64::from(rate) * (last - first) as f64 / 1000.0 + 1e-6;
                    proptest::prop_assert!((m - n + 1) as f64 <= most.max(1.0));
                }
            }
        }
    }
}
