//! Heads that are sent on mean what the ones that came meant, and carry nothing that was for one hop.

use std::net::IpAddr;

use httparse::Header;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::emit::{self, Arrival, ClientName, Departure};
use super::super::fields::room;
use super::super::request::Request;
use super::super::response::Response;
use super::super::{Framing, Version};
use super::config;
use crate::proxy::trace::Onward;

const NAMES: [&str; 22] = [
    "Accept",
    "Cookie",
    "X-A",
    "x-b",
    "X-Secret",
    "Trailer",
    "Via",
    "Traceparent",
    "Content-Type",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Proxy-Authorization",
    "TE",
    "Upgrade",
    "HTTP2-Settings",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Request-Id",
    "x-slipring-replica",
    "Expect",
];
const VALUES: [&str; 14] = [
    "",
    "close",
    "keep-alive",
    "upgrade",
    "x-secret, x-b",
    "Host, Content-Length, Transfer-Encoding",
    "websocket",
    "h2c",
    "trailers",
    "100-continue",
    "for=1.2.3.4;host=\"b\"",
    "1.2.3.4, 5.6.7.8",
    "a\tb",
    "gzip, chunked",
];
/// What a hop says to the next about their connection.
const HOP: [&str; 8] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "te",
    "http2-settings",
    "transfer-encoding",
    "upgrade",
];

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![4 => select(NAMES.to_vec()).prop_map(str::to_owned), 1 => "[A-Za-z!#$%&'*+.^_`|~0-9-]{1,12}"];
    let value =
        prop_oneof![3 => select(VALUES.to_vec()).prop_map(str::to_owned), 1 => "[!-~]([ -~]{0,20}[!-~])?"];
    vec((name, value), 0..12)
}

fn framings() -> impl Strategy<Value = &'static str> {
    select(vec!["", "Content-Length: 0\r\n", "content-length: 17\r\n", "Transfer-Encoding: chunked\r\n"])
}

