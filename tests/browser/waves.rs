//! Waves as they are told, also oddly: kept, put in order, stepped through, exported.

use serde_json::{Value, json};

use super::driver::{Browser, LONG};
use super::no_complaint;
use super::tree::{self, Tree};

async fn open(tree: &Tree, motion: &str) -> Option<Browser> {
    let browser = Browser::start(1400, 1000).await?;
    browser.prefers("dark", motion).await;
    browser.open(&format!("http://{}/", tree.admin.address)).await;
    let told = "document.querySelectorAll('.unit').length === 8 || ['link', 'waves', 'log-list'].map((one) => document.getElementById(one).textContent).join()";
    browser.until("the tree", LONG, told).await;
    Some(browser)
}

fn tell(tree: &Tree, object: &Value) {
    tree.tells.send(object.to_string()).expect("the balancer listens");
}

/// How many lines of the log are about this.
fn logged(event: &str) -> String {
    format!("document.querySelectorAll('#log-list li[data-event={event}]').length")
}

/// That the space-time diagram is of this one.
fn drawn(algorithm: &str) -> String {
    format!("document.getElementById('spacetime-sum').textContent.startsWith('{algorithm} ')")
}

/// What was moved after a wave is told when it is done: the page says it then, and neither logs nor plays the wave again.
#[tokio::test(flavor = "multi_thread")]
async fn moves_that_are_told_later_are_shown() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = open(&tree, "no-preference").await else { return };
    let mut wave = tree::waves().remove(0);
    wave["id"] = "7999-1795313402355799".into();
    let moves = wave["moves"].take();
    wave["moves"] = json!([]);
    tell(&tree, &wave);
    let ended = "document.querySelector('[data-step=play]').textContent === 'Play' && \
                 document.getElementById('wave-at').value === document.getElementById('wave-at').max";
    let shown =
        format!("document.getElementById('waves-out').textContent.startsWith('echo …5799:') && {ended}");
    browser.until("it was played", LONG, &shown).await;
    assert_eq!(browser.js(&format!("return {}", logged("wave"))).await, json!(2));
    wave["moves"] = moves;
    tell(&tree, &wave);
    let moved = "document.getElementById('waves-out').textContent.includes('Moved after …5799: 25 from 8002 to 8001')";
    browser.until("the moves", LONG, moved).await;
    assert_eq!(browser.js(&format!("return [{}, {ended}]", logged("wave"))).await, json!([2, true]));
    no_complaint(&browser.complaints().await);
    tree.stop().await;
}

/// What one member tells oddly is said once, and harms nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_once_and_all_the_rest_goes_on() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = open(&tree, "reduce").await else { return };
    let mut circle = tree::units();
    circle["units"] = json!([circle["units"][0], circle["units"][1]]);
    circle["units"][0]["parent"] = circle["units"][1]["port"].clone();
    for odd in [
        json!({ "kind": "wave", "id": "1" }),
        json!({ "kind": "wave", "id": "1", "events": 7, "started_ms": 1e300 }),
        json!({ "kind": "units", "units": 7 }),
        json!({ "kind": "units", "units": [{ "port": 8000 }] }),
        json!({ "processes": [null] }),
        json!({}),
        circle,
    ] {
        tell(&tree, &odd);
    }
    let said = "document.getElementById('log-list').textContent.includes('cannot draw')";
    browser.until("that it cannot be drawn", LONG, said).await;
    tell(&tree, &tree::waves()[1]);
    tell(&tree, &tree::units());
    browser.until("the wave that follows", LONG, &drawn("finn")).await;
    assert_eq!(browser.js("return document.querySelectorAll('.unit').length").await, json!(8));
    let warnings = browser
        .js("return [...document.querySelectorAll('#log-list li[data-event=warning]')].map((one) => one.textContent)")
        .await;
    let warnings: Vec<String> = serde_json::from_value(warnings).expect("a list");
    let said = |words: &str| warnings.iter().filter(|one| one.contains(words)).count();
    assert_eq!(
        (said("it tells what this page cannot read"), said("cannot draw"), warnings.len()),
        (1, 1, 2),
        "{warnings:?}"
    );
    assert_eq!(browser.text("#link").await, "live");
    no_complaint(&browser.complaints().await);
    tree.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_without_events_is_counted_and_cannot_be_played() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = open(&tree, "no-preference").await else { return };
    browser.until("the first wave", LONG, &drawn("echo")).await;
    let mut wave = tree::waves().remove(1);
    wave["events"] = json!([]);
    tell(&tree, &wave);
    browser.until("it is there", LONG, &drawn("finn")).await;
    assert!(browser.text("#spacetime-out").await.contains("events were not kept"));
    assert!(browser.text("#waves-out").await.contains("99, at most 224, messages"));
    let disabled =
        "[...document.querySelectorAll('[data-step], #wave-at, #shiviz')].map((one) => one.disabled)";
    assert_eq!(browser.js(&format!("return {disabled}")).await, json!(vec![true; 7]));
    // Whatever still asks for a step finds none.
    browser.js("document.getElementById('wave-at').dispatchEvent(new Event('input'))").await;
    tell(&tree, &tree::waves()[2]);
    browser.until("the next one", LONG, &drawn("barrier")).await;
    assert_eq!(browser.js(&format!("return {disabled}")).await, json!(vec![false; 7]));
    no_complaint(&browser.complaints().await);
    tree.stop().await;
}

