//! Who may call from a web page: pages of this machine, on whatever port, as the original's is on another one than its
//! units. Other sites' pages may not: a browser would carry their requests to a port that only this machine reaches.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Whether a page of this origin, if it is one, may call.
fn is_ours(headers: &HeaderMap) -> Option<Option<HeaderValue>> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // A name with dots that is no address is another site's, made to lead here.
    let host = text("host").unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let is_address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    if host.contains('.') && !is_address {
        return None;
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        // A picture or a link of another site has no origin, and says so in another way.
        return (text("sec-fetch-site") != Some("cross-site")).then_some(None);
    };
    let host = origin.to_str().ok()?.strip_prefix("http://").map(|rest| match rest.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => rest,
    })?;
    matches!(host, "localhost" | "127.0.0.1" | "[::1]").then(|| Some(origin.clone()))
}

/// Refuses pages of other sites, and lets those of this machine read the answers.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    match is_ours(request.headers()) {
        None => (StatusCode::FORBIDDEN, "pages of other machines may not call this one\n").into_response(),
        Some(None) => next.run(request).await,
        Some(Some(origin)) => {
            let mut answer = next.run(request).await;
            answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_may_call() {
        let may = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, origin.parse().expect("a field"));
            is_ours(&headers).is_some()
        };
        assert!(is_ours(&HeaderMap::new()).is_some());
        let alone = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            is_ours(&headers).is_some()
        };
        assert!(!alone("sec-fetch-site", "cross-site") && alone("sec-fetch-site", "none"));
        for host in ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "waves-unit-8000:8000"] {
            assert!(alone("host", host), "{host}");
        }
        assert!(!alone("host", "rebound.example.com:8000"));
        for origin in
            ["http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:3000", "http://localhost"]
        {
            assert!(may(origin), "{origin}");
        }
        for origin in [
            "null",
            "http://example.com",
            "http://localhost.example.com:3000",
            "https://127.0.0.1.evil",
            "http://localhost:3000@evil",
        ] {
            assert!(!may(origin), "{origin}");
        }
    }
}
