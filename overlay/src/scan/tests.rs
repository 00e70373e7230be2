use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU32;

use super::*;
use crate::hedge::Hedging;
use crate::holdings::Holdings;
use crate::partition::a_day;
use crate::peers::Peers;
use crate::topology::Topology;

/// A worker that holds a day.
fn worker(root: &std::path::Path) -> (Asker, Date) {
    let date = a_day(root, 1, 7);
    let file = Topology::parse(include_str!("../../topologies/baseline.json")).unwrap();
    let asker = Asker {
        own: "C".into(),
        peers: Peers::default(),
        holdings: Holdings::load(root.to_owned(), vec![date], vec![date], NonZeroUsize::MIN, None),
        strategies: file.strategies,
        turn: AtomicU32::new(0),
        hedging: Hedging::default(),
    };
    (asker, date)
}

#[test]
fn to_count_needs_no_thread_that_looks_at_rows() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
    let folder = tempfile::tempdir().unwrap();
    runtime.unwrap().block_on(async {
        let (asker, date) = worker(folder.path());
        let (fingerprint, rows) = match asker.holdings.all().await.get(&date) {
            Some(Ok(partition)) => (partition.fingerprint, partition.rows() as i64),
            held => panic!("{held:?}"),
        };
        // The only thread of this kind is taken until the end.
        let (free, taken) = std::sync::mpsc::channel::<()>();
        let taken = tokio::task::spawn_blocking(move || taken.recv());
        let (parts, mut came) = mpsc::channel(8);
        let ask = |take| Ask { date: date.number(), fingerprint, take };
        let request = |asks| ScanRequest {
            conditions: "{}".into(),
            routes: vec![Route { path: vec![], asks }],
            ..ScanRequest::default()
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        asker.scan(request(vec![ask(0)]), deadline, &parts).await;
        let counted = came.recv().await.unwrap();
        assert_eq!((counted.matched, counted.rows, counted.failure), (rows, 0, None));
        // Records do need it.
        let taking = asker.scan(request(vec![ask(0), ask(2)]), deadline, &parts);
        tokio::pin!(taking);
        assert!(futures_util::poll!(&mut taking).is_pending());
        drop(free);
        taking.await;
        taken.await.unwrap().unwrap_err();
        assert_eq!((came.recv().await.unwrap().rows, came.recv().await.unwrap().rows), (0, 2));
    });
}

#[tokio::test]
async fn by_capacity_whoever_has_most_left_is_asked_first() {
    let folder = tempfile::tempdir().unwrap();
    let (mut asker, _) = worker(folder.path());
    let channel = || tonic::transport::Endpoint::from_static("http://nobody.asks").connect_lazy();
    asker.peers = Peers::over(["B", "E", "F", "G"].map(|id| (ProcessId::from(id), channel())));
    asker.strategies.forwarding = Forwarding::Capacity;
    let order = |asker: &Asker, turn| {
        let onward = ["B", "E", "F", "G"].map(|id| (ProcessId::from(id), Vec::new())).into();
        let order = asker.in_order(onward, turn).into_iter();
        order.map(|(id, _)| id.to_string()).collect::<Vec<_>>().concat()
    };
    for (id, active, capacity) in [("B", 50, 100), ("E", 10, 100), ("F", 3, 4), ("G", 0, 100)] {
        asker.peers.get(&id.into()).unwrap().told(active, capacity);
    }
    assert_eq!(order(&asker, 0), "GEBF", "of what each can do");
    asker.peers.get(&"G".into()).unwrap().told(99, 100);
    assert_eq!(order(&asker, 1), "EBFG", "whosever turn it would be");
}
