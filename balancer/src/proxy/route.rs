//! Which pool a request is for: routes are hosts and paths, and the most specific that fits wins.
//!
//! An exact host goes before a wildcard, a longer wildcard before a shorter, any wildcard before none; with the host
//! settled, the longest path wins. A host whose routes do not have the path hands the request on to the next less
//! specific one. Paths are compared as they were sent, since a replica gets them as they were sent; a route is no
//! guard of what lies behind another.
//!
//! A lookup allocates nothing: the host is put into lower case on the stack and hashed, the path is found by
//! bisection among the sorted ones, whose prefixes are each other's parents. A list that is tried one after the other was
//! the alternative: with a thousand routes it is slower than the whole rest of a request's planning.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// The longest name of a host (RFC 1035 section 2.3.4).
const LONGEST_HOST: usize = 253;

/// Whether a path is, without a host of somebody else's, a call of the administration.
pub fn is_administrative(path: &str) -> bool {
    matches!(path, "/rep" | "/add" | "/rm")
}

/// A route as it is written: `host/path/*`, `/path/*`, `host/*`, `*.suffix/*`; without `/*` behind it, just that path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    host: Host,
    stem: String,
    /// Also what is below the stem.
    below: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    /// With its dot: `.example.com`.
    Suffix(String),
    Exact(String),
}

impl Pattern {
    /// Reads a route; an error says what would be right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(at) = text.find('/') else {
            return Err("a path behind the host, like \"api.example.com/*\" for all of them");
        };
        let (host, path) = text.split_at(at);
        let host = host.to_ascii_lowercase();
        let host = match host.strip_prefix('*') {
            _ if host.is_empty() => Host::Any,
            Some(suffix) if suffix.strip_prefix('.').is_some_and(is_name) => Host::Suffix(suffix.to_owned()),
            None if is_name(&host) || is_address(&host) => Host::Exact(host),
            _ => {
                return Err(
                    "a host name without a port, or *.suffix, before the path, like \"*.example.com/*\"",
                );
            }
        };
        let below = path.ends_with("/*");
        let stem = path.strip_suffix("/*").unwrap_or(path);
        let fits =
            stem.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'*' | b'?' | b'#'));
        if !fits {
            return Err("a path as it is sent, without a query; a * only as its last piece, like \"/api/*\"");
        }
        Ok(Self { host, stem: stem.to_owned(), below })
    }

    /// Whether it is for certain hosts only.
    pub fn names_a_host(&self) -> bool {
        self.host != Host::Any
    }

    /// The one path that it is for, if it is for one only.
    pub fn exact_path(&self) -> Option<&str> {
        (!self.below).then_some(&self.stem)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => {}
            Host::Suffix(suffix) => write!(f, "*{suffix}")?,
            Host::Exact(host) => f.write_str(host)?,
        }
        f.write_str(&self.stem)?;
        f.write_str(if self.below { "/*" } else { "" })
    }
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= LONGEST_HOST && text.split('.').all(label)
}

fn is_address(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Whose a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number that the route was added with.
    pub pool: usize,
    /// Whether the route is for this host and not for any.
    pub by_host: bool,
}

/// All routes. See the module.
#[derive(Debug, Default)]
pub struct Routes {
    exact: HashMap<Box<[u8]>, Paths>,
    suffix: HashMap<Box<[u8]>, Paths>,
    any: Paths,
}

