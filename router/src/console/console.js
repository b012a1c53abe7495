// The page: asks the router every two seconds, and shows what it says.

import { make, time } from "./dom.js";
import { showDecisions } from "./decisions.js";
import { showPrefixes } from "./prefixes.js";
import { showTenants } from "./tenants.js";
import { showTiles } from "./tiles.js";
import { showTopology } from "./topology.js";

const EVERY_MS = 2000;
const THEME = "weft.theme";
let next;
const at = (id) => document.getElementById(id);

function show(state) {
  document.title = `weft · ${state.name}`;
  at("who").textContent = `router ${state.name} · ${state.models.join(", ") || "no model"} · version ${state.version} · up ${time(state.uptime_seconds)}`;
  // A field that is written in keeps its cursor.
  if (!at("tiles").contains(document.activeElement)) at("tiles").replaceChildren(...showTiles(state));
  showTopology(at("topology"), state);
  keepFocus(at("decisions"), () => showDecisions(state.recent.decisions));
  if (!at("prefixes").contains(document.activeElement)) at("prefixes").replaceChildren(...showPrefixes(state.prefixes));
  at("tenants").replaceChildren(showTenants(state.tenants, state.fabric?.tenants ?? []));
}

// Whoever walks through a list with the keyboard, or has scrolled it, is not thrown out of it by the next answer.
function keepFocus(root, draw) {
  if (root.scrollTop > 0 || (root.contains(document.activeElement) && document.activeElement !== root)) return;
  root.replaceChildren(draw());
}

async function ask() {
  const live = at("live");
  try {
    const answer = await fetch("console/state", { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    show(await answer.json());
    live.textContent = "live";
    live.classList.remove("lost");
  } catch (error) {
    live.textContent = `the router does not answer (${error.message}); this is what it last said`;
    live.classList.add("lost");
  }
  clearTimeout(next);
  if (!document.hidden) next = setTimeout(ask, EVERY_MS);
}

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
}

theme(localStorage.getItem(THEME));
at("theme").addEventListener("click", () => {
  const dark = (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  localStorage.setItem(THEME, dark ? "light" : "dark");
  theme(dark ? "light" : "dark");
});
document.addEventListener("visibilitychange", () => document.hidden || ask());
at("decisions").replaceChildren(make("p", { class: "faint" }, "…"));
ask();
