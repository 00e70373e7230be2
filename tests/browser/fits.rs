//! The page on every screen, in both colours, by keyboard; and that nothing on it moves by itself.

use serde_json::{Value, json};

use super::driver::{Browser, LONG};
use super::whole::{LINKED, Whole};
use super::{BROKEN, MENDED, no_complaint};

/// Contrast of each of these words to what is behind them; one that is not there has none.
const CONTRAST: &str = "const light = (words) => { const canvas = new OffscreenCanvas(1, 1).getContext('2d'); canvas.fillStyle = words; canvas.fillRect(0, 0, 1, 1); \
     const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4); \
     return 0.2126 * r + 0.7152 * g + 0.0722 * b; }; \
     const of = (one, property, pseudo) => light(getComputedStyle(one, pseudo)[property]); \
     const between = (ink, behind) => (Math.max(ink, behind) + 0.05) / (Math.min(ink, behind) + 0.05); \
     const found = [['h2', '.panel'], ['#fleet .dim', '.panel'], ['.legend', '.panel'], ['.log time', '.panel'], ['#fleet .t-live', '.panel'], ['.log .t-note, .log .t-wave', '.panel'], \
       ['.log .t-starting', '.panel'], ['#ring-sum', '.panel'], ['.why', '.panel'], ['.where', '.panel'], ['.beats', '.panel'], ['th', '.panel'], ['.pool span', '.pool'], ['.pool b', '.pool'], \
       ['.badge', '.badge'], ['#add', '#add'], ['#fleet button.quiet', '.panel'], ['nav a', 'header'], ['#link b', 'header'], ['#change-words', 'dialog'], ['#change-plan p', 'dialog'], ['dialog label span', 'dialog'], ['#change-do', '#change-do'], \
       ['.num', '.arc', 'fill'], ['.proc .name', '.proc .body', 'fill'], ['.proc .dim', '.proc .body', 'fill'], ['.unit .name', '.unit .body', 'fill'], ['.unit .dim', '.unit .body', 'fill'], \
       ['.unit .flag', '.panel', 'fill', 'backgroundColor'], ['.ring-svg .mid', '.panel', 'fill', 'backgroundColor']] \
       .map(([words, behind, ink = 'color', back = ink === 'fill' ? 'fill' : 'backgroundColor']) => { const [one, other] = [words, behind].map((name) => document.querySelector(name)); \
         return [words, one && other ? between(of(one, ink), of(other, back)) : 0]; }); \
     const input = document.getElementById('trace-key'); found.push(['a placeholder', between(of(input, 'color', '::placeholder'), of(input, 'backgroundColor'))]); \
     const badge = document.querySelector('.badge').cloneNode(true); document.querySelector('.panel').append(badge); \
     for (let hue = 0; hue < 360; hue += 5) { badge.style.setProperty('--h', hue); found.push([`a badge of hue ${hue}`, between(of(badge, 'color'), of(badge, 'backgroundColor'))]); } \
     badge.remove(); return found;";

