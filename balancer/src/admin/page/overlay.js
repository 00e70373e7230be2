// An overlay as the graph it is: who is connected with whom, and how loaded each process is.
//
// Layers from the leaders downwards, as far as a question has to go; within a layer by the places of those above, then by
// name. That follows from the file alone: a process that dies keeps its place.

import { $, count, drawing, empty, few, h, label, many, pick, rect, roving, s, set, stage, style, text } from "./dom.js";

const WIDTH = 172, HEIGHT = 94, GAP = 26, LEVEL = 150, ROW = 8;

/** Where each process stands. */
export function layers(members) {
	const near = new Map(members.map((member) => [member.name, new Set()]));
	for (const { name, links = [] } of members) for (const other of links) if (near.has(other)) near.get(name).add(other), near.get(other).add(name);
	const depth = new Map();
	let front = members.filter((member) => member.role === "leader").map((member) => member.name);
	if (!front.length && members.length) front = [members[0].name];
	for (let level = 0; front.length; level += 1) {
		front.forEach((name) => depth.set(name, level));
		front = [...new Set(front.flatMap((name) => [...near.get(name)]))].filter((name) => !depth.has(name));
	}
	const rows = [];
	for (const { name } of [...members].sort((a, b) => a.name.localeCompare(b.name))) {
		const level = depth.get(name) ?? Math.max(-1, ...depth.values()) + 1;
		(rows[level] ??= []).push(name);
	}
	const at = new Map();
	const spread = [];
	for (const row of rows.filter(Boolean)) {
		const above = (name) => {
			const known = [...near.get(name)].filter((other) => at.has(other)).map((other) => at.get(other));
			return known.length ? known.reduce((sum, x) => sum + x, 0) / known.length : 0.5;
		};
		const sorted = row.map((name) => [name, above(name)]).sort((a, b) => a[1] - b[1] || a[0].localeCompare(b[0])).map(([name]) => name);
		sorted.forEach((name, n) => at.set(name, (n + 0.5) / sorted.length));
		for (let n = 0; n < sorted.length; n += ROW) spread.push(sorted.slice(n, n + ROW));
	}
	const across = Math.max(2, ...spread.map((row) => row.length)) * (WIDTH + GAP);
	const places = new Map(spread.flatMap((row, n) => row.map((name, k) => [name, { x: ((k + 0.5) / row.length) * across, y: HEIGHT / 2 + 8 + n * LEVEL }])));
	const edges = members.flatMap(({ name }) => [...near.get(name)].filter((other) => name < other).map((other) => [name, other]));
	return { places, edges, width: across, height: (spread.length - 1) * LEVEL + HEIGHT + 16 };
}

