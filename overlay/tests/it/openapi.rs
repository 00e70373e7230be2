//! What `openapi.json` says of HTTP is so, and all that is said is in it.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use slipring_overlay::topology::Profile;

use crate::cluster::{Cluster, six};

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn kind(&self) -> &str {
        let kind = self.headers.get("content-type").map_or("", |kind| kind.to_str().expect("text"));
        kind.split(';').next().expect("a first one")
    }
}

pub(crate) fn call(
    cluster: &Cluster,
    method: Method,
    path: &str,
    accept: &str,
    body: impl Into<Bytes>,
) -> Answer {
    let authority = cluster.url("A").trim_start_matches("http://").to_owned();
    cluster.block_on(async {
        let stream = tokio::net::TcpStream::connect(&authority).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", authority);
        let request = request.header("accept", accept).body(Full::new(body.into())).expect("a request");
        let (head, body) = sender.send_request(request).await.expect("an answer").into_parts();
        let mut answer = Answer { status: head.status, headers: head.headers, body: Bytes::new() };
        // A stream of events has no end: the first one is what is looked at.
        answer.body = match answer.kind() {
            "text/event-stream" => first_event(body).await,
            _ => body.collect().await.expect("a whole body").to_bytes(),
        };
        answer
    })
}

async fn first_event(mut body: hyper::body::Incoming) -> Bytes {
    let mut event = Vec::new();
    while !event.ends_with(b"\n\n") {
        let frame = body.frame().await.expect("it goes on").expect("a frame");
        event.extend_from_slice(frame.data_ref().expect("data"));
    }
    event.into()
}

/// As far as the description uses JSON Schema: every keyword in it is one of these.
fn check(all: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return check(
            all,
            all.pointer(&name[1..]).unwrap_or_else(|| panic!("{name} is not there")),
            value,
            at,
        );
    }
    if let Some(any) = schema["anyOf"].as_array() {
        // Here: one that is null, and one that is not.
        let fits = |schema: &&Value| (schema["type"] == "null") == value.is_null();
        return check(all, any.iter().find(fits).unwrap_or_else(|| panic!("{at} is {value}")), value, at);
    }
    if let Some(these) = schema["enum"].as_array() {
        assert!(these.contains(value), "{at} is {value}");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        some => some.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: what is {other}?"),
    };
    assert!(types.is_empty() || types.iter().any(is), "{at} is {value}, not {types:?}");
    for item in value.as_array().into_iter().flatten() {
        check(all, &schema["items"], item, &format!("{at}[]"));
    }
    if schema["additionalProperties"].is_object() {
        for (name, value) in value.as_object().into_iter().flatten() {
            check(all, &schema["additionalProperties"], value, &format!("{at}.{name}"));
        }
    }
    let (Some(fields), Some(named)) = (value.as_object(), schema["properties"].as_object()) else { return };
    for (name, value) in fields {
        let schema = named.get(name).unwrap_or_else(|| panic!("{at}.{name} is not described"));
        check(all, schema, value, &format!("{at}.{name}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(fields.contains_key(name), "{at}.{name} is not there: {value}");
    }
}

/// The answer is one of those that the operation describes.
fn fits(all: &Value, path: &str, method: &str, answer: &Answer) {
    let at = format!("{method} {path}: {}", answer.status);
    let described = &all["paths"][path][method]["responses"][answer.status.as_str()];
    assert!(described.is_object(), "{at} is not described: {:?}", answer.body);
    let Some(content) = described["content"].as_object() else {
        assert!(answer.body.is_empty(), "{at} has a body");
        return;
    };
    let kind =
        content.get(answer.kind()).unwrap_or_else(|| panic!("{at}: {} is not described", answer.kind()));
    match answer.kind() {
        "application/json" => check(all, &kind["schema"], &answer.json(), &at),
        "text/event-stream" => {
            let event = answer.body.strip_prefix(b"data: ").expect("one line of data");
            check(all, &kind["schema"], &serde_json::from_slice(event).expect("JSON"), &at);
        }
        "application/x-ndjson" => {
            for line in answer.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                check(all, &kind["schema"], &serde_json::from_slice(line).expect("JSON"), &at);
            }
        }
        _ => {}
    }
}

fn described(cluster: &Cluster) -> Value {
    call(cluster, Method::GET, "/overlay/openapi.json", "*/*", "").json()
}

const QUERY: &str = "/overlay/query";
const CHUNK: &str = "/overlay/query/{uid}/{chunk}";

#[test]
fn every_path_and_method_is_there_and_no_other_method() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let all = described(&cluster);
    let uid = cluster.query("A", &json!({"limit": 5})).uid;
    for (path, operations) in all["paths"].as_object().expect("paths") {
        let operations = operations.as_object().expect("operations");
        let real = path.replace("{uid}", &uid).replace("{chunk}", "0");
        // The result is needed until it is released.
        for method in ["get", "post", "put", "patch", "delete"] {
            let answer = call(&cluster, method.to_uppercase().parse().expect("a method"), &real, "*/*", "{}");
            match operations.contains_key(method) {
                true => {
                    fits(&all, path, method, &answer);
                    assert!(answer.status.is_success(), "{method} {real}: {}", answer.status);
                }
                false => assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {real}"),
            }
        }
        if path.ends_with("{uid}") {
            assert_eq!(cluster.query("A", &json!({"limit": 5})).uid, uid, "it is made again");
        }
    }
    let nowhere = call(&cluster, Method::GET, "/overlay/other", "*/*", "");
    assert_eq!((nowhere.status, nowhere.kind()), (StatusCode::NOT_FOUND, "application/json"));
}

