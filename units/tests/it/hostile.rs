//! Frames that nobody of ours would send.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, connect_async};

use crate::cluster::{Cluster, SEED};

#[tokio::test]
async fn what_is_no_frame_is_refused_and_counted_and_the_units_go_on() {
    let cluster = Cluster::start(&SEED, r#"{"rebalance_interval":0}"#).await;
    let unit = cluster.ports[1];
    let url = format!("ws://127.0.0.1:{unit}/ws");
    let doubled = format!(
        r#"{{"route":"offer","sender":{},"journal":1,"batch":1,"tasks":[{{"id":"a","left_ms":1}},{{"id":"a","left_ms":1}}]}}"#,
        cluster.ports[0]
    );
    let cases = [
        ("not_a_neighbor", Message::text(r#"{"route":"echo","sender":8001,"wave":"7-9"}"#)),
        ("offer", Message::text(doubled)),
        (
            "not_a_neighbor",
            Message::text(
                r#"{"route":"echo_back","sender":8001,"wave":"7-7","payload":{"name":"a","load":0,"cpu":1,"port":1,"children":[]}}"#,
            ),
        ),
        (
            "not_a_neighbor",
            Message::text(r#"{"route":"finn","sender":8001,"wave":"7-8","inc":[1],"ninc":[]}"#),
        ),
        ("wrong_route", Message::text(r#"{"route":"move","ticket":1,"to":8000,"count":5}"#)),
        ("unknown_unit", Message::text(r#"{"route":"offer","sender":1,"journal":1,"batch":1,"tasks":[]}"#)),
    ];
    for (reason, message) in nobodys().into_iter().chain(cases) {
        let before = rejected(&cluster, unit, reason).await;
        let (mut socket, _) = connect_async(&url).await.expect("a WebSocket");
        // What is too long may be refused before all of it was sent.
        drop(socket.send(message).await);
        cluster
            .wait(&format!("it is counted: {reason}"), async || {
                (rejected(&cluster, unit, reason).await > before).then_some(())
            })
            .await;
    }
    let tree = cluster.get(cluster.balancer, "/echo").await.expect("a tree");
    assert_eq!((&tree["is_complete"], &tree["messages"]), (&json!(true), &json!(14)), "{tree}");
}

/// What no frame is, to anybody; and why.
fn nobodys() -> Vec<(&'static str, Message)> {
    let long = format!(r#"{{"route":"echo","purpose":"{}"}}"#, "x".repeat(1 << 20));
    let deep = format!(r#"{{"route":"echo_back","payload":{}"#, "[".repeat(100_000));
    let purpose = format!(r#"{{"route":"echo","purpose":"{}"}}"#, "x".repeat(900_000));
    vec![
        ("long_purpose", Message::text(purpose)),
        ("not_a_frame", Message::text("no JSON")),
        ("not_a_frame", Message::text(r#"{"route":"dance","sender":1}"#)),
        ("not_a_frame", Message::text("[]")),
        ("not_a_frame", Message::text(deep)),
        ("binary", Message::binary(vec![0, 159, 146, 150])),
        ("too_long", Message::text(long)),
    ]
}

/// How many a unit has refused for a reason, or their balancer.
async fn rejected(cluster: &Cluster, port: u16, reason: &str) -> u64 {
    let whose = if port == cluster.balancer { "waves" } else { "unit" };
    let metrics = cluster.get(port, "/metrics").await.expect("metrics");
    let name = format!("slipring_{whose}_rejected_total{{reason=\"{reason}\"}} ");
    let line = metrics.as_str().and_then(|text| text.lines().find_map(|line| line.strip_prefix(&name)));
    line.map_or(0, |count| count.parse().expect("a count"))
}

#[tokio::test]
async fn what_is_no_frame_is_refused_by_the_balancer_too() {
    let cluster = Cluster::start(&SEED, r#"{"rebalance_interval":0}"#).await;
    let url = format!("ws://127.0.0.1:{}/ws", cluster.balancer);
    let decided = r#"{"route":"decided","wave":"7-7","sender":8001,"sent":18446744073709551615}"#;
    let others = [
        ("wrong_route", Message::text(decided)),
        ("wrong_route", Message::text(r#"{"route":"start","algorithm":"echo","wave":"7-7"}"#)),
        ("wrong_route", Message::text(r#"{"route":"hello","sender":8001}"#)),
    ];
    for (reason, message) in nobodys().into_iter().chain(others) {
        let before = rejected(&cluster, cluster.balancer, reason).await;
        let (mut socket, _) = connect_async(&url).await.expect("a WebSocket");
        drop(socket.send(message).await);
        cluster
            .wait(&format!("it is counted: {reason}"), async || {
                (rejected(&cluster, cluster.balancer, reason).await > before).then_some(())
            })
            .await;
    }
    let tree = cluster.get(cluster.balancer, "/echo").await.expect("a tree");
    assert_eq!((&tree["is_complete"], &tree["messages"]), (&json!(true), &json!(14)), "{tree}");
}

#[tokio::test]
async fn whoever_is_where_a_unit_should_be_is_not_believed_everything() {
    let mut cluster = Cluster::start(&SEED, r#"{"rebalance_interval":0}"#).await;
    let (leaf, balancer) = (cluster.ports[6], cluster.balancer);
    cluster.stop(leaf);
    let listener = cluster.instead_of(leaf).await;
    let mut socket = linked_by(&listener, balancer).await;
    let decided = |sent: u64, load: u64| {
        format!(
            r#"{{"route":"decided","wave":"7-7","sender":{leaf},"sent":{sent},"tree":{{"name":"a","load":{load},"cpu":1,"port":{leaf},"children":[]}}}}"#
        )
    };
    let state = format!(
        r#"{{"route":"state","sender":{leaf},"load":{0},"running":0,"queued":{0},"reserved":0,"finished":0,"link":null}}"#,
        u64::MAX
    );
    for (reason, text) in [
        ("not_a_frame", "no JSON".to_owned()),
        ("counts", decided(u64::MAX, 0)),
        ("counts", decided(1, 10_000_000_000_000_000_000)),
        ("counts", state),
        ("unknown_wave", decided(1, 1)),
        ("wrong_route", format!(r#"{{"route":"hello","sender":{leaf}}}"#)),
    ] {
        let before = rejected(&cluster, balancer, reason).await;
        socket.send(Message::text(text)).await.expect("the balancer listens");
        cluster
            .wait(&format!("it is counted: {reason}"), async || {
                (rejected(&cluster, balancer, reason).await > before).then_some(())
            })
            .await;
    }
    let units = cluster.get(balancer, "/units").await.expect("units");
    assert_eq!(units["disbalance"], json!(0.0), "{units}");

    nobody_answers_for_another(&cluster, leaf, &mut socket).await;
    drop((socket, listener));
    cluster.restart(leaf).await;
    cluster.linked().await;
}

/// Who was not asked changes nothing: the next order's number is not hard to guess.
async fn nobody_answers_for_another(cluster: &Cluster, leaf: u16, socket: &mut WebSocketStream<TcpStream>) {
    let balancer = cluster.balancer;
    let order = async |unit: u16| cluster.call("POST", balancer, &format!("/tasks?unit={unit}&n=3")).await;
    let (own, ticket) = futures_util::future::join(order(leaf), async {
        let asked = next(socket, "add").await;
        let done = json!({"route": "moved", "ticket": asked["ticket"], "moved": 3});
        socket.send(Message::text(done.to_string())).await.expect("the balancer listens");
        asked["ticket"].as_u64().expect("a number")
    })
    .await;
    assert_eq!((own.0, &own.1["added"]), (200, &json!(3)), "{}", own.1);
    let (other, before) = (cluster.ports[7], rejected(cluster, balancer, "not_asked").await);
    let frozen = cluster.freeze(other).await;
    let mut ordering = std::pin::pin!(order(other));
    let answering = async {
        // Until the order is there.
        while rejected(cluster, balancer, "not_asked").await == before {
            let done = json!({"route": "moved", "ticket": ticket + 1, "moved": 1, "reason": "made up"});
            socket.send(Message::text(done.to_string())).await.expect("the balancer listens");
        }
    };
    tokio::select! {
        told = &mut ordering => panic!("somebody else answered: {told:?}"),
        () = answering => {}
    }
    drop(frozen);
    let told = ordering.await;
    assert_eq!((told.0, &told.1["added"]), (200, &json!(3)), "what the unit says itself: {}", told.1);
}

/// Who changes its place while a wave goes through is told of it by two: nothing is wrong then.
#[tokio::test]
async fn a_message_more_by_a_unit_that_was_elsewhere_is_not_wrong() {
    let mut cluster = Cluster::start(&SEED, r#"{"rebalance_interval":0}"#).await;
    let (leaf, balancer) = (cluster.ports[6], cluster.balancer);
    cluster.stop(leaf);
    let listener = cluster.instead_of(leaf).await;
    // It hangs on nobody: whom it should hang on has other neighbors than the tree gives it.
    let mut socket = linked_by(&listener, balancer).await;
    let wave = cluster.call("POST", balancer, "/wave?algorithm=barrier");
    let ((status, record), ()) = futures_util::future::join(wave, async {
        let start = next(&mut socket, "start").await;
        let decided = json!({"route": "decided", "wave": start["wave"], "sender": leaf, "sent": 2});
        socket.send(Message::text(decided.to_string())).await.expect("the balancer listens");
    })
    .await;
    assert_eq!((status, &record["is_complete"]), (200, &json!(true)), "{record}");
    assert_eq!((&record["messages"], &record["expected"]), (&json!(6 + 2), &json!(7)), "{record}");
    assert_eq!(record["is_wrong"], json!(false), "{record}");
    drop((socket, listener));
    cluster.restart(leaf).await;
    cluster.linked().await;
}

/// The balancer's link to whoever listens in a unit's place.
async fn linked_by(listener: &TcpListener, balancer: u16) -> WebSocketStream<TcpStream> {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let Ok(mut socket) = accept_async(stream).await else { continue };
        // Others may look for the unit as well.
        if let Some(Ok(Message::Text(hello))) = socket.next().await
            && hello.contains(&balancer.to_string())
        {
            return socket;
        }
    }
}

/// The next frame of a route.
async fn next(socket: &mut WebSocketStream<TcpStream>, route: &str) -> Value {
    loop {
        if let Message::Text(text) = socket.next().await.expect("a frame").expect("a message")
            && let Ok(frame) = serde_json::from_str::<Value>(&text)
            && frame["route"] == route
        {
            return frame;
        }
    }
}

/// Since 1970, in microseconds, as journals are called.
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("before the year 500000")
}

#[tokio::test]
async fn what_strangers_offer_in_a_units_name_and_how_many_they_are_does_not_stop_its_own_offers() {
    let cluster = Cluster::start(&SEED, r#"{"rebalance_interval":0,"task_time":600}"#).await;
    let (source, target) = (cluster.ports[1], cluster.ports[3]);
    let url = format!("ws://127.0.0.1:{target}/ws");
    cluster.call("POST", cluster.balancer, &format!("/tasks?unit={source}&n=5")).await;
    let offer = |journal: u64, tasks: Value| {
        json!({"route": "offer", "sender": source, "journal": journal, "batch": 1, "tasks": tasks})
            .to_string()
    };
    let tasks = |count: usize| {
        json!((0..count).map(|n| json!({"id": format!("x{n}"), "left_ms": 1})).collect::<Vec<_>>())
    };
    for text in [
        offer(micros(), json!([])),
        offer(1, json!([])),
        offer(1, tasks(5_001)),
        offer(1, json!([{"id": "x", "left_ms": u64::MAX}])),
    ] {
        let refused = rejected(&cluster, target, "offer").await;
        let (mut socket, _) = connect_async(&url).await.expect("a WebSocket");
        socket.send(Message::text(text)).await.expect("a frame");
        cluster
            .wait("it is refused", async || {
                (rejected(&cluster, target, "offer").await > refused).then_some(())
            })
            .await;
    }
    // Strangers take all places that there are for them, and hold them.
    let mut strangers = Vec::new();
    while rejected(&cluster, target, "too_many_links").await == 0 {
        let (mut socket, _) = connect_async(&url).await.expect("a WebSocket");
        socket.send(Message::text(r#"{"route":"dance"}"#)).await.expect("a frame");
        strangers.push(socket);
    }
    assert!(strangers.len() > 256, "{}", strangers.len());
    // What could be its own is taken, and is neither before nor after what it offers itself.
    for (number, journal) in [micros(), u64::MAX].into_iter().enumerate() {
        let (mut socket, _) = connect_async(&url).await.expect("a WebSocket");
        let one = json!([{"id": format!("stranger-{number}"), "left_ms": 600_000}]);
        socket.send(Message::text(offer(journal, one))).await.expect("a frame");
        let answer = loop {
            if let Message::Text(text) = socket.next().await.expect("an answer").expect("a message") {
                break serde_json::from_str::<Value>(&text).expect("JSON");
            }
        };
        assert_eq!(
            (&answer["route"], &answer["verdict"]),
            (&json!("answer"), &json!("accepted")),
            "{answer}"
        );
        let before = cluster.tasks().await;
        let path = format!("/rebalance?target={target}&count=2");
        let (status, moved) = cluster.call("POST", source, &path).await;
        assert_eq!((status, &moved["moved"]), (200, &json!(2)), "{moved}");
        assert_eq!(cluster.tasks().await, before, "nothing lost, nothing twice");
    }
}

#[tokio::test]
async fn a_report_of_a_wave_never_seen_is_ignored_and_whoever_says_to_be_another_is_put_right() {
    let cluster = Cluster::start(&SEED, r#"{"rebalance_interval":0}"#).await;
    let (unit, child) = (cluster.ports[1], cluster.ports[2]);
    let hello = format!(r#"{{"route":"hello","sender":{child}}}"#);
    let report = r#"{"route":"echo_back","sender":1,"wave":"7-7","payload":{"name":"a","load":0,"cpu":1,"port":1,"children":[]}}"#;
    let nodes = r#"{"route":"finn","sender":1,"wave":"7-8","inc":[1,2,3],"ninc":[]}"#;
    let late = format!(r#"{{"route":"finn","sender":1,"wave":"7-9","left_us":0,"inc":[{child}],"ninc":[]}}"#);
    let many = report.replace("\"load\":0", "\"load\":10000000000000000000");
    let sent = report.replace("\"load\":0", "\"load\":0,\"sent\":18446744073709551615");
    for (reason, frame) in [
        ("unknown_wave", report),
        ("unknown_unit", nodes),
        ("late", &*late),
        ("counts", &*many),
        ("counts", &*sent),
    ] {
        let before = rejected(&cluster, unit, reason).await;
        // The true child takes its place back as soon as it has lost it: both frames have to be there before.
        cluster
            .wait(reason, async || {
                let (mut socket, _) = connect_async(format!("ws://127.0.0.1:{unit}/ws")).await.ok()?;
                socket.feed(Message::text(&*hello)).await.ok()?;
                socket.feed(Message::text(frame)).await.ok()?;
                socket.flush().await.ok()?;
                while let Some(Ok(_)) = socket.next().await {}
                (rejected(&cluster, unit, reason).await > before).then_some(())
            })
            .await;
    }
    cluster
        .wait("the child has its place again", async || {
            let tree = cluster.get(cluster.balancer, "/echo").await?;
            (tree["is_complete"] == json!(true) && tree["messages"] == json!(14)).then_some(())
        })
        .await;
}

#[tokio::test]
async fn the_originals_finn_at_a_unit_is_a_task_for_everyone() {
    let cluster = Cluster::start(&SEED, r#"{"rebalance_interval":0,"task_time":60}"#).await;
    let (mut socket, _) =
        connect_async(format!("ws://127.0.0.1:{}/ws", cluster.ports[3])).await.expect("a WebSocket");
    let finn = format!(r#"{{"route":"finn","sender":7999,"inc":[{}],"ninc":[]}}"#, cluster.ports[3]);
    socket.send(Message::text(finn)).await.expect("a frame");
    cluster.wait("each has one", async || (cluster.tasks().await.len() == 8).then_some(())).await;
}

#[tokio::test]
async fn a_client_of_the_original_begins_a_wave_at_a_unit_and_is_told_its_end() {
    let cluster = Cluster::start(&SEED, r#"{"rebalance_interval":0}"#).await;
    for (port, count) in [(cluster.ports[1], 8), (cluster.balancer, 8)] {
        let (mut socket, _) = connect_async(format!("ws://127.0.0.1:{port}/ws")).await.expect("a WebSocket");
        let echo = r#"{"route":"echo","sender":"ws://127.0.0.1:3000/ws","purpose":"draw","payload":{"any":"thing"}}"#;
        socket.send(Message::text(echo)).await.expect("a frame");
        let back = loop {
            if let Message::Text(text) = socket.next().await.expect("an answer").expect("a message") {
                break serde_json::from_str::<Value>(&text).expect("JSON");
            }
        };
        assert_eq!((&back["route"], &back["purpose"]), (&json!("echo_back"), &json!("draw")), "{back}");
        assert_eq!(back.to_string().matches("\"cpu\"").count(), count, "{back}");
    }
}
