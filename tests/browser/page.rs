//! The page in a real browser: what a user sees and does there, against the appliance as it runs.

mod analyse;
mod driver;
mod fits;
mod measures;
mod overlay;
mod tree;
mod units;
mod waves;
mod whole;

use std::time::{Duration, Instant};

use driver::{Browser, LONG};
use serde_json::{Value, json};
use slipring_tests::{Balancer, Setup, measured, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
/// What the issue allows from a change to its being seen.
const SOON: Duration = Duration::from_secs(1);

async fn open(balancer: &Balancer) -> Option<Browser> {
    let browser = Browser::start(1280, 900).await?;
    browser.open(&format!("http://{}/", balancer.admin.address)).await;
    Some(browser)
}

/// How many members are shown in a state.
fn shown(state: &str) -> String {
    format!("document.querySelectorAll('#fleet-table tbody tr[data-state={state}]').length")
}

async fn until_live(browser: &Browser, count: usize) {
    browser.until("members shown live", LONG, &format!("{} === {count}", shown("live"))).await;
}

fn no_complaint(complaints: &[String]) {
    assert!(complaints.is_empty(), "the console says: {complaints:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_follows_the_fleet_and_changes_it() {
    let balancer = Setup::new(SLIPRING).start().await;
    let Some(browser) = open(&balancer).await else { return };
    until_live(&browser, 3).await;
    browser.until("the ring", LONG, "document.querySelectorAll('.arc').length === 3").await;
    no_complaint(&browser.complaints().await);

    // Somebody else adds one, and kills it.
    assert_eq!(balancer.add(1, &["S4"]).await.status, 200);
    let added = Instant::now();
    until_live(&browser, 4).await;
    let added = added.elapsed();
    balancer.replica("S4").await.process().kill();
    let killed = Instant::now();
    let dead = "document.querySelector('#log-list li[data-event=flatlined][data-replica=S4]') !== null";
    browser.until("the death in the log", LONG, dead).await;
    let killed = killed.elapsed();
    measured(&format!("shown after: an add {added:?}, a kill {killed:?}"));
    assert!(added < SOON && killed < SOON, "an add was shown after {added:?}, a kill after {killed:?}");
    let again = "document.querySelector('tr[data-name=S4]').textContent.includes('1 restart')";
    browser.until("its restart", LONG, again).await;

    // First what it would move, then the change, both by button.
    browser.click("#add").await;
    browser.enter("#change-names", "S5, S6").await;
    let plan = "document.getElementById('change-plan').textContent.includes('33.') && \
                document.getElementById('change-do').textContent === 'Add 2 replicas'";
    browser.until("what two more would move", LONG, plan).await;
    assert_eq!(balancer.names().await.len(), 4, "a plan changes nothing");
    browser.click("#change-do").await;
    until_live(&browser, 6).await;
    browser.until("the dialog is gone", LONG, "!document.getElementById('change').open").await;
    assert_eq!(balancer.names().await.split_off(4), ["S5", "S6"]);

    browser.click("tr[data-name=S5] button").await;
    let plan = "document.getElementById('change-plan').textContent.includes('of the keys move')";
    browser.until("what a removal would move", LONG, plan).await;
    assert!(browser.text("#change-words").await.contains("drains"), "what a removal does is said");
    browser.click("#change-do").await;
    browser.until("it is gone", LONG, "document.querySelector('tr[data-name=S5]') === null").await;
    assert!(!balancer.names().await.contains(&"S5".to_owned()));

    // What is refused is said where it was asked.
    browser.click("#add").await;
    browser.enter("#change-names", "S6").await;
    browser.until("a plan", LONG, "!document.getElementById('change-do').disabled").await;
    browser.click("#change-do").await;
    let taken = "document.getElementById('change-error').textContent.includes(\"'S6' is already in use\")";
    browser.until("why not", LONG, taken).await;
    browser.press("\u{e00c}").await;
    browser.until("Escape closes it", LONG, "!document.getElementById('change').open").await;
    // A call that is refused is told by the console, too.
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|words| words.contains("/add") && words.contains("400")), "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_traced_and_the_log_is_filtered() {
    let balancer = Setup::new(SLIPRING).set("ring.hash", "sha256").start().await;
    let Some(browser) = open(&balancer).await else { return };
    until_live(&browser, 3).await;
    browser.enter("#trace-key", "314159").await;
    browser.press("\u{e007}").await;
    let owner = balancer.owner("314159").await;
    let slot = balancer.admin.get("/route?key=314159").await.json()["slot"].clone();
    let said = format!("document.getElementById('trace-out').textContent.includes('goes to {owner}')");
    browser.until("whose the key is", LONG, &said).await;
    let words = browser.text("#trace-out").await;
    assert!(words.contains(&format!("slot {slot} of 512")), "{words}");
    browser.until("it is drawn", LONG, "document.querySelectorAll('.needle').length === 3").await;
    let sum = browser.text("#ring-sum").await;
    assert!(sum.contains("sha256") && sum.contains("512 slots"), "{sum}");
    drawn_as_it_is(&browser, &balancer).await;

    // When the replica is gone the key goes elsewhere, and the page says so by itself.
    assert_eq!(balancer.remove(1, &[&owner]).await.status, 200);
    let next = format!("!document.getElementById('trace-out').textContent.includes('goes to {owner}')");
    browser.until("whose it is now", LONG, &next).await;
    drawn_as_it_is(&browser, &balancer).await;

    let visible = "[...document.querySelectorAll('#log-list li')].filter((one) => !one.hidden)";
    browser.enter("#log-find", "joined").await;
    browser.until("only who joined", LONG, &format!("{visible}.length === 3")).await;
    browser.enter("#log-find", "no such thing").await;
    browser.until("nothing", LONG, &format!("{visible}.length === 0")).await;
    browser.js("const find = document.getElementById('log-find'); find.value = ''; find.dispatchEvent(new Event('input'))").await;
    browser.choose("#log-level", "2").await;
    browser.until("no problem", LONG, &format!("{visible}.length === 0")).await;
    no_complaint(&browser.complaints().await);
}

/// Every slot is drawn once, in the piece of its owner: whoever is the first clockwise.
async fn drawn_as_it_is(browser: &Browser, balancer: &Balancer) {
    let ring = balancer.admin.get("/ring").await.json();
    let slots = ring["slots"].as_u64().expect("a count");
    let number = |pair: &Value, at: usize| pair[at].as_u64().expect("a number");
    let occupied = ring["occupied"].as_array().expect("a list").iter();
    let owners: std::collections::BTreeMap<_, _> =
        occupied.map(|pair| (number(pair, 0), number(pair, 1))).collect();
    let owner = |slot| owners.range(slot..).chain(&owners).next().map(|(_, id)| vec![*id]);
    let expected: Vec<_> = (0..slots).map(|slot| owner(slot).expect("somebody")).collect();
    let script = format!(
        "const svg = document.querySelector('.ring-svg'), pieces = [...svg.querySelector('g').children]; \
         return Array.from({{ length: {slots} }}, (_, slot) => {{ \
           const angle = (slot + 0.5) / {slots} * 2 * Math.PI; \
           const point = new DOMPoint(320 + 290 * Math.sin(angle), 320 - 290 * Math.cos(angle)); \
           return pieces.filter((one) => one.isPointInFill(point)).map((one) => Number(one.dataset.id)); }})"
    );
    let drawn: Vec<Vec<u64>> = serde_json::from_value(browser.js(&script).await).expect("lists of numbers");
    for (slot, (drawn, expected)) in drawn.iter().zip(&expected).enumerate() {
        assert_eq!(drawn, expected, "slot {slot}");
    }
}

/// Whoever presses Enter twice, or before it is known what the change would move, adds once.
#[tokio::test(flavor = "multi_thread")]
async fn two_presses_of_enter_are_one_add() {
    let balancer = Setup::new(SLIPRING).start().await;
    let Some(browser) = open(&balancer).await else { return };
    until_live(&browser, 3).await;
    // Plans that come when they are let, and calls that are counted.
    let watch = "window.adds = 0; window.plans = []; const real = window.fetch; window.fetch = (path, how) => { \
                 if (String(path).startsWith('/add')) window.adds += 1; \
                 if (window.free || !String(path).startsWith('/plan')) return real(path, how); \
                 return new Promise((go) => window.plans.push(() => go(real(path, how)))); }";
    browser.js(watch).await;
    browser.click("#add").await;
    browser.until("a plan is asked for", LONG, "plans.length === 1").await;
    browser.js("document.getElementById('change-n').focus()").await;
    browser.press("\u{e007}\u{e007}").await;
    assert_eq!(
        browser.js("return [adds, document.getElementById('change-do').disabled]").await,
        json!([0, true])
    );
    browser.js("plans[0]()").await;
    browser.until("the plan", LONG, "!document.getElementById('change-do').disabled").await;
    // Another number is another plan.
    browser.enter("#change-n", "2").await;
    browser.press("\u{e007}").await;
    assert_eq!(browser.js("return adds").await, json!(0), "what is not known yet is not done");
    browser.until("the next plan is asked for", LONG, "plans.length > 1").await;
    browser.js("window.free = true; plans.splice(1).forEach((go) => go())").await;
    browser.until("the next plan", LONG, "!document.getElementById('change-do').disabled").await;
    browser.press("\u{e007}\u{e007}\u{e007}").await;
    until_live(&browser, 5).await;
    browser.until("the dialog is gone", LONG, "!document.getElementById('change').open").await;
    assert_eq!(browser.js("return adds").await, json!(1));
    assert_eq!(balancer.names().await.len(), 5);
    no_complaint(&browser.complaints().await);
}

/// Of two answers about a key the one to the newer question is shown, and what fails late harms nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_answer_about_a_key_does_not_take_the_place_of_a_newer_one() {
    let balancer = Setup::new(SLIPRING).start().await;
    let Some(browser) = open(&balancer).await else { return };
    until_live(&browser, 3).await;
    browser.js("window.held = []; const real = window.fetch; window.fetch = (path, how) => String(path).includes('key=late') ? \
                new Promise((go, fail) => window.held.push(fail)) : real(path, how)").await;
    let trace = async |key: &str| {
        browser.enter("#trace-key", key).await;
        browser.press("\u{e007}").await;
    };
    trace("late").await;
    browser.until("the first is asked", LONG, "held.length > 0").await;
    trace("ann").await;
    let shown = "document.getElementById('trace-out').textContent.startsWith('“ann” has slot')";
    browser.until("the second is answered", LONG, shown).await;
    let failed = "held.splice(0).forEach((fail) => fail(new TypeError('late'))); \
                  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); ";
    assert_eq!(browser.js(&format!("{failed} return {shown}")).await, json!(true));
    // The same when nothing is asked any more.
    trace("late").await;
    browser.until("it is asked again", LONG, "held.length > 0").await;
    browser.enter("#trace-key", "").await;
    browser.press("\u{e007}").await;
    let idle = "document.getElementById('trace-out').textContent.startsWith('Type a key')";
    assert_eq!(browser.js(&format!("{failed} return {idle}")).await, json!(true));
    no_complaint(&browser.complaints().await);
}