fn written(fields: &[(String, String)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

fn lowered(fields: &[Header<'_>]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect()
}

/// The fields that are for whoever the message is for: none of the hop's, none that `Connection` names, none that
/// every proxy writes anew.
fn end_to_end(fields: &[Header<'_>]) -> Vec<(String, Vec<u8>)> {
    let all = lowered(fields);
    let connection: Vec<String> = all
        .iter()
        .filter(|(name, _)| name == "connection")
        .flat_map(|(_, value)| {
            String::from_utf8_lossy(value)
                .to_ascii_lowercase()
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    let ours = ["host", "content-length", "connection", "via", "x-request-id", "x-slipring-replica"];
    all.into_iter()
        .filter(|(name, _)| {
            !HOP.contains(&name.as_str())
                && !ours.contains(&name.as_str())
                && !name.contains("forwarded")
                && !connection.contains(name)
        })
        .collect()
}

fn count(fields: &[Header<'_>], name: &str) -> usize {
    fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_request_that_is_sent_on_means_what_it_meant(
        method in prop_oneof![Just("GET".to_owned()), Just("HEAD".to_owned()), "[A-Z]{1,9}"],
        target in "/[!-\"$-~]{0,20}|http://[a-z.]{1,9}(:80)?(/[!-\"$-~]{0,9})?",
        fields in fields(),
        framing in framings(),
        trusted in any::<bool>(),
    ) {
        prop_assume!(method != "CONNECT");
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a.example:8080\r\n{framing}{}\r\n", written(&fields));
        let mut storage = room();
        let (before, _) = Request::parse(text.as_bytes(), &mut storage).unwrap().unwrap();
        let name = ClientName::new(IpAddr::from([192, 0, 2, 7]), false);
        let arrival = Arrival { client: &name, trusted, tls: false, request_id: b"fresh", onward: Onward::default() };
        let mut out = Vec::new();
        emit::request(&mut out, &before, &arrival, before.framing);
        out.extend_from_slice(b"behind");
        let mut storage = room();
        let (after, length) = Request::parse(&out, &mut storage).unwrap().unwrap();

        prop_assert_eq!(&out[length..], b"behind");
        prop_assert_eq!((after.method, after.target, after.version), (before.method, super::super::request::Target { authority: None, ..before.target }, Version::Http11));
        prop_assert_eq!((after.host(), after.framing), (before.host(), before.framing));
        prop_assert_eq!(after.said.length, before.said.length);
        prop_assert_eq!(end_to_end(after.fields), end_to_end(before.fields));
        for hop in HOP {
            let ours = usize::from(hop == "upgrade" && before.said.upgrade.is_some())
                + usize::from(hop == "transfer-encoding" && before.framing == Framing::Chunked);
            prop_assert_eq!(count(after.fields, hop), ours, "{}", hop);
        }
        prop_assert_eq!(count(after.fields, "connection"), usize::from(before.said.upgrade.is_some()));
        prop_assert_eq!(count(after.fields, "x-slipring-replica"), 0);
        for once in ["host", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"] {
            prop_assert_eq!(count(after.fields, once), 1, "{}", once);
        }
        prop_assert!(after.field("x-forwarded-for").unwrap().ends_with(b"192.0.2.7"));
        if !trusted {
            prop_assert_eq!(after.field("x-forwarded-for").unwrap(), b"192.0.2.7");
            prop_assert!(after.field("forwarded").unwrap().starts_with(b"for=192.0.2.7;"));
        }
    }

    #[test]
    fn an_answer_that_is_sent_on_means_what_it_meant(
        status in select(vec![200_u16, 204, 206, 304, 404, 500, 999]),
        reason in "[ -~]{0,12}",
        fields in fields(),
        framing in framings(),
        to_head in any::<bool>(),
        keep_alive in any::<bool>(),
    ) {
        let text = format!("HTTP/1.1 {status} {reason}\r\n{framing}{}\r\n", written(&fields));
        let mut storage = room();
        let (before, _) = Response::parse(text.as_bytes(), &mut storage, to_head).unwrap().unwrap();
        let sent = match before.framing {
            Framing::UntilClose => Framing::Chunked,
            framing => framing,
        };
        let departure = Departure {
            replica: b"S1", framing: sent, version: Version::Http11, keep_alive, upgraded: false, panic: false,
        };
        let mut out = Vec::new();
        emit::response(&mut out, &before, &departure);
        out.extend_from_slice(b"behind");
        let mut storage = room();
        let (after, length) = Response::parse(&out, &mut storage, to_head).unwrap().unwrap();

        prop_assert_eq!(&out[length..], b"behind");
        prop_assert_eq!((after.status, after.reason, after.framing), (before.status, before.reason, sent), "{}", text);
        prop_assert_eq!(end_to_end(after.fields), end_to_end(before.fields));
        prop_assert_eq!(after.said.close, !keep_alive);
        for hop in HOP {
            let ours = usize::from(hop == "transfer-encoding" && sent == Framing::Chunked);
            prop_assert_eq!(count(after.fields, hop), ours, "{}", hop);
        }
        prop_assert_eq!(count(after.fields, "x-slipring-replica"), 1);
    }
}

/// Found by `an_answer_that_is_sent_on_means_what_it_meant`: the client waited for a body until the connection ended.
#[test]
fn a_replicas_connection_field_cannot_name_the_length_away() {
    let text = b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 0\r\n\r\n";
    let mut storage = room();
    let (response, _) = Response::parse(text, &mut storage, false).unwrap().unwrap();
    let departure = Departure {
        replica: b"S1",
        framing: response.framing,
        version: Version::Http11,
        keep_alive: true,
        upgraded: false,
        panic: false,
    };
    let mut out = Vec::new();
    emit::response(&mut out, &response, &departure);
    assert!(
        out.windows(19).any(|window| window == b"Content-Length: 0\r\n"),
        "{}",
        String::from_utf8_lossy(&out)
    );
}

/// A replica behind CGI or WSGI reads `X_Forwarded_For` as `X-Forwarded-For`.
#[test]
fn a_name_that_some_read_as_ours_ends_here() {
    let text = "POST / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded_proto: https\r\n\
        X_REQUEST_ID: forged\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nX_Slipring_Replica: S9\r\n\
        User_Id: ann\r\nX_A: kept\r\n\r\n";
    let mut storage = room();
    let (request, _) = Request::parse(text.as_bytes(), &mut storage).unwrap().unwrap();
    assert_eq!(request.framing, Framing::None);
    let name = ClientName::new(IpAddr::from([192, 0, 2, 7]), false);
    for trusted in [true, false] {
        let arrival =
            Arrival { client: &name, trusted, tls: false, request_id: b"fresh", onward: Onward::default() };
        let mut out = Vec::new();
        emit::request(&mut out, &request, &arrival, request.framing);
        let mut storage = room();
        let (sent, _) = Request::parse(&out, &mut storage).unwrap().unwrap();
        let aliases: Vec<_> = sent.fields.iter().filter(|field| field.name.contains('_')).collect();
        assert_eq!(aliases.iter().map(|field| field.name).collect::<Vec<_>>(), ["User_Id", "X_A"]);
        assert_eq!(sent.field("x-forwarded-for").unwrap(), b"192.0.2.7");
        assert_eq!(sent.field("x-request-id").unwrap(), b"fresh");
    }
}
