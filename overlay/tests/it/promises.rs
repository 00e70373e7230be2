//! What is promised beside the answers: what is given back is gone, what is large is cut, what is left out is told, and
//! nobody who reads slowly, says too much or never says anything costs others something.

use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::json;
use slipring_overlay::node::Limits;
use slipring_overlay::topology::Profile;
use slipring_overlay::wire::overlay_node_client::OverlayNodeClient;
use slipring_overlay::wire::{ChunkRequest, QueryRequest, ReleaseRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::cluster::{Cluster, question, six};
use crate::openapi::call;

#[test]
fn what_one_leader_handed_out_is_given_back_to_the_other() {
    let mut file = six();
    file["leaders"] = 2.into();
    file["processes"]["Z"] = file["processes"]["A"].clone();
    file["processes"]["Z"]["id"] = "Z".into();
    let cluster = Cluster::start(file, Some(Profile::Parallel));
    cluster.block_on(async {
        let (mut a, mut z) = (cluster.client("A").await, cluster.client("Z").await);
        let by = |client: &str| QueryRequest { client_id: client.into(), ..question(&json!({})) };
        let uid = a.query(by("ann")).await.unwrap().into_inner().uid;
        assert_eq!(z.query(by("bob")).await.unwrap().into_inner().uid, uid, "they share it");
        let chunk = || ChunkRequest { uid: uid.clone(), chunk_index: 0 };
        let mut read = async || {
            let (one, other) = (a.get_chunk(chunk()).await.unwrap(), z.get_chunk(chunk()).await.unwrap());
            [one.into_inner().status, other.into_inner().status]
        };
        let back = async |id: &str, client: &'static str| {
            let mut request = tonic::Request::new(ReleaseRequest { uid: uid.clone() });
            request.metadata_mut().insert("x-client-id", client.parse().unwrap());
            cluster.client(id).await.release(request).await.unwrap().into_inner().status
        };
        // Each gives its own back to the leader that did not hand it out.
        assert_eq!(back("Z", "ann").await, "released");
        assert_eq!(read().await, ["success"; 2], "bob has it still");
        assert_eq!(back("A", "bob").await, "released");
        assert_eq!(read().await, ["not_found"; 2]);
        assert_eq!(back("A", "bob").await, "not_found");
        // Asked for again of one of them, it is good again at both.
        cluster.client("A").await.query(by("ann")).await.unwrap();
        assert_eq!(read().await, ["success"; 2]);
        // Told by both, ann has it once: what it gives back, it gives back to both.
        cluster.client("Z").await.query(by("ann")).await.unwrap();
        assert_eq!(back("A", "eve").await, "not_found");
        assert_eq!(read().await, ["success"; 2], "eve has nothing to give back");
        assert_eq!(back("A", "ann").await, "released");
        assert_eq!(read().await, ["not_found"; 2]);
    });
}

#[test]
fn what_was_streamed_is_not_given_back_and_each_of_two_behind_an_address_gives_back_its_own() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let ask = |accept: &str| call(&cluster, Method::POST, "/overlay/query", accept, "{}");
    assert_eq!(ask("text/csv").status, StatusCode::OK);
    let (first, again) = (ask("application/json").json(), ask("application/json").json());
    assert_eq!(first["uid"], again["uid"]);
    assert_eq!(ask("application/x-ndjson").status, StatusCode::OK);
    let uid = first["uid"].as_str().expect("a name");
    let (result, chunk) = (format!("/overlay/query/{uid}"), format!("/overlay/query/{uid}/0"));
    let status = |method: Method, path: &str| call(&cluster, method, path, "*/*", "").status;
    assert_eq!(status(Method::GET, &chunk), StatusCode::OK);
    assert_eq!(status(Method::DELETE, &result), StatusCode::NO_CONTENT);
    assert_eq!(status(Method::GET, &chunk), StatusCode::OK, "the other one has it still");
    assert_eq!(status(Method::DELETE, &result), StatusCode::NO_CONTENT);
    assert_eq!(status(Method::GET, &chunk), StatusCode::NOT_FOUND);
    assert_eq!(status(Method::DELETE, &result), StatusCode::NOT_FOUND);
}