fn calm() -> Value {
    json!({"task_time": 600, "rebalance_interval": 0})
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_a_phone_and_a_wall_and_can_be_read_in_dark_and_light() {
    let whole = Whole::start(&calm(), |setup| setup.set("fleet.replicas", 3)).await;
    let Some(browser) = Browser::start(1280, 900).await else { return };
    whole.open(&browser, 3).await;
    // A wave, a key, and what an add would move: everything there is to read.
    browser.click("[data-wave=echo]").await;
    browser
        .until("a wave", LONG, "document.getElementById('spacetime-sum').textContent.startsWith('echo')")
        .await;
    browser.enter("#trace-key", "ann").await;
    browser.press("\u{e007}").await;
    browser.until("a trace", LONG, "document.querySelectorAll('.needle').length === 3").await;
    browser.click("#add").await;
    browser.until("a plan", LONG, "document.querySelectorAll('#change-plan .row').length === 4").await;
    for (width, height) in [(360, 740), (390, 844), (768, 1024), (1280, 800), (2560, 1440), (3840, 2160)] {
        browser.screen(width, height).await;
        let wide = browser.js("return Math.max(document.documentElement.scrollWidth, document.getElementById('change').getBoundingClientRect().right)").await;
        assert!(
            wide.as_f64().is_some_and(|wide| wide <= f64::from(width)),
            "{width} pixels, and {wide} are needed"
        );
    }
    // Words must stand out from what is behind them: 4.5 to 1 is what WCAG asks for.
    for scheme in ["dark", "light"] {
        browser.prefers(scheme, "reduce").await;
        browser
            .until("the colours", LONG, &format!("document.documentElement.classList.contains('{scheme}')"))
            .await;
        let found = browser.js(CONTRAST).await;
        let faint: Vec<_> = found
            .as_array()
            .expect("a list")
            .iter()
            .filter(|pair| pair[1].as_f64().is_none_or(|contrast| contrast < 4.5))
            .collect();
        assert!(faint.is_empty(), "{scheme}: {faint:?}");
    }
    browser.press("\u{e00c}").await;
    browser.until("Escape closes it", LONG, "!document.getElementById('change').open").await;

    // By keyboard alone: everything that can be done has a place in the order of tabs, and where one is can be seen.
    browser.js("document.body.focus(); document.activeElement.blur()").await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..120 {
        browser.press("\u{e004}").await;
        let focus = browser.js("const now = document.activeElement; const style = getComputedStyle(now); \
            return [now.id || now.dataset.wave || now.dataset.step || now.className.baseVal || now.className || now.tagName, style.outlineStyle !== 'none' || now.closest('svg') !== null]").await;
        if focus[0] == "BODY" {
            continue; // after the last one the browser's own things come
        }
        assert_eq!(focus[1], true, "where the focus is cannot be seen: {focus}");
        seen.insert(focus[0].as_str().unwrap_or_default().to_owned());
    }
    for wanted in [
        "theme",
        "add",
        "task-add",
        "trace-key",
        "fleet-find",
        "echo",
        "finn",
        "barrier",
        "wave-from",
        "play",
        "wave-at",
        "shiviz",
        "log-find",
        "log-list",
    ] {
        assert!(seen.contains(wanted), "{wanted} cannot be reached by keyboard: {seen:?}");
    }
    no_complaint(&browser.complaints().await);
}

/// Where everything is: nodes with their sizes, and what they stand in. Of the log only where it begins: lines come and go. Of a node's line in the diagram only its height: to the right goes time.
const RECTS: &str = "return Object.fromEntries([...document.querySelectorAll('.panel, .unit, .proc, .arc, #fleet-table tr[data-name], .lane, .pool')].map((one) => { \
     const { x, y, width, height } = one.getBoundingClientRect(); \
     const name = one.id || one.dataset.port || one.dataset.name || one.dataset.id || [...one.parentNode.children].indexOf(one); \
     return [`${one.tagName} ${one.classList[0]} ${name}`, one.id === 'log' ? [x, y] : one.matches('.lane') ? [y] : [x, y, width, height]]; }))";

/// A drawing that follows the size of the screen has done so.
const SETTLED: &str =
    "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));";

fn unmoved(before: &Value, now: &Value, when: &str) {
    type Places = std::collections::BTreeMap<String, Vec<f64>>;
    let places = |value: &Value| serde_json::from_value::<Places>(value.clone()).expect("places");
    let (before, now) = (places(before), places(now));
    assert!(before.len() > 30, "{before:?}");
    // Less than half a pixel is what the browser's own sums differ by.
    let is_same = |was: &[f64], is: &[f64]| was.iter().zip(is).all(|(was, is)| (was - is).abs() < 0.5);
    let moved: Vec<_> = before
        .iter()
        .filter(|(name, was)| now.get(*name).is_none_or(|is| !is_same(was, is)))
        .map(|(name, was)| format!("{name}: {was:?} -> {:?}", now.get(name)))
        .collect();
    assert!(moved.is_empty(), "{when}, these moved: {moved:#?}");
}

/// A death, and a stream that breaks, change words and colours, and not where anything is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_on_the_screen_while_the_topology_is_the_same() {
    let whole = Whole::start(&calm(), |setup| setup.set("fleet.replicas", 3)).await;
    let Some(browser) = Browser::start(1280, 900).await else { return };
    browser.prefers("light", "reduce").await;
    whole.open(&browser, 3).await;
    browser.click("[data-wave=echo]").await;
    browser
        .until("a wave", LONG, "document.getElementById('spacetime-sum').textContent.startsWith('echo')")
        .await;
    // So high that all of it is seen.
    for (width, height) in [(390, 7000), (1280, 4000), (1920, 2400)] {
        browser.screen(width, height).await;
        let before = browser.js(&format!("{SETTLED} {RECTS}")).await;
        let victims = [
            whole.balancer.replica("Server-2").await,
            whole
                .balancer
                .replicas_of("overlay")
                .await
                .into_iter()
                .find(|one| one.name == "D")
                .expect("it is one"),
            whole.units.replica(&whole.balancer, whole.units.ports[6]).await,
        ];
        let died = |name: &str| {
            format!(
                "document.querySelectorAll('#log-list li[data-event=flatlined][data-replica={name}]').length"
            )
        };
        let mut deaths = Vec::new();
        for victim in &victims {
            let count = browser.js(&format!("return {}", died(&victim.name))).await;
            deaths.push(format!("{} > {count}", died(&victim.name)));
            victim.process().kill();
        }
        for died in deaths {
            browser.until("a death", LONG, &died).await;
            unmoved(&before, &browser.js(RECTS).await, &format!("{width} pixels wide, after a death"));
        }
        super::until_live(&browser, 3).await;
        browser.until("all is linked again", LONG, LINKED).await;
        let covered =
            "document.getElementById('overlay-sum').textContent.includes('all 7 partitions covered')";
        browser.until("all is covered again", LONG, covered).await;
        unmoved(&before, &browser.js(RECTS).await, &format!("{width} pixels wide, after all were healed"));
        browser.click("[data-wave=finn]").await;
        let other = "document.getElementById('spacetime-sum').textContent.startsWith('finn')";
        browser.until("another wave", LONG, other).await;
        unmoved(&before, &browser.js(RECTS).await, &format!("{width} pixels wide, with another wave"));
        browser.js("document.querySelector('[data-wave=echo]').click()").await;
        browser
            .until(
                "the first wave's kind",
                LONG,
                "document.getElementById('spacetime-sum').textContent.startsWith('echo')",
            )
            .await;
    }
    // The widest first: it is there.
    for (width, height) in [(1920, 2400), (390, 7000)] {
        browser.screen(width, height).await;
        let before = browser.js(&format!("{SETTLED} {RECTS}")).await;
        whole.balancer.process.pause();
        browser.until("it breaks", LONG, BROKEN).await;
        unmoved(&before, &browser.js(RECTS).await, &format!("{width} pixels wide, with a broken stream"));
        whole.balancer.process.resume();
        browser.until("it recovers", LONG, MENDED).await;
        browser.until("all is linked", LONG, LINKED).await;
        unmoved(
            &before,
            &browser.js(RECTS).await,
            &format!("{width} pixels wide, with a stream that recovered"),
        );
    }
    no_complaint(&browser.complaints().await);
}
