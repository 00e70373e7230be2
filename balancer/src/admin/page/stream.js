// The one stream that feeds the page, and the small calls beside it.
//
// An EventSource can send no token, so the stream is read by fetch. It is broken when it ends, and when nothing has come
// for longer than the appliance is ever silent; then it is begun again, ever later, until it works.

import { $ } from "./dom.js";

// The appliance says something every two seconds.
const SILENCE = 7000;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 8000;

const token = { get: () => sessionStorage.getItem("slipring-token"), set: (value) => sessionStorage.setItem("slipring-token", value) };

const headers = (more) => (token.get() ? { ...more, Authorization: `Bearer ${token.get()}` } : more);

/** The appliance's own words, without what every client reads before them. */
async function words(response) {
	const body = await response.text().catch(() => "");
	try {
		const { message, reason, status } = JSON.parse(body);
		return String(message ?? reason ?? status).replace(/^<Error> /, "");
	} catch {
		return body.slice(0, 300) || `${response.status} ${response.statusText}`;
	}
}

let asking = null;
/** Asks for the token; resolves to whether one was given. */
export function askToken(why) {
	asking ??= new Promise((resolve) => {
		const dialog = $("token");
		$("token-why").textContent = why;
		$("token-in").value = "";
		dialog.returnValue = "";
		dialog.addEventListener("close", () => {
			asking = null;
			const given = dialog.returnValue === "use" && $("token-in").value.trim();
			if (given) token.set(given);
			resolve(Boolean(given));
		}, { once: true });
		dialog.showModal();
	});
	return asking;
}

/** A call of the administration: its JSON, or an error in the appliance's words. */
export async function call(method, path, body) {
	for (;;) {
		let response;
		try {
			response = await fetch(path, { method, headers: headers(body ? { "Content-Type": "application/json" } : {}), body: body && JSON.stringify(body) });
		} catch {
			throw new Error("the appliance does not answer");
		}
		if (response.ok) {
			const warning = response.headers.get("warning");
			const answer = await response.text();
			const json = answer ? JSON.parse(answer) : {};
			return warning ? { ...json, warning } : json;
		}
		const why = await words(response);
		if (response.status === 403 && (await askToken(why))) continue;
		throw new Error(why);
	}
}

/** Pieces of text in, events out. */
export function parser(tell) {
	let pending = "", name = "", data = [];
	return (piece) => {
		pending += piece;
		const lines = pending.split("\n");
		pending = lines.pop();
		for (const line of lines) {
			if (line === "") {
				if (data.length) tell(name || "message", data.join("\n"));
				[name, data] = ["", []];
			} else if (line.startsWith("event:")) name = line.slice(6).trim();
			else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
		}
	};
}

/** Follows the stream for ever: `tell(name, text)` for each event, `change({live, since, why, next})` when it breaks or works. */
export function follow(tell, change) {
	let pause = FIRST_PAUSE, abort = null, wake = null, lost = Date.now(), declined = false, hid = false;

	const attempt = async () => {
		abort = new AbortController();
		let silence;
		const heard = () => {
			clearTimeout(silence);
			silence = setTimeout(() => abort.abort(new Error("it says nothing any more")), SILENCE);
		};
		try {
			heard();
			const response = await fetch("/stream", { headers: headers({}), signal: abort.signal, cache: "no-store" });
			if (!response.ok) {
				const why = await words(response);
				if (response.status === 403 && !declined) {
					clearTimeout(silence);
					change({ live: false, since: lost, why });
					declined = !(await askToken(why));
					if (!declined) pause = 0;
				}
				throw new Error(why);
			}
			const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
			const push = parser((name, data) => {
				if (name === "lagged") throw new Error("this browser reads too slowly");
				tell(name, data);
			});
			for (let first = true; ; first = false) {
				const { done, value } = await reader.read();
				if (done) throw new Error("it ended");
				heard();
				push(value);
				if (first) {
					pause = FIRST_PAUSE;
					change({ live: true, since: Date.now() });
				}
				lost = Date.now();
			}
		} finally {
			clearTimeout(silence);
			abort.abort();
		}
	};

	(async () => {
		for (;;) {
			let why;
			try {
				await attempt();
			} catch (error) {
				why = error instanceof TypeError ? "nobody answers" : (error.message ?? String(error));
			}
			if (hid || document.hidden) {
				// Nobody looks; who comes back finds a page that begins, not one that is broken.
				if (document.hidden) await new Promise((resolve) => { wake = resolve; });
				hid = false;
				change({ live: false });
				continue;
			}
			const next = Date.now() + pause;
			change({ live: false, since: lost, why, next });
			await new Promise((resolve) => {
				wake = resolve;
				setTimeout(resolve, pause);
			});
			pause = Math.min(Math.max(pause, FIRST_PAUSE) * 1.7, LONGEST_PAUSE);
		}
	})();

	// A browser has six connections for a site: pages that nobody sees keep none.
	let hiding;
	document.addEventListener("visibilitychange", () => {
		clearTimeout(hiding);
		if (document.hidden) hiding = setTimeout(() => {
			hid = true;
			abort?.abort();
		}, 30000);
		else again();
	});
	const again = () => {
		[pause, declined] = [FIRST_PAUSE, false];
		wake?.();
	};
	return again;
}
