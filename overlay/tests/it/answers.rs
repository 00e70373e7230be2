//! What is asked is answered, by whomever and however.

use serde_json::{Value, json};
use slipring_overlay::topology::Profile;
use slipring_overlay::wire::{ChunkRequest, MetricsRequest, QueryRequest, ReleaseRequest};

use crate::cluster::{Cluster, shown, six};

fn pm(row: &crate::data::Row) -> bool {
    row.parameter == "PM2.5" && row.value.is_some_and(|value| (5.0..=35.0).contains(&value))
}

#[test]
fn the_leader_answers_for_all_and_each_worker_for_its_own_in_every_profile_with_the_same_bytes() {
    let asked = json!({"parameter": "pm2.5", "min_value": 5, "max_value": 35});
    let mut seen: Option<String> = None;
    for profile in Profile::ALL {
        let cluster = Cluster::start(six(), Some(*profile));
        let answer = cluster.query("A", &asked);
        assert_eq!((answer.status.as_str(), answer.truncated), ("ready", false), "{answer:?}");
        let expected = cluster.expected(pm);
        let records = cluster.records("A", &answer);
        assert_eq!(records.iter().map(shown).collect::<Vec<_>>(), expected);
        assert_eq!((answer.matched, answer.total_records), (expected.len() as i64, expected.len() as i64));
        let coverage = answer.coverage.clone().expect("it says how complete it is");
        assert_eq!((coverage.partitions, coverage.answered, coverage.missing.len()), (9, 9, 0));
        let text: String = Value::from(records).to_string();
        assert_eq!(*seen.get_or_insert_with(|| text.clone()), text, "{}", profile.name());

        let parts: Vec<_> = ["C", "D", "F"].map(|id| cluster.query(id, &asked).matched).into();
        assert_eq!(parts.iter().sum::<i64>(), answer.matched);
        assert_eq!(cluster.query("B", &asked).matched, parts[0] + parts[1], "its two workers");
        assert_eq!(cluster.query("E", &asked).matched, parts[1] + parts[2], "its two workers");
        assert_eq!(
            cluster
                .query("A", &json!({"team": "pink", "parameter": "PM2.5", "min_value": 5, "max_value": 35}))
                .matched,
            parts[1] + parts[2]
        );
    }
}

#[test]
fn every_condition_and_the_limit_are_obeyed() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let check = |params: Value, meets: &dyn Fn(&crate::data::Row) -> bool| {
        let answer = cluster.query("A", &params);
        let records: Vec<_> = cluster.records("A", &answer).iter().map(shown).collect();
        assert_eq!(records, cluster.expected(meets), "{params}");
    };
    check(json!({}), &|_| true);
    check(json!({"min_value": 10}), &|row| row.value.is_some_and(|value| value >= 10.0));
    check(json!({"max_value": -1}), &|row| row.value.is_some_and(|value| value <= -1.0));
    check(json!({"date_start": "20200814", "date_end": 20_200_822}), &|row| {
        (20_200_814..=20_200_822).contains(&row.date)
    });
    check(json!({"lat_min": 30, "lat_max": 40, "lon_min": -100, "lon_max": -80.5}), &|row| {
        (30.0..=40.0).contains(&row.latitude) && (-100.0..=-80.5).contains(&row.longitude)
    });
    check(json!({"parameter": "OZONE", "lat_min": 40}), &|row| {
        row.parameter == "OZONE" && row.latitude >= 40.0
    });
    check(json!({"parameter": "RADON"}), &|_| false);
    let all = cluster.expected(pm);
    for limit in [0, 1, 7, 1000] {
        let answer = cluster
            .query("A", &json!({"parameter": "PM2.5", "min_value": 5, "max_value": 35, "limit": limit}));
        let records: Vec<_> = cluster.records("A", &answer).iter().map(shown).collect();
        assert_eq!(records, all[..all.len().min(limit)]);
        assert_eq!((answer.matched, answer.truncated), (all.len() as i64, limit < all.len()));
    }
}

