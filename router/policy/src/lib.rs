//! Where a request goes: filter → score → pick, over what the router itself sees.
//!
//! For a request, over endpoints k and ways s to get its missing prefix (compute it, load it from the tiers of the
//! endpoint's node, fetch the rest from a peer as well):
//!
//! ```text
//! cost(k, s)    = max(wait(k) + memory(k), fetch(k, s)) + (1 + beta) · prefill(k, s)
//! prefill(k, s) = overhead + (tokens - tokens reached by s) / prefill rate of k
//! fetch(k, s)   = the later of: start + tokens loaded / load rate of k
//!                               queues of both links + start + tokens fetched / fetch rate of k
//! wait(k)       = estimated prefill of what was routed to k and has no first token yet, less the time spent on it
//! memory(k)     = some answers' time, if the prompts in flight at k and this one need over 85 % of its device memory
//! beta          = requests that wait behind another, per endpoint
//! ```
//!
//! `max` because a load runs while the request waits for its turn: a fetch that hides behind the queue costs nothing.
//! `beta` because a second of prefill here delays everybody who waits here (Little's law): it is near 0 in an idle
//! fleet, where the request's own time is all that matters, and tens in overload, where work saved is. No weight has
//! to be tuned to the load. All rates are learnt, from when first tokens come; what queued for memory or a link teaches nothing.
//! `docs/routing.md` has what each term is worth.
//!
//! Before any of that, [`Queue`] decides who is let through at all.
//!
//! # Invariants
//! - an endpoint that is not usable is never picked;
//! - the same inputs give the same decision: time and dice are arguments;
//! - what is kept is bounded by endpoints and by requests in flight.
//!
//! # Absent on purpose
//! - engines' own gauges: they are old when they arrive, and a veto on old data makes routers herd;
//! - the term for the age of what would be evicted: it needs the engines' events.

mod admission;
mod decision;
mod fleet;
mod links;
mod rate;
mod score;

pub use admission::{Arrival, Bounds, Entered, Next, Place, Priority, Queue, Refused, Share, Why};
pub use decision::{Ask, Candidate, Considered, Decision, Overlap, Source, Terms, Ticket};
pub use fleet::{EndpointView, Fleet};
pub use rate::{Priors, Rate, Rates};

use serde::{Deserialize, Serialize};

/// How an endpoint is picked from those that are usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Least cost, as above.
    #[default]
    Weft,
    /// The next one in order of name: what a plain load balancer does.
    RoundRobin,
    /// The one with the fewest requests in flight.
    LeastRequests,
    /// The one whose prefill has the least left to do.
    LeastTokens,
    /// The one that has most of the prompt in its device memory or its node's tiers. Where all prompts begin alike, all of them go
    /// to one endpoint: to compare with, not to serve with.
    LongestPrefix,
    /// As `weft`, with what the router itself sent where in place of tokenizer and index: for engines that nobody reports of.
    Approximate,
}
