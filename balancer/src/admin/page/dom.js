// What every view needs: elements, numbers and times in words, and a voice.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function fill(node, attrs, children) {
	for (const [key, value] of Object.entries(attrs ?? {})) {
		if (value === undefined || value === null || value === false) continue;
		if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
		else if (key.startsWith("--")) node.style.setProperty(key, value);
		else node.setAttribute(key, value === true ? "" : value);
	}
	node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
	return node;
}

/** An element of the page; text is text and never markup. */
export const h = (tag, attrs, ...children) => fill(document.createElement(tag), attrs, children);
/** An element of a drawing. */
export const s = (tag, attrs, ...children) => fill(document.createElementNS(SVG, tag), attrs, children);

/** Sets a text only where it differs: an unchanged page costs nothing. */
export function text(node, words) {
	if (node.textContent !== words) node.textContent = words;
}

export function set(node, name, value) {
	value = String(value);
	if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function style(node, name, value) {
	if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
}

/** A drawing of this size in its own units. */
export const drawing = (width, height, attrs) =>
	s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", ...attrs });

export const rect = (kind, x, y, width, height, rx) => s("rect", { class: kind, x, y, width, height, rx });
export const label = (kind, x, y, size) => s("text", { class: kind, x, y, "font-size": size });

/** Puts drawings of this width above each other, not smaller than can be read, with words below. */
export function stage(plot, width, drawings, ...legend) {
	const stack = h("div", { class: "stack" }, drawings);
	stack.style.minWidth = `${width * 0.78}px`;
	stack.style.maxWidth = `${width / 15}rem`;
	plot.replaceChildren(stack, h("p", { class: "legend" }, h("span", {}, h("i", { class: "grad" }), "load: none to all it takes"), legend.map((words) => h("span", {}, words))));
	plot.scrollLeft = (plot.scrollWidth - plot.clientWidth) / 2;
}

/** What is to be seen where there is nothing to draw. */
export const empty = (plot, ...words) => plot.replaceChildren(h("div", { class: "empty" }, h("p", {}, ...words)));

/** Which of several pools is drawn: the chosen one while it is there. */
export function pick(select, pools) {
	select.hidden = pools.length < 2;
	options(select, pools.map(({ name }) => [name, name]));
	return pools.find(({ name }) => name === select.value);
}

export const icon = (name) => {
	const svg = s("svg", { viewBox: "0 0 16 16", class: "glyph", "aria-hidden": "true" });
	svg.append(s("use", { href: `#s-${name}` }));
	return svg;
};

/** A state as a shape and a word. */
export const state = (name, words) => h("span", { class: `state t-${name}` }, icon(name), words ?? name);

/** Neighbouring numbers get hues that are far apart. */
export const hue = (id) => ((id * 137.508 + 200) % 360).toFixed(1);

export const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)} %`;

export function count(number) {
	if (number === null || number === undefined) return "–";
	return number >= 100 ? Math.round(number).toLocaleString("en") : String(Math.round(number * 10) / 10);
}

export const many = (n, one, more = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : more}`;

/** Numbers in a row, not more than can be read. */
export const few = (list) => (list.length > 9 ? `${list.slice(0, 8).join(", ")} and ${list.length - 8} more` : list.join(", "));

/** Enough of a wave's name to know it from the last ones. */
export const short = (id) => (id.length > 12 ? `…${id.slice(-4)}` : id);

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

export function ago(ms) {
	const seconds = Math.max(0, Math.floor(ms / 1000));
	if (seconds < 60) return `${seconds} s`;
	if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
	if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
	return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export const took = (us) => (us < 1000 ? `${us} µs` : us < 1e6 ? `${(us / 1000).toFixed(1)} ms` : `${(us / 1e6).toFixed(2)} s`);

let quiet;
/** Says something in passing. */
export function say(words) {
	const toast = $("toast");
	toast.textContent = words;
	toast.classList.add("on");
	clearTimeout(quiet);
	quiet = setTimeout(() => toast.classList.remove("on"), 6000);
}

/** Children that follow a list: each item has one node as long as its key is in the list, in the list's order. */
export function keyed(parent, make) {
	const known = new Map();
	return (items, key, update) => {
		const left = new Set(known.keys());
		let before = null;
		for (const item of items) {
			const id = key(item);
			left.delete(id);
			let node = known.get(id);
			if (!node) known.set(id, (node = make(item)));
			update(node, item);
			const place = before ? before.nextSibling : parent.firstChild;
			if (place !== node.el) parent.insertBefore(node.el, place);
			before = node.el;
		}
		for (const id of left) {
			known.get(id).el.remove();
			known.delete(id);
		}
	};
}

/** One tab stop for many things: arrow keys go from one to the next. */
export function roving(parent, selector) {
	parent.addEventListener("keydown", (event) => {
		const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
		const all = [...parent.querySelectorAll(selector)];
		const at = all.indexOf(document.activeElement);
		if (!step || at < 0) return;
		event.preventDefault();
		const next = all[(at + step + all.length) % all.length];
		all.forEach((one) => set(one, "tabindex", one === next ? 0 : -1));
		next.focus();
	});
}

/** Options of a chooser, changed only where they differ. */
export function options(select, list) {
	const now = [...select.options].map((one) => `${one.value}\n${one.text}`).join("\0");
	if (now === list.map(([value, words]) => `${value}\n${words}`).join("\0")) return;
	const chosen = select.value;
	select.replaceChildren(...list.map(([value, words]) => h("option", { value }, words)));
	if (list.some(([value]) => String(value) === chosen)) select.value = chosen;
}

export const calm = matchMedia("(prefers-reduced-motion: reduce)");
