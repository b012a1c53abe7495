//! The product's own policy: `weft_policy::Fleet`, told what a router is told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use weft_policy::{Ask, Candidate, Fleet, Policy, Priors, Source, Ticket};
use weft_types::{EndpointId, NodeId};

use crate::{Choice, Peer, Rule, Setup, View};

pub(super) struct Product {
    fleet: Fleet,
    endpoints: Vec<EndpointId>,
    nodes: Vec<NodeId>,
    tickets: HashMap<usize, Ticket>,
    /// Virtual time 0.
    origin: Instant,
}

impl Product {
    pub(super) fn new(setup: &Setup) -> Self {
        let endpoint = |number: usize| format!("e{number:02}").parse().expect("a letter and digits are a name");
        let node = |number: usize| format!("n{number:02}").parse().expect("a letter and digits are a name");
        let per_token = |bytes_per_s: f64| bytes_per_s / setup.engine.kv_bytes;
        let priors = Priors {
            prefill_tokens_per_second: setup.engine.prefill_tokens_per_s * setup.rate_error,
            local_tokens_per_second: per_token(setup.host.map_or(0.0, |host| host.bytes_per_s)),
            peer_tokens_per_second: per_token(setup.peer_bytes_per_s),
            device_tokens: setup.engine.device_tokens,
            learn: setup.rate_error == 1.0,
            ..Priors::default()
        };
        Self {
            fleet: Fleet::new(Policy::Weft, priors),
            endpoints: (0..setup.replicas).map(endpoint).collect(),
            nodes: (0..setup.replicas).map(node).collect(),
            tickets: HashMap::new(),
            origin: Instant::now(),
        }
    }

    fn at(&self, now_s: f64) -> Instant {
        self.origin + Duration::from_secs_f64(now_s)
    }
}

impl Rule for Product {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let tokens = |blocks: usize| blocks as u32 * view.block_tokens;
        let fabric = view.setup.peer_bytes_per_s > 0.0 || view.setup.host.is_some();
        let held = self.nodes.iter().zip(view.engines).filter(|(_, engine)| fabric && engine.local_blocks > 0);
        let nodes: Vec<_> = held.map(|(node, engine)| (node.clone(), tokens(engine.local_blocks))).collect();
        let candidates: Vec<_> = self
            .endpoints
            .iter()
            .zip(&self.nodes)
            .zip(view.engines)
            .map(|((endpoint, node), engine)| Candidate {
                endpoint: endpoint.clone(),
                node: Some(node.clone()),
                usable: true,
                device_tokens: tokens(engine.device_blocks),
                nodes: &nodes,
            })
            .collect();
        let ask = Ask { tokens: view.request.input_tokens, streamed: true };
        let decided = self.fleet.decide(self.at(view.now_s), &ask, &candidates, dice);
        let decision = decided.expect("all of them are usable");
        self.tickets.insert(view.number, decision.ticket);
        let picked = &decision.considered[decision.picked];
        let from = picked.peer.as_ref().filter(|_| picked.terms.source == Source::Peer);
        let from = from.and_then(|peer| self.nodes.iter().position(|node| node == peer));
        let peer = from.map_or(Peer::Never, Peer::From);
        Choice { replica: decision.picked, peer }
    }

    fn first_token(&mut self, now_s: f64, number: usize) {
        if let Some(ticket) = self.tickets.get(&number) {
            self.fleet.first_token(self.at(now_s), *ticket);
        }
    }

    fn ended(&mut self, now_s: f64, number: usize) {
        if let Some(ticket) = self.tickets.remove(&number) {
            self.fleet.ended(self.at(now_s), ticket);
        }
    }
}
