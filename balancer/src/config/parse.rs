//! From what a user wrote to a value: each parser says, when it refuses, what would be right.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::uri::PathAndQuery;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use slipring_hashing::bounded::BoundedLoads;
use slipring_hashing::{HashPair, Probing, Weight};

use super::reader::Written;
use super::{Listed, RespawnName, RuntimeChoice, Secret, UpstreamSecurity};
use crate::proxy::key::KeySource;
use crate::proxy::route::Pattern;

/// What would have been right.
pub(super) type Expected = String;
type Parsed<T> = Result<T, Expected>;

const LONGEST: Duration = Duration::from_secs(24 * 3600);

pub(super) fn ip(written: &Written) -> Parsed<std::net::IpAddr> {
    written.text()?.parse().map_err(|_| "an IP address, like 127.0.0.1".into())
}

pub(super) fn address(written: &Written) -> Parsed<SocketAddr> {
    written.text()?.parse().map_err(|_| "an address and a port, like 127.0.0.1:5000 or [::]:5000".into())
}

pub(super) fn duration(written: &Written) -> Parsed<Duration> {
    let expected = || "a duration of 1ms to 24h with its unit, like 250ms, 1s or 2m".to_owned();
    let duration = humantime::parse_duration(written.text()?).map_err(|_| expected())?;
    if duration < Duration::from_millis(1) || duration > LONGEST { Err(expected()) } else { Ok(duration) }
}

/// As [`duration`]; `0s` is none.
pub(super) fn duration_or_none(written: &Written) -> Parsed<Duration> {
    match humantime::parse_duration(written.text()?) {
        Ok(Duration::ZERO) => Ok(Duration::ZERO),
        _ => duration(written).map_err(|expected| format!("{expected}, or 0s for none")),
    }
}

pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&Written) -> Parsed<T>
where
    T: FromStr + PartialOrd + Display,
{
    move |written| {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let number = written.text()?.parse().map_err(|_| expected())?;
        if range.contains(&number) { Ok(number) } else { Err(expected()) }
    }
}

pub(super) fn one_of(choices: &'static [&'static str]) -> impl Fn(&Written) -> Parsed<String> {
    move |written| {
        let text = written.text()?;
        if choices.contains(&text) {
            Ok(text.to_owned())
        } else {
            Err(format!("one of {}", choices.join(", ")))
        }
    }
}

/// A number that need not be whole.
pub(super) fn fraction(least: f64, most: f64) -> impl Fn(&Written) -> Parsed<f64> {
    move |written| {
        let number = written.text()?.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("a number from {least} to {most}"))
    }
}

pub(super) fn truth(written: &Written) -> Parsed<bool> {
    written.text()?.parse().map_err(|_| "true or false".into())
}

pub(super) fn bounded_load(written: &Written) -> Parsed<Option<BoundedLoads>> {
    let expected = || "a factor above 1 and up to 1000, like 1.25, or 0 for none".to_owned();
    let factor: f64 = written.text()?.parse().map_err(|_| expected())?;
    if factor == 0.0 {
        return Ok(None);
    }
    BoundedLoads::new(factor).ok().filter(|_| factor <= 1000.0).map(Some).ok_or_else(expected)
}

fn named<T: Copy>(choices: &[(&str, T)], written: &Written) -> Parsed<T> {
    let text = written.text()?;
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    })
}

pub(super) fn runtime(written: &Written) -> Parsed<RuntimeChoice> {
    use RuntimeChoice::{Auto, Docker, Process, Static};
    named(&[("auto", Auto), ("process", Process), ("docker", Docker), ("static", Static)], written)
}

pub(super) fn respawn_name(written: &Written) -> Parsed<RespawnName> {
    named(&[("same", RespawnName::Same), ("new", RespawnName::New)], written)
}

pub(super) fn security(written: &Written) -> Parsed<UpstreamSecurity> {
    use UpstreamSecurity::{Insecure, Off, On};
    named(&[("off", Off), ("on", On), ("insecure", Insecure)], written)
}

/// A host name or an address; empty is none.
pub(super) fn optional_server_name(written: &Written) -> Parsed<Option<ServerName<'static>>> {
    let text = written.text()?;
    if text.is_empty() {
        return Ok(None);
    }
    let expected = |_| "a host name without a port, like api.example.com, or an address".to_owned();
    ServerName::try_from(text.to_owned()).map(Some).map_err(expected)
}

pub(super) fn probing(written: &Written) -> Parsed<Probing> {
    named(&[("linear", Probing::Linear), ("quadratic", Probing::Quadratic)], written)
}

/// By name, or by the contract's `HASH_NUM`; empty is none.
pub(super) fn hash_pair(written: &Written) -> Parsed<Option<HashPair>> {
    use HashPair::{Given, Modified, Sha256};
    let numbered = [("0", Given), ("1", Modified), ("2", Sha256)];
    if written.text()?.is_empty() {
        return Ok(None);
    }
    let by_name = named(&[("given", Given), ("modified", Modified), ("sha256", Sha256)], written);
    by_name
        .or_else(|expected| named(&numbered, written).map_err(|_| format!("{expected} (HASH_NUM: 0, 1, 2)")))
        .map(Some)
}

