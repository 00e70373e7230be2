// The page of an analysis: how far it is, who reads what, who failed and who took over. It only looks.

import { $, ago, clock, h, icon, keyed, many, pick, set, state, style, text } from "./dom.js";
import { follow } from "./stream.js";

/** What pools tell: name → {why, view}; and their replicas, where an appliance keeps them alive. */
const told = new Map();
let pools = null;

// What is told is somebody else's: of each thing only what has this shape is drawn.
const number = Number.isFinite, word = (it) => typeof it === "string";
const list = (is) => (it) => Array.isArray(it) && it.every(is), may = (is) => (it) => it === null || it === undefined || is(it);
const has = (shape) => (it) => it !== null && typeof it === "object" && Object.entries(shape).every(([name, is]) => is(it[name]));
const all = (is, ...names) => Object.fromEntries(names.map((name) => [name, is]));
const isView = has({
	...all(word, "stage", "folder", "coordinator"), asked: list(word),
	...all(number, "files", "files_done", "bytes", "bytes_done", "lines", "records", "without_level", "checkpoints", "failures", "recoveries", "others"),
	levels: (levels) => has({})(levels) && Object.values(levels).every(number), unread: list(has(all(word, "path", "why"))),
	workers: list(has({ name: word, number: may(number), reading: may(word), ...all(number, "parts", "bytes") })),
	events: list(has({ at_ms: (ms) => Math.abs(ms) < 8e15, ...all(word, "what", "words") })),
});

