//! The page that shows the whole appliance: what a browser needs of it, embedded as it was written.
//!
//! No build step, no package manager, no library: files that a browser reads as they are, sent without the indentation and
//! the comments, which are for who reads them here (each line keeps its number). They hold no secret and are given to
//! everyone who reaches the port, because a browser can send no token for the page itself; what they show is asked for by
//! the page's own calls, each of which needs what every administrative call does.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

/// Nothing from elsewhere, nothing written into the page, and no other page around it.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// One file.
#[derive(Clone, Copy, Debug)]
struct Asset {
    path: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        &[
            Asset { path: "/", text: include_str!("page/index.html") },
            Asset { path: ANALYSIS, text: include_str!("page/analyse.html") },
            $(Asset { path: concat!("/page/", $name), text: include_str!(concat!("page/", $name)) },)*
        ]
    };
}

/// All of them, the page itself first; that of an analysis loads what it needs of them, and is not part of it.
const ASSETS: &[Asset] = assets![
    "analyse.css",
    "analyse.js",
    "app.js",
    "causal.js",
    "change.js",
    "dom.js",
    "fleet.js",
    "icon.svg",
    "log.js",
    "overlay.js",
    "player.js",
    "ring.js",
    "spacetime.js",
    "stream.js",
    "style.css",
    "waves.js",
];

impl Asset {
    /// What a browser has a use for: no indentation, and no lines that are comments. No file has a line of text that goes
    /// on in the next one.
    fn lean(&self) -> String {
        let mut lean = String::with_capacity(self.text.len());
        let mut is_comment = false;
        for line in self.text.lines().map(str::trim) {
            is_comment |= line.starts_with("/*");
            if !is_comment && !line.starts_with("//") {
                lean.push_str(line);
            }
            lean.push('\n');
            is_comment &= !line.ends_with("*/");
        }
        lean
    }

    /// Whether a browser shows it by itself.
    fn is_document(&self) -> bool {
        !matches!(self.path.rsplit_once('.'), Some((_, "css" | "js")))
    }

    fn kind(&self) -> &'static str {
        match self.path.rsplit_once('.') {
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "js")) => "text/javascript", // a module is UTF-8 whatever is said
            Some((_, "svg")) => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        }
    }
}

/// Of all files together: modules of one page must not be of two versions.
static VERSION: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for asset in ASSETS {
        digest.update(asset.path);
        digest.update([0]);
        digest.update(asset.text);
        digest.update([0]);
    }
    let mut tag = String::from("\"");
    for byte in digest.finalize().iter().take(6) {
        write!(tag, "{byte:02x}").expect("writing into memory");
    }
    tag.push('"');
    HeaderValue::from_str(&tag).expect("digits are a header")
});

/// The page's files, for everyone.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    served(|_| true)
}

/// The page of an analysis, where it is.
pub const ANALYSIS: &str = "/analyse";

/// The page of an analysis alone, for who shows one without an appliance. It is fed by a stream like the appliance's, at
/// `/stream`, whose events `pool` are of the kind `analyse`.
pub fn of_an_analysis() -> Router {
    served(|asset| asset.path != "/")
}

fn served<S: Clone + Send + Sync + 'static>(is_wanted: impl Fn(&Asset) -> bool) -> Router<S> {
    let route = |router: Router<S>, asset: &'static Asset| {
        let lean = Bytes::from(asset.lean());
        let answer = move |headers: HeaderMap| std::future::ready(serve(asset, lean.clone(), &headers));
        router.route(asset.path, get(answer))
    };
    ASSETS.iter().filter(|asset| is_wanted(asset)).fold(Router::new(), route)
}

