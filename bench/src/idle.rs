//! What a connection costs that says nothing: memory for each, and processor time for all.
//!
//! Each has asked once and was answered, as a browser's or a service's kept-alive connection has. One that never asked
//! anything is another matter: a proxy is right to end it soon. They come from many addresses, as clients do.
//!
//! What a proxy sets aside at its start for the most connections that it may have (nginx does) is in its memory without
//! them and not in the share of each; the socket buffers are the kernel's and in nobody's.

use std::net::Ipv4Addr;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::account::{Memory, Usage};
use crate::error::Error;
use crate::http;
use crate::measure::{Figure, Measured, Stand};
use crate::peer::Site;
use crate::process::Process;

/// What the harness and the proxies need beside the connections.
const OTHER_FILES: u64 = 500;
/// Addresses that the connections come from.
const ADDRESSES: u32 = 100;
/// Rest between opening and measuring, for work that was put off.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Raw {
    connections: u32,
    /// Found closed at the end.
    closed: u32,
    seconds: u32,
    memory_before: Memory,
    memory_with: Memory,
    /// Over so many seconds without a connection.
    usage_without: Usage,
    /// And with all of them.
    usage_with: Usage,
}

/// Takes as many open files as we may have, for us and for all that is started.
pub(crate) fn raise_file_limit(connections: u32) -> Result<(), Error> {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if u64::from(connections) + OTHER_FILES > most {
        return Err(Error::Files { wanted: connections, limit: most });
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("the limit of open files cannot be raised: {error}");
    }
    Ok(())
}

pub(crate) async fn measure(stand: &Stand<'_>, site: &Site, proxy: &Process) -> Result<Measured, Error> {
    let seconds = stand.plan.seconds;
    let window = Duration::from_secs(seconds.into());
    sleep(SETTLE).await;
    let usage_without = used_within(window, stand, proxy).await?;
    let memory_before = stand.memory(proxy)?;
    let connections = open(stand, site).await?;
    sleep(SETTLE).await;
    let memory_with = stand.memory(proxy)?;
    let usage_with = used_within(window, stand, proxy).await?;
    let closed = connections.iter().filter(|stream| is_closed(stream)).count();
    let raw = Raw {
        connections: stand.case.connections,
        closed: u32::try_from(closed).unwrap_or(u32::MAX),
        seconds,
        memory_before,
        memory_with,
        usage_without,
        usage_with,
    };
    drop(connections);
    let blemish = (closed > 0).then(|| format!("{closed} connections were closed"));
    let figures = figures(&raw);
    let raw = serde_json::to_value(&raw).map_err(Error::Json)?;
    Ok(Measured { peer: stand.peer, round: stand.round, figures, blemish, raw })
}

async fn used_within(window: Duration, stand: &Stand<'_>, proxy: &Process) -> Result<Usage, Error> {
    let before = stand.usage(proxy)?;
    sleep(window).await;
    Ok(stand.usage(proxy)?.since(before))
}

async fn open(stand: &Stand<'_>, site: &Site) -> Result<Vec<TcpStream>, Error> {
    let mut connections = Vec::new();
    for number in 0..stand.case.connections {
        let failed = |source| Error::Connect { peer: stand.peer.name(), number, source };
        let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + number % ADDRESSES);
        let mut stream = http::connect(from, site.port).await.map_err(failed)?;
        let answer = http::exchange(&mut stream, &format!("/home/{number:06}")).await.map_err(failed)?;
        if answer.status != 200 {
            return Err(failed(std::io::Error::other(format!("status {}", answer.status))));
        }
        connections.push(stream);
    }
    Ok(connections)
}

/// Readable means ended: nobody sends what was not asked for.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn figures(raw: &Raw) -> Vec<Figure> {
    let each = |with: u64, before: u64| (with as f64 - before as f64) * 1024.0 / f64::from(raw.connections);
    let milliseconds = |usage: Usage| usage.cpu_seconds() * 1e3 / f64::from(raw.seconds);
    vec![
        Figure::compared(
            "bytes per connection (RSS)",
            each(raw.memory_with.rss_kib, raw.memory_before.rss_kib),
            0,
        ),
        Figure::compared(
            "bytes per connection (PSS)",
            each(raw.memory_with.pss_kib, raw.memory_before.pss_kib),
            0,
        ),
        Figure::compared("memory MiB without (RSS)", raw.memory_before.rss_kib as f64 / 1024.0, 1),
        Figure::compared("memory MiB with (RSS)", raw.memory_with.rss_kib as f64 / 1024.0, 1),
        Figure::plain("CPU ms per second without", milliseconds(raw.usage_without), 3),
        Figure::plain("CPU ms per second with", milliseconds(raw.usage_with), 3),
        Figure::plain("connections closed", f64::from(raw.closed), 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_out_among_the_connections() {
        let memory = |kib| Memory { rss_kib: kib, pss_kib: kib };
        let usage = |cpu_ns| Usage { cpu_ns, ..Usage::default() };
        let raw = Raw {
            connections: 1024,
            closed: 0,
            seconds: 10,
            memory_before: memory(5000),
            memory_with: memory(7000),
            usage_without: usage(10_000_000),
            usage_with: usage(20_000_000),
        };
        let figures = figures(&raw);
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        assert_eq!(value("bytes per connection (RSS)"), 2000.0);
        assert_eq!((value("CPU ms per second without"), value("CPU ms per second with")), (1.0, 2.0));
    }
}