#[test]
fn a_name_that_is_too_long_is_refused_and_costs_no_neighbor_its_name() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let long = "x".repeat(100_000);
    cluster.block_on(async {
        let mut client = cluster.client("A").await;
        let mut ask = async |query_id: &str, hop: &str| {
            let (query_id, hops) = (query_id.into(), vec![hop.into()]);
            client
                .query(QueryRequest { query_id, hops, ..question(&json!({})) })
                .await
                .unwrap()
                .into_inner()
                .status
        };
        assert_eq!(ask(&long, "X").await, "invalid_query:query_id has 100000 bytes; at most 128");
        assert_eq!(ask("mine", &long).await, "invalid_query:a hop has 100000 bytes; at most 128");
        assert_eq!(ask(&long[..128], &long[..128]).await, "ready");
    });
}

#[test]
fn no_chunk_is_larger_than_a_client_takes_that_was_told_nothing() {
    let mut file = six();
    file["strategies"]["chunk_size"] = 1_000_000.into();
    let rows = 4000;
    let cluster = Cluster::start_with(file, None, move |id, options| {
        if id == "C" {
            let site = "far away ".repeat(200);
            let row = format!(
                "\"1.5\",\"2.5\",\"2020-08-10T01:00\",\"RADON\",\"7.0\",\"UG/M3\",\"7.0\",\"30\",\"1\",\"{site}\",\"A\",\"1\",\"2\"\n"
            );
            let day = options.dataset_root.clone().expect("a worker's").join("20200810/99.csv");
            std::fs::write(day, row.repeat(rows)).expect("it is ours");
        }
    });
    let answer = cluster.query("A", &json!({"parameter": "RADON"}));
    assert_eq!((answer.status.as_str(), answer.total_records as usize), ("ready", rows));
    cluster.block_on(async {
        // As it comes: its messages may have 4 MiB.
        let mut client = OverlayNodeClient::connect(cluster.url("A")).await.unwrap();
        let mut read = 0;
        for chunk_index in 0..answer.total_chunks {
            let chunk = ChunkRequest { uid: answer.uid.clone(), chunk_index };
            let chunk = client.get_chunk(chunk).await.expect("it is small enough").into_inner();
            read += serde_json::from_str::<Vec<serde_json::Value>>(&chunk.data).unwrap().len();
        }
        assert_eq!(read, rows);
    });
    assert!((2..10).contains(&answer.total_chunks), "and none is smaller than it has to be: {answer:?}");
}

#[test]
fn what_is_no_row_is_told_with_the_answer_and_found_by_file_and_line() {
    let cluster = Cluster::start_with(six(), None, |id, options| {
        if id == "C" {
            let file = options.dataset_root.clone().expect("a worker's").join("20200810/20200810-99.csv");
            let header =
                "latitude,longitude,UTC,parameter,concentration,unit,raw,AQI,category,site,agency,aqs,full\n";
            std::fs::write(file, header).expect("it is ours");
        }
    });
    let malformed =
        |asked| cluster.query("A", &asked).coverage.expect("it says how complete it is").rows_malformed;
    assert_eq!(malformed(json!({})), 1);
    assert_eq!(malformed(json!({"team": "pink"})), 0, "it is no row of theirs");
    let (told, metrics) = cluster.block_on(async {
        let json = |got: crate::cluster::Got| serde_json::from_slice::<serde_json::Value>(&got.body).unwrap();
        let told = json(cluster.get("C", "/overlay/malformed").await);
        (told, String::from_utf8(cluster.get("C", "/metrics").await.body.to_vec()).unwrap())
    });
    let file = &told["files"][0];
    assert_eq!(
        (&file["date"], &file["file"], &file["lines"]),
        (&json!("20200810"), &json!("20200810-99.csv"), &json!(1))
    );
    assert_eq!(file["first"][0]["line"], 1);
    let line = metrics.lines().find(|line| line.starts_with("slipring_overlay_rows_malformed")).unwrap();
    assert!(line.ends_with(" 1"), "{line}");
}

#[test]
fn health_and_the_description_of_the_services_are_there_for_any_client() {
    let cluster = Cluster::start(six(), None);
    cluster.block_on(async {
        let channel =
            tonic::transport::Endpoint::from_shared(cluster.url("C")).unwrap().connect().await.unwrap();
        let mut health = HealthClient::new(channel.clone());
        for service in ["", "OverlayNode"] {
            let mut changes =
                health.watch(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
            while changes.message().await.unwrap().expect("it goes on").status != 1 {}
        }
        let unknown = health.check(HealthCheckRequest { service: "Other".into() }).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::NotFound);
        let mut reflection = ServerReflectionClient::new(channel);
        let list = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut said =
            reflection.server_reflection_info(tokio_stream::iter([list])).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) =
            said.message().await.unwrap().expect("an answer").message_response
        else {
            panic!("no list");
        };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        for name in ["OverlayNode", "grpc.health.v1.Health"] {
            assert!(names.iter().any(|known| known == name), "{names:?}");
        }
    });
}

