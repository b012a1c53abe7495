//! What the router itself knows of its endpoints: what it sent where, and how fast first tokens came.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use weft_types::{EndpointId, NodeId};

use crate::links::Links;
use crate::score::{Standing, score};
use crate::{Ask, Candidate, Considered, Decision, Overlap, Policy, Priors, Rates, Terms, Ticket};

/// Endpoints, with what is routed to them. One a router; every input says when it happened.
#[derive(Debug)]
pub struct Fleet {
    policy: Policy,
    priors: Priors,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    requests: BTreeMap<Ticket, Routed>,
    next_ticket: u64,
    /// The pick before this one, for round robin.
    last: Option<EndpointId>,
    queued: SlowAverage,
    links: Links,
    /// Seconds from first token to end.
    decode_seconds: f64,
}

/// An endpoint, as an operator sees it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct EndpointView {
    /// Its name.
    pub endpoint: EndpointId,
    /// Requests that it is answering.
    pub in_flight: u32,
    /// Those of them without a first token.
    pub waiting: u32,
    /// Prefill, tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Loads from its node's tiers, tokens a second.
    pub local_tokens_per_second: f64,
    /// Fetches from peers, tokens a second.
    pub peer_tokens_per_second: f64,
}

#[derive(Debug)]
struct Endpoint {
    rates: Rates,
    in_flight: u32,
    /// Tokens of their prompts.
    in_flight_tokens: u64,
    /// Routed here and without a first token, in order of routing.
    waiting: BTreeMap<Ticket, Waiting>,
    /// Since when its prefill has been at work on the first of `waiting`.
    busy_since: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    prefill_seconds: f64,
    /// For an answer in one piece, whose first token is never seen: when it is taken to have come.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Routed {
    endpoint: EndpointId,
    terms: Terms,
    tokens: u32,
    routed: Instant,
    first_token: Option<Instant>,
    /// Its prefill could begin at once.
    alone: bool,
    /// So could its fetch.
    links_free: bool,
}

impl Fleet {
    /// Costs that are less apart than this are a tie: the prediction is no better, and routers that don't know of each
    /// other must not all go one way.
    const TIE_SECONDS: f64 = 1e-3;
    /// A request's own work is never weighed more than this many times, or overload would end all spreading.
    const BETA_MAX: f64 = 64.0;

    /// Device memory in use from which on a request is taken to wait: what answers will need is not known.
    const MEMORY_SHARE: f64 = 0.85;
    /// A wait for memory is this many answers, times the share that is too much.
    const MEMORY_ANSWERS: f64 = 16.0;
    /// Share that is too much, at most.
    const MEMORY_EXCESS_MAX: f64 = 4.0;
    /// What full memory costs at least.
    const MEMORY_SECONDS_MIN: f64 = 0.2;
    /// What an answer leaves of the ones before in their average time.
    const DECODE_KEPT: f64 = 0.98;
    /// Time of an answer before any was seen.
    const DECODE_SECONDS: f64 = 3.0;

    /// No endpoints; they appear as they are candidates for the first time.
    #[must_use]
    pub fn new(policy: Policy, priors: Priors) -> Self {
        Self {
            policy,
            priors,
            endpoints: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_ticket: 0,
            last: None,
            queued: SlowAverage::default(),
            links: Links::default(),
            decode_seconds: Self::DECODE_SECONDS,
        }
    }

