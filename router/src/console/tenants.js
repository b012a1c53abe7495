// What each tenant may have, pins, and saves.

import { bytes, count, make, short, table, time } from "./dom.js";

export function showTenants(counted, agreed) {
  const names = new Set([...agreed.map(({ tenant }) => tenant), ...counted.filter(({ requests }) => requests > 0).map(({ tenant }) => tenant)]);
  if (names.size === 0) return make("p", { class: "faint" }, "No tenant is known, and nobody came yet.");
  const row = (name) => {
    const counts = counted.find(({ tenant }) => tenant === name);
    const settings = agreed.find(({ tenant }) => tenant === name);
    const quota = Object.entries(settings?.quota ?? {}).map(([tier, limit]) => `${tier} ${typeof limit === "number" ? bytes(limit) : limit}`);
    return { cells: [
      name,
      count(settings?.weight),
      settings ? quota.join(", ") || "unlimited" : null,
      settings ? `${count(settings.leases)} (${count(settings.leased_blocks)} of ${count(settings.lease_blocks_max)} blocks)` : null,
      count(counts?.requests),
      counts ? short(counts.loaded_tokens) : null,
      time(counts?.saved_seconds),
    ] };
  };
  return table(["tenant", "#weight", "quota", "leases", "#requests", "#tokens loaded", "#engine time saved"], [...names].map(row));
}
