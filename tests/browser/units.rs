//! The page on units as they are, in processes of their own.

use hyper::Method;
use serde_json::json;
use slipring_tests::units::Units;
use slipring_tests::{Balancer, wait_until};

use super::driver::{Browser, LONG};
use super::whole::LINKED;
use super::{SLIPRING, no_complaint};

async fn start(keys: &[(&str, &str)]) -> (Units, Balancer) {
    let units = Units::new(&json!({"task_time": 600, "rebalance_interval": 0, "wave_deadline": 10}));
    let setup = units.setup(SLIPRING).set("fleet.heartbeat_interval", "1s");
    let setup = keys.iter().fold(setup, |setup, (key, value)| setup.set(key, value));
    let balancer = setup.start().await;
    (units, balancer)
}

async fn open(balancer: &Balancer) -> Option<Browser> {
    let browser = Browser::start(1400, 1000).await?;
    browser.prefers("dark", "no-preference").await;
    browser.open(&format!("http://{}/", balancer.admin.address)).await;
    browser.until("the tree", LONG, LINKED).await;
    Some(browser)
}

/// That the words about the waves hold these.
fn said(words: &str) -> String {
    format!("document.getElementById('waves-out').textContent.includes('{words}')")
}

/// Waits until they do; if they do not, what they are is told.
async fn until_said(browser: &Browser, what: &str, words: &str) {
    browser
        .until(what, LONG, &format!("({} || document.getElementById('waves-out').textContent)", said(words)))
        .await;
}

/// Starts a wave by button, and waits until it is drawn by a name that can be read. A unit of a machine that others use may
/// be too late to tell its events, which is then said: the wave is begun once more.
async fn begin(browser: &Browser, algorithm: &str) {
    let sum = "document.getElementById('spacetime-sum').textContent";
    for _ in 0..2 {
        let before = browser.text("#spacetime-sum").await;
        browser.click(&format!("[data-wave={algorithm}]")).await;
        let other =
            format!("({sum} !== {} && /^{algorithm} …\\d{{4}}: /.test({sum})) || {sum}", json!(before));
        browser.until("the wave that was begun", LONG, &other).await;
        if browser.js(&format!("return {sum}.includes(': 8 nodes, ')")).await == true {
            return;
        }
    }
    panic!("not all of the units tell their events: {}", browser.text("#spacetime-sum").await);
}

const PLACES: &str =
    "return [...document.querySelectorAll('.unit')].map((one) => one.getAttribute('transform'))";
const ALL_DECIDED: &str = "document.querySelectorAll('.unit.has-decided').length === 8";