/// What was left out of a record is not lost on its way: that is said, and no cross is drawn.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_out_is_said_and_is_not_shown_as_lost() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = open(&tree, "reduce").await else { return };
    let crosses = "document.querySelectorAll('#spacetime-plot .lost').length";
    let mut wave = tree::waves().remove(1);
    let events = wave["events"].as_array_mut().expect("a list");
    let whole = events.len();
    events.retain(|event| event["node"] != 8006);
    let left_out = whole - events.len();
    tell(&tree, &wave);
    browser.until("what a dead unit leaves", LONG, &format!("{} && {crosses} > 0", drawn("finn"))).await;
    wave["id"] = "7999-1795313402355800".into();
    wave["events_left_out"] = left_out.into();
    tell(&tree, &wave);
    let words = format!(
        "document.getElementById('spacetime-sum').textContent.includes('{left_out} events were not kept')"
    );
    browser.until("what is left out", LONG, &words).await;
    assert_eq!(browser.js(&format!("return {crosses}")).await, json!(0));
    assert!(!browser.text("#waves-out").await.contains("wrong"), "it does not count itself");
    wave["is_wrong"] = true.into();
    tell(&tree, &wave);
    let wrong = "document.getElementById('waves-out').textContent.includes('messages, which is wrong')";
    browser.until("what those who know call wrong", LONG, wrong).await;
    no_complaint(&browser.complaints().await);
    tree.stop().await;
}

/// A unit that did not tell its events has nothing lost either: who it is is said.
#[tokio::test(flavor = "multi_thread")]
async fn who_did_not_tell_its_events_is_named_and_what_it_was_sent_is_not_lost() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = open(&tree, "reduce").await else { return };
    let mut wave = tree::waves().remove(1);
    let all = wave["events"].take();
    let told: Vec<_> = all.as_array().expect("a list").iter().filter(|event| event["node"] != 8006).collect();
    wave["events"] = json!(told);
    wave["untold"] = json!([8006]);
    tell(&tree, &wave);
    let words = "document.getElementById('spacetime-sum').textContent.includes('; not told by 8006')";
    browser.until("who did not tell", LONG, &format!("{} && {words}", drawn("finn"))).await;
    let crosses = "return document.querySelectorAll('#spacetime-plot .lost').length";
    assert_eq!(browser.js(crosses).await, json!(0));
    no_complaint(&browser.complaints().await);
    tree.stop().await;
}

/// One of the recording, as it would be so many seconds after the first.
fn after(place: usize, seconds: u64) -> Value {
    let mut waves = tree::waves();
    let first = waves[0]["started_ms"].as_u64().expect("a time");
    let mut wave = waves.remove(place);
    wave["started_ms"] = json!(first + 1_000 * seconds);
    wave
}

