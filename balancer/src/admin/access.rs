//! Who may administer: this machine, and whoever has the token.
//!
//! "This machine" is the loopback interface and, when the balancer itself runs in a container, the gateway of
//! its network, which is where the host's own calls come from. A call that came through a proxy, or from a page
//! of another site in a browser, only looks local, and needs the token.
//!
//! Where the admin port asks for client certificates, one is worth as much as being this machine, and no more: a
//! browser shows it for every page, a proxy for everybody. With a token as well, both are asked, of this machine too:
//! two locks of which either opens would be one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN, USER_AGENT};

use super::refusal::Refusal;
use crate::config::Secret;

/// A caller has shown a certificate of ours; set among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Certified;

/// Where a call comes from.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The peer of its connection.
    pub address: IpAddr,
    /// Whether that has shown a certificate.
    pub certified: bool,
}

/// Whom to let in.
#[derive(Clone, Debug)]
pub struct Access {
    token: Option<Secret>,
    gateways: Vec<IpAddr>,
}

/// Why a caller is not let in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// From elsewhere, or with a certificate where both are asked, and without a token.
    #[error("administration from {0} needs `Authorization: Bearer <token>`")]
    NoToken(IpAddr),
    /// From elsewhere, and no token would help.
    #[error(
        "administration from {0} is off: set admin.token to allow it, or call from the balancer's machine"
    )]
    NotConfigured(IpAddr),
    /// From this machine, but on behalf of somebody that only a proxy knows.
    #[error(
        "a call that came through a proxy only looks local: leave out Via, Forwarded and X-Forwarded-*, or send \
         `Authorization: Bearer <admin.token>`"
    )]
    ThroughProxy,
    /// From a browser of this machine, on behalf of another site's page.
    #[error(
        "a page of another site may not administer: open this one by address (http://localhost or an IP), or send \
         `Authorization: Bearer <admin.token>`"
    )]
    OtherSite,
    /// With a token that is not ours.
    #[error("the token is wrong")]
    WrongToken,
}

impl Access {
    /// Lets in loopback, the `gateways`, and the `token`.
    pub fn new(token: Option<Secret>, gateways: Vec<IpAddr>) -> Self {
        Self { token, gateways }
    }

    /// Whether a caller is let in.
    pub fn check(&self, caller: Caller, headers: &HeaderMap) -> Result<(), Denied> {
        if let Some(offered) = headers.get(AUTHORIZATION) {
            let bearer = offered
                .as_bytes()
                .split_at_checked(7)
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
            return match (&self.token, bearer) {
                (Some(token), Some((_, offered))) if token.matches(offered.trim_ascii()) => Ok(()),
                (Some(_), _) => Err(Denied::WrongToken),
                (None, _) => self.check_place(caller, headers),
            };
        }
        self.check_place(caller, headers)
    }

    fn check_place(&self, caller: Caller, headers: &HeaderMap) -> Result<(), Denied> {
        let Caller { address, certified } = caller;
        let caller = address.to_canonical();
        let trusted = match certified {
            true => self.token.is_none(),
            false => caller.is_loopback() || self.gateways.contains(&caller),
        };
        Err(match trusted {
            true if came_through_a_proxy(headers) => Denied::ThroughProxy,
            true if is_cross_site(headers) => Denied::OtherSite,
            true => return Ok(()),
            false if self.token.is_some() => Denied::NoToken(caller),
            false => Denied::NotConfigured(caller),
        })
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A browser says in `Origin` which page makes a call, but not when a page reads what it takes for its own site; a
/// page's name may have been made to point here meanwhile (DNS rebinding), and of a site without TLS nothing but
/// its `User-Agent` tells a browser then. Only pages of this very balancer may call, and those by its address.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let origin = headers.get(ORIGIN);
    let agent = headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"));
    if origin.is_none() && !agent && !headers.contains_key(SEC_FETCH_SITE) {
        return false;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let by_address = host.parse::<http::uri::Authority>().is_ok_and(|authority| {
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || name.parse::<IpAddr>().is_ok()
    });
    let of_this_site = origin.is_none_or(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, authority)| authority == host)
    });
    !by_address || !of_this_site
}

/// Lets a call through, or says why not.
pub(super) async fn guard(
    State(access): State<Arc<ArcSwap<Access>>>,
    request: Request,
    next: Next,
) -> Response {
    let caller = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let address = caller.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let caller = Caller { address, certified: request.extensions().get::<Certified>().is_some() };
    let access = access.load_full();
    match access.check(caller, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(denied) => Refusal::from(denied).into_response(),
    }
}