/// One that says nothing any more, and ends nothing, is as broken as one that ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_is_seen_and_mended() {
    let balancer = Setup::new(SLIPRING).start().await;
    let Some(browser) = open(&balancer).await else { return };
    until_live(&browser, 3).await;
    balancer.process.pause();
    browser.until("that it is broken is shown", Duration::from_secs(12), BROKEN).await;
    let words = browser.text("#broken-words").await;
    assert!(words.contains("it says nothing any more"), "{words}");
    balancer.process.resume();
    browser.until("it recovers", LONG, MENDED).await;
    no_complaint(&browser.complaints().await);
}

/// Who looks at another tab meanwhile comes back to a page that begins again, and is told of nothing broken.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_hidden_is_not_called_broken() {
    let balancer = Setup::new(SLIPRING).start().await;
    let Some(browser) = open(&balancer).await else { return };
    until_live(&browser, 3).await;
    // Half a minute goes by at once, for a page that says it is hidden.
    let hide = "window.seen = new Set(); \
         new MutationObserver(() => seen.add(document.getElementById('link').textContent)).observe(document.getElementById('link'), { subtree: true, childList: true, characterData: true }); \
         let hidden = true; Object.defineProperty(document, 'hidden', { get: () => hidden }); window.show = () => { hidden = false; document.dispatchEvent(new Event('visibilitychange')); }; \
         const later = window.setTimeout; window.setTimeout = (act, ms) => later(act, ms === 30000 ? 0 : ms); \
         document.dispatchEvent(new Event('visibilitychange'));";
    browser.js(hide).await;
    let alone = async || balancer.metric("slipring_page_watchers", "").await;
    wait_until("nobody is fed", LONG, async || match alone().await {
        0.0 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    assert_eq!(balancer.add(1, &["S4"]).await.status, 200);
    browser.js("show()").await;
    until_live(&browser, 4).await;
    browser.until("it is live", LONG, MENDED).await;
    let seen = browser.js("return [...seen].join()").await;
    assert!(!seen.as_str().is_some_and(|seen| seen.contains("broken")), "{seen}");
}

const BROKEN: &str = "document.getElementById('link').textContent === 'broken' && !document.getElementById('broken').hidden \
                      && document.documentElement.classList.contains('stale')";
const MENDED: &str = "document.getElementById('link').textContent === 'live' && document.getElementById('broken').hidden \
                      && !document.documentElement.classList.contains('stale')";

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_seen_and_mended() {
    let setup = Setup::new(SLIPRING);
    let mut balancer = setup.start().await;
    let Some(browser) = open(&balancer).await else { return };
    until_live(&browser, 3).await;
    let address = balancer.admin.address;
    balancer.kill().await;
    browser.until("that it is broken is shown", Duration::from_secs(5), BROKEN).await;
    let words = browser.text("#broken-words").await;
    assert!(words.contains("No word from the appliance since") && words.contains("is old"), "{words}");
    let faded = browser.js("return getComputedStyle(document.querySelector('main')).opacity").await;
    assert!(
        faded.as_str().and_then(|opacity| opacity.parse::<f64>().ok()).is_some_and(|opacity| opacity < 1.0)
    );

    let balancer = setup.set("admin.listen", address).start().await;
    browser.until("it recovers", LONG, MENDED).await;
    until_live(&browser, 3).await;
    balancer.stop().await;
    browser.until("an end in order is seen, too", LONG, BROKEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_may_not_administer_asks_for_the_token() {
    let token = "0123456789abcdef";
    let balancer = Setup::new(SLIPRING).set("admin.token", token).start().await;
    let Some(browser) = Browser::start(800, 700).await else { return };
    // By a name, as a page of another site would be after DNS rebinding.
    browser.open(&format!("http://appliance.test:{}/", balancer.admin.address.port())).await;
    browser.until("it asks", LONG, "document.getElementById('token').open").await;
    assert!(browser.text("#token-why").await.contains("admin.token"), "the appliance's own words");
    browser.enter("#token-in", "a wrong one that is long").await;
    browser.click("#token button[value=use]").await;
    let wrong = "document.getElementById('token').open && document.getElementById('token-why').textContent.includes('wrong')";
    browser.until("it asks again", LONG, wrong).await;
    browser.enter("#token-in", token).await;
    browser.click("#token button[value=use]").await;
    until_live(&browser, 3).await;
    browser.enter("#trace-key", "ann").await;
    browser.click("#trace button").await;
    browser
        .until(
            "calls have it, too",
            LONG,
            "document.getElementById('trace-out').textContent.includes('goes to')",
        )
        .await;
}
