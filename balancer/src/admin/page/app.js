// The page: what the stream tells is kept here, and shown by one view each.

import { $, ago, clock, count, drawing, few, h, keyed, roving, s, set, short, text } from "./dom.js";
import { askToken, follow } from "./stream.js";
import { ringView } from "./ring.js";
import { fleetView } from "./fleet.js";
import { changes } from "./change.js";
import { logView } from "./log.js";
import { overlayView } from "./overlay.js";
import { player } from "./player.js";
import { wavesView } from "./waves.js";
import { spacetimeView } from "./spacetime.js";

const appliance = {
	pools: [],
	rings: new Map(),
	/** What given pools tell of themselves: name → {why, units, said, waves}. */
	given: new Map(),
	chosen: sessionStorage.getItem("slipring-pool") ?? "default",
	skew: 0,
	pool() {
		return this.pools.find((pool) => pool.name === this.chosen) ?? this.pools[0];
	},
	/** The appliance's clock. */
	now() {
		return Date.now() + this.skew;
	},
};

const log = logView(appliance);
const ring = ringView(appliance);
const fleet = fleetView(appliance, ring.heat);
const overlay = overlayView(appliance);
const plays = player();
const waves = wavesView(appliance, plays);
spacetimeView(waves, plays);
changes();

// ---- what is told, and when it is drawn

const stale = new Set();
function draw(...views) {
	if (!stale.size) requestAnimationFrame(() => {
		const now = [...stale];
		stale.clear();
		for (const view of now) guarded("something is told that this page cannot draw", () => view.update());
	});
	for (const view of views) stale.add(view);
}

/** Whatever is wrong with one thing that is told, the rest goes on; what is wrong is said once. */
const odd = new Set();
function guarded(words, act, whose = () => "") {
	try {
		act();
	} catch (error) {
		const pool = whose(), key = `${pool} ${words}`;
		if (odd.has(key)) return;
		odd.add(key);
		log.add([{ event: "warning", why: `${words}: ${error.message}`, pool, unix_ms: appliance.now() }]);
	}
}

// What members tell is theirs: of each thing only what has this shape is drawn.
const number = Number.isFinite, word = (it) => typeof it === "string", may = (is) => (it) => it === undefined || it === null || is(it);
const list = (is) => (it) => Array.isArray(it) && it.every(is);
const all = (is, ...names) => Object.fromEntries(names.map((name) => [name, is]));
const has = (shape) => (it) => it !== null && typeof it === "object" && Object.entries(shape).every(([name, is]) => is(it[name]));
const isWave = has({
	...all(word, "id", "algorithm"), ...all(number, "took_us", "messages"), ...all(may(number), "expected", "bound", "events_left_out"),
	...all(list(number), "missing", "decided"), untold: may(list(number)), fathers: may(has({})), started_ms: (ms) => Math.abs(ms) < 8e15,
	moves: may(list(has(all(number, "from", "to", "count")))), events: list(has({ ...all(number, "node", "seq", "at_us"), type: word, peer: may(number) })),
});
const isTree = has({
	strategy: word, rebalance_interval_s: number,
	units: list(has({ name: word, ...all(number, "port", "cpu", "load", "running", "queued", "reserved", "finished"), ...all(may(number), "parent", "link") })),
});
const isSurvey = has({
	coverage: may(has(all(number, "partitions", "answered"))),
	processes: list(has({ process: word, metrics: may(has({ ...all(number, "active_requests", "max_capacity", "queue_size", "data_files_loaded", "avg_processing_time_ms"), recent_logs: may(list(word)) })) })),
});

const WAVES = 24;
let last = 0;
const told = {
	now: ({ now_ms: now }) => {
		appliance.skew = now - Date.now();
	},
	fleet: ({ version, stopping, pools }) => {
		appliance.pools = pools;
		if (!pools.some((pool) => pool.name === appliance.chosen)) appliance.chosen = pools[0].name;
		text($("version"), `${version}${stopping ? " · stopping" : ""}`);
		for (const name of [...appliance.given.keys()]) if (!pools.some((pool) => pool.name === name)) appliance.given.delete(name);
		draw(chooser, ring, fleet, overlay, waves, log);
	},
	ring: (told) => {
		appliance.rings.set(told.pool, told);
		draw(ring);
	},
	log: (events) => {
		const fresh = events.filter((event) => event.sequence > last);
		if (!fresh.length) return;
		last = fresh.at(-1).sequence;
		log.add(fresh);
	},
	pool: ({ pool, kind, why, note, data }) => {
		if (kind === "analyse" && data) return;
		const given = appliance.given.get(pool) ?? { waves: [] };
		appliance.given.set(pool, given);
		if (why || note) log.add([{ event: "warning", why: note ?? `it tells nothing of itself: ${why}`, pool, unix_ms: appliance.now() }]);
		if (note) return;
		given.why = why;
		if (why) given.said = undefined;
		else if (isWave(data) && data.kind === "wave") {
			// The same ones come again with each new stream, and when more is known of them.
			const at = given.waves.findIndex((wave) => wave.id === data.id && wave.started_ms === data.started_ms);
			if (at >= 0) given.waves = given.waves.with(at, data);
			else {
				given.waves = [...given.waves.filter((wave) => wave.id !== data.id), data].slice(-WAVES);
				const rest = data.is_complete ? "" : `, without ${few(data.missing) || "somebody"}`;
				log.add([{ event: "wave", why: `${data.algorithm} ${short(data.id)}: ${data.messages} messages, decided by ${few(data.decided) || "nobody"}${rest}`, pool, unix_ms: data.started_ms }]);
			}
		} else if (isTree(data)) Object.assign(given, { units: data, tree: true });
		else if (isSurvey(data)) given.said = data;
		else throw new TypeError("it has another shape");
		draw(overlay, waves);
	},
};

