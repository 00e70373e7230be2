// Adding and removing: first what it would move, then the change itself.

import { $, ago, h, hue, many, percent, say } from "./dom.js";
import { call } from "./stream.js";

const at = (pool) => `?pool=${encodeURIComponent(pool.name)}`;
let now = null;

/** Shows what `/plan` says of a change: one question at a time, until what was answered is what is asked. */
async function preview() {
	const asked = now;
	if (!asked || asked.asks) return;
	asked.asks = true;
	for (let of = -1; asked === now && of !== asked.version; ) {
		of = asked.version;
		let shown = [], why = "";
		try {
			shown = drawn(asked, await call("POST", `/plan${at(asked.pool)}`, asked.plan()));
		} catch (error) {
			why = error.message;
		}
		if (asked !== now || of !== asked.version) continue;
		$("change-plan").replaceChildren(...shown);
		$("change-error").textContent = why;
		$("change-do").disabled = asked.acts || Boolean(why && asked.adds);
	}
	asked.asks = false;
}

function drawn({ pool }, said) {
	const names = new Map(pool.members.filter((member) => member.member).map((member) => [member.id, member.name]));
	const shares = new Map();
	for (const { id, share } of said.replicas_before) shares.set(id, [share, 0]);
	for (const { id, share } of said.replicas_after) shares.set(id, [shares.get(id)?.[0] ?? 0, share]);
	const most = Math.max(...[...shares.values()].flat(), 1e-9);
	const rows = [...shares].sort(([a], [b]) => a - b).map(([id, [before, after]]) => {
		const bars = [h("i"), h("i", { class: "hued", "--h": hue(id) })];
		bars[0].style.width = `${(before / most) * 100}%`;
		bars[1].style.width = `${(after / most) * 100}%`;
		return h("div", { class: "row" }, h("span", {}, names.get(id) ?? `new, number ${id}`), h("span", { class: "track", "aria-hidden": "true" }, bars), h("span", {}, `${percent(before)} → ${percent(after)}`));
	});
	return [h("p", {}, h("b", {}, `${percent(said.moved)} of the keys move`), `; the least possible is ${percent(said.ideal)}, needless ${percent(said.needless)}.`), ...rows];
}

function open(change) {
	now = { ...change, acts: false, asks: false, version: 0 };
	$("change-h").textContent = change.title;
	$("change-words").textContent = change.words;
	$("change-do").textContent = change.button();
	// Until it is known what it would move.
	$("change-do").disabled = true;
	$("change-add").hidden = !change.adds;
	$("change-plan").replaceChildren();
	$("change-error").textContent = "";
	$("change").showModal();
	preview();
}

const names = () => $("change-names").value.split(/[\s,]+/).filter(Boolean);

export function openAdd(pool) {
	$("change-n").value = 1;
	$("change-n").max = pool.room;
	$("change-names").value = "";
	const n = () => Math.max(1, Math.floor(Number($("change-n").value)) || 1);
	open({
		pool, adds: true, title: `Add to ${pool.name}`,
		words: "They are started first and join the ring together when they run, or not at all.",
		plan: () => ({ add: n() }),
		button: () => `Add ${many(n(), "replica")}`,
		act: async () => {
			say(`${many(n(), "replica")} being started…`);
			return call("POST", `/add${at(pool)}`, { n: n(), hostnames: names() });
		},
		done: (answer) => `In effect: ${many(answer.message.N, "member")}.`,
	});
}

export function openRemove(pool, name) {
	open({
		pool, adds: false, title: `Drain and remove ${name}`,
		words: `It leaves the ring at once, drains (requests that it has begun may take ${ago(pool.drain_ms)}), and is ended then.`,
		plan: () => ({ remove: [name] }),
		button: () => "Drain and remove",
		act: () => call("DELETE", `/rm${at(pool)}`, { n: 1, hostnames: [name] }),
		done: () => `${name} is out of the ring and drains.`,
	});
}

export function changes() {
	const asks = () => {
		$("change-do").textContent = now.button();
		$("change-do").disabled = true;
		now.version += 1;
		clearTimeout(now.later);
		now.later = setTimeout(preview, 150);
	};
	$("change-n").addEventListener("input", asks);
	$("change-names").addEventListener("input", () => {
		if (names().length > Number($("change-n").value)) $("change-n").value = names().length;
		asks();
	});
	const act = async () => {
		const change = now;
		if ($("change-do").disabled) return;
		$("change-do").disabled = change.acts = true;
		$("change-error").textContent = "";
		try {
			const answer = await change.act();
			if (now === change) $("change").close();
			say(answer.warning ? `${change.done(answer)} ${answer.warning}` : change.done(answer));
		} catch (error) {
			if (now === change && $("change").open) $("change-error").textContent = error.message;
			else say(error.message);
		}
		change.acts = false;
		if (now === change) $("change-do").disabled = false;
	};
	$("change-do").addEventListener("click", act);
	$("change").addEventListener("keydown", (event) => {
		if (event.key === "Enter" && event.target.tagName === "INPUT") {
			event.preventDefault();
			act();
		}
	});
	$("change").addEventListener("close", () => (now = null));
}
