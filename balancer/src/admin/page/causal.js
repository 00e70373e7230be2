// What happened before what: a wave's events put in order, and its log for ShiViz.
//
// Pure: events in, order out. The n-th send from a node to a peer is the n-th receive of that peer from the node; clocks
// of different machines are not trusted for more than the order of what is concurrent.

/**
 * Steps in an order that no message contradicts, and messages between them; each step has its Lamport time, and its time
 * since the first one in `at_us`. Where events were left out, or the receiver did not tell its own, a message that nobody
 * received is not known to be lost: it is none.
 */
export function order(wave) {
	const lines = new Map(), first = wave.events.reduce((least, { at_us: at }) => Math.min(least, at), Infinity);
	for (const event of wave.events) {
		if (!lines.has(event.node)) lines.set(event.node, []);
		lines.get(event.node).push({ ...event, at_us: event.at_us - first });
	}
	const sends = new Map();
	for (const line of lines.values()) {
		line.sort((a, b) => a.seq - b.seq);
		for (const step of line) {
			if (step.type !== "send") continue;
			const way = `${step.node}>${step.peer}`;
			if (!sends.has(way)) sends.set(way, []);
			sends.get(way).push(step);
		}
	}
	for (const [node, line] of lines) {
		const seen = new Map();
		for (const step of line) {
			if (step.type !== "receive") continue;
			const n = seen.get(step.peer) ?? 0;
			seen.set(step.peer, n + 1);
			step.from = sends.get(`${step.peer}>${node}`)?.[n] ?? null;
		}
	}
	// Each line goes on as far as what it received was sent; what waits for ever received something nobody sent.
	const places = new Map([...lines.keys()].map((node) => [node, 0]));
	const steps = [];
	for (let moved = true; moved; ) {
		moved = false;
		for (const [node, line] of lines) {
			for (let at = places.get(node); at < line.length; at += 1) {
				const step = line[at];
				if (step.from && step.from.lamport === undefined) break;
				step.lamport = Math.max(at ? line[at - 1].lamport : 0, step.from?.lamport ?? 0) + 1;
				places.set(node, at + 1);
				steps.push(step);
				moved = true;
			}
		}
	}
	steps.sort((a, b) => a.lamport - b.lamport || a.at_us - b.at_us || a.node - b.node);
	steps.forEach((step, index) => (step.index = index));
	const received = new Map(steps.filter((step) => step.from).map((step) => [step.from, step]));
	const known = (step) => step.type === "send" && (received.has(step) || !(wave.events_left_out || wave.untold?.includes(step.peer)));
	const messages = steps.filter(known).map((send) => {
		const receive = received.get(send) ?? null;
		return { from: send.node, to: send.peer, what: send.what ?? "", send, receive, begin: send.index, end: receive?.index ?? null };
	});
	return { steps, messages, nodes: [...lines.keys()] };
}

export function sentence(step, name) {
	const peer = name(step.peer ?? "somebody");
	const does = { __proto__: null, begin: "begins", send: `sends to ${peer}`, receive: `hears from ${peer}`, decide: "decides", missing: `gives up on ${peer}` };
	return `${name(step.node)} ${does[step.type] ?? step.type}${step.what ? ` (${step.what})` : ""}`;
}

/** ShiViz's default form: `host {clock}`, and the event in the next line; clocks are vectors. */
export function shiviz(wave, name) {
	const { steps } = order(wave);
	const clocks = new Map();
	const lines = steps.map((step) => {
		const host = name(step.node);
		const clock = { ...(clocks.get(host) ?? {}) };
		for (const [other, time] of Object.entries(step.from?.clock ?? {})) clock[other] = Math.max(clock[other] ?? 0, time);
		clock[host] = (clock[host] ?? 0) + 1;
		clocks.set(host, clock);
		step.clock = clock;
		return `${host} ${JSON.stringify(clock)}\n${sentence(step, name)} at ${step.at_us} µs`;
	});
	return `${lines.join("\n")}\n`;
}