/// Who follows the newest sees each wave to its end, for a while, and is through before the next one comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_wave_is_seen_to_its_end_before_the_next_one_takes_its_place() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = open(&tree, "no-preference").await else { return };
    browser.until("the first wave", LONG, &drawn("echo")).await;
    browser
        .js("window.seen = []; const words = (id) => document.getElementById(id).textContent; \
             new MutationObserver(() => seen.push([words('spacetime-sum').split(' ')[0], words('spacetime-out'), performance.now()])) \
             .observe(document.getElementById('spacetime'), { subtree: true, childList: true });")
        .await;
    tell(&tree, &after(1, 5));
    browser.until("the next one", LONG, &drawn("finn")).await;
    tell(&tree, &after(2, 10));
    browser.until("the last one", LONG, &drawn("barrier")).await;
    let seen: Vec<(String, String, f64)> =
        serde_json::from_value(browser.js("return seen").await).expect("words and times");
    let begins = |algorithm: &str| seen.iter().find(|(sum, ..)| sum == algorithm).expect("it was seen").2;
    for (algorithm, next) in [("echo", "finn"), ("finn", "barrier")] {
        let is_last = |words: &str| words.split([' ', ':']).nth(2) == words.split(' ').next();
        let end = seen.iter().find(|(sum, words, _)| sum == algorithm && is_last(words));
        let (_, words, end) = end.unwrap_or_else(|| panic!("the end of {algorithm} is seen: {seen:?}"));
        assert!(begins(next) - end > 1_000.0, "{words}, and {} ms later {next}", begins(next) - end);
    }
    let took = begins("barrier") - begins("finn");
    assert!(took < 5_000.0, "a wave comes each five seconds, and one takes {took} ms");
    no_complaint(&browser.complaints().await);
    tree.stop().await;
}

/// Whoever stops to look at a wave keeps it, until he wants the newest again.
#[tokio::test(flavor = "multi_thread")]
async fn a_wave_that_is_paused_or_stepped_through_stays() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = open(&tree, "no-preference").await else { return };
    let chosen = |wave: &Value| format!("document.getElementById('wave-pick').value === {}", wave["id"]);
    let known = |count: usize| format!("document.getElementById('wave-pick').options.length === {count}");
    let button = "document.querySelector('[data-step=play]').textContent";
    browser.until("it is played", LONG, &format!("{} && {button} === 'Pause'", drawn("echo"))).await;
    browser.click("[data-step=play]").await;
    let echo = after(0, 0);
    browser.until("it stays", LONG, &format!("{button} === 'Play' && {}", chosen(&echo))).await;
    let finn = after(1, 5);
    tell(&tree, &finn);
    browser.until("another one is known", LONG, &known(3)).await;
    assert_eq!(browser.js(&format!("return {} && {}", drawn("echo"), chosen(&echo))).await, json!(true));

    browser.choose("#wave-pick", "").await;
    browser.until("the newest is played", LONG, &format!("{} && {button} === 'Pause'", drawn("finn"))).await;
    browser
        .js("const at = document.getElementById('wave-at'); at.value = 5; at.dispatchEvent(new Event('input'));")
        .await;
    let stays = format!(
        "{} && {} && document.getElementById('spacetime-out').textContent.startsWith('6 of ')",
        drawn("finn"),
        chosen(&finn)
    );
    browser.until("where it was drawn to", LONG, &stays).await;
    // Also when so many came after it that it is none of the last.
    for number in 0..30 {
        let mut wave = after(2, 10 + number);
        wave["id"] = json!(format!("7999-{number}"));
        tell(&tree, &wave);
    }
    let last = "document.getElementById('wave-pick').options[1].value === '7999-29'";
    browser.until("all of them are known", LONG, &format!("{last} && {}", known(26))).await;
    assert_eq!(browser.js(&format!("return {stays}")).await, json!(true));
    no_complaint(&browser.complaints().await);
    tree.stop().await;
}

