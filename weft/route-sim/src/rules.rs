//! Routing rules by name: the product's, those of other routers as their sources have them, and bounds.

mod affinity;
mod bounds;
mod load;
mod product;
mod scored;

use crate::{Rule, Setup, Workload};

/// Every rule: ours, others', bounds.
pub const NAMES: &[&str] = &[
    "weft",
    "round-robin",
    "least-requests",
    "least-tokens",
    "longest-prefix",
    "prefix-hash",
    "sglang",
    "gie",
    "llmd",
    "dynamo",
    "dynamo-prefill",
    "greedy",
    "oracle-pool",
];

/// The rule of this name, fresh; `None` if there is none.
#[must_use]
pub fn rule(name: &str, setup: &Setup, workload: &Workload) -> Option<Box<dyn Rule>> {
    Some(match name {
        "weft" => Box::new(product::Product::new(setup)),
        "round-robin" => Box::new(load::RoundRobin::default()),
        "least-requests" => Box::new(load::LeastRequests),
        "least-tokens" => Box::new(load::LeastTokens),
        "longest-prefix" => Box::new(affinity::LongestPrefix),
        "prefix-hash" => Box::new(affinity::PrefixHash),
        "sglang" => Box::new(affinity::Sglang::new(workload.blocks)),
        "gie" => Box::new(scored::Gie::new(setup, workload)),
        "llmd" => Box::new(scored::Llmd),
        "dynamo" => Box::new(scored::Dynamo { decode_weight: 1.0 }),
        "dynamo-prefill" => Box::new(scored::Dynamo { decode_weight: 0.0 }),
        "greedy" => Box::new(load::Greedy),
        "oracle-pool" => Box::new(bounds::Pool),
        _ => return None,
    })
}

/// One of the replicas with the least `key`, by the dice.
fn least(replicas: impl IntoIterator<Item = usize>, dice: u64, key: impl Fn(usize) -> f64) -> usize {
    let (mut best, mut found) = (f64::INFINITY, Vec::new());
    for replica in replicas {
        let value = key(replica);
        if value < best {
            best = value;
            found.clear();
        }
        if value == best {
            found.push(replica);
        }
    }
    let count = found.len().max(1) as u64;
    found.get((dice % count) as usize).copied().unwrap_or(0)
}