/// What a process that counts for Prometheus says of `name`.
async fn counted(cluster: &Cluster, id: &str, name: &str) -> f64 {
    let text = String::from_utf8(cluster.get(id, "/metrics").await.body.to_vec()).expect("metrics are text");
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Many rows for the day of C, so that no socket takes all of them at once.
fn large(limited: &'static str, limits: Limits) -> Cluster {
    Cluster::start_with(six(), Some(Profile::Parallel), move |id, options| {
        if id == limited {
            options.limits = limits;
        }
        if id == "C" {
            let row = "\"1.5\",\"2.5\",\"2020-08-10T01:00\",\"RADON\",\"7.0\",\"UG/M3\",\"7.0\",\"30\",\"1\",\"S\",\"A\",\"1\",\"2\"\n";
            let day = options.dataset_root.clone().expect("a worker's").join("20200810/99.csv");
            std::fs::write(day, row.repeat(100_000)).expect("it is ours");
        }
    })
}

#[test]
fn a_reader_that_takes_nothing_is_given_up_and_what_it_held_is_free() {
    // An answer has several MB; two of them have no room.
    let limits = Limits { stream_bytes: 8 << 20, stalled: Duration::from_millis(300), ..Limits::default() };
    let cluster = large("B", limits);
    let asked = r#"{"parameter":"RADON"}"#;
    assert_eq!(cluster.query("A", &json!({"parameter": "RADON"})).total_records, 100_000);
    let authority = cluster.url("B").trim_start_matches("http://").to_owned();
    cluster.block_on(async {
        let mut reader = tokio::net::TcpStream::connect(&authority).await.unwrap();
        let head = format!(
            "POST /overlay/query HTTP/1.1\r\nHost: a\r\nAccept: application/x-ndjson\r\nContent-Length: {}\r\n\r\n{asked}",
            asked.len()
        );
        reader.write_all(head.as_bytes()).await.unwrap();
        reader.readable().await.unwrap();
        let began = Instant::now();
        while counted(&cluster, "B", "slipring_overlay_stream_bytes").await > 0.0 {
            assert!(began.elapsed() < Duration::from_secs(20), "it is held for ever");
        }
        // It is told that what it has is not all: the body has no last chunk.
        let mut body = Vec::new();
        drop(reader.read_to_end(&mut body).await);
        assert!(body.starts_with(b"HTTP/1.1 200") && !body.ends_with(b"0\r\n\r\n"), "{} bytes", body.len());
    });
    let whole = call(&cluster, Method::POST, "/overlay/query", "application/x-ndjson", asked);
    assert_eq!(
        whole.body.iter().filter(|&&byte| byte == b'\n').count(),
        100_000,
        "one that reads has all of it, of A, which is as patient as ever"
    );
}

#[test]
fn no_more_connections_than_there_are_places_and_none_that_says_nothing() {
    let limits = Limits { connections: 20, header_timeout: Duration::from_secs(2), ..Limits::default() };
    let cluster = Cluster::start_with(six(), None, move |id, options| {
        if id == "F" {
            options.limits = limits;
        }
    });
    let authority = cluster.url("F").trim_start_matches("http://").to_owned();
    cluster.block_on(async {
        let mut all = Vec::new();
        for number in 0..40 {
            let mut stream = tokio::net::TcpStream::connect(&authority).await.unwrap();
            // Who is sent away may be so before this.
            let words: &[u8] = [&b"GET /heartbeat HTTP/1.1\r\nHo"[..], b"PRI * HTT", b""][number % 3];
            drop(stream.write_all(words).await);
            all.push(stream);
        }
        let mut refused = 0;
        for mut stream in all {
            // Those who have a place hear nothing, and are ended when their time is over.
            let mut said = Vec::new();
            drop(stream.read_to_end(&mut said).await);
            refused += usize::from(
                said.starts_with(b"HTTP/1.1 503") && said.windows(14).any(|words| words == b"Retry-After: 1"),
            );
        }
        assert!((10..40).contains(&refused), "{refused} of 40 were sent away");
        assert_eq!(cluster.get("F", "/heartbeat").await.status, StatusCode::OK, "there is room again");
    });
}