/// A browser may keep what it has, and asks each time whether that is still so: after an update of the balancer the
/// next visit has the new page.
fn serve(asset: &Asset, lean: Bytes, headers: &HeaderMap) -> Response {
    let known = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let version = VERSION.to_str().unwrap_or_default();
    let is_known = known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == version);
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(CONTENT_TYPE, asset.kind())], lean).into_response(),
    };
    let fixed = [(CACHE_CONTROL, "no-cache"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    // What a document obeys, all that it loads does.
    let document = [(CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer")];
    let document = document.into_iter().filter(|_| asset.is_document());
    for (name, value) in fixed.into_iter().chain(document) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(ETAG, VERSION.clone());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, tag: Option<&str>) -> Response {
        let asset = ASSETS.iter().find(|asset| asset.path == path).unwrap();
        let headers = tag.map(|tag| (IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap()));
        serve(asset, asset.lean().into(), &headers.into_iter().collect())
    }

    #[test]
    fn what_is_sent_is_what_was_written_but_for_indentation_and_comments() {
        let asset = |text| Asset { path: "/page/x.js", text };
        let text =
            "// why\nlet a = 1; // here\n\n/**\n * what\n */\nfunction f() {\n\t/* one */\n\treturn a;\n}\n";
        assert_eq!(
            asset(text).lean(),
            "\nlet a = 1; // here\n\n\n\n\nfunction f() {\n\nreturn a;\n}\n",
            "each line keeps its number"
        );
        for Asset { path, text } in ASSETS {
            for (n, line) in text.lines().enumerate() {
                let ticks = line.matches('`').count();
                assert!(
                    ticks % 2 == 0 || line.trim_start().starts_with("//"),
                    "{path}:{}: a text of more lines",
                    n + 1
                );
                assert!(
                    !line.contains("*/") || line.ends_with("*/"),
                    "{path}:{}: code behind a comment",
                    n + 1
                );
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served_and_every_module_that_is_asked_for_is_there() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/page");
        let mut there: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| match &*name {
                "index.html" => "/".to_owned(),
                "analyse.html" => "/analyse".to_owned(),
                _ => format!("/page/{name}"),
            })
            .collect();
        let mut served: Vec<_> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        there.sort();
        served.sort();
        assert_eq!(there, served);
        for asset in ASSETS {
            let quoted = asset.text.split(['"', '\'']);
            for name in quoted.filter_map(|piece| piece.strip_prefix("./")) {
                let path = format!("/page/{name}");
                assert!(served.contains(&path), "{} asks for {name}", asset.path);
            }
        }
    }

    #[test]
    fn a_browser_is_told_what_each_file_is_and_obeys_a_strict_policy() {
        for (path, kind) in [
            ("/", "text/html; charset=utf-8"),
            ("/page/style.css", "text/css; charset=utf-8"),
            ("/page/app.js", "text/javascript"),
            ("/page/icon.svg", "image/svg+xml"),
        ] {
            let response = asked(path, None);
            let header = |name| response.headers()[name].to_str().unwrap();
            assert_eq!((response.status(), header("content-type")), (StatusCode::OK, kind), "{path}");
            assert_eq!(header("x-content-type-options"), "nosniff");
            let policy = response.headers().get(CONTENT_SECURITY_POLICY);
            assert_eq!(policy.is_some(), !kind.contains("javascript") && !kind.contains("css"), "{path}");
            assert!(
                policy.is_none_or(|policy| policy == POLICY) && POLICY.starts_with("default-src 'self';")
            );
        }
    }

    /// The policy would forbid it, and nobody would see why.
    #[test]
    fn nothing_is_written_into_the_page_that_its_policy_forbids() {
        for Asset { path, text: html } in ASSETS.iter().filter(|asset| asset.path.find('.').is_none()) {
            for forbidden in
                ["<style", " style=", " onclick=", " onload=", "javascript:", "http://", "https://"]
            {
                assert!(!html.contains(forbidden), "{path}: {forbidden}");
            }
            for script in html.split("<script").skip(1) {
                assert!(script.contains("src=\"/page/") && script.contains("></script>"), "{script}");
            }
        }
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let first = asked("/page/app.js", None);
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            let again = asked("/page/app.js", Some(&known));
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(again.headers()[ETAG].to_str().unwrap(), tag);
        }
        assert_eq!(asked("/page/app.js", Some("\"other\"")).status(), StatusCode::OK);
    }
}
