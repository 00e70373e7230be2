// What happened, the newest first, with a filter.

import { $, clock, h, icon, many, options, text } from "./dom.js";
import { reason } from "./fleet.js";

const MOST = 600;
// Of each event its sign, and how bad it is.
const SIGNS = { live: "live", suspect: "suspect 1", respawning: "respawning 1", flatlined: "flatlined 2", spawn_failed: "flatlined 2", stop_failed: "flatlined 2", reload_refused: "flatlined 2", warning: "suspect 2", orphan: "note 1", draining: "draining", stopped: "stopped", wave: "wave", added: "starting", adopted: "starting", spawning: "starting", started: "starting" };
const signOf = (event) => (SIGNS[event] ?? "note").split(" ");

function words(event) {
	if (event.event === "reloaded") return `the configuration: ${event.keys.length ? event.keys.join(", ") : "no key"} changed`;
	if (event.event === "started") return `at ${event.address}; no heartbeat yet`;
	if (event.event === "added") return `joined as number ${event.id}`;
	if (event.event === "stopped") return "nothing is left of it";
	if (event.event === "orphan") return "belonged to nobody, and was removed";
	return reason(event);
}

export function logView(appliance) {
	const list = $("log-list");
	// The newest first.
	const lines = [];
	let shown = 0;

	const wanted = (event) => {
		const find = $("log-find").value.trim().toLowerCase(), pool = $("log-pool").value;
		return Number(signOf(event.event)[1] ?? 0) >= Number($("log-level").value) && (!pool || event.pool === pool) && (!find || event.words.includes(find));
	};

	function add(events) {
		const nodes = [];
		for (const event of events) {
			const what = event.event.replaceAll("_", " "), who = event.replica ?? "", said = words(event);
			event.words = `${what} ${who} ${event.pool} ${said}`.toLowerCase();
			const [sign] = signOf(event.event);
			const el = h("li", { "data-event": event.event, "data-replica": who },
				h("time", { datetime: new Date(event.unix_ms).toISOString() }, clock(event.unix_ms)),
				h("span", { class: `state what t-${sign}` }, icon(sign), what),
				h("span", { class: "words" }, who && h("b", {}, who), who && " ", said, event.pool && event.pool !== "default" && h("span", { class: "dim" }, ` · ${event.pool}`)));
			el.hidden = !wanted(event);
			lines.unshift({ event, el });
			nodes.unshift(el);
		}
		list.prepend(...nodes);
		for (const { el } of lines.splice(MOST)) el.remove();
		sum();
	}

	function sum() {
		shown = lines.filter(({ el }) => !el.hidden).length;
		text($("log-sum"), lines.length ? `${shown} of the last ${many(lines.length, "event")}` : "nothing happened yet");
	}

	function filter() {
		for (const { event, el } of lines) el.hidden = !wanted(event);
		sum();
	}
	$("log-find").addEventListener("input", filter);
	for (const id of ["log-level", "log-pool"]) $(id).addEventListener("change", filter);
	return {
		add,
		update: () => options($("log-pool"), [["", "all pools"], ...appliance.pools.map((pool) => [pool.name, pool.name])]),
	};
}
