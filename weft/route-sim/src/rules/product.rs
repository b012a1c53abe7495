//! The product's own policy: `weft_policy::Fleet`, told what a router is told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use weft_policy::{Candidate, Fleet, Overlap, Policy, Priors, Source, Ticket};
use weft_types::EndpointId;

use crate::{Choice, Peer, Rule, Setup, View};

pub(super) struct Product {
    fleet: Fleet,
    names: Vec<EndpointId>,
    tickets: HashMap<usize, Ticket>,
    /// Virtual time 0.
    origin: Instant,
}

impl Product {
    pub(super) fn new(setup: &Setup) -> Self {
        let name = |number: usize| format!("e{number:02}").parse().expect("a letter and digits are a name");
        let per_token = |bytes_per_s: f64| bytes_per_s / setup.engine.kv_bytes;
        let priors = Priors {
            prefill_tokens_per_second: setup.engine.prefill_tokens_per_s * setup.rate_error,
            local_tokens_per_second: per_token(setup.host.map_or(0.0, |host| host.bytes_per_s)),
            peer_tokens_per_second: per_token(setup.peer_bytes_per_s),
            ..Priors::default()
        };
        Self {
            fleet: Fleet::new(Policy::Weft, priors),
            names: (0..setup.replicas).map(name).collect(),
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
        let peers = view.setup.peer_bytes_per_s > 0.0;
        let candidates: Vec<_> = (0..view.engines.len())
            .map(|replica| {
                let engine = &view.engines[replica];
                let others = view.engines.iter().enumerate().filter(|(other, _)| peers && *other != replica);
                let overlap = Overlap {
                    device_tokens: tokens(engine.device_blocks),
                    local_tokens: tokens(engine.local_blocks),
                    peer_tokens: tokens(others.map(|(_, other)| other.local_blocks).max().unwrap_or(0)),
                };
                Candidate { endpoint: self.names[replica].clone(), usable: true, overlap }
            })
            .collect();
        let decided = self.fleet.decide(self.at(view.now_s), view.request.input_tokens, true, &candidates, dice);
        let decision = decided.expect("all of them are usable");
        self.tickets.insert(view.number, decision.ticket);
        let peer = if decision.terms().source == Source::Peer { Peer::Longest } else { Peer::Never };
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