const WORST_LAST = ["TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "ERROR", "FATAL", "none"];
const SIGNS = { failed: "flatlined", recovered: "respawning", took_over: "respawning", joined: "starting", finished: "live", warning: "suspect" };
const LISTED = 200;

function size(bytes) {
	const units = ["bytes", "kB", "MB", "GB", "TB"];
	let at = 0;
	for (; bytes >= 1000 && at < units.length - 1; at++) bytes /= 1000;
	return `${at ? bytes.toFixed(bytes < 10 ? 2 : 1) : bytes} ${units[at]}`;
}
const grouped = (n) => n.toLocaleString("en");

const cell = (kind) => h("td", kind ? { class: kind } : {});
const workers = keyed($("workers-table").tBodies[0], () => {
	const at = { who: cell(), how: cell(), file: cell(), parts: cell("n"), bytes: cell("n") };
	return { el: h("tr", {}, ...Object.values(at)), at };
});
const replicas = keyed($("replicas-table").tBodies[0], () => {
	const at = { who: cell(), how: cell(), restarts: cell("n"), where: cell() };
	return { el: h("tr", {}, ...Object.values(at)), at };
});
const facts = keyed($("facts"), () => {
	const at = { name: h("dt"), value: h("dd") };
	return { el: h("div", {}, at.name, at.value), at };
});
const levels = keyed($("levels-plot"), () => {
	const at = { name: h("b"), bar: h("i"), count: h("span") };
	const el = h("div", { class: "row" }, at.name, h("div", { class: "track" }, at.bar), at.count);
	el.style.display = "contents";
	return { el, at };
});

function how(node, name, words) {
	if (node.shown === name + words) return;
	node.shown = name + words;
	node.at.how.replaceChildren(state(name, words));
	set(node.el, "data-state", words);
}

function run(view) {
	const share = view.bytes ? view.bytes_done / view.bytes : view.stage === "finished" ? 1 : 0;
	const bar = $("bar"), percent = Math.min(100, share * 100);
	style(bar.firstElementChild, "width", `${percent.toFixed(1)}%`);
	set(bar, "aria-valuenow", Math.floor(percent));
	bar.classList.toggle("done", view.stage === "finished");
	const asked = view.asked.length ? `, ${view.asked.join(" and ")}` : "";
	const words = {
		waiting: "No analysis yet: slipring analyse FOLDER --store … with the same store begins one.",
		running: `${view.folder}${asked}: ${percent.toFixed(0)} % counted`,
		finished: `${view.folder}${asked}: finished`,
	};
	text($("run-sum"), `${words[view.stage] ?? view.stage}${view.others ? `; ${many(view.others, "other")} under way` : ""}`);
	set($("run"), "data-stage", view.stage);
	facts([
		["Files", `${grouped(view.files_done)} of ${grouped(view.files)}`],
		["Bytes", `${size(view.bytes_done)} of ${size(view.bytes)}`],
		["Records", grouped(view.records)],
		["Lines", grouped(view.lines)],
		["Failures", grouped(view.failures), view.failures ? "bad" : ""],
		["Recoveries", grouped(view.recoveries), view.recoveries ? "good" : ""],
		["Checkpoints", grouped(view.checkpoints)],
		["Coordinator", view.coordinator || "–"],
	], ([name]) => name, ({ el, at }, [name, value, kind]) => {
		set(el, "data-fact", name);
		text(at.name, name);
		text(at.value, value);
		set(at.value, "class", kind ?? "");
	});
	$("unread").hidden = !view.unread.length;
	if (view.unread.length) $("unread").replaceChildren(h("b", {}, "Not counted, or not wholly"), ...view.unread.map(({ path, why }) => h("p", {}, `${path}: ${why}`)));
}

function results(view) {
	const counts = Object.entries(view.levels);
	if (view.without_level) counts.push(["none", view.without_level]);
	counts.sort(([one], [other]) => WORST_LAST.indexOf(one) - WORST_LAST.indexOf(other));
	const most = Math.max(1, ...counts.map(([, count]) => count));
	levels(counts, ([name]) => name, ({ el, at }, [name, count]) => {
		set(el, "data-level", name);
		set(el, "class", `row l-${name}`);
		text(at.name, name === "none" ? "no level" : name);
		text(at.count, grouped(count));
		style(at.bar, "width", `${((count / most) * 100).toFixed(1)}%`);
	});
	text($("levels-sum"), counts.length ? many(view.records, "record") : "nothing is counted yet");
	text($("levels-h"), view.stage === "finished" ? "Results" : "Results so far");
}

function who(view) {
	workers(view.workers, ({ name }) => name, (node, worker) => {
		const { at } = node;
		text(at.who, worker.number ? `${worker.number} · ${worker.name}` : worker.name);
		const [sign, words] = worker.failed ? ["flatlined", "failed"] : worker.reading ? ["live", "reading"] : ["stopped", "idle"];
		how(node, sign, words);
		text(at.file, worker.reading ?? "");
		text(at.parts, grouped(worker.parts));
		text(at.bytes, size(worker.bytes));
	});
	const read = view.workers.filter(({ reading }) => reading).length, failed = view.workers.filter((one) => one.failed).length;
	text($("workers-sum"), `${many(view.workers.length, "worker")}: ${read} reading, ${failed} failed`);
}

function log(events) {
	const shown = events.slice(-LISTED).reverse();
	const key = JSON.stringify(shown.at(0) ?? null) + shown.length;
	if ($("events-list").shown === key) return;
	$("events-list").shown = key;
	$("events-list").replaceChildren(...shown.map(({ at_ms: ms, what, words }) => {
		const sign = SIGNS[what] ?? "note";
		return h("li", { "data-event": what }, h("time", { datetime: new Date(ms).toISOString() }, clock(ms)), h("span", { class: `state what t-${sign}` }, icon(sign), what.replaceAll("_", " ")), h("span", { class: "words" }, words));
	}));
	text($("events-sum"), events.length ? `the last ${many(shown.length, "thing")}` : "nothing happened yet");
}

function members(pool) {
	$("replicas").hidden = !pool;
	if (!pool) return;
	replicas(pool.members, ({ name, id }) => `${name}/${id}`, (node, member) => {
		const { at } = node;
		text(at.who, member.name);
		how(node, member.state, member.state);
		text(at.restarts, grouped(member.restarts ?? 0));
		text(at.where, [member.address, member.pid && `process ${member.pid}`].filter(Boolean).join(" · "));
	});
	const live = pool.members.filter((member) => member.state === "live").length;
	text($("replicas-sum"), `${live} of ${pool.members.length} live; the appliance starts again who dies`);
}

function draw() {
	const names = [...told.keys()].map((name) => ({ name }));
	const name = pick($("pool"), names)?.name ?? names[0]?.name;
	const { view, why } = told.get(name) ?? {};
	if (view) {
		run(view);
		results(view);
		who(view);
		log(why ? [...view.events, { at_ms: Date.now(), what: "warning", words: why }] : view.events);
	} else text($("run-sum"), why ?? (pools && !names.length ? "No pool of this appliance reads logs: analyse.store in a pool makes one." : "connecting"));
	members(pools?.find((pool) => pool.name === name));
}
$("pool").addEventListener("change", draw);

const hears = {
	fleet: ({ pools: all }) => {
		pools = all.filter((pool) => pool.kind === "analyse");
		$("back").hidden = false;
		for (const { name } of pools) if (!told.has(name)) told.set(name, {});
		for (const name of [...told.keys()]) if (!pools.some((pool) => pool.name === name)) told.delete(name);
	},
	pool: ({ pool, kind, why, data }) => {
		if (kind !== "analyse") return;
		const before = told.get(pool)?.view;
		if (data?.why) why = data.why;
		if (data && !why && !isView(data)) why = "it tells what this page cannot draw";
		told.set(pool, { why, view: why ? before : (data ?? before) });
	},
};

let link = { live: false, since: Date.now() };
function linked() {
	const { live, since, why, next } = link;
	set($("link"), "class", `link ${live ? "live" : why ? "off" : ""}`);
	text($("link").querySelector("b"), live ? "live" : why ? "broken" : "connecting");
	document.documentElement.classList.toggle("stale", !live && Boolean(why));
	$("broken").hidden = live || !why;
	if (!live && why) text($("broken-words"), `No word since ${clock(since)} (${ago(Date.now() - since)}): ${why}. What is shown is old.${next ? ` Trying again in ${Math.max(0, Math.ceil((next - Date.now()) / 1000))} s.` : ""}`);
}
setInterval(linked, 1000);
let waits = false;
const again = follow((name, json) => {
	if (!hears[name]) return;
	try {
		hears[name](JSON.parse(json));
	} catch {
		return; // of one thing that cannot be read the rest is no worse
	}
	if (!waits) requestAnimationFrame(() => {
		waits = false;
		draw();
	});
	waits = true;
}, (now) => {
	link = now;
	linked();
});
$("again").addEventListener("click", again);

const chosen = localStorage.getItem("slipring-theme");
if (chosen) document.documentElement.classList.add(chosen);
