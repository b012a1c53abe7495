// The tree of shared prefixes.

import { count, make, short } from "./dom.js";

// What the reader opened stays open when the tree is drawn anew.
const opened = new Set();

export function showPrefixes(roots) {
  if (roots.length === 0) return [make("p", { class: "faint" }, "No two of the last prompts began alike, or none was read by a tokenizer.")];
  const most = Math.max(...roots.map(shared));
  return roots.map((root) => branch(root, most, true));
}

const shared = ({ from_tokens, to_tokens, prompts }) => (to_tokens - from_tokens) * prompts;

function branch(node, most, isRoot) {
  const tokens = node.to_tokens - node.from_tokens;
  const fill = make("i", { class: "tiers" });
  fill.style.width = `${Math.max(1, (100 * shared(node)) / most)}%`;
  const whose = isRoot ? [node.model, node.tenant].filter(Boolean).join(", tenant ") : "";
  const ways = node.branches.length;
  const summary = make("summary", { class: ways > 0 ? "ways" : undefined },
    make("span", { class: "number" }, `${count(tokens)} tokens × ${count(node.prompts)}`),
    make("span", { class: "bar" }, fill),
    make("span", { class: "faint" }, make("code", {}, node.print.slice(0, 8)), ` to token ${short(node.to_tokens)}`, whose ? ` · ${whose}` : "", ways > 0 ? ` · parts in ${ways}` : ""));
  const details = make("details", { class: "branch" }, summary, ...node.branches.map((child) => branch(child, most, false)));
  details.open = opened.has(node.print);
  details.addEventListener("toggle", () => (details.open ? opened.add(node.print) : opened.delete(node.print)));
  return details;
}
