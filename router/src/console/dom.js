// Elements, and numbers as people read them. Text only ever becomes text: names come from outside.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A bar of parts: [[class, amount], …] of a whole. `says` is what a screen reader says.
export function bar(parts, whole, says) {
  const bar = make("div", { class: "bar", role: "img", "aria-label": says, title: says });
  for (const [kind, amount] of parts) {
    const part = make("i", { class: kind });
    part.style.width = `${whole > 0 ? Math.max(0, Math.min(100, (100 * amount) / whole)) : 0}%`;
    bar.append(part);
  }
  return bar;
}

// Rows of cells; a head that starts with "#" is of numbers.
export function table(heads, rows) {
  const number = (at) => (heads[at].startsWith("#") ? "number" : undefined);
  const head = heads.map((text, at) => make("th", { scope: "col", class: number(at) }, text.replace("#", "")));
  const body = rows.map(({ cells, kind }) =>
    make("tr", { class: kind }, ...cells.map((cell, at) => make("td", { class: number(at) }, cell ?? "–"))));
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

export const count = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));

export function short(value) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size) return `${(value / size).toFixed(value >= 10 * size ? 0 : 1)} ${unit}`;
  }
  return count(value);
}

export function bytes(value) {
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (value >= size) return `${(value / size).toFixed(value >= 10 * size ? 0 : 1)} ${unit}`;
  }
  return `${count(value)} B`;
}

export function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "–");
