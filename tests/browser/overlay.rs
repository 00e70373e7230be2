//! An overlay, drawn as the graph it is, by what its processes say.

use slipring_tests::overlay_pool::Overlay;
use slipring_tests::{Setup, wait_until};

use super::driver::LONG;
use super::{SLIPRING, no_complaint, open, until_live};

/// One that dies keeps its place, and what it held is named for as long as nobody answers for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_is_drawn_and_healed_before_ones_eyes() {
    let overlay = Overlay::new();
    // Who dies twice stays away for so long.
    let setup = Setup::new(SLIPRING).set("fleet.replicas", 0).set("fleet.start_timeout", "60s");
    let setup =
        setup.set("fleet.backoff_min", "1h").set("fleet.backoff_max", "1h").set("fleet.backoff_reset", "1h");
    let balancer = setup.file(&overlay.pool("overlay")).start().await;
    let Some(browser) = open(&balancer).await else { return };
    browser.until("the graph", LONG, "document.querySelectorAll('.proc').length === 6 && document.querySelectorAll('#overlay .edge').length === 6").await;
    let places = "return [...document.querySelectorAll('.proc')].map((one) => one.getAttribute('transform'))";
    let before = browser.js(places).await;
    browser.click(".pool:nth-child(2)").await;
    until_live(&browser, 6).await;
    assert!(
        browser.js("return document.getElementById('add').hidden").await == true,
        "its members are given"
    );
    // Load, queue, and who holds how much: seven days, each held once.
    let whole = "document.getElementById('overlay-sum').textContent === '6 of 6 processes live; all 7 partitions covered'";
    browser.until("all is covered", LONG, whole).await;
    let said = |name: &str| format!("document.querySelector('.proc[data-name={name}]').textContent");
    let load = format!("/\\D0\\/\\d+ load · 0 queued/.test({})", said("D"));
    browser.until("load and queue", LONG, &load).await;
    let held = "return [...'CDF'].map((name) => Number(/(\\d+) partition/.exec(document.querySelector(`.proc[data-name=${name}]`).textContent)[1]))";
    let held = browser.js(held).await;
    let held: Vec<u64> = serde_json::from_value(held).expect("numbers");
    assert_eq!(held.iter().sum::<u64>(), 7, "{held:?}");
    browser.until("who holds nothing", LONG, &format!("{}.includes('no data')", said("B"))).await;

    // Twice: the first time it is started again at once.
    let worker = async || {
        let all = balancer.replicas_of("overlay").await;
        all.into_iter().find(|one| one.name == "D").expect("it is one")
    };
    let first = worker().await;
    first.process().kill();
    let died = "document.querySelectorAll('#log-list li[data-event=flatlined][data-replica=D]').length";
    browser.until("the death of D", LONG, &format!("{died} === 1")).await;
    let again = wait_until("D is started again", LONG, async || {
        let now = worker().await;
        if now.pid != first.pid && now.state == "live" { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await;
    until_live(&browser, 6).await;
    browser.until("all is covered again", LONG, whole).await;
    again.process().kill();
    browser.until("its next death", LONG, &format!("{died} === 2")).await;
    let away = format!(
        "document.getElementById('overlay-sum').textContent === '5 of 6 processes live; {} of 7 partitions covered; D says nothing ({})'",
        7 - held[1],
        held[1]
    );
    browser.until("what is not covered, and who held it", LONG, &away).await;
    browser
        .until("what it held", LONG, &format!("{}.includes('held {} partition')", said("D"), held[1]))
        .await;
    assert!(browser.js(&format!("return {}", said("C"))).await.to_string().contains("load · 0 queued"));
    // Somebody who opens the page now is told the same.
    browser.open(&format!("http://{}/", balancer.admin.address)).await;
    browser.until("the same for who comes later", LONG, &away).await;

    // A team leader that is away holds nothing, and is missed for nothing.
    let all = balancer.replicas_of("overlay").await;
    let leader = all.iter().find(|one| one.name == "E").expect("it is one");
    leader.process().pause();
    let quiet = "document.querySelector('.proc[data-name=E]').textContent.includes('load') === false && \
                 !document.getElementById('overlay-sum').textContent.includes('E says')";
    browser.until("E says nothing", LONG, quiet).await;
    leader.process().resume();
    assert_eq!(browser.js(places).await, before, "a node moved though the topology is the same");
    no_complaint(&browser.complaints().await);
}

/// One that answers and has not loaded yet covers nothing; one that is silent and held nothing is not missed.
#[tokio::test(flavor = "multi_thread")]
async fn who_loads_is_said_to_load_and_who_holds_nothing_is_not_missed() {
    let balancer = Setup::new(SLIPRING).start().await;
    let Some(browser) = open(&balancer).await else { return };
    until_live(&browser, 3).await;
    // The view as it is, told of processes that no test could hold in this state.
    let script = "const { overlayView } = await import('/page/overlay.js'); \
         const member = (name, role) => ({ name, role, state: 'live', member: true, links: [] }); \
         const metrics = (is_healthy) => ({ is_healthy, active_requests: 3, max_capacity: 100, queue_size: 2, data_files_loaded: 0, avg_processing_time_ms: 1 }); \
         const processes = [['A', null, metrics(true)], ['B', null, null], ['C', 4, metrics(false)], ['D', null, metrics(false)]].map(([process, partitions, metrics]) => ({ process, partitions, metrics })); \
         overlayView({ pools: [{ name: 'x', kind: 'overlay', members: [member('A', 'leader'), member('B', 'team_leader'), member('C', 'worker'), member('D', 'worker')] }], \
           given: new Map([['x', { said: { processes, coverage: { partitions: 6, answered: 2 } } }]]) }).update(); \
         const text = (one) => document.querySelector(one).textContent; \
         return [text('#overlay-sum'), text('.proc[data-name=A]'), text('.proc[data-name=B]'), text('.proc[data-name=C]'), text('.proc[data-name=D]')];";
    let said: Vec<String> = serde_json::from_value(browser.js(script).await).expect("texts");
    assert_eq!(said[0], "4 of 4 processes live; 2 of 6 partitions covered; C is loading (4), D is loading");
    assert!(said[1].contains("3/100 load · 2 queued") && said[1].contains("no data · 1 ms"), "{}", said[1]);
    assert!(said[2].ends_with("says nothing"), "{}", said[2]);
    assert!(said[3].ends_with("is loading 4 partitions"), "{}", said[3]);
    assert!(said[4].ends_with("is loading"), "{}", said[4]);
    no_complaint(&browser.complaints().await);
}
