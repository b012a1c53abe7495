// Router, nodes with their tiers and engines, metadata members, and the links between them.

import { bar, bytes, count, make, short, svg, time } from "./dom.js";

export function showTopology(root, state) {
  const fabric = state.fabric;
  const nodes = fabric?.nodes ?? [];
  const nodeOf = (endpoint) => fabric?.endpoints[endpoint.name]?.node ?? null;
  const cards = nodes.map((node) => nodeCard(node, state.endpoints.filter((endpoint) => nodeOf(endpoint) === node.id), fabric));
  const homeless = state.endpoints.filter((endpoint) => !nodes.some((node) => node.id === nodeOf(endpoint)));
  if (homeless.length > 0) {
    cards.push(make("div", { class: "card" }, make("h3", {}, "engines without a node"), engines(homeless, fabric)));
  }
  const left = (fabric?.nodes_left_out ?? 0) + state.endpoints_left_out;
  if (left > 0) cards.push(make("p", { class: "faint" }, `and ${count(left)} more`));
  const router = make("div", { class: "card", id: "router" }, make("h3", {}, `router ${state.name}`),
    make("div", {}, `${count(state.in_flight)} in flight`),
    fabric ? make("div", { class: "faint" }, `index of ${short(fabric.follower.blocks)} blocks, ${time(fabric.follower.age_seconds)} old`)
      : make("div", { class: "faint" }, "no metadata: static endpoints"),
    state.ready && make("div", { class: "bad" }, state.ready));
  root.replaceChildren(make("div", {}, router), make("div", {}, ...cards), make("div", {}, ...(fabric?.members ?? []).map(memberCard)));
  root.append(links(root, state, fabric));
}

function nodeCard(node, endpoints, fabric) {
  const tiers = node.tiers.map((tier) => {
    const says = tier.bytes === null ? `${short(tier.blocks)} blocks of ${bytes(tier.capacity_bytes)}`
      : `${bytes(tier.bytes)} of ${bytes(tier.capacity_bytes)}`;
    return make("div", { class: "tier" }, make("span", {}, tier.tier),
      bar([["tiers", tier.bytes ?? 0]], tier.capacity_bytes, `${tier.tier} tier: ${says}`), make("span", { class: "faint" }, says));
  });
  return make("div", { class: "card", "data-node": node.id }, make("h3", {}, `node ${node.id}`), ...tiers, engines(endpoints, fabric));
}

function engines(endpoints, fabric) {
  const engine = ({ name, url, healthy, learnt }) => {
    const blocks = fabric?.endpoints[name]?.blocks;
    return make("div", { class: healthy ? "endpoint" : "endpoint out", "data-endpoint": name, title: url },
      make("strong", {}, name), healthy ? "" : make("span", { class: "bad" }, " out"),
      make("p", { class: "faint" }, learnt ? `${count(learnt.in_flight)} in flight, ${count(learnt.waiting)} waiting` : "nothing sent yet"),
      make("p", { class: "faint" }, [blocks ? `${short(blocks)} blocks on the device` : null,
        learnt ? `${short(learnt.prefill_tokens_per_second)} tokens/s` : null].filter(Boolean).join(", ")));
  };
  return make("div", { class: "endpoints" }, ...endpoints.map(engine));
}

function memberCard(member) {
  if (member.error) {
    return make("div", { class: "card", "data-member": member.addr }, make("h3", {}, `metadata ${member.addr}`),
      make("div", { class: "bad" }, "does not answer"), make("div", { class: "faint" }, member.error));
  }
  const state = String(member.state).toLowerCase();
  return make("div", { class: "card", "data-member": member.addr, "data-leads": state === "leader" },
    make("h3", {}, `metadata ${member.id}`), make("div", {}, state),
    make("div", { class: "faint" }, `term ${member.term}, applied ${count(member.applied)}, log ${bytes(member.log_bytes)}`));
}

// Requests: router to engines, as wide as what is in flight. Facts: nodes to the leader.
function links(root, state, fabric) {
  const picture = svg("svg", { class: "links", "aria-hidden": "true" });
  const frame = root.getBoundingClientRect();
  const edge = (element, side) => {
    const box = element.getBoundingClientRect();
    return { x: (side === "left" ? box.left : box.right) - frame.left, y: box.top + box.height / 2 - frame.top };
  };
  const link = (from, to, attributes) => {
    const middle = (from.x + to.x) / 2;
    picture.append(svg("path", { d: `M${from.x},${from.y}C${middle},${from.y} ${middle},${to.y} ${to.x},${to.y}`, ...attributes }));
  };
  const router = root.querySelector("#router");
  for (const card of root.children[1].querySelectorAll(".card")) {
    const names = [...card.querySelectorAll(".endpoint")].map((element) => element.dataset.endpoint);
    const sent = state.endpoints.filter(({ name }) => names.includes(name)).reduce((sum, { learnt }) => sum + (learnt?.in_flight ?? 0), 0);
    link(edge(router, "right"), edge(card, "left"), { class: sent > 0 ? "busy" : "", "stroke-width": 1.5 + Math.min(8, sent / 2) });
    const leader = root.querySelector("[data-leads=true]");
    if (fabric && leader && card.dataset.node) link(edge(card, "right"), edge(leader, "left"), { class: "told" });
  }
  return picture;
}