#[test]
fn chunks_can_be_read_again_by_another_and_until_they_are_released() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let answer = cluster.query("A", &json!({}));
    assert!(answer.total_chunks > 1, "{answer:?}");
    let first = cluster.chunks("A", &answer);
    assert_eq!(cluster.chunks("A", &answer), first, "the last one, too");
    cluster.block_on(async {
        let mut client = cluster.client("A").await;
        let chunk = |uid: &str, chunk_index| ChunkRequest { uid: uid.into(), chunk_index };
        for index in [-1, answer.total_chunks, i32::MAX] {
            let said = client.get_chunk(chunk(&answer.uid, index)).await.unwrap().into_inner();
            assert_eq!(
                (said.status.as_str(), said.data.as_str(), said.is_last),
                ("out_of_range", "[]", true)
            );
        }
        for uid in ["", "nobody", "00-f200-7b7d", &answer.uid[1..]] {
            assert_eq!(
                client.get_chunk(chunk(uid, 0)).await.unwrap().into_inner().status,
                "not_found",
                "{uid}"
            );
        }
        let release = || ReleaseRequest { uid: answer.uid.clone() };
        assert_eq!(client.release(release()).await.unwrap().into_inner().status, "released");
        assert_eq!(client.release(release()).await.unwrap().into_inner().status, "not_found");
        assert_eq!(client.get_chunk(chunk(&answer.uid, 0)).await.unwrap().into_inner().status, "not_found");
    });
    assert_eq!(cluster.query("A", &json!({})).uid, answer.uid, "equal questions have one name");
}

#[test]
fn what_is_no_question_has_a_status() {
    let cluster = Cluster::start(six(), None);
    cluster.block_on(async {
        let mut client = cluster.client("A").await;
        let mut ask = async |query_type: &str, params: &str, hops: &[&str]| {
            let request = QueryRequest {
                query_type: query_type.into(),
                query_params: params.into(),
                hops: hops.iter().map(|&hop| hop.into()).collect(),
                ..QueryRequest::default()
            };
            client.query(request).await.unwrap().into_inner()
        };
        assert_eq!(ask("filter", "{}", &["Z", "A"]).await.status, "loop_detected");
        assert_eq!(ask("filter", "{}", &["Z"]).await.hops, ["Z", "A"]);
        assert_eq!(ask("sum", "{}", &[]).await.status, "invalid_query:query_type 'sum' is not 'filter'");
        let status = ask("filter", "{\"team\":\"Green\"}", &[]).await.status;
        assert_eq!(status, "invalid_query:no team is called 'Green'; there are green, pink");
        for params in ["", "[]", "{\"min_value\":2,\"max_value\":1}", "{\"x\":1}"] {
            let status = ask("filter", params, &[]).await.status;
            assert!(status.starts_with("invalid_query:"), "{params}: {status}");
        }
    });
}

#[test]
fn metrics_say_who_it_is_and_how_it_behaves() {
    let cluster = Cluster::start(six(), Some(Profile::Balanced));
    drop(cluster.query("A", &json!({"limit": 0})));
    cluster.block_on(async {
        let of = async |id: &str| {
            cluster.client(id).await.get_metrics(MetricsRequest {}).await.unwrap().into_inner()
        };
        let leader = of("A").await;
        assert_eq!(
            (leader.process_id.as_str(), leader.role.as_str(), leader.team.as_str()),
            ("A", "leader", "green")
        );
        assert_eq!((leader.max_capacity, leader.is_healthy, leader.data_files_loaded), (100, true, 0));
        assert_eq!(
            (leader.forwarding_strategy.as_str(), leader.async_forwarding, leader.chunking_strategy.as_str()),
            ("capacity", true, "query_based")
        );
        assert_eq!(leader.fairness_strategy, "weighted");
        assert!(leader.recent_logs[0].contains("{\"limit\":0}"), "{:?}", leader.recent_logs);
        let files: i32 = {
            let mut sum = 0;
            for id in ["C", "D", "F"] {
                sum += of(id).await.data_files_loaded;
            }
            sum
        };
        assert_eq!(files, 27);
    });
}

#[test]
fn a_stream_of_arrow_holds_the_same_records() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let (bytes, summary) = cluster.block_on(async {
        let request = QueryRequest {
            query_type: "filter".into(),
            query_params: "{}".into(),
            ..QueryRequest::default()
        };
        let mut stream = cluster.client("A").await.query_stream(request).await.unwrap().into_inner();
        let (mut bytes, mut summary) = (Vec::new(), None);
        while let Some(piece) = stream.message().await.unwrap() {
            bytes.extend_from_slice(&piece.arrow);
            summary = piece.summary;
        }
        (bytes, summary.expect("it ends with how complete it is"))
    });
    assert_eq!(summary.status, "ready");
    let reader = arrow_ipc::reader::StreamReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
    let mut text = String::new();
    for batch in reader {
        let batch = batch.unwrap();
        let records = slipring_overlay::record::Records::of(&batch);
        (0..batch.num_rows()).for_each(|row| {
            records.json(row, &mut text);
            text.push('\n');
        });
    }
    let streamed: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answer = cluster.query("A", &json!({}));
    assert_eq!(streamed, cluster.records("A", &answer));
}
