// A tree of units: how loaded each is, who is attached to whom, and a wave's messages on their way.
//
// Where a unit stands follows from the tree alone; what moves is messages and colours.

import { $, drawing, empty, few, h, label, many, options, pick, rect, roving, s, say, set, short, stage, style, text } from "./dom.js";
import { call } from "./stream.js";

const SIZES = [
	{ most: 10, width: 136, height: 74, gap: 14, level: 124 },
	{ most: 32, width: 74, height: 46, gap: 8, level: 92 },
	{ most: Infinity, width: 40, height: 30, gap: 4, level: 66 },
];

/**
 * Where each unit of a tree stands: subtrees as close to each other as their edges allow, parents in the middle above.
 * An edge of a subtree is how far it reaches to one side at each level.
 */
export function layout(units) {
	const children = new Map(units.map((unit) => [unit.port, []]));
	const roots = [];
	for (const unit of [...units].sort((a, b) => a.port - b.port)) (children.get(unit.parent) ?? roots).push(unit);
	const leaves = units.filter((unit) => !children.get(unit.port).length).length;
	const size = SIZES.find(({ most }) => leaves <= most), apart = size.width + size.gap;
	const places = new Map(), rows = [];
	const pack = (list) => {
		const edges = { left: [], right: [] }, shifts = [];
		for (const one of list) {
			const shift = Math.max(0, ...one.left.map((x, level) => (edges.right[level] ?? -Infinity) + apart - x));
			shifts.push(shift);
			one.left.forEach((x, level) => {
				edges.left[level] ??= x + shift;
				edges.right[level] = one.right[level] + shift;
			});
		}
		return { ...edges, shifts };
	};
	const measure = (unit) => {
		rows.push(unit.port);
		const below = children.get(unit.port).map(measure), { left, right, shifts } = pack(below);
		const middle = below.length ? (shifts[0] + below[0].x + shifts.at(-1) + below.at(-1).x) / 2 : 0;
		return { unit, below, shifts, x: middle, left: [middle, ...left], right: [middle, ...right] };
	};
	const tops = roots.map(measure), { left, right, shifts } = pack(tops);
	if (rows.length < units.length) throw new Error("units that hang on each other");
	const least = Math.min(0, ...left), margin = apart / 2 + 4;
	const stand = ({ unit, below, shifts, x }, shift, level) => {
		places.set(unit.port, { x: x + shift - least + margin, y: size.height / 2 + 24 + level * size.level });
		below.forEach((one, n) => stand(one, shift + shifts[n], level + 1));
	};
	tops.forEach((top, n) => stand(top, shifts[n], 0));
	return { size, places, rows, width: Math.max(0, ...right) - least + 2 * margin, height: (left.length - 1) * size.level + size.height + 38 };
}

export const arrows = (size) => s("defs", {}, ...[["arrow", "var(--accent)"], ["arrow-s", "var(--accent)"], ["arrow-b", "var(--busy)"]].map(([id, fill]) =>
	s("marker", { id, viewBox: "0 0 8 8", refX: 7.5, refY: 4, markerWidth: size, markerHeight: size, orient: "auto-start-reverse" }, s("path", { d: "M0 0 8 4 0 8Z", fill }))));

