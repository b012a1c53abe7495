// The last decisions, and one of them with what it was made from.

import { bar, count, make, table, time } from "./dom.js";

export function showDecisions(decisions) {
  if (decisions.length === 0) return make("p", { class: "faint" }, "No request yet.");
  const row = (one) => ({
    cells: [
      make("button", { type: "button", onclick: () => open(one.request) }, make("code", {}, one.request.slice(0, 8))),
      `${time(one.age_seconds)} ago`,
      one.model,
      one.tenant,
      one.endpoint,
      count(one.prompt_tokens),
      tokens(one),
      time(one.ttft_seconds),
      time(one.expected_seconds),
      one.outcome ?? "under way",
    ],
  });
  const heads = ["request", "#when", "model", "tenant", "endpoint", "#prompt tokens", "not computed", "#first token", "#expected", "outcome"];
  return table(heads, decisions.map(row));
}

function tokens({ prompt_tokens, hit_tokens, expected_tokens, loaded_tokens, source }) {
  const known = hit_tokens ?? expected_tokens ?? 0;
  const loaded = hit_tokens === null ? 0 : loaded_tokens;
  const says = `${count(known)} of ${count(prompt_tokens)} tokens${hit_tokens === null ? " expected" : ""}, ${count(loaded)} of them loaded`;
  return bar([["device", known - loaded], [source === "peer" ? "peer" : "tiers", loaded]], prompt_tokens, says);
}

async function open(request) {
  const dialog = document.getElementById("decision");
  const title = make("header", {}, make("h2", { id: "decision-title" }, "Request ", make("code", {}, request)),
    make("button", { type: "button", onclick: () => dialog.close() }, "close"));
  const answer = await fetch(`explain/${encodeURIComponent(request)}`);
  const parts = answer.ok ? explained(await answer.json()) : [make("p", {}, await answer.text())];
  dialog.replaceChildren(title, ...parts);
  dialog.showModal();
}

function explained(one) {
  const happened = one.happened;
  const facts = [
    ["prompt", `${count(one.prompt.tokens)} tokens${one.prompt.counted ? "" : ", guessed from its size"}`],
    ["index", one.index_age_seconds === null ? "none" : `${time(one.index_age_seconds)} old`],
    ["expected", `${count(one.predicted.hit_tokens)} tokens not computed, first token after ${time(one.predicted.ttft_seconds)}`],
    ["happened", `${count(happened.hit_tokens)} tokens not computed, first token after ${time(happened.ttft_seconds)}, ${happened.outcome ?? "under way"}`],
  ];
  const list = make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const misses = one.missed.length > 0
    ? [make("h3", {}, "Why a part was not reused"), make("ul", {}, ...one.missed.map(({ says }) => make("li", {}, says)))] : [];
  return [list, ...misses, ...one.attempts.flatMap((attempt, at) => candidates(attempt, at))];
}

function candidates(attempt, at) {
  const all = [{ ...attempt.picked, picked: true }, ...attempt.others];
  const most = Math.max(...all.map(({ terms }) => terms.wait_seconds + terms.memory_seconds + terms.fetch_seconds + terms.prefill_seconds));
  const row = ({ endpoint, in_flight, overlap, peer, terms, picked }) => ({
    kind: picked ? "picked" : undefined,
    cells: [
      picked ? `▸ ${endpoint}` : endpoint,
      count(in_flight),
      count(overlap.device_tokens),
      count(overlap.local_tokens),
      peer ? `${count(overlap.peer_tokens)} (${peer})` : count(overlap.peer_tokens),
      terms.source,
      bar([["wait", terms.wait_seconds + terms.memory_seconds], ["peer", terms.fetch_seconds], ["device", terms.prefill_seconds]], most,
        `wait ${time(terms.wait_seconds + terms.memory_seconds)}, fetch ${time(terms.fetch_seconds)}, prefill ${time(terms.prefill_seconds)}`),
      time(terms.cost_seconds),
    ],
  });
  const key = [["wait", "wait"], ["peer", "fetch"], ["device", "prefill"]].flatMap(([kind, name]) => [make("span", { class: `key ${kind}` }), name]);
  const heads = ["endpoint", "#in flight", "#on device", "#on its node", "#at a peer", "source", "seconds", "#cost"];
  const title = at === 0 ? "What each endpoint would have cost" : "And after that one failed";
  const failed = attempt.failed ? [make("p", { class: "bad" }, `Not answered there: ${attempt.failed}`)] : [];
  const left = attempt.left_out > 0 ? [make("p", { class: "faint" }, `and ${count(attempt.left_out)} dearer ones`)] : [];
  return [make("h3", {}, title, ...key), table(heads, all.map(row)), ...left, ...failed];
}
