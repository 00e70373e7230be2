// The ring: outside every slot with its owner, inside each replica's share beside the ideal one.
//
// Where something is drawn follows from the topology alone: slots go clockwise from the top, shares in the order of
// identities. A request's key is traced from its slot to the replicas that may answer, in their order.

import { $, drawing, hue, many, percent, roving, s, set, text } from "./dom.js";
import { call } from "./stream.js";

const SIZE = 640, MID = SIZE / 2, TAU = Math.PI * 2;
const OUTER = [312, 268], INNER = [254, 206];

const point = (radius, angle) => [MID + radius * Math.sin(angle), MID - radius * Math.cos(angle)].map((n) => n.toFixed(2));

/** A piece of a band, clockwise from the top. */
function piece([outer, inner], from, to) {
	if (to - from > Math.PI) {
		const half = (from + to) / 2;
		return piece([outer, inner], from, half) + piece([outer, inner], half, to);
	}
	return `M${point(outer, from)}A${outer} ${outer} 0 0 1 ${point(outer, to)}L${point(inner, to)}A${inner} ${inner} 0 0 0 ${point(inner, from)}Z`;
}

export function ringView(appliance) {
	const cells = s("g"), shares = s("g"), ideals = s("g"), trace = s("g"), middle = s("g");
	const svg = drawing(SIZE, SIZE, { class: "ring-svg", "aria-label": "the ring" });
	svg.append(cells, shares, ideals, trace, middle);
	$("ring-plot").append(svg);
	roving(shares, ".arc");

	let drawn = null, drawnShares = "", asked = null, hot = null;

	const membersOf = (pool) => pool.members.filter((member) => member.share !== undefined).sort((a, b) => a.id - b.id);

	function heat(id) {
		if (hot === id) return;
		hot = id;
		svg.classList.toggle("dimmed", id !== null);
		for (const node of svg.querySelectorAll("[data-id]")) node.classList.toggle("hot", node.dataset.id === String(id));
		for (const row of document.querySelectorAll("#fleet-table tbody tr")) row.classList.toggle("hot", row.dataset.id === String(id));
		update();
	}

	function drawCells(ring) {
		const runs = new Map();
		const { cells: owners } = ring;
		for (let from = 0; from < owners.length; ) {
			let to = from + 1;
			while (to < owners.length && owners[to] === owners[from]) to += 1;
			const part = piece(OUTER, (from / owners.length) * TAU, (to / owners.length) * TAU);
			runs.set(owners[from], (runs.get(owners[from]) ?? "") + part);
			from = to;
		}
		cells.replaceChildren(...[...runs].map(([id, d]) => id === null ? s("path", { d, class: "free" }) : s("path", { d, class: "hued", "data-id": id, "--h": hue(id) })));
	}

	function drawShares(members) {
		let at = 0, ideal = 0;
		const arcs = [], marks = [];
		members.forEach((member, n) => {
			const [from, to] = [at, at + member.share].map((part) => part * TAU);
			at += member.share;
			ideal += member.ideal;
			const words = `${member.name}, number ${member.id}: ${percent(member.share)} of the keys, ideal ${percent(member.ideal)}`;
			const arc = s("path", { d: piece(INNER, from, to), class: "arc hued", "data-id": member.id, "--h": hue(member.id), tabindex: n ? -1 : 0, role: "img", "aria-label": words });
			arc.append(s("title", {}, words));
			arcs.push(arc);
			if (to - from > 0.09) {
				const [x, y] = point((INNER[0] + INNER[1]) / 2, (from + to) / 2);
				arcs.push(s("text", { x, y, class: "num" }, member.id));
			}
			if (members.length > 1 && members.length <= 60) {
				const [x1, y1] = point(INNER[1] - 9, ideal * TAU), [x2, y2] = point(INNER[0], ideal * TAU);
				marks.push(s("line", { x1, y1, x2, y2, class: "ideal" }));
			}
		});
		if (!arcs.length) arcs.push(s("path", { d: piece(INNER, 0, TAU), class: "free" }));
		shares.replaceChildren(...arcs);
		ideals.replaceChildren(...marks);
	}
	for (const [begin, end] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
		svg.addEventListener(begin, (event) => event.target.dataset?.id && heat(Number(event.target.dataset.id)));
		svg.addEventListener(end, () => heat(null));
	}

	function say(...lines) {
		const nodes = [...middle.children];
		lines.forEach(([words, kind], n) => {
			const node = nodes[n] ?? middle.appendChild(s("text", { x: MID, class: "mid" }));
			set(node, "y", MID - 24 + n * 30);
			set(node, "class", `mid ${kind}`);
			text(node, words);
		});
		nodes.slice(lines.length).forEach((node) => node.remove());
	}

	function drawTrace(found, members) {
		trace.replaceChildren();
		if (!found) return;
		const pool = appliance.pool();
		const angle = ((found.slot + 0.5) / pool.slots) * TAU;
		const centre = new Map();
		let at = 0;
		for (const member of members) {
			centre.set(member.id, (at + member.share / 2) * TAU);
			at += member.share;
		}
		const [x, y] = point(OUTER[1] - 7, angle);
		found.preference.slice(0, 3).reverse().forEach((replica) => {
			const to = centre.get(replica.id);
			if (to === undefined) return;
			const [x2, y2] = point(INNER[1] - 2, to), [cx, cy] = point(70, (angle + to) / 2);
			trace.append(s("path", { d: `M${x} ${y}L${point(INNER[1] - 22, angle)}Q${cx} ${cy} ${x2} ${y2}`, class: replica.chosen ? "needle" : "needle alt" }));
			if (replica.chosen) trace.append(s("circle", { cx: x2, cy: y2, r: 7, class: "pin" }));
		});
		const [px, py] = point(OUTER[0] - 22, angle);
		trace.append(s("path", { d: `M${px} ${py - 12}l9 12-9 12-9-12Z`, class: "pin" }));
	}

	let asks = 0;
	async function ask() {
		if (!asked) return;
		const { key, kind, pool } = asked, now = asked, mine = ++asks;
		try {
			const found = await call("GET", `/route?pool=${encodeURIComponent(pool)}&key=${encodeURIComponent(key)}${kind ? `&as=${kind}` : ""}`);
			if (asked !== now || mine !== asks) return;
			now.found = found;
			const next = found.preference.filter((replica) => !replica.chosen).map((replica) => replica.name).slice(0, 3);
			text($("trace-out"), `“${key}” has slot ${found.slot.toLocaleString("en")} of ${appliance.pool().slots.toLocaleString("en")} and goes to ${found.replica ?? "nobody"}${next.length ? `, then ${next.join(", ")}` : ""}: ${found.why}.`);
		} catch (error) {
			if (asked !== now || mine !== asks) return;
			now.found = null;
			text($("trace-out"), error.message);
		}
		update();
	}
	$("trace").addEventListener("submit", (event) => {
		event.preventDefault();
		const key = $("trace-key").value;
		if (!key) {
			asked = null;
			text($("trace-out"), "Type a key, like a user's name, and see which replica answers for it.");
			return update();
		}
		asked = { key, kind: $("trace-as").value, pool: appliance.chosen };
		ask();
	});

	let states = "";
	function update() {
		const pool = appliance.pool();
		if (!pool) return;
		if (asked && asked.pool !== pool.name) {
			asked = null;
			text($("trace-out"), "");
		}
		const ring = appliance.rings.get(pool.name), members = membersOf(pool);
		let changed = false;
		if (ring && ring !== drawn) {
			drawCells(ring);
			drawn = ring;
			changed = true;
		}
		const key = JSON.stringify(members.map((member) => [member.id, member.name, member.share, member.ideal]));
		if (key !== drawnShares) {
			drawShares(members);
			drawnShares = key;
			changed = true;
		}
		if (changed) {
			const kept = hot;
			hot = undefined;
			heat(kept);
		}
		// Another ring, or another state of a replica, may be another answer.
		const now = key + pool.members.map((member) => member.state + member.ejected).join();
		if (now !== states) {
			states = now;
			ask();
		}
		drawTrace(asked?.found, members);
		const every = ring ? Math.round(pool.slots / ring.cells.length) : 1;
		const { name, hash, virtual_servers: virtual } = pool.placement;
		const shown = every > 1 ? `, every ${every}th of them drawn` : "";
		text($("ring-sum"), `${name}${hash ? ` (${hash}, ${virtual} virtual servers each)` : ""}: ${many(pool.slots, "slot")}${shown}`);
		const chosen = members.find((member) => member.id === hot);
		if (chosen) say([chosen.name, "big"], [`${percent(chosen.share, 2)} of the keys`, ""], [`ideal ${percent(chosen.ideal, 2)}`, "dim"]);
		else if (asked?.found) say([asked.found.replica ?? "nobody", "big"], [`slot ${asked.found.slot.toLocaleString("en")}`, ""]);
		else if (!members.length) say(["nobody", "big"], [pool.can_add ? "add a replica, and it has every key" : "none of its members takes requests", "dim"]);
		else say([String(members.length), "big"], [members.length === 1 ? "takes requests" : "share the keys", ""], [`the most has ${pool.balance.max_over_mean.toFixed(2)} × the mean`, "dim"]);
	}
	return { update, heat };
}