// ---- the pools

const HISTORY = 60;
const rates = new Map();
const KINDS = { replicas: "own replicas", static: "upstreams", overlay: "an overlay", waves: "a tree of units" };
const pools = $("pools");
const cards = keyed(pools, () => {
	const at = { name: h("b"), rate: h("b", { class: "rate" }), kind: h("span"), how: h("span", { class: "n" }), path: s("path") };
	const spark = drawing(HISTORY - 1, 20, { class: "spark", preserveAspectRatio: "none", "aria-hidden": "true" });
	spark.removeAttribute("role");
	spark.append(at.path);
	const el = h("button", { role: "radio", class: "pool", onclick: () => choose(at.pool) }, at.name, at.rate, at.kind, at.how, spark);
	return { el, at };
});
roving(pools, ".pool");
pools.addEventListener("focusin", ({ target }) => target.matches("[aria-checked=false]") && target.click());

function choose(name) {
	appliance.chosen = name;
	sessionStorage.setItem("slipring-pool", name);
	draw(chooser, ring, fleet);
}

const rateOf = (pool) => {
	const known = pool.members.filter((member) => typeof member.per_second === "number");
	return known.length ? known.reduce((sum, member) => sum + member.per_second, 0) : null;
};
const chooser = {
	update() {
		cards(appliance.pools, (pool) => pool.name, ({ el, at }, pool) => {
			at.pool = pool.name;
			const live = pool.members.filter((member) => member.state === "live").length;
			const all = pool.members.filter((member) => member.member).length;
			const chosen = pool === appliance.pool();
			set(el, "aria-checked", chosen);
			set(el, "tabindex", chosen ? 0 : -1);
			text(at.name, pool.name);
			text(at.rate, `${count(rateOf(pool))}/s`);
			text(at.kind, KINDS[pool.kind] ?? pool.kind);
			text(at.how, !all ? "nobody" : live === all ? `all ${all} live` : `${live} of ${all} live`);
			at.how.className = `n ${live === all ? "" : "t-flatlined"}`;
			const past = rates.get(pool.name) ?? [], most = Math.max(1, ...past);
			set(at.path, "d", past.map((rate, n) => `${n ? "L" : "M"}${HISTORY - past.length + n} ${(19 - (rate / most) * 18).toFixed(1)}`).join(""));
		});
	},
};

setInterval(() => {
	for (const pool of appliance.pools) {
		const past = rates.get(pool.name) ?? [];
		past.push(rateOf(pool) ?? 0);
		rates.set(pool.name, past.slice(-HISTORY));
	}
	draw(chooser);
	fleet.tick();
	link();
}, 1000);

// ---- the stream itself

let how = { live: false, since: Date.now() };
function link() {
	const { live, since, why, next } = how;
	const node = $("link");
	set(node, "class", `link ${live ? "live" : why ? "off" : ""}`);
	text(node.querySelector("b"), live ? "live" : why ? "broken" : "connecting");
	document.documentElement.classList.toggle("stale", !live && Boolean(why));
	$("broken").hidden = live || !why;
	if (!live && why) {
		const soon = next ? Math.max(0, Math.ceil((next - Date.now()) / 1000)) : 0;
		text($("broken-words"), `No word from the appliance since ${clock(since)} (${ago(Date.now() - since)}): ${why}. What is shown is old. ${soon ? `Trying again in ${soon} s.` : "Trying again."}`);
	}
}
const again = follow((name, json) => {
	let data;
	guarded("it tells what this page cannot read", () => told[name]?.((data = JSON.parse(json))), () => data?.pool);
}, (now) => {
	how = now;
	link();
});
$("again").addEventListener("click", again);

// ---- colours, token

const THEMES = [["", "Auto", "as the system"], ["dark", "Dark", "dark"], ["light", "Light", "light"]];
const dark = matchMedia("(prefers-color-scheme: dark)");
function theme(step) {
	const now = THEMES.findIndex(([name]) => name === (localStorage.getItem("slipring-theme") ?? ""));
	const [name, label, words] = THEMES[(now + step + THEMES.length) % THEMES.length];
	localStorage.setItem("slipring-theme", name);
	document.documentElement.className = document.documentElement.className.replace(/\b(light|dark)\b/g, "").trim();
	document.documentElement.classList.add(name || (dark.matches ? "dark" : "light"));
	text($("theme"), label);
	set($("theme"), "aria-label", `Colours: ${words}`);
}
$("theme").addEventListener("click", () => theme(1));
dark.addEventListener("change", () => theme(0));
theme(0);
$("token-open").addEventListener("click", async () => (await askToken("It is sent with every call of this page.")) && again());