#[tokio::test(flavor = "multi_thread")]
async fn waves_are_started_watched_and_stepped_through_and_load_is_seen_to_move() {
    let (units, balancer) = start(&[]).await;
    let Some(browser) = open(&balancer).await else { return };
    let before = browser.js(PLACES).await;

    // It begins where it is told to, and its messages are on their way.
    browser.choose("#wave-from", &units.ports[3].to_string()).await;
    begin(&browser, "finn").await;
    let moving = "[...document.querySelectorAll('.msg')].some((one) => one.getAttribute('d'))";
    browser.until("messages on their way", LONG, moving).await;
    browser.until("all have decided", LONG, ALL_DECIDED).await;
    until_said(&browser, "its messages against the bound", ", at most 224, messages; decided: ").await;

    // Back and forth: from the first event to the last, by keys and by buttons.
    browser.click("[data-step=first]").await;
    browser.until("the beginning", LONG, "document.querySelectorAll('.unit.reached').length === 1").await;
    let begins = "document.getElementById('spacetime-out').textContent.includes(': quartz begins')";
    browser.until("who begins", LONG, begins).await;
    browser.js("document.querySelector('#spacetime-plot [tabindex=\"0\"]').focus()").await;
    browser.press("\u{e014}").await;
    let second = "document.getElementById('spacetime-out').textContent.startsWith('2 of ')";
    browser.until("an arrow is a step", LONG, second).await;
    browser.press("\u{e012}").await;
    let first = "document.getElementById('spacetime-out').textContent.startsWith('1 of ')";
    browser.until("and one back", LONG, first).await;
    browser.click("[data-step=last]").await;
    browser.until("the end", LONG, ALL_DECIDED).await;

    // An Echo has fathers, drawn when they are known.
    browser.choose("#wave-from", &units.ports[0].to_string()).await;
    begin(&browser, "echo").await;
    let fathers = "document.querySelectorAll('.father[visibility=visible]').length === 7";
    browser.until("seven have a father", LONG, fathers).await;
    until_said(&browser, "its messages against the closed form", "14 of 14 expected messages; decided: ")
        .await;
    begin(&browser, "barrier").await;
    until_said(&browser, "all let go", "7 of 7 expected messages").await;
    let odd = browser.js(&format!("return {}", said("wrong"))).await;
    assert_eq!(odd, json!(false), "{}", browser.text("#waves-out").await);

    // Load changes colours and numbers; Enter in the field is as good as the button.
    let skewed = units.ports[2];
    browser.choose("#wave-from", &skewed.to_string()).await;
    browser.enter("#task-n", "30").await;
    browser.press("\u{e007}").await;
    let loaded =
        format!("document.querySelector('.unit[data-port=\"{skewed}\"]').textContent.includes('30/6 cores')");
    browser.until("thirty tasks", LONG, &loaded).await;
    let balanced = units.at(units.balancer).call(Method::POST, "/rebalance", "").await;
    assert_eq!(balanced.status, 200, "{}", balanced.text());
    let moves = balanced.json()["moves"].as_array().cloned().unwrap_or_default();
    let first = moves.first().unwrap_or_else(|| panic!("{}", balanced.text()));
    let words = format!("{} from {} to {}", first["moved"], first["from"], first["to"]);
    browser.until("the moves", LONG, &format!("{} && {}", said("Moved after …"), said(&words))).await;
    let spread = format!("!({loaded}) && document.querySelectorAll('.unit').length === 8");
    browser.until("the load that they left", LONG, &spread).await;
    assert_eq!(browser.js(PLACES).await, before, "a node moved though the topology is the same");
    no_complaint(&browser.complaints().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_died_is_named_and_what_is_refused_says_why() {
    // Who dies twice stays away for so long.
    let stays = [("fleet.backoff_min", "1h"), ("fleet.backoff_max", "1h"), ("fleet.backoff_reset", "1h")];
    let (units, balancer) = start(&stays).await;
    let Some(browser) = open(&balancer).await else { return };
    let before = browser.js(PLACES).await;
    let victim = units.ports[3];
    let is_dead =
        format!("document.querySelector('.unit[data-port=\"{victim}\"]').textContent.includes('✕')");
    let first = units.replica(&balancer, victim).await;
    first.process().kill();
    wait_until("it is started again", LONG, async || {
        let now = units.replica(&balancer, victim).await;
        if now.pid != first.pid && now.state == "live" { Ok(now.process()) } else { Err(format!("{now:?}")) }
    })
    .await
    .kill();
    // More than a colour; and its children found their grandparent.
    let healed = format!(
        "{is_dead} && document.querySelectorAll('#waves .edge.moved').length === 2 && document.querySelector('#waves-sum').textContent.includes('1 dead')"
    );
    browser.until("its death, and where its children hang now", LONG, &healed).await;
    let logged = format!(
        "document.querySelector('#log-list li[data-event=flatlined][data-replica=unit-{victim}]') !== null"
    );
    browser.until("its death in the log", LONG, &logged).await;

    browser.choose("#wave-from", &victim.to_string()).await;
    browser.click("[data-wave=echo]").await;
    until_said(&browser, "why not", "the unit that was to begin is not linked").await;
    let toast = browser.text("#toast").await;
    assert!(toast.contains("not linked"), "what is refused is said in passing, too: {toast}");
    browser.enter("#task-n", "3").await;
    browser.click("#task-add").await;
    until_said(&browser, "why no tasks", &format!("{victim} is not linked")).await;

    // Its wave says who is missing, and that is nothing wrong.
    browser.choose("#wave-from", &units.ports[0].to_string()).await;
    browser.click("[data-wave=echo]").await;
    until_said(&browser, "who is missing", &format!("Missing: {victim}.")).await;
    let odd = browser.js(&format!("return {}", said("wrong"))).await;
    assert_eq!(odd, json!(false), "{}", browser.text("#waves-out").await);
    // It has its line in the diagram all the same, and its place in the tree.
    let lanes = browser.js("return document.querySelectorAll('#spacetime-plot .lane').length").await;
    assert_eq!(lanes, json!(8));
    assert_eq!(browser.js(PLACES).await, before, "a node moved though the topology is the same");
    let complaints: Vec<String> = browser.complaints().await;
    let refused = |words: &String| words.contains("/relay/waves/") && words.contains("503");
    assert!(complaints.iter().all(refused), "{complaints:?}");
}