    /// Picks an endpoint for a request, and books the request there. `dice`: any random number. `None` if no candidate is
    /// usable.
    pub fn decide(&mut self, now: Instant, ask: &Ask, candidates: &[Candidate<'_>], dice: u64) -> Option<Decision> {
        self.decide_near(now, ask, candidates, None, dice)
    }

    /// As [`Fleet::decide`]; among equals, `near` is picked: the endpoint that a session was at before.
    pub fn decide_near(
        &mut self,
        now: Instant,
        ask: &Ask,
        candidates: &[Candidate<'_>],
        near: Option<&EndpointId>,
        dice: u64,
    ) -> Option<Decision> {
        let beta = self.beta(now, candidates);
        let usable = candidates.iter().filter(|candidate| candidate.usable);
        let considered: Vec<_> = usable.map(|candidate| self.consider(now, ask, candidate, beta)).collect();
        let picked = self.pick(&considered, near, dice)?;
        let node = candidates.iter().find(|candidate| candidate.endpoint == considered[picked].endpoint)?.node.as_ref();
        let ticket = self.book(now, ask, &considered[picked], node);
        Some(Decision { picked, considered, beta, ticket })
    }

    /// What was learnt of an endpoint's prefill, tokens a second; `None`: it was never a candidate.
    #[must_use]
    pub fn prefill_tokens_per_second(&self, endpoint: &EndpointId) -> Option<f64> {
        self.endpoints.get(endpoint).map(|endpoint| endpoint.rates.prefill.tokens_per_second())
    }

    fn consider(&mut self, now: Instant, ask: &Ask, candidate: &Candidate<'_>, beta: f64) -> Considered {
        let (overlap, peer) = self.overlap(now, candidate);
        let links = match (&peer, &candidate.node) {
            (Some(from), Some(to)) => self.links.free_in(now, from, to),
            _ => 0.0,
        };
        let endpoint = self.endpoint(now, &candidate.endpoint);
        let (wait, in_flight, rates) = (endpoint.wait(now), endpoint.in_flight, endpoint.rates);
        let in_flight_tokens = endpoint.in_flight_tokens;
        let memory = self.memory_seconds(in_flight_tokens, ask.tokens);
        let terms = score(ask.tokens, &Standing { overlap, rates, wait, memory, links, beta }, &self.priors);
        Considered { endpoint: candidate.endpoint.clone(), in_flight, overlap, peer, terms }
    }

    /// What an endpoint need not compute, and the node with the longest prefix beside its own: of several, the one whose link is
    /// free first.
    fn overlap(&self, now: Instant, candidate: &Candidate<'_>) -> (Overlap, Option<NodeId>) {
        let device_tokens = candidate.device_tokens;
        let Some(own) = &candidate.node else {
            return (Overlap { device_tokens, ..Overlap::default() }, None);
        };
        let mut overlap = Overlap { device_tokens, local_tokens: 0, peer_tokens: 0 };
        let mut best: Option<(&NodeId, f64)> = None;
        for (node, tokens) in candidate.nodes {
            if node == own {
                overlap.local_tokens = *tokens;
            } else if *tokens >= overlap.peer_tokens && *tokens > 0 {
                let free_in = self.links.free_in(now, node, own);
                if *tokens > overlap.peer_tokens || best.is_none_or(|(_, sooner)| free_in < sooner) {
                    (overlap.peer_tokens, best) = (*tokens, Some((node, free_in)));
                }
            }
        }
        (overlap, best.map(|(node, _)| node.clone()))
    }

    /// How long a prompt would wait for memory behind prompts of so many tokens.
    fn memory_seconds(&self, in_flight_tokens: u64, tokens: u32) -> f64 {
        let most = self.priors.device_tokens as f64 * Self::MEMORY_SHARE;
        let excess = in_flight_tokens as f64 + f64::from(tokens) - most;
        if self.priors.device_tokens == 0 || in_flight_tokens == 0 || excess <= 0.0 {
            return 0.0;
        }
        let share = (excess / in_flight_tokens as f64).min(Self::MEMORY_EXCESS_MAX);
        Self::MEMORY_SECONDS_MIN + Self::MEMORY_ANSWERS * self.decode_seconds * share
    }

    /// The first token of a streamed answer came.
    pub fn first_token(&mut self, now: Instant, ticket: Ticket) {
        let Some(routed) = self.requests.get_mut(&ticket) else { return };
        routed.first_token = Some(now);
        let Some(endpoint) = self.endpoints.get_mut(&routed.endpoint) else { return };
        let Some(since) = endpoint.leave_queue(now, ticket) else { return };
        let took = now.saturating_duration_since(since.max(routed.routed));
        // One that may have waited for memory was not computed slowly.
        let most = self.priors.device_tokens as f64 * Self::MEMORY_SHARE;
        let crowded = self.priors.device_tokens > 0 && endpoint.in_flight_tokens as f64 > most;
        if self.priors.learn && !crowded && routed.terms.memory_seconds == 0.0 {
            endpoint.learn(took, now.saturating_duration_since(routed.routed), routed, &self.priors);
        }
    }

    /// The request ended, well or not. What came before stays learnt.
    pub fn ended(&mut self, now: Instant, ticket: Ticket) {
        let Some(routed) = self.requests.remove(&ticket) else { return };
        if let Some(first) = routed.first_token {
            let seconds = now.saturating_duration_since(first).as_secs_f64();
            self.decode_seconds = self.decode_seconds * Self::DECODE_KEPT + seconds * (1.0 - Self::DECODE_KEPT);
        }
        let Some(endpoint) = self.endpoints.get_mut(&routed.endpoint) else { return };
        endpoint.leave_queue(now, ticket);
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        endpoint.in_flight_tokens = endpoint.in_flight_tokens.saturating_sub(u64::from(routed.tokens));
    }

    /// Forgets endpoints that are no more; requests still in flight there just end.
    pub fn retain(&mut self, keep: impl Fn(&EndpointId) -> bool) {
        self.endpoints.retain(|endpoint, _| keep(endpoint));
    }

    /// Every endpoint that was a candidate.
    #[must_use]
    pub fn view(&self) -> Vec<EndpointView> {
        let view = |(name, endpoint): (&EndpointId, &Endpoint)| EndpointView {
            endpoint: name.clone(),
            in_flight: endpoint.in_flight,
            waiting: u32::try_from(endpoint.waiting.len()).unwrap_or(u32::MAX),
            prefill_tokens_per_second: endpoint.rates.prefill.tokens_per_second(),
            local_tokens_per_second: endpoint.rates.local.tokens_per_second(),
            peer_tokens_per_second: endpoint.rates.peer.tokens_per_second(),
        };
        self.endpoints.iter().map(view).collect()
    }

    fn pick(&mut self, considered: &[Considered], near: Option<&EndpointId>, dice: u64) -> Option<usize> {
        let least = |key: &dyn Fn(&Considered) -> f64, tie: f64, of: Vec<usize>| -> Vec<usize> {
            let best = of.iter().map(|index| key(&considered[*index])).fold(f64::INFINITY, f64::min);
            of.into_iter().filter(|index| key(&considered[*index]) <= best + tie).collect()
        };
        let affine = |of: Vec<usize>| -> Vec<usize> {
            match of.iter().find(|index| Some(&considered[**index].endpoint) == near) {
                Some(index) => vec![*index],
                None => of,
            }
        };
        let cost = |one: &Considered| one.terms.cost_seconds;
        let in_flight = |one: &Considered| f64::from(one.in_flight);
        let all: Vec<_> = (0..considered.len()).collect();
        let best = match self.policy {
            // Among equals, the one that decodes for the fewest.
            Policy::Weft | Policy::Approximate => least(&in_flight, 0.0, affine(least(&cost, Self::TIE_SECONDS, all))),
            Policy::LeastRequests => affine(least(&in_flight, 0.0, all)),
            Policy::LeastTokens => affine(least(&|one| one.terms.wait_seconds, 0.0, all)),
            Policy::LongestPrefix => {
                let held = |one: &Considered| f64::from(one.overlap.device_tokens.max(one.overlap.local_tokens));
                least(&in_flight, 0.0, affine(least(&|one| -held(one), 0.0, all)))
            }
            Policy::RoundRobin => {
                let by_name = |index: &usize| &considered[*index].endpoint;
                let after = |index: &usize| self.last.as_ref().is_none_or(|last| by_name(index) > last);
                let next = all.iter().copied().filter(after).min_by_key(by_name);
                next.or_else(|| all.into_iter().min_by_key(by_name)).into_iter().collect()
            }
        };
        let count = u64::try_from(best.len()).ok().filter(|count| *count > 0)?;
        let picked = best[usize::try_from(dice % count).ok()?];
        self.last = Some(considered[picked].endpoint.clone());
        Some(picked)
    }

    fn book(&mut self, now: Instant, ask: &Ask, picked: &Considered, node: Option<&NodeId>) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let terms = picked.terms;
        let mut links_free = true;
        if let (1.., Some(from), Some(to)) = (terms.peer_tokens, &picked.peer, node) {
            links_free = self.links.free_in(now, from, to) == 0.0;
            let seconds = self.endpoint(now, &picked.endpoint).rates.peer.seconds_for(terms.peer_tokens);
            self.links.book(now, from, to, Duration::from_secs_f64(seconds));
        }
        let endpoint = self.endpoint(now, &picked.endpoint);
        let alone = endpoint.waiting.is_empty();
        if alone {
            endpoint.busy_since = Some(now);
        }
        endpoint.in_flight += 1;
        endpoint.in_flight_tokens += u64::from(ask.tokens);
        let until = (!ask.streamed).then(|| now + Duration::from_secs_f64(terms.ttft_seconds()));
        endpoint.waiting.insert(ticket, Waiting { prefill_seconds: terms.prefill_seconds, until });
        let (endpoint, tokens) = (picked.endpoint.clone(), ask.tokens);
        self.requests
            .insert(ticket, Routed { endpoint, terms, tokens, routed: now, first_token: None, alone, links_free });
        ticket
    }

    /// The endpoint, with what is no longer waiting put away.
    fn endpoint(&mut self, now: Instant, name: &EndpointId) -> &mut Endpoint {
        let endpoint = self.endpoints.entry(name.clone()).or_insert_with(|| Endpoint {
            rates: Rates::new(&self.priors),
            in_flight: 0,
            in_flight_tokens: 0,
            waiting: BTreeMap::new(),
            busy_since: None,
        });
        endpoint.presume_first_tokens(now);
        endpoint
    }

    /// Requests that wait behind another, per usable endpoint: now or on a slow average, whichever is more.
    fn beta(&mut self, now: Instant, candidates: &[Candidate<'_>]) -> f64 {
        let (mut queued, mut usable) = (0.0, 0.0);
        for candidate in candidates.iter().filter(|candidate| candidate.usable) {
            queued += self.endpoint(now, &candidate.endpoint).queued();
            usable += 1.0;
        }
        let per_endpoint = if usable > 0.0 { queued / usable } else { 0.0 };
        per_endpoint.max(self.queued.update(now, per_endpoint)).min(Self::BETA_MAX)
    }
}

impl Endpoint {
    /// Requests behind the one whose prefill is at work.
    fn queued(&self) -> f64 {
        u32::try_from(self.waiting.len().saturating_sub(1)).map_or(f64::from(u32::MAX), f64::from)
    }

    /// Seconds until a request that came now would have its turn.
    fn wait(&self, now: Instant) -> f64 {
        let total: f64 = self.waiting.values().map(|waiting| waiting.prefill_seconds).sum();
        let first = self.waiting.values().next().map_or(0.0, |waiting| waiting.prefill_seconds);
        // No more than the first one's: an endpoint that is late does not get shorter by waiting for it.
        let spent = self.busy_since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64()).min(first);
        (total - spent).max(0.0)
    }

    /// Takes a request out of the queue; since when the prefill had been at work, if it was in it.
    fn leave_queue(&mut self, now: Instant, ticket: Ticket) -> Option<Instant> {
        self.waiting.remove(&ticket)?;
        let since = self.busy_since;
        self.busy_since = (!self.waiting.is_empty()).then_some(now);
        since
    }

    fn presume_first_tokens(&mut self, now: Instant) {
        let came = |waiting: &Waiting| waiting.until.filter(|until| *until <= now);
        while let Some((ticket, at)) = self.waiting.iter().find_map(|(ticket, one)| Some((*ticket, came(one)?))) {
            self.leave_queue(at, ticket);
        }
    }

    /// What took `took` from when its turn came, or it was routed, to its first token, and `whole` from when it was routed.
    fn learn(&mut self, took: Duration, whole: Duration, routed: &Routed, priors: &Priors) {
        let terms = &routed.terms;
        let beyond = |took: Duration, milliseconds: f64, seconds: f64| {
            took.saturating_sub(Duration::from_secs_f64((milliseconds / 1e3 + seconds).max(0.0)))
        };
        match (terms.local_tokens, terms.peer_tokens) {
            (0, 0) => self.rates.prefill.observe(terms.computed_tokens, beyond(took, priors.prefill_overhead_ms, 0.0)),
            // A load behind a queue is hidden by it, and one from two sources cannot be told apart. Others may overtake a
            // request whose load is under way, so that it counts from its routing.
            (tokens, 0) if routed.alone => {
                self.rates.local.observe(tokens, beyond(whole, priors.load_start_ms, terms.prefill_seconds));
            }
            (0, tokens) if routed.alone && routed.links_free => {
                self.rates.peer.observe(tokens, beyond(whole, priors.load_start_ms, terms.prefill_seconds));
            }
            _ => {}
        }
    }
}

/// An exponential average over time.
#[derive(Debug, Default)]
struct SlowAverage {
    value: f64,
    at: Option<Instant>,
}

impl SlowAverage {
    /// Long enough to span a burst, short enough to forget it.
    const SECONDS: f64 = 30.0;

    fn update(&mut self, now: Instant, value: f64) -> f64 {
        let elapsed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        let kept = (-elapsed / Self::SECONDS).exp();
        self.value = self.value * kept + value * (1.0 - kept);
        self.at = Some(now);
        self.value
    }
}