export function wavesView(appliance, player) {
	const plot = $("waves-plot");
	let shape = "", nodes = new Map(), spot = null, messages = [], wave = null, shown = -1, pool = null, edges = null, fathers = null, layer = null;

	const data = () => appliance.given.get(pool)?.units;

	function draw(units) {
		spot = layout(units);
		const { size, places, width, height } = spot;
		const svg = drawing(width, height, { "aria-label": "the tree of units", role: "group" });
		[edges, fathers] = [s("g"), s("g")];
		layer = { explore: s("path", { class: "msg" }), report: s("path", { class: "msg k-report" }) };
		nodes = new Map(units.map((unit, n) => {
			const { x, y } = places.get(unit.port), { width: w, height: ht } = size;
			const large = w > 100, left = -w / 2, top = -ht / 2;
			const words = large ? 13 : w > 60 ? 12 : 11;
			const at = { load: rect("load", left + 6, top + ht - 13, 0, 7, 3), name: label("name mid", 0, top + (large ? 20 : 15), words), numbers: label("mid", 0, top + (large ? 36 : ht - 17), words), more: label("dim mid", 0, top + 49, 11), title: s("title") };
			const el = s("g", { class: "node unit", transform: `translate(${x} ${y})`, tabindex: n ? -1 : 0, role: "button", "data-port": unit.port });
			el.append(at.title, rect("decided", left - 5, top - 5, w + 10, ht + 10, 13), rect("body", left, top, w, ht, 9), rect("track", left + 6, top + ht - 13, w - 12, 7, 3), at.load, at.name, at.numbers, at.more, s("text", { class: "flag mid", y: top - 8 }, large ? "✓ decided" : "✓"));
			return [unit.port, { el, at, room: w - 12, large }];
		}));
		svg.append(arrows(5), edges, fathers, ...[...nodes.values()].map(({ el }) => el));
		// What moves has a layer of its own: the tree below is not painted again for it.
		const way = drawing(width, height, { "aria-hidden": "true", class: "way" });
		way.append(...Object.values(layer));
		stage(plot, width, [svg, way], "⟶ father of a wave", "✓ has decided", "✕ dead; dashed: the link that it had");
		roving(svg, ".unit");
		svg.addEventListener("click", (event) => {
			const port = event.target.closest(".unit")?.dataset.port;
			if (port) $("wave-from").value = port;
		});
		svg.addEventListener("keydown", (event) => (event.key === "Enter" || event.key === " ") && event.target.dispatchEvent(new MouseEvent("click", { bubbles: true })));
		if (wave) follow(wave);
	}

	let links = "";
	function join(units) {
		const line = (from, to, kind) => {
			const [a, b] = [spot.places.get(from), spot.places.get(to)];
			if (!a || !b) return;
			const bend = (a.y + b.y) / 2;
			edges.append(s("path", { class: kind, d: `M${a.x} ${a.y}C${a.x} ${bend} ${b.x} ${bend} ${b.x} ${b.y}` }));
		};
		edges.replaceChildren();
		for (const { port, parent, link } of units) {
			if (link !== parent) line(port, parent, "edge lost");
			line(port, link, link === parent ? "edge" : "edge moved");
		}
	}

	function show(state) {
		const { units } = state;
		const now = units.map((unit) => `${unit.port}-${unit.link}`).join();
		if (links !== now + shape) {
			links = now + shape;
			join(units);
		}
		for (const unit of units) {
			const { el, at, room, large } = nodes.get(unit.port), used = Math.min(1, unit.load / unit.cpu);
			const numbers = `${unit.is_live ? "" : "✕ "}${unit.load}/${unit.cpu}`;
			text(at.name, large ? `${unit.name} ${unit.port}` : room > 60 ? String(unit.port) : "");
			text(at.numbers, large ? `${numbers} cores` : numbers);
			text(at.more, large ? `${unit.queued} queued${unit.reserved ? `, ${unit.reserved} reserved` : ""}` : "");
			set(at.load, "width", (used * room).toFixed(1));
			style(at.load, "--u", used.toFixed(2));
			el.classList.toggle("dead", !unit.is_live);
			const words = `${unit.name}, port ${unit.port}: ${unit.is_live ? "" : "dead, "}load ${unit.load} of ${unit.cpu} cores, ${unit.running} running, ${unit.queued} queued, ${unit.reserved} reserved, ${unit.finished} finished`;
			if (at.words !== words) {
				at.words = words;
				at.title.textContent = words;
				set(el, "aria-label", words);
			}
		}
		const sum = (of) => units.reduce((sum, unit) => sum + Number(of(unit)), 0);
		const dead = sum((unit) => !unit.is_live), load = sum((unit) => unit.load), cpu = sum((unit) => unit.cpu);
		text($("waves-sum"), `${many(units.length, "unit")}${dead ? `, ${dead} dead` : ""}; load ${load} of ${cpu} cores (${(load / cpu).toFixed(2)}), ${many(sum((unit) => unit.finished), "task")} finished; ${state.strategy}, ${state.rebalance_interval_s ? `every ${state.rebalance_interval_s} s` : "when asked"}`);
		options($("wave-from"), units.map((unit) => [unit.port, `${unit.name} ${unit.port}`]));
	}

	// ---- a wave: each step makes a unit reached, or decided, or known by its father; between steps messages move

	function follow(next) {
		wave = next;
		shown = -1;
		if (!layer || !spot) return;
		messages = wave.messages.map((message) => ({ ...message, a: spot.places.get(message.from), b: spot.places.get(message.to) })).filter(({ a, b }) => a && b);
		fathers.replaceChildren();
		for (const dots of Object.values(layer)) set(dots, "d", "");
		for (const [port, node] of nodes) {
			node.el.classList.remove("reached", "has-decided");
			node.father = null;
			const father = wave.raw.fathers?.[port], a = spot.places.get(port), b = spot.places.get(father);
			if (!b) continue;
			// From edge to edge of the two, so that the arrow is seen.
			const { width: w, height: ht } = spot.size;
			const [dx, dy] = [b.x - a.x, b.y - a.y];
			const cut = Math.min((w / 2 + 6) / Math.max(1e-9, Math.abs(dx)), (ht / 2 + 6) / Math.max(1e-9, Math.abs(dy)));
			const el = s("path", { class: "father", d: `M${a.x + dx * cut} ${a.y + dy * cut}L${b.x - dx * cut} ${b.y - dy * cut}`, visibility: "hidden" });
			fathers.append(el);
			node.father = { father, el };
		}
	}

	function take(step) {
		const node = nodes.get(step.node);
		if (!node) return;
		node.el.classList.add("reached");
		if (step.type === "decide") node.el.classList.add("has-decided");
		if (step.type === "receive" && node.father?.father === step.peer) set(node.father.el, "visibility", "visible");
	}

	player.listen({
		wave: follow,
		at(moment, now) {
			if (!layer || !wave) return;
			if (now !== null) state(now);
			// All messages are one line of dots: one attribute a frame, whatever their number.
			const dots = { explore: "", report: "" };
			for (const { begin, end, what, a, b } of messages) {
				// One that is lost goes halfway.
				const last = end ?? begin + 4;
				if (moment <= begin || moment >= last) continue;
				const part = ((moment - begin) / (last - begin)) * (end === null ? 0.5 : 1);
				dots[what === "report" ? what : "explore"] += `M${(a.x + (b.x - a.x) * part).toFixed(1)} ${(a.y + (b.y - a.y) * part).toFixed(1)}h0`;
			}
			for (const [kind, d] of Object.entries(dots)) set(layer[kind], "d", d);
		},
	});

	function state(now) {
		if (now < shown) {
			for (const node of nodes.values()) {
				node.el.classList.remove("reached", "has-decided");
				node.father?.el.setAttribute("visibility", "hidden");
			}
			shown = -1;
		}
		while (shown < now) take(wave.steps[++shown]);
	}

	// ---- what can be begun

	const ask = async (path, words) => {
		text($("waves-out"), words);
		try {
			return await call("POST", `/relay/${encodeURIComponent(pool)}/${path}`);
		} catch (error) {
			text($("waves-out"), error.message);
			say(error.message);
			return null;
		}
	};
	document.querySelectorAll("[data-wave]").forEach((button) => button.addEventListener("click", async () => {
		const from = $("wave-from").value, { wave: algorithm } = button.dataset;
		const answer = await ask(`wave?algorithm=${algorithm}&initiator=${from}`, `${algorithm} begins at ${from}…`);
		if (!answer) return;
		player.expect(answer.id);
		update();
	}));
	$("wave-form").addEventListener("submit", async (event) => {
		event.preventDefault();
		const [from, n] = [$("wave-from").value, Math.max(1, Math.floor(Number($("task-n").value)) || 1)];
		$("task-add").disabled = true;
		if (await ask(`tasks?unit=${from}&n=${n}`, `${many(n, "task")} for ${from}…`)) text($("waves-out"), `${many(n, "task")} added to ${from}.`);
		$("task-add").disabled = false;
	});
	$("waves-pool").addEventListener("change", update);

	/** What came of a wave, in words and numbers. */
	function verdict(one) {
		const { messages, expected, bound } = one;
		const form = (expected ?? null) !== null ? ` of ${expected} expected` : bound ? `, at most ${bound},` : "";
		const closed = `${messages}${form} messages${one.is_wrong ? ", which is wrong" : ""}`;
		const missing = one.is_complete ? "" : ` Missing: ${few(one.missing) || "nobody knows whom"}.`;
		return `${one.algorithm} ${short(one.id)}: ${closed}; decided: ${few(one.decided) || "nobody"}.${missing}`;
	}

	/** What was moved last: a wave's moves are known when they are done, which may be after the next wave. */
	function moves(waves) {
		const one = waves.findLast((wave) => wave.moves?.length);
		const words = ({ from, to, count, moved, reason }) => `${moved ?? count} from ${from} to ${to}${reason ? ` (of ${count}: ${reason})` : ""}`;
		return one ? ` Moved after ${short(one.id)}: ${few(one.moves.map(words))}.` : "";
	}

	let said = "";
	function update() {
		const trees = appliance.pools.filter((one) => one.kind === "waves" || appliance.given.get(one.name)?.tree);
		pool = pick($("waves-pool"), trees)?.name;
		const state = data(), why = pool && appliance.given.get(pool)?.why;
		$("wave-form").hidden = !state;
		plot.classList.toggle("old", Boolean(state && why));
		if (!state) {
			[shape, said, nodes, layer] = ["", "", new Map(), null];
			text($("waves-sum"), "");
			if (pool) empty(plot, why ? `Nothing is heard from ${pool}: ${why}.` : `Waiting for ${pool} to tell how it is.`);
			else empty(plot, "No tree of units runs here. ", h("code", {}, "make waves"), " starts one, and shows its load and its waves.");
			text($("waves-out"), "");
		} else {
			const now = pool + state.units.map((unit) => `${unit.port}<${unit.parent}`).join();
			if (now !== shape) {
				shape = now;
				draw(state.units);
			}
			show(state);
			// The tree stays where it is: it is not gone, but unheard.
			if (why) text($("waves-sum"), `Nothing is heard from ${pool}: ${why}. What is shown is old.`);
		}
		const waves = appliance.given.get(pool)?.waves ?? [];
		const names = new Map((state?.units ?? []).map((unit) => [unit.port, unit.name]));
		player.offer(waves, (node) => names.get(node) ?? String(node), state?.rebalance_interval_s);
		const now = waves.length ? verdict(waves.at(-1)) + moves(waves) : "";
		if (now !== said) text($("waves-out"), (said = now));
	}
	return { update, rows: () => spot?.rows ?? [], name: (port) => data()?.units.find((unit) => unit.port === port)?.name };
}