#[test]
fn every_form_of_an_answer_and_every_mistake_is_as_described() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let all = described(&cluster);
    let ask = |accept: &str, body: &str| {
        let answer = call(&cluster, Method::POST, QUERY, accept, body.to_owned());
        fits(&all, QUERY, "post", &answer);
        answer
    };
    let forms = all["paths"][QUERY]["post"]["responses"]["200"]["content"].as_object().expect("contents");
    let matched = cluster.rows.len().to_string();
    for (form, _) in forms {
        let answer = ask(form, r#"{"limit":7}"#);
        assert_eq!((answer.status, answer.kind()), (StatusCode::OK, form.as_str()));
        if form == "application/json" {
            continue;
        }
        for (name, value) in [("matched", matched.as_str()), ("returned", "7"), ("missing", "0")] {
            assert_eq!(answer.headers[&format!("x-slipring-{name}")], value, "{form}");
        }
        if form == "text/csv" {
            let fields = all["components"]["schemas"]["Record"]["required"].as_array().expect("names");
            let fields: Vec<_> = fields.iter().filter_map(Value::as_str).collect();
            let text = String::from_utf8(answer.body.to_vec()).expect("text");
            assert_eq!(text.lines().next(), Some(fields.join(",").as_str()));
        }
    }
    for wrong in ["", "[]", r#"{"colour":1}"#, r#"{"min_value":2,"max_value":1}"#] {
        assert_eq!(ask("*/*", wrong).status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let not_text = call(&cluster, Method::POST, QUERY, "*/*", vec![0xff]);
    fits(&all, QUERY, "post", &not_text);
    assert_eq!(not_text.status, StatusCode::BAD_REQUEST);
    assert_eq!(ask("*/*", &"x".repeat(3 << 20)).status, StatusCode::PAYLOAD_TOO_LARGE);

    let uid = cluster.query("A", &json!({"limit": 5})).uid;
    for path in [format!("{QUERY}/{uid}/1"), format!("{QUERY}/{uid}/-1"), format!("{QUERY}/nobody/0")] {
        let answer = call(&cluster, Method::GET, &path, "*/*", "");
        fits(&all, CHUNK, "get", &answer);
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    let release = || call(&cluster, Method::DELETE, &format!("{QUERY}/{uid}"), "*/*", "");
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND] {
        let answer = release();
        fits(&all, "/overlay/query/{uid}", "delete", &answer);
        assert_eq!(answer.status, status);
    }
}

#[test]
fn what_is_missing_is_told_as_described() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    let all = described(&cluster);
    assert_eq!(cluster.query("A", &json!({"limit": 0})).status, "ready", "it knows who holds what");
    cluster.kill("D");
    let ask = |body: &str| {
        let answer = call(&cluster, Method::POST, QUERY, "*/*", body.to_owned());
        fits(&all, QUERY, "post", &answer);
        (answer.status, answer.json())
    };
    let (status, said) = ask(r#"{"limit":7}"#);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    assert!(said["coverage"]["missing"].as_array().is_some_and(|missing| !missing.is_empty()), "{said}");
    let (status, said) = ask(r#"{"limit":7,"mode":"partial"}"#);
    assert_eq!((status, &said["status"]), (StatusCode::OK, &json!("partial")));
    assert!(said["coverage"]["missing"].as_array().is_some_and(|missing| !missing.is_empty()), "{said}");

    let answer = call(&cluster, Method::GET, "/overlay/echo", "*/*", "");
    fits(&all, "/overlay/echo", "get", &answer);
    assert_eq!((answer.status, &answer.json()["missing"][0]["process"]), (StatusCode::OK, &json!("D")));
    let answer = call(&cluster, Method::GET, "/overlay/echo?timeout=x", "*/*", "");
    fits(&all, "/overlay/echo", "get", &answer);
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);

    let answer = call(&cluster, Method::GET, "/overlay/metrics", "*/*", "");
    fits(&all, "/overlay/metrics", "get", &answer);
    let survey = answer.json();
    let up: Vec<_> = survey["processes"].as_array().expect("a list").iter().collect();
    assert_eq!(up.iter().map(|one| &one["process"]).collect::<Vec<_>>(), ["A", "B", "C", "D", "E", "F"]);
    for one in up {
        assert_eq!(one["metrics"].is_null(), one["process"] == "D", "{one}");
        assert_eq!(one["why"].is_null(), one["process"] != "D", "{one}");
        assert!(one["metrics"].is_null() || one["metrics"]["process_id"] == one["process"], "{one}");
    }
}
