// What weft saves, in five numbers. Totals are since the router started; lines are of the last minutes, kept by the page.

import { count, make, percent, short, svg, time } from "./dom.js";

const POINTS_MAX = 150;
const PRICE = "weft.price";
const history = { hits: [], ttft: [] };
let before;

export function showTiles(state) {
  const { device = 0, local = 0, peer = 0 } = state.matched_tokens;
  const matched = device + local + peer;
  if (before && state.prompt_tokens > before.prompts) {
    push(history.hits, (matched - before.matched) / (state.prompt_tokens - before.prompts));
  }
  before = { prompts: state.prompt_tokens, matched };
  const { ttft_seconds: ttft, ttft_seconds_without: without, count: requests } = state.recent;
  if (ttft) push(history.ttft, ttft.p50);

  const loaded = sum(state.tenants, "loaded_tokens");
  const saved = sum(state.tenants, "saved_seconds");
  const ended = Object.entries(state.requests).filter(([, number]) => number > 0);
  const against = ttft && without
    ? ` · estimated without weft's tiers ${time(without.p50)}; 95th percentile ${time(ttft.p95)}, without ${time(without.p95)}` : "";
  return [
    tile("Tokens not computed", percent(matched, state.prompt_tokens),
      `${short(device)} device · ${short(local)} own node · ${short(peer)} peers`, spark(history.hits, 1)),
    tile("Time to first token, median", time(ttft?.p50), ttft ? `of the last ${requests}${against}` : "no streamed answer yet",
      spark(history.ttft)),
    tile("Loaded instead of computed", `${short(loaded)} tokens`, "by the engines' own count of cached tokens"),
    tile("Engine time saved", time(saved), price(saved)),
    tile("Requests in flight", count(state.in_flight),
      ended.map(([outcome, number]) => `${count(number)} ${outcome.replace("_", " ")}`).join(" · ") || "none ended yet"),
  ];
}

function tile(name, big, says, line) {
  return make("div", { class: "card" }, make("h3", {}, name), make("div", { class: "big" }, big),
    make("div", { class: "faint" }, says), line);
}

// The price of an engine's hour is the reader's; the page remembers it in this browser.
function price(seconds) {
  const money = make("span");
  const show = (perHour) => (money.textContent = perHour > 0 ? ` = ${((seconds / 3600) * perHour).toFixed(2)}` : "");
  const input = make("input", { type: "number", min: "0", step: "0.1", "aria-label": "Price of an engine's hour", value: localStorage.getItem(PRICE) ?? "",
    oninput: () => { localStorage.setItem(PRICE, input.value); show(Number(input.value)); } });
  show(Number(input.value));
  return make("label", {}, "at a price an hour of ", input, money);
}

// A line over the points, from zero to `top` or to the highest of them.
function spark(points, top = Math.max(...points)) {
  if (points.length < 2 || !(top > 0)) return undefined;
  const at = (value, index) => `${(100 * index) / (points.length - 1)},${30 - (28 * value) / top}`;
  return svg("svg", { class: "spark", viewBox: "0 0 100 32", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { d: `M${points.map(at).join("L")}` }));
}

function push(points, value) {
  points.push(value);
  if (points.length > POINTS_MAX) points.shift();
}

const sum = (rows, name) => rows.reduce((total, row) => total + row[name], 0);