/// Whether a request says that it came through another proxy.
fn came_through_a_proxy(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "via", "x-real-ip"].iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use http::{HeaderName, HeaderValue};

    const TOKEN: &str = "0123456789abcdef";

    fn access(token: bool) -> Access {
        let flags = [("admin.token".to_owned(), if token { TOKEN } else { "" }.to_owned())].into();
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        Access::new(config.admin.token, vec!["172.18.0.1".parse().unwrap()])
    }

    type Fields<'a> = &'a [(&'static str, &'static str)];

    fn check_shown(certified: bool, token: bool, caller: &str, headers: Fields<'_>) -> Result<(), Denied> {
        let pair = |&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
        let caller = Caller { address: caller.parse().unwrap(), certified };
        access(token).check(caller, &headers.iter().map(pair).collect())
    }

    fn check(token: bool, caller: &str, headers: Fields<'_>) -> Result<(), Denied> {
        check_shown(false, token, caller, headers)
    }

    fn check_certified(token: bool, caller: &str, headers: Fields<'_>) -> Result<(), Denied> {
        check_shown(true, token, caller, headers)
    }

    #[test]
    fn a_certificate_is_as_good_as_being_this_machine() {
        for caller in ["127.0.0.1", "192.0.2.1", "2001:db8::1"] {
            assert_eq!(check_certified(false, caller, &[]), Ok(()), "{caller}");
            let proxied = check_certified(false, caller, &[("via", "1.1 other")]);
            assert_eq!(proxied, Err(Denied::ThroughProxy), "a proxy shows its own for everybody");
            let page = [("origin", "https://evil.example"), ("host", "localhost:5001")];
            assert_eq!(check_certified(false, caller, &page), Err(Denied::OtherSite), "so does a browser");
        }
    }

    #[test]
    fn where_there_is_a_token_too_both_are_asked_also_of_this_machine() {
        for caller in ["127.0.0.1", "192.0.2.1"] {
            assert!(matches!(check_certified(true, caller, &[]), Err(Denied::NoToken(_))), "{caller}");
            let right = [("authorization", "Bearer 0123456789abcdef")];
            assert_eq!(check_certified(true, caller, &right), Ok(()), "{caller}");
            let wrong = [("authorization", "Bearer 0123456789abcdeg")];
            assert_eq!(check_certified(true, caller, &wrong), Err(Denied::WrongToken), "{caller}");
        }
    }

    #[test]
    fn this_machine_is_let_in() {
        for local in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "172.18.0.1"] {
            assert_eq!(check(false, local, &[]), Ok(()), "{local}");
        }
    }

    #[test]
    fn replicas_and_strangers_are_not() {
        for stranger in ["172.18.0.2", "192.0.2.1", "2001:db8::1", "0.0.0.0"] {
            assert!(matches!(check(false, stranger, &[]), Err(Denied::NotConfigured(_))), "{stranger}");
            assert!(matches!(check(true, stranger, &[]), Err(Denied::NoToken(_))), "{stranger}");
        }
    }

    #[test]
    fn the_token_opens_from_anywhere_and_no_other_does() {
        let right = [("authorization", "Bearer 0123456789abcdef")];
        assert_eq!(check(true, "192.0.2.1", &right), Ok(()));
        assert_eq!(check(true, "192.0.2.1", &[("authorization", "bearer 0123456789abcdef")]), Ok(()));
        assert!(matches!(check(false, "192.0.2.1", &right), Err(Denied::NotConfigured(_))));
        for wrong in [
            "Bearer 0123456789abcdeg",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "Bearer 0123456789abcdef0",
        ] {
            assert_eq!(
                check(true, "127.0.0.1", &[("authorization", wrong)]),
                Err(Denied::WrongToken),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_only_looks_local_is_not() {
        for header in [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"), ("via", "1.1 other")]
        {
            assert_eq!(check(false, "127.0.0.1", &[header]), Err(Denied::ThroughProxy), "{header:?}");
        }
        for origin in ["https://evil.example", "null"] {
            let headers = [("origin", origin), ("host", "localhost:5000")];
            assert_eq!(check(false, "127.0.0.1", &headers), Err(Denied::OtherSite), "{origin}");
        }
        assert!(
            check(false, "127.0.0.1", &[("origin", "http://localhost:5000"), ("host", "localhost:5000")])
                .is_ok()
        );
    }

    /// DNS rebinding: to the browser the page and the call are of one site, so it sends no `Origin` with a GET.
    #[test]
    fn a_browser_reads_only_by_address() {
        for (host, let_in) in [
            ("evil.example:5001", false),
            ("localhost.evil.example", false),
            ("localhost:5001", true),
            ("127.0.0.1:5001", true),
            ("[::1]:5001", true),
        ] {
            for site in ["same-origin", "cross-site", "none"] {
                let headers = [("sec-fetch-site", site), ("host", host)];
                assert_eq!(check(false, "127.0.0.1", &headers).is_ok(), let_in, "{site} {host}");
            }
        }
        assert_eq!(check(false, "127.0.0.1", &[("host", "evil.example")]), Ok(()), "curl is no browser");
    }
}