pub(super) fn optional_path(written: &Written) -> Parsed<Option<PathBuf>> {
    let text = written.text()?;
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

pub(super) fn file_path(written: &Written) -> Parsed<PathBuf> {
    optional_path(written)?.ok_or_else(|| "the path of a file".into())
}

pub(super) fn optional_text(written: &Written) -> Parsed<Option<String>> {
    let text = written.text()?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

pub(super) fn token(written: &Written) -> Parsed<Option<String>> {
    let token = optional_text(written)?;
    let unusable = |token: &String| token.len() < 16 || !token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.as_ref().is_some_and(unusable) {
        return Err("at least 16 printable ASCII characters without spaces, or \"\" for none".into());
    }
    Ok(token)
}

/// The URL of a store of tasks that several processes share.
pub(super) fn optional_store(written: &Written) -> Parsed<Option<Secret>> {
    let url = optional_text(written)?;
    let shared = ["sqlite:", "postgres://", "postgresql://"];
    let is_one = |url: &String| shared.iter().any(|begin| url.len() > begin.len() && url.starts_with(begin));
    match url {
        Some(url) if !is_one(&url) => Err("sqlite:PATH or postgres://…, or \"\" for none".into()),
        url => Ok(url.map(Secret)),
    }
}

/// Names as the engine takes them for networks and labels.
pub(super) fn docker_name(written: &Written) -> Parsed<String> {
    let text = written.text()?;
    let fits = text.len() <= 128 && crate::fleet::names::is_docker_name(text);
    if fits { Ok(text.to_owned()) } else { Err("letters, digits, _ . and -, a letter or digit first".into()) }
}

pub(super) fn optional_docker_name(written: &Written) -> Parsed<Option<String>> {
    if written.text()?.is_empty() { Ok(None) } else { docker_name(written).map(Some) }
}

/// Parsed by those who will have to send it.
fn path(written: &Written) -> Parsed<PathAndQuery> {
    let text = written.text()?;
    let fits = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let path = PathAndQuery::from_str(text).ok().filter(|path| fits && path.as_str() == text);
    path.ok_or_else(|| "a path that begins with /, without spaces or what a URL must escape".into())
}

/// As [`path`]; empty is none.
pub(super) fn optional_url_path(written: &Written) -> Parsed<Option<PathAndQuery>> {
    if written.text()?.is_empty() { Ok(None) } else { path(written).map(Some) }
}

pub(super) fn paths(written: &Written) -> Parsed<Vec<String>> {
    let expected = "paths that begin with /; a * only as the last piece, like \"/api/*\"";
    let fits = |path: &String| {
        let stem = path.strip_suffix("/*").unwrap_or(path);
        (stem.is_empty() || stem.starts_with('/')) && !stem.contains(['*', '?', '#', ' ']) && !path.is_empty()
    };
    let paths = written.list();
    if paths.iter().all(fits) { Ok(paths) } else { Err(expected.into()) }
}

pub(super) fn words(written: &Written) -> Parsed<Vec<String>> {
    let words = written.list();
    if words.first().is_some_and(String::is_empty) {
        Err("a program and its arguments".into())
    } else {
        Ok(words)
    }
}

/// Addresses, each of them once, perhaps with a weight.
pub(super) fn upstreams(written: &Written) -> Parsed<Vec<Listed>> {
    let expected = || {
        "a list of addresses like \"10.0.0.1:8080\" or \"10.0.0.1:8080 weight=2\", each of them once, weights up to 256"
            .to_owned()
    };
    let list: Option<Vec<Listed>> = written.list().iter().map(|text| listed(text)).collect();
    let distinct = |list: &Vec<Listed>| {
        let set: std::collections::BTreeSet<_> = list.iter().map(|listed| listed.address).collect();
        set.len() == list.len()
    };
    list.filter(distinct).ok_or_else(expected)
}

/// As nginx writes its servers.
fn listed(text: &str) -> Option<Listed> {
    let mut words = text.split_ascii_whitespace();
    let address = words.next()?.parse().ok()?;
    let weight = match words.next() {
        Some(word) => Weight::new(word.strip_prefix("weight=")?.parse().ok()?).ok()?,
        None => Weight::ONE,
    };
    words.next().is_none().then_some(Listed { address, weight })
}

pub(super) fn routes(written: &Written) -> Parsed<Vec<Pattern>> {
    written.list().iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>().map_err(str::to_owned)
}

/// In the clear: a collector beside the balancer carries spans over the world.
pub(super) fn collector(written: &Written) -> Parsed<Option<http::Uri>> {
    let text = written.text()?;
    if text.is_empty() {
        return Ok(None);
    }
    let fits = |uri: &http::Uri| {
        let host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        uri.scheme_str() == Some("http") && host
    };
    let uri = text.parse().ok().filter(fits);
    uri.map(Some)
        .ok_or_else(|| "the address of a collector, like http://127.0.0.1:4318, or \"\" for none".into())
}

pub(super) fn networks(written: &Written) -> Parsed<Vec<IpNet>> {
    let expected = || "a list of networks like \"10.0.0.0/8\" or \"::1/128\"".to_owned();
    let list: Option<Vec<_>> = written.list().iter().map(|text| text.parse().ok()).collect();
    list.ok_or_else(expected)
}

pub(super) fn optional_address(written: &Written) -> Parsed<Option<SocketAddr>> {
    if written.text()?.is_empty() { Ok(None) } else { address(written).map(Some) }
}

pub(super) fn key_sources(written: &Written) -> Parsed<Vec<KeySource>> {
    let expected =
        || "a list of header:NAME, cookie:NAME, query:NAME, segment:N, path, uri, client, random".to_owned();
    let sources: Option<Vec<_>> = written.list().iter().map(|text| KeySource::parse(text)).collect();
    sources.filter(|sources| !sources.is_empty()).ok_or_else(expected)
}