export function overlayView(appliance) {
	const plot = $("overlay-plot");
	let shape = "", nodes = new Map(), lines = [], pool = null, chosen = null;

	function draw(members) {
		const { places, edges, width, height } = layers(members);
		const svg = drawing(width, height, { "aria-label": "the overlay's processes and their links", role: "group" });
		lines = edges.map(([a, b]) => {
			const [from, to] = [places.get(a), places.get(b)];
			return { a, b, el: s("line", { class: "edge", x1: from.x, y1: from.y, x2: to.x, y2: to.y }) };
		});
		nodes = new Map(members.map((member, n) => {
			const { x, y } = places.get(member.name), left = -WIDTH / 2, top = -HEIGHT / 2;
			const at = { sign: s("use", { x: left + 10, y: top + 10, width: 15, height: 15 }), name: label("name", left + 31, top + 22, 15), role: label("dim", left + 10, top + 40, 12), load: rect("load", left + 10, top + 48, 0, 7, 3), numbers: label("", left + 10, top + 70, 12), held: label("dim", left + 10, top + 85, 12) };
			const el = s("g", { class: "node proc", transform: `translate(${x} ${y})`, tabindex: n ? -1 : 0, role: "button", "data-name": member.name });
			el.append(rect("body", left, top, WIDTH, HEIGHT, 10), rect("track", left + 10, top + 48, WIDTH - 20, 7, 3), at.sign, at.name, at.role, at.load, at.numbers, at.held);
			return [member.name, { el, at }];
		}));
		svg.append(...lines.map(({ el }) => el), ...[...nodes.values()].map(({ el }) => el));
		stage(plot, width, [svg]);
		roving(svg, ".proc");
		for (const kind of ["click", "focusin"]) svg.addEventListener(kind, (event) => {
			chosen = event.target.closest(".proc")?.dataset.name ?? chosen;
			update();
		});
	}

	function show(members, said) {
		const processes = new Map((said?.processes ?? []).map((one) => [one.process, one]));
		const away = [];
		for (const member of members) {
			const { el, at } = nodes.get(member.name), process = processes.get(member.name), m = process?.metrics;
			const sign = member.ejected ? "ejected" : member.state;
			set(at.sign, "href", `#s-${sign}`);
			set(at.sign, "class", `t-${sign}`);
			set(at.sign, "fill", "currentColor");
			text(at.name, member.name);
			text(at.role, `${(member.role ?? "").replaceAll("_", " ")}${process?.team ? ` · ${process.team}` : ""}`);
			const used = m?.max_capacity ? Math.min(1, m.active_requests / m.max_capacity) : 0;
			set(at.load, "width", (used * (WIDTH - 20)).toFixed(1));
			style(at.load, "--u", used.toFixed(2));
			// What it holds, or held when it was last heard.
			const held = process?.partitions ?? 0, holds = held ? many(held, "partition") : "no data";
			text(at.numbers, m ? `${m.active_requests}/${m.max_capacity} load · ${m.queue_size} queued` : member.state === "live" ? "says nothing" : member.state);
			text(at.held, m ? (m.is_healthy ? `${holds} · ${count(m.avg_processing_time_ms)} ms` : `is loading${held ? ` ${holds}` : ""}`) : held ? `held ${holds}` : "");
			const dead = !["live", "suspect"].includes(member.state);
			el.classList.toggle("dead", dead);
			set(el, "aria-label", `${member.name}, ${member.role}, ${member.state}${m ? `: ${m.active_requests} of ${m.max_capacity} load, ${m.queue_size} queued, ${m.is_healthy ? `${holds} in ${many(m.data_files_loaded, "file")}` : "is loading"}` : ""}`);
			if (said && member.role === "worker" && !m?.is_healthy) away.push(`${member.name} ${m ? "is loading" : "says nothing"}${held ? ` (${held})` : ""}`);
		}
		for (const { a, b, el } of lines) {
			const lost = [a, b].some((name) => nodes.get(name).el.classList.contains("dead"));
			set(el, "class", lost ? "edge lost" : "edge");
		}
		const live = members.filter((member) => member.state === "live").length;
		const { partitions, answered } = said?.coverage ?? {};
		text($("overlay-sum"), `${live} of ${many(members.length, "process", "processes")} live${said?.coverage ? `; ${answered === partitions ? `all ${partitions}` : `${answered} of ${partitions}`} partitions covered` : ""}${away.length ? `; ${few(away)}` : ""}`);
		const process = processes.get(chosen), why = appliance.given.get(pool)?.why;
		if (process) text($("overlay-out"), process.metrics ? `${chosen}: ${process.metrics.recent_logs?.at(-1) ?? "it has nothing to tell"}` : `${chosen}: ${process.why}`);
		else text($("overlay-out"), said ? "" : why ? `What its processes say of themselves is not heard: ${why}.` : "");
	}

	$("overlay-pool").addEventListener("change", update);

	function update() {
		const all = appliance.pools.filter((one) => one.kind === "overlay" && !appliance.given.get(one.name)?.tree);
		const shown = pick($("overlay-pool"), all);
		pool = shown?.name;
		if (!shown) {
			shape = "";
			text($("overlay-sum"), "");
			text($("overlay-out"), "");
			return empty(plot, "No overlay runs here. ", h("code", {}, "make overlay"), " starts one: a leader, two team leaders and three workers.");
		}
		const members = shown.members.filter((member) => member.member);
		const now = pool + JSON.stringify(members.map((member) => [member.name, member.role, member.links]));
		if (now !== shape) {
			shape = now;
			draw(members);
		}
		show(members, appliance.given.get(pool)?.said);
	}
	return { update };
}