/// What came of a wave is read without scrolling where there is room, and what the chooser says first, everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_waves_is_not_cut() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = open(&tree, "reduce").await else { return };
    let mut wave = after(0, 5);
    let order = |n: u64| json!({"from": 8000 + n, "to": 8001 + n, "count": 10 + n, "moved": 10 + n});
    wave["moves"] = (0..7).map(order).collect();
    wave["id"] = "7999-1795313402355801".into();
    tell(&tree, &wave);
    let said = "document.getElementById('waves-out').textContent.includes('Moved after …5801: 10 from 8000')";
    browser.until("the moves", LONG, said).await;
    for (width, height) in [(360, 740), (1280, 800), (1920, 1080), (2560, 1440)] {
        browser.screen(width, height).await;
        let sizes = browser
            .js("const out = document.getElementById('waves-out'), all = document.getElementById('wave-pick'); \
                 const alone = document.createElement('select'); alone.append(new Option(all.options[0].text)); document.body.append(alone); \
                 const [needed, there] = [alone, all].map((one) => one.getBoundingClientRect().width); alone.remove(); \
                 return [needed - there, out.scrollHeight - out.clientHeight];")
            .await;
        let [chooser, words] = [0, 1].map(|at| sizes[at].as_f64().expect("pixels"));
        assert!(chooser <= 0.0, "{width} pixels wide: {chooser} of the chooser's are missing");
        assert!(width < 1000 || words <= 0.0, "{width} pixels wide: {words} of the words' are missing");
    }
    no_complaint(&browser.complaints().await);
    tree.stop().await;
}

/// When nobody is left who could tell, that is said; what was known stays where it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_not_heard_stays_and_is_called_old() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = open(&tree, "reduce").await else { return };
    tree.unit.kill();
    let silent = "document.getElementById('waves-sum').textContent.startsWith('Nothing is heard from tree') && \
                  document.querySelector('#waves-plot.old') !== null";
    browser.until("why nothing is heard", LONG, silent).await;
    assert_eq!(browser.js("return document.querySelectorAll('.unit').length").await, json!(8));
    tree.stop().await;
}

/// What is exported is what ShiViz reads with its default expression, and its clocks say what happened before what.
#[tokio::test(flavor = "multi_thread")]
async fn the_export_for_shiviz_has_a_clock_for_each_event() {
    let tree = Tree::start(&[]).await;
    let Some(browser) = Browser::start(800, 700).await else { return };
    browser.open(&format!("http://{}/", tree.admin.address)).await;
    for wave in tree::waves() {
        let script = format!(
            "const {{ shiviz, order }} = await import('/page/causal.js'); const wave = {wave}; \
             const log = shiviz(wave, String); const expression = /(?<host>\\S*) (?<clock>{{.*}})\\n(?<event>.*)/g; \
             const found = [...log.matchAll(expression)].map(({{ groups }}) => ({{ host: groups.host, clock: JSON.parse(groups.clock), event: groups.event }})); \
             const {{ messages }} = order(wave); \
             return {{ found, messages: messages.map(({{ begin, end }}) => [begin, end]) }};"
        );
        let read = browser.js(&script).await;
        let found = read["found"].as_array().expect("a list");
        let since = |event: &Value| {
            let words = event["event"].as_str().and_then(|words| words.strip_suffix(" µs")).expect("when");
            words.rsplit(' ').next().and_then(|time| time.parse::<u64>().ok()).expect("a time")
        };
        let times: Vec<_> = found.iter().map(since).collect();
        assert_eq!(times.iter().min(), Some(&0), "since its beginning, whatever the year: {times:?}");
        assert!(times.iter().all(|time| *time < 1_000_000), "{times:?}");
        assert_eq!(found.len(), wave["events"].as_array().map(Vec::len).unwrap_or_default(), "{read}");
        let clock = |at: &Value| {
            let event = &found[usize::try_from(at.as_u64().expect("an index")).expect("it is small")];
            serde_json::from_value::<std::collections::BTreeMap<String, u64>>(event["clock"].clone())
                .expect("a clock")
        };
        let messages = read["messages"].as_array().expect("a list");
        assert_eq!(messages.len() as u64, wave["messages"].as_u64().unwrap_or_default());
        for message in messages {
            let (send, receive) = (clock(&message[0]), clock(&message[1]));
            assert!(
                send != receive && send.iter().all(|(host, time)| receive.get(host) >= Some(time)),
                "{message}"
            );
        }
        let mut counts = std::collections::BTreeMap::new();
        for event in found {
            let host = event["host"].as_str().expect("a host");
            let count = counts.entry(host.to_owned()).or_insert(0_u64);
            *count += 1;
            assert_eq!(event["clock"][host], *count, "a host counts its own events: {event}");
        }
    }
}
