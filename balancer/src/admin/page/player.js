// One wave at one moment, for all who draw it: chosen, stepped, played.
//
// The moment is a number of steps, and between two steps a part of one; a message is on its way from the step that sent
// it to the step that received it. Nothing is kept from frame to frame but that number, so that going back is going there.

import { $, calm, many, options, say, set, short, took, text } from "./dom.js";
import { order, sentence, shiviz } from "./causal.js";

const slider = $("wave-at"), chooser = $("wave-pick");
// Milliseconds: of a whole wave, of one event, and of its end, before the next wave is shown.
const LONGEST = 9000, SHORTEST = 2500, EACH = 260, HOLD = 1200;

export function player() {
	const listeners = [];
	let waves = [], name = String, wave = null, at = 0, playing = false, before = 0, follows = true, awaited = null, target = null, told = 0, hold = 0, every = 0;

	const last = () => Math.max(0, (wave?.steps.length ?? 0) - 1);
	/** Who follows the newest has seen it before the next one comes. */
	function rate() {
		const most = follows && every ? Math.max(400, every * 800 - HOLD) : LONGEST;
		return wave.steps.length / Math.min(LONGEST, most, Math.max(SHORTEST, wave.steps.length * EACH));
	}

	function frame(time) {
		if (!playing && target === null) return;
		const goal = target ?? last(), step = Math.max(0, time - before) * (target === null ? rate() : 1 / EACH);
		before = time;
		at = at < goal ? Math.min(goal, at + step) : Math.max(goal, at - step);
		if (at === goal) {
			if (target === null) {
				playing = false;
				hold = setTimeout(latest, HOLD);
			}
			target = null;
		}
		shown();
		requestAnimationFrame(frame);
	}
	/** What came while another one was shown. */
	function latest() {
		hold = 0;
		const newest = waves.at(-1);
		if (follows && !playing && target === null && newest !== wave.raw) load(newest, true);
	}
	function rest() {
		clearTimeout(hold);
		hold = 0;
	}
	/** The wave that is shown stays: none that comes takes its place. */
	function pin() {
		if (!wave?.steps.length) return;
		follows = false;
		chooser.value = wave.id;
	}
	function run() {
		before = performance.now();
		requestAnimationFrame(frame);
	}

	function shown() {
		const now = Math.floor(at + 1e-6), time = performance.now();
		// What moves, moves in every frame; what changes a drawing or a word, ten times a second, which nobody sees.
		const whole = !playing || time - told >= 100;
		for (const listener of listeners) listener.at(at, whole ? now : null);
		if (!whole) return;
		told = time;
		const place = `${now + 1} of ${wave.steps.length}`, button = document.querySelector("[data-step=play]");
		set(slider, "aria-valuetext", `event ${place}`);
		if (slider.value !== String(now)) slider.value = now;
		text(button, playing ? "Pause" : "Play");
		set(button, "aria-label", button.textContent);
		text($("spacetime-out"), `${place}: ${sentence(wave.steps[now], name)}`);
	}

	function go(to, slowly) {
		if (!wave?.steps.length) return;
		const was = playing;
		playing = false;
		rest();
		to = Math.max(0, Math.min(last(), to));
		if (slowly && !calm.matches) {
			const idle = target === null && !was;
			target = to;
			if (idle) run();
			return;
		}
		[target, at] = [null, to];
		shown();
	}

	function play() {
		if (!wave?.steps.length) return;
		if (at >= last()) at = 0;
		const idle = !playing && target === null;
		[playing, target] = [true, null];
		rest();
		if (idle) run();
		shown();
	}

	/** Shows a wave from its beginning, or, where motion is not wanted, at its end. */
	function load(next, plays) {
		wave = { ...order(next), id: next.id, raw: next };
		target = null;
		set(slider, "max", last());
		const none = !wave.steps.length;
		for (const one of document.querySelectorAll("[data-step], #wave-at, #shiviz")) one.disabled = none;
		for (const listener of listeners) listener.wave(wave);
		if (plays && wave.steps.length && !calm.matches) {
			at = 0;
			play();
		} else {
			playing = false;
			at = last();
			if (none) text($("spacetime-out"), "Its events were not kept: only what is counted is known of it.");
			else shown();
		}
	}

	const label = (one) => `${one.algorithm} ${short(one.id)}${one.purpose ? ` (${one.purpose})` : ""}: ${many(one.messages, "message")}, ${took(one.took_us)}${one.is_complete ? "" : ", incomplete"}`;

	document.querySelectorAll("[data-step]").forEach((button) => button.addEventListener("click", () => {
		const now = target ?? (playing ? Math.floor(at) : Math.round(at));
		if (playing || button.dataset.step !== "play") pin();
		switch (button.dataset.step) {
			case "first": return go(0);
			case "back": return go(now - 1, true);
			case "next": return go(now + 1, true);
			case "last": return go(last());
			default: return playing ? go(Math.floor(at)) : play();
		}
	}));
	slider.addEventListener("input", () => {
		pin();
		go(Number(slider.value));
	});
	chooser.addEventListener("change", () => {
		const id = chooser.value;
		follows = id === "";
		const chosen = id ? waves.find((one) => one.id === id) : waves.at(-1);
		if (chosen && chosen !== wave?.raw) load(chosen, true);
	});
	$("shiviz").addEventListener("click", () => {
		if (!wave) return;
		const file = URL.createObjectURL(new Blob([shiviz(wave.raw, (node) => name(node).replace(/\s+/g, "-"))], { type: "text/plain" }));
		const link = document.createElement("a");
		[link.href, link.download] = [file, `${wave.raw.algorithm}-${wave.id}.log`];
		link.click();
		setTimeout(() => URL.revokeObjectURL(file), 1000);
		say(`${link.download}: open it at ShiViz with its default expression.`);
	});

	return {
		listen: (listener) => listeners.push(listener),
		go, play,
		now: () => at,
		/** The waves there are, the newest last; what their nodes are called; how many seconds after a wave the next one comes. */
		offer(list, called, seconds) {
			[waves, name, every] = [list, called, seconds];
			$("player").hidden = !list.length;
			// One that stays is among them, however old it is.
			const old = follows || !wave || list.some((one) => one.id === wave.id) ? [] : [wave.raw];
			options(chooser, [["", "the newest"], ...[...old, ...list].toReversed().map((one) => [one.id, label(one)])]);
			if (follows) chooser.value = "";
			if (!list.length) return;
			// More may be known of the one that is shown: it goes on as it was.
			const same = wave && list.find((one) => one.id === wave.id && one.started_ms === wave.raw.started_ms);
			if (same && same.events.length === wave.raw.events.length) wave.raw = same;
			const asked = awaited !== null && list.find((one) => one.id === awaited);
			if (asked) {
				[awaited, follows] = [null, true];
				chooser.value = "";
				load(asked, true);
			} else if (!wave) load(list.at(-1), true);
			else if (!hold) latest();
		},
		/** The wave with this id is to be shown as soon as it is there. */
		expect: (id) => (awaited = id),
	};
}
