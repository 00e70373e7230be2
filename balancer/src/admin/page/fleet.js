// The fleet: one line a member, how it is, and what can be done about it.

import { $, ago, count, h, hue, keyed, many, percent, set, state, style, text } from "./dom.js";
import { openAdd, openRemove } from "./change.js";

/** What happened to it last, in words. */
export function reason(last) {
	if (!last) return "";
	const { event, why, missed, backoff_ms: backoff, was, incarnation } = last;
	switch (event) {
		case "live": return "its heartbeat came";
		case "suspect": return `missed ${many(missed, "heartbeat")}: ${why}`;
		case "respawning": return backoff ? `starts again in ${ago(backoff)}` : "starts again";
		case "spawning": return `is being started${incarnation > 1 ? " (again)" : ""}`;
		case "started": return "runs; no heartbeat yet";
		case "added": return "joined";
		case "adopted": return "was found running, and taken over";
		case "draining": return "left the ring; its requests finish";
		case "renamed": return `took the name, was ${was}`;
		default: return why ?? event.replaceAll("_", " ");
	}
}

function line(member) {
	const cell = (label, kind) => h("td", { "data-l": label, class: kind });
	const at = { badge: h("b", { class: "badge hued", title: "its number" }), name: h("b"), role: h("small", { class: "dim" }), where: h("span", { class: "where" }), how: h("div"), pips: h("span", { class: "pips", "aria-hidden": "true" }), beats: h("small"), bar: h("i", { class: "hued" }), ideal: h("b"), shares: h("small"), rate: h("span"), flight: h("small", { class: "dim" }), age: h("span"), why: h("span", { class: "why" }) };
	const who = cell(""), how = cell("State and heartbeats"), share = cell("Share of ideal"), rate = cell("Requests/s", "n"), last = cell("Last change"), act = cell("", "n");
	who.append(h("div", { class: "who" }, at.badge, h("div", {}, at.name, " ", at.role, at.where)));
	how.append(at.how, h("div", { class: "beats" }, at.pips, at.beats));
	at.track = h("div", { class: "share", "aria-hidden": "true" }, at.bar, at.ideal);
	share.append(at.track, at.shares);
	rate.append(at.rate, " ", at.flight);
	last.append(at.age, at.why);
	at.remove = h("button", { class: "quiet", onclick: () => openRemove(at.pool, at.member.name) }, "Drain…");
	act.append(at.remove);
	const el = h("tr", {}, who, how, share, rate, last, act);
	return { el, at, shown: "" };
}

export function fleetView(appliance, heat) {
	const lines = keyed(document.querySelector("#fleet-table tbody"), line);
	const ages = new Map();

	$("add").addEventListener("click", () => openAdd(appliance.pool()));
	$("fleet-find").addEventListener("input", update);
	const table = $("fleet-table");
	table.addEventListener("pointerover", (event) => heat(idOf(event.target)));
	table.addEventListener("pointerleave", () => heat(null));
	const idOf = (target) => {
		const id = target.closest("tbody tr")?.dataset.id;
		return id === undefined || id === "" ? null : Number(id);
	};

	function show(node, member, pool, scale) {
		const { el, at } = node;
		at.pool = pool;
		at.member = member;
		set(el, "data-id", member.member && member.share !== undefined ? member.id : "");
		set(el, "data-name", member.name);
		el.classList.toggle("gone", !member.member);
		text(at.badge, String(member.id));
		style(at.badge, "--h", hue(member.id));
		text(at.name, member.name);
		text(at.role, member.role ?? "");
		const state_ = member.ejected ? "ejected" : member.state;
		if (node.shown !== state_) {
			at.how.replaceChildren(state(state_, member.ejected ? "left out" : undefined));
			node.shown = state_;
			set(el, "data-state", state_);
		}
		const runs = ["live", "suspect"].includes(member.state);
		if (node.pips !== `${runs}${member.missed_heartbeats}`) {
			node.pips = `${runs}${member.missed_heartbeats}`;
			const pips = runs ? Array.from({ length: Math.min(pool.failures, 6) }, (_, n) => h("i", { class: n < member.missed_heartbeats ? "miss" : "" })) : [];
			at.pips.replaceChildren(...pips);
		}
		const restarts = member.restarts ? `, ${many(member.restarts, "restart")}` : "";
		text(at.beats, (runs ? `${member.missed_heartbeats || "none"} missed` : "no heartbeat") + restarts);
		const has = member.share !== undefined;
		style(at.track, "visibility", has ? "visible" : "hidden");
		if (has) {
			style(at.bar, "width", `${((member.share / scale) * 100).toFixed(1)}%`);
			style(at.bar, "--h", hue(member.id));
			style(at.ideal, "left", `${((member.ideal / scale) * 100).toFixed(1)}%`);
		}
		text(at.shares, has ? `${percent(member.share)} of ${percent(member.ideal)}` : "takes no requests");
		text(at.rate, count(member.per_second));
		text(at.flight, member.in_flight ? `${member.in_flight} now${member.waiting ? `, ${member.waiting} wait` : ""}` : "");
		const why = reason(member.last);
		text(at.why, member.last_error && member.state !== "live" && !why.includes(member.last_error) ? `${why}; ${member.last_error}` : why);
		const run = member.pid ? `process ${member.pid}` : member.container ? `container ${member.container.slice(0, 12)}` : "";
		text(at.where, [member.address ?? member.place ?? "", run].filter(Boolean).join(" · "));
		at.remove.hidden = !(pool.can_remove && member.member);
		set(at.remove, "aria-label", `Drain and remove ${member.name}`);
		ages.set(el, () => text(at.age, member.last ? `${ago(appliance.now() - member.last.unix_ms)} ago` : "before this log"));
		ages.get(el)();
	}

	function update() {
		const pool = appliance.pool();
		if (!pool) return;
		const find = $("fleet-find").value.trim().toLowerCase();
		const shown = pool.members.filter((member) => !find || `${member.name} ${member.state} ${member.role ?? ""} ${member.ejected ? "left out" : ""}`.toLowerCase().includes(find));
		ages.clear();
		const scale = Math.max(...pool.members.flatMap((one) => [one.share ?? 0, one.ideal ?? 0]), 1e-9);
		lines(shown, (member) => `${member.name}/${member.id}/${member.member}`, (node, member) => show(node, member, pool, scale));
		const live = pool.members.filter((member) => member.state === "live").length;
		const all = pool.members.filter((member) => member.member).length;
		const found = shown.length < pool.members.length ? `; ${shown.length} shown` : "";
		text($("fleet-sum"), `${live} of ${many(all, "member")} live${pool.panic ? "; nobody is well, requests go to sick ones" : ""}${found}`);
		$("add").hidden = !pool.can_add;
		$("add").disabled = pool.room < 1;
		$("add").title = pool.room < 1 ? "the ring is full" : "";
		const none = $("fleet-empty");
		table.hidden = !shown.length;
		none.hidden = shown.length > 0;
		if (!shown.length) text(none, pool.members.length ? "No member is called so, or is in that state." : pool.can_add ? "No member yet: Add… starts the first." : "No member: this pool's are listed in its configuration.");
	}
	return { update, tick: () => ages.forEach((age) => age()) };
}