impl Routes {
    /// Routes, each to a pool. Of two that are the same the later counts.
    pub fn new<'a>(routes: impl IntoIterator<Item = (&'a Pattern, usize)>) -> Self {
        let mut hosts: BTreeMap<(bool, &str), BTreeMap<&str, Ends>> = BTreeMap::new();
        for (pattern, pool) in routes {
            let host = match &pattern.host {
                Host::Any => (false, ""),
                Host::Suffix(suffix) => (false, suffix.as_str()),
                Host::Exact(host) => (true, host.as_str()),
            };
            let ends = hosts.entry(host).or_default().entry(&pattern.stem).or_default();
            *(if pattern.below { &mut ends.below } else { &mut ends.here }) = Some(pool);
        }
        let mut all = Self::default();
        for ((exact, host), paths) in hosts {
            let paths = Paths::new(paths);
            match (exact, host) {
                (true, host) => drop(all.exact.insert(host.as_bytes().into(), paths)),
                (false, "") => all.any = paths,
                (false, suffix) => drop(all.suffix.insert(suffix.as_bytes().into(), paths)),
            }
        }
        all
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.suffix.is_empty() && self.any.0.is_empty()
    }

    /// The pool of the most specific route for a host, as a client writes it (with a port or without), and a path.
    pub fn find(&self, host: &[u8], path: &str) -> Option<Found> {
        self.find_by_host(host, path)
            .map(|pool| Found { pool, by_host: true })
            .or_else(|| self.any.find(path).map(|pool| Found { pool, by_host: false }))
    }

    fn find_by_host(&self, host: &[u8], path: &str) -> Option<usize> {
        if self.exact.is_empty() && self.suffix.is_empty() {
            return None;
        }
        let mut storage = [0; LONGEST_HOST];
        let host = name_of(host);
        let name = storage.get_mut(..host.len())?;
        name.copy_from_slice(host);
        name.make_ascii_lowercase();
        let name = &*name;
        if let Some(pool) = self.exact.get(name).and_then(|paths| paths.find(path)) {
            return Some(pool);
        }
        if self.suffix.is_empty() {
            return None;
        }
        // From the left, so that the longest comes first; something has to stand before the dot.
        let dots = memchr::memchr_iter(b'.', name).filter(|&at| at > 0);
        dots.filter_map(|at| self.suffix.get(&name[at..])).find_map(|paths| paths.find(path))
    }
}

/// Without its port and the dot of its root.
fn name_of(host: &[u8]) -> &[u8] {
    let end = match host.first() {
        Some(b'[') => memchr::memchr(b']', host).map_or(host.len(), |at| at + 1),
        _ => memchr::memchr(b':', host).unwrap_or(host.len()),
    };
    let name = &host[..end];
    name.strip_suffix(b".").unwrap_or(name)
}

/// The pools of one stem.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    here: Option<usize>,
    below: Option<usize>,
}

/// The paths of one host: stems in ascending order, each with the longest other stem that it begins with.
#[derive(Debug, Default)]
struct Paths(Vec<Stem>);

#[derive(Debug)]
struct Stem {
    text: Box<str>,
    ends: Ends,
    parent: Option<usize>,
}

impl Paths {
    fn new(stems: BTreeMap<&str, Ends>) -> Self {
        let mut paths: Vec<Stem> = Vec::with_capacity(stems.len());
        for (text, ends) in stems {
            // Among what is sorted, whatever a text begins with is its predecessor or one of that one's parents.
            let mut parent = paths.len().checked_sub(1);
            while let Some(at) = parent.filter(|&at| !text.starts_with(&*paths[at].text)) {
                parent = paths[at].parent;
            }
            paths.push(Stem { text: text.into(), ends, parent });
        }
        Self(paths)
    }

