//! What is measured and pictured: `make bench-page`, `make page-picture`.

use hyper::Method;
use serde_json::{Value, json};
use slipring_tests::{measured, wait_until};

use super::driver::{Browser, LONG};
use super::tree::Tree;
use super::whole::Whole;

/// Part of `make bench-page`: what is measured there is the machine as much as the page.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: make bench-page"]
async fn fifty_frames_a_second_with_200_nodes() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = Browser::start(1280, 900).await else { return };
    browser.prefers("dark", "no-preference").await;
    browser.open(&format!("http://{}/", tree.admin.address)).await;
    browser.until("the tree", LONG, "document.querySelectorAll('.unit').length === 8").await;
    let (units, wave) = forest(200);
    tree.tells.send(units.to_string()).expect("the page watches");
    browser.until("200 units", LONG, "document.querySelectorAll('.unit').length === 200").await;
    tree.tells.send(wave.to_string()).expect("the page watches");
    browser
        .until(
            "their wave",
            LONG,
            "document.getElementById('spacetime-sum').textContent.includes('200 nodes')",
        )
        .await;
    let script = "document.getElementById('waves').scrollIntoView(); document.querySelector('[data-step=first]').click(); document.querySelector('[data-step=play]').click(); \
         let frames = 0, drawn = 0, longest = 0; const from = performance.now(); let before = from; \
         await new Promise((done) => { const next = () => { const now = performance.now(); longest = Math.max(longest, now - before); before = now; frames += 1; \
           if (document.querySelector('.msg').getAttribute('d')) drawn += 1; \
           if (now - from < 6000) requestAnimationFrame(next); else done(); }; requestAnimationFrame(next); }); \
         return [frames / ((performance.now() - from) / 1000), drawn / frames, longest];";
    let measures = browser.js(script).await;
    let [rate, drawn, longest] = [0, 1, 2].map(|at| measures[at].as_f64().unwrap_or_default());
    measured(&format!(
        "{rate:.1} frames a second with 200 nodes, the longest took {longest:.0} ms; messages in {:.0} % of them",
        drawn * 100.0
    ));
    assert!(drawn > 0.5, "messages were on their way: {measures}");
    assert!(rate >= 50.0, "{measures}");
}

/// So many units, each below an earlier one, and an Echo wave through all of them.
fn forest(count: u64) -> (Value, Value) {
    let parent = |n: u64| (n > 0).then(|| 8000 + (n - 1) / 2);
    let units: Vec<_> = (0..count)
        .map(|n| {
            json!({ "name": format!("u{n}"), "port": 8000 + n, "cpu": 4, "load": n % 6, "running": n % 5, "queued": 0, "reserved": 0,
                    "finished": n, "parent": parent(n), "link": parent(n), "is_live": true })
        })
        .collect();
    let (mut events, mut seqs, mut time) =
        (Vec::new(), vec![0_u64; usize::try_from(count).expect("small")], 0_u64);
    let mut happen = |node: u64, kind: &str, peer: Option<u64>, what: &str| {
        let seq = &mut seqs[usize::try_from(node).expect("small")];
        time += 1;
        events.push(json!({ "node": 8000 + node, "seq": *seq, "type": kind, "peer": peer.map(|peer| 8000 + peer), "at_us": time, "what": what }));
        *seq += 1;
    };
    let children = |n: u64| (2 * n + 1..=2 * n + 2).filter(move |child| *child < count);
    happen(0, "begin", None, "");
    for node in 0..count {
        if node > 0 {
            happen(node, "receive", Some((node - 1) / 2), "explore");
        }
        children(node).for_each(|child| happen(node, "send", Some(child), "explore"));
    }
    for node in (0..count).rev() {
        children(node).for_each(|child| happen(node, "receive", Some(child), "report"));
        match node {
            0 => happen(0, "decide", None, ""),
            _ => happen(node, "send", Some((node - 1) / 2), "report"),
        }
    }
    let fathers: serde_json::Map<_, _> =
        (1..count).map(|n| ((8000 + n).to_string(), json!(8000 + (n - 1) / 2))).collect();
    let messages = 2 * (count - 1);
    let wave = json!({ "kind": "wave", "id": "8000-200", "algorithm": "echo", "purpose": "rebalance", "started_ms": 1_763_760_000_123_u64, "took_us": time,
        "messages": messages, "expected": messages, "bound": null, "is_complete": true, "missing": [], "decided": [8000], "fathers": fathers,
        "moves": [], "events": events });
    let units = json!({ "kind": "units", "strategy": "tree", "rebalance_interval_s": 5, "max_cpu": 75, "disbalance": 1.2, "units": units });
    (units, wave)
}

/// `make page-picture`: the picture in README.md, of an appliance as it runs: replicas, an overlay, a tree of units whose
/// load was balanced.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes a file: make page-picture"]
async fn picture() {
    let path = std::env::var("PAGE_PICTURE").expect("PAGE_PICTURE says where the picture goes");
    let config = json!({"task_time": 60, "rebalance_interval": 0});
    let whole = Whole::start(&config, |setup| setup.set("fleet.replicas", 5)).await;
    let Some(browser) = Browser::start(1920, 1700).await else { return };
    browser.prefers("dark", "reduce").await;
    // About as high as it will be: the pointer stays where it clicks, which must be over nothing else in the end.
    browser.screen(1920, 1860).await;
    whole.open(&browser, 5).await;
    browser.enter("#trace-key", "ann").await;
    browser.choose("#trace-as", "bytes").await;
    browser.click("#trace button").await;
    browser.until("the trace", LONG, "document.querySelectorAll('.needle').length === 3").await;
    for (unit, count) in [(2, 26), (6, 9)] {
        let path = format!("/tasks?unit={}&n={count}", whole.units.ports[unit]);
        let added = whole.units.at(whole.units.balancer).call(Method::POST, &path, "").await;
        assert_eq!(added.status, 200, "{}", added.text());
    }
    let balanced = whole.units.at(whole.units.balancer).call(Method::POST, "/rebalance", "").await;
    assert_eq!(balanced.status, 200, "{}", balanced.text());
    browser
        .until("the moves", LONG, "document.getElementById('waves-out').textContent.includes('Moved after')")
        .await;
    wait_until("requests in the picture", LONG, async || {
        for _ in 0..100 {
            assert_eq!(whole.balancer.main.get("/home").await.status, 200);
        }
        let busy = browser.js("return [...document.querySelectorAll('#pools .rate')].some((one) => parseFloat(one.textContent) > 30)").await;
        if busy == true { Ok(()) } else { Err("nothing is counted yet".into()) }
    })
    .await;
    browser.js("document.activeElement.blur(); scrollTo(0, 0)").await;
    wait_until("a screen that holds all of it", LONG, async || {
        let sizes = browser.js("return [innerHeight, document.documentElement.scrollHeight]").await;
        if sizes[0] == sizes[1] {
            return Ok(());
        }
        // What is drawn grows with the screen, by less.
        browser.screen(1920, u32::try_from(sizes[1].as_u64().expect("pixels")).expect("a height")).await;
        Err(sizes.to_string())
    })
    .await;
    std::fs::write(&path, browser.picture().await).expect("the picture can be written");
    measured(&format!("{path} was written"));
}
