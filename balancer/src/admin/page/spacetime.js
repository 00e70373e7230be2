// The space-time diagram of a wave: a line for each node, time to the right, messages as slanted arrows.
//
// A step's place to the right is its Lamport time: every arrow leans forward, and what stands in one column can have
// happened at the same time.

import { $, drawing, empty, few, h, many, s, short, text } from "./dom.js";
import { arrows } from "./waves.js";

const cross = (kind, x, y) => s("path", { class: kind, d: `M${x - 5} ${y - 5}l10 10m0-10l-10 10` });

export function spacetimeView(waves, player) {
	const plot = $("spacetime-plot");
	let wave = null, marks = [], shown = -1, view = 0, cursor = null, spots = [], labels = null, body = null, scrolled = 0;

	empty(plot, "No wave yet. In a tree of units, start one with Echo, Finn or Barrier: its messages are drawn here, to be stepped through with ‹ and › or the arrow keys.");

	function draw(next) {
		wave = next;
		shown = -1;
		const { steps, messages, nodes } = wave;
		const known = new Map(waves.rows().map((port, n) => [port, n]));
		// Every unit has its line, also one that says nothing: no line ever moves.
		const rows = [...new Set([...known.keys(), ...nodes])].sort((a, b) => (known.get(a) ?? a + 1e6) - (known.get(b) ?? b + 1e6));
		const zoom = parseFloat(getComputedStyle(plot).fontSize) / 15, small = rows.length > 30;
		const high = (small ? 15 : rows.length > 12 ? 22 : 30) * zoom;
		const times = steps.reduce((most, step) => Math.max(most, step.lamport), 1);
		const called = (node) => { const name = waves.name(node); return name && name !== String(node) ? `${name} ${node}` : String(node); };
		const wide = Math.max(...rows.map((node) => called(node).length), 4) * 7.6 * zoom + 14;
		const column = Math.max(13, Math.min(90, (plot.clientWidth - wide - 24) / (times + 1)));
		const height = rows.length * high + 16, width = (times + 1) * column;
		const y = new Map(rows.map((node, n) => [node, 8 + (n + 0.5) * high]));
		const x = (step) => step.lamport * column;
		labels = drawing(wide, height, { class: "labels", "aria-hidden": "true", width: wide, height });
		labels.append(...rows.map((node) => s("text", { x: 4, y: y.get(node) + 4, "font-size": (small ? 10 : 13) * zoom }, called(node))));
		body = drawing(width, height, { width, height, "aria-label": `space-time diagram of ${wave.raw.algorithm} ${short(wave.id)}`, tabindex: 0, role: "application" });
		marks = steps.map((step) => {
			const [cx, cy] = [x(step), y.get(step.node)];
			const part = [];
			if (step.type === "decide") part.push(s("path", { class: "tick decide", d: `M${cx} ${cy - 9}l9 9-9 9-9-9Z` }));
			else if (step.type === "missing") part.push(cross("cross", cx, cy));
			else part.push(s("circle", { class: `tick ${step.type}`, cx, cy, r: step.type === "begin" ? 5.5 : 3.2 }));
			return part;
		});
		for (const { what, send, receive } of messages) {
			const [x1, y1] = [x(send), y.get(send.node)];
			// A lost one ends halfway, in a cross.
			const [x2, y2] = receive ? [x(receive), y.get(receive.node)] : [x1 + column * 0.8, (y1 + (y.get(send.peer) ?? y1)) / 2];
			const arrow = s("path", { class: `hop k-${what}`, d: `M${x1} ${y1}L${x2.toFixed(1)} ${y2.toFixed(1)}` });
			marks[send.index].push(arrow);
			if (!receive) marks[send.index].push(cross("cross lost", x2, y2));
		}
		const groups = marks.map((part) => s("g", { class: "later" }, ...part));
		spots = steps.map((step) => [x(step), y.get(step.node)]);
		cursor = s("circle", { class: "cursor", r: 8.5 });
		body.append(arrows(small ? 5 : 6), ...rows.map((node) => s("line", { class: "lane", x1: 0, x2: width, y1: y.get(node), y2: y.get(node) })), ...groups, cursor);
		marks = groups;
		plot.replaceChildren(h("div", { class: "times" }, labels, body), h("p", { class: "legend" }, ["⟶ explore, known", "⇢ report (dashed)", "◆ decision", "✕ lost, or given up"].map((words) => h("span", {}, words))));
		const { algorithm, id, messages: sent, events_left_out: left, untold = [] } = wave.raw;
		text($("spacetime-sum"), `${algorithm} ${short(id)}: ${nodes.length} nodes, ${many(sent, "message")}, ${times} steps deep${left ? `; ${many(left, "event")} were not kept` : ""}${untold.length ? `; not told by ${few(untold)}` : ""}`);
		body.addEventListener("keydown", (event) => {
			const name = { ArrowRight: "next", ArrowLeft: "back", Home: "first", End: "last", " ": "play" }[event.key];
			if (!name) return;
			event.preventDefault();
			document.querySelector(`[data-step=${name}]`).click();
		});
		if (!steps.length) cursor.remove();
		view = width > plot.clientWidth - wide ? plot.clientWidth - wide : 0;
		scrolled = plot.scrollLeft;
	}

	plot.addEventListener("scroll", () => (scrolled = plot.scrollLeft), { passive: true });
	addEventListener("resize", () => {
		const was = shown;
		if (wave) draw(wave);
		if (was >= 0) reach(was);
	});
	player.listen({
		wave: draw,
		at: (moment, now) => wave?.steps.length && now !== null && now !== shown && reach(now),
	});

	function reach(now) {
		for (; shown < now; ) marks[++shown].removeAttribute("class");
		for (; shown > now; shown -= 1) marks[shown].setAttribute("class", "later");
		const [x, y] = spots[now];
		cursor.setAttribute("transform", `translate(${x.toFixed(1)} ${y})`);
		// Where it is scrolled to is asked of nobody: to ask would lay the page out once more in every frame.
		if (view && (x < scrolled + view * 0.1 || x > scrolled + view * 0.85)) plot.scrollLeft = scrolled = Math.max(0, x - view * 0.3);
	}
}