    fn find(&self, path: &str) -> Option<usize> {
        let mut at = self.0.partition_point(|stem| *stem.text <= *path).checked_sub(1);
        while let Some(Stem { text, ends, parent }) = at.and_then(|at| self.0.get(at)) {
            let pool = match path.strip_prefix(&**text) {
                Some("") => ends.here.or(ends.below),
                Some(rest) if rest.starts_with('/') => ends.below,
                _ => None,
            };
            if pool.is_some() {
                return pool;
            }
            at = *parent;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes(patterns: &[&str]) -> Routes {
        let parsed: Vec<_> = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        Routes::new(parsed.iter().zip(0..))
    }

    #[track_caller]
    fn check(patterns: &[&str], host: &str, path: &str, expected: Option<&str>) {
        let found = routes(patterns).find(host.as_bytes(), path);
        assert_eq!(found.map(|found| patterns[found.pool]), expected, "{host} {path}");
    }

    #[test]
    fn the_most_specific_wins() {
        let all = ["/*", "/api/*", "/api", "*.b.c/*", "*.a.b.c/*", "a.b.c/api/*", "a.b.c/api/v2/*", "b.c/*"];
        for (host, path, expected) in [
            ("x", "/", "/*"),
            ("x", "/apix", "/*"),
            ("x", "/api", "/api"),
            ("x", "/api/", "/api/*"),
            ("x", "/api/y", "/api/*"),
            ("b.c", "/api", "b.c/*"),
            ("y.b.c", "/api", "*.b.c/*"),
            ("z.y.b.c", "/", "*.b.c/*"),
            ("z.a.b.c", "/", "*.a.b.c/*"),
            ("a.b.c", "/api", "a.b.c/api/*"),
            ("a.b.c", "/api/v2", "a.b.c/api/v2/*"),
            ("a.b.c", "/api/v2x", "a.b.c/api/*"),
            ("a.b.c", "/other", "*.b.c/*"),
            ("A.B.C:8080", "/api", "a.b.c/api/*"),
            ("a.b.c.", "/api", "a.b.c/api/*"),
            (".b.c", "/api", "/api"),
            ("", "/api", "/api"),
        ] {
            check(&all, host, path, Some(expected));
        }
    }

    #[test]
    fn what_no_route_has_is_nobodys() {
        let some = ["/api/*", "a.b/x", "*.b/y/*", "[::1]/*"];
        for (host, path) in
            [("a.b", "/"), ("b", "/y"), ("c.b", "/yy"), ("a.b", "/x/"), ("a.b", "*"), ("::1", "/")]
        {
            check(&some, host, path, None);
        }
        check(&some, "[::1]:80", "/", Some("[::1]/*"));
        check(&["/*"], "a", "*", None);
        check(&some, &"a".repeat(300), "/api", Some("/api/*"));
        assert!(routes(&[]).is_empty() && !routes(&["/*"]).is_empty() && !routes(&["a/*"]).is_empty());
    }

    #[test]
    fn only_what_can_be_asked_for_is_a_route() {
        for good in
            ["/*", "/", "/a", "/a/*", "a/*", "*.a/b", "A.b-c_1/x", "[::1]/*", "/a//b/*", "127.0.0.1/*"]
        {
            assert_eq!(Pattern::parse(good).unwrap().to_string(), good.to_ascii_lowercase());
        }
        for bad in [
            "",
            "a",
            "*",
            "a.b",
            "*/x",
            "*a/x",
            "a.*/x",
            "*.*.a/x",
            "a:80/x",
            "a..b/x",
            "/a*",
            "/*/b",
            "/a?b",
            "/é",
            "a b/x",
            "/a b",
            "[::g]/x",
            ".a/x",
            "*./x",
            "http://a/x",
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    /// What the module says, route by route.
    fn scan(patterns: &[Pattern], host: &str, path: &str) -> Option<usize> {
        let rank = |pattern: &Pattern| {
            let host_rank = match &pattern.host {
                Host::Any => (0, 0),
                Host::Suffix(suffix) => (
                    1,
                    (host.len() > suffix.len() && host.ends_with(suffix.as_str())).then_some(suffix.len())?,
                ),
                Host::Exact(exact) => (2, (exact == host).then_some(0)?),
            };
            let rest = path.strip_prefix(&*pattern.stem)?;
            let fits = rest.is_empty() || pattern.below && rest.starts_with('/');
            fits.then_some((host_rank, pattern.stem.len(), !pattern.below))
        };
        let ranked = patterns.iter().enumerate().filter_map(|(at, pattern)| Some((rank(pattern)?, at)));
        ranked.max().map(|(_, at)| at)
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_scan_finds(
            written in proptest::collection::vec("(|a|b|\\*\\.a|\\*\\.b\\.a|b\\.a)(/|/a|/b|/ab){0,3}(/\\*|/a)", 0..40),
            host in "[ab](\\.[ab]){0,3}",
            path in "(/|/a|/b|/ab|/a!){1,5}",
        ) {
            let patterns: Vec<_> = written.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            let found = Routes::new(patterns.iter().zip(0..)).find(host.as_bytes(), &path);
            prop_assert_eq!(found.map(|found| found.pool), scan(&patterns, &host, &path));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", host in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern.clone()));
                let found = Routes::new([(&pattern, 7)]).find(&host, &text);
                prop_assert!(found.is_none_or(|found| found.pool == 7));
            }
        }
    }
}
