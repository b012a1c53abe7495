//! What a decision is made from, and what it says.

use serde::Serialize;
use weft_types::{EndpointId, NodeId};

/// Tokens of the prompt, from its first, that an endpoint can have without computing them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Overlap {
    /// In the engine's device memory.
    pub device_tokens: u32,
    /// In the tiers of the endpoint's own node.
    pub local_tokens: u32,
    /// In the tiers of the best other node.
    pub peer_tokens: u32,
}

/// A request, as the policy wants to know it.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Tokens of its prompt.
    pub tokens: u32,
    /// Its first token will be seen.
    pub streamed: bool,
}

/// An endpoint that serves the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub endpoint: EndpointId,
    /// Whose tiers it loads from; one without a node fetches nothing either.
    pub node: Option<NodeId>,
    /// Healthy, and not tried before for this request.
    pub usable: bool,
    /// Leading tokens in its device memory.
    pub device_tokens: u32,
    /// Leading tokens in the tiers of each node that has any, under the model key of this endpoint.
    pub nodes: &'a [(NodeId, u32)],
}

/// How the part of the prefix that is not in device memory is got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It is computed.
    Nothing,
    /// From the tiers of the endpoint's node.
    Local,
    /// From them as far as they go, and from another node from there on.
    Peer,
}

impl Source {
    /// Every source, the least work for the fabric first: it wins a tie.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Local, Self::Peer];

    /// Lower-case word, as in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Local => "local",
            Self::Peer => "peer",
        }
    }
}

/// The terms of one endpoint's cost, with its best source.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Terms {
    /// The source that costs least.
    pub source: Source,
    /// Tokens that are loaded from the node's tiers.
    pub local_tokens: u32,
    /// Tokens that are fetched from a peer.
    pub peer_tokens: u32,
    /// Tokens that are computed, at least 1: an engine computes the last token whatever it holds.
    pub computed_tokens: u32,
    /// Until the prefills routed there before are done.
    pub wait_seconds: f64,
    /// Until running requests have freed device memory for it.
    pub memory_seconds: f64,
    /// Until the loads are done, the queues of both links included.
    pub fetch_seconds: f64,
    /// The request's own prefill.
    pub prefill_seconds: f64,
    /// All of it, with the harm to others.
    pub cost_seconds: f64,
}

impl Terms {
    /// Predicted time to first token, without the harm to others.
    #[must_use]
    pub fn ttft_seconds(&self) -> f64 {
        (self.wait_seconds + self.memory_seconds).max(self.fetch_seconds) + self.prefill_seconds
    }
}

/// One endpoint, as it stood in a decision.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Considered {
    /// Its name.
    pub endpoint: EndpointId,
    /// Requests that it was answering.
    pub in_flight: u32,
    /// What of the prompt it could have without computing.
    pub overlap: Overlap,
    /// The node that a fetch would come from.
    pub peer: Option<NodeId>,
    /// Its cost.
    pub terms: Terms,
}

/// Where a request goes, and why.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Decision {
    /// Index of the pick in `considered`.
    pub picked: usize,
    /// Every usable endpoint, in the order of the candidates.
    pub considered: Vec<Considered>,
    /// What a second of prefill was weighed with, beyond the request's own.
    pub beta: f64,
    /// To be given back when the first token comes and when the request ends.
    #[serde(skip)]
    pub ticket: Ticket,
}

impl Decision {
    /// The endpoint that was picked.
    #[must_use]
    pub fn endpoint(&self) -> &EndpointId {
        &self.considered[self.picked].endpoint
    }

    /// The terms of the endpoint that was picked.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.considered[self.picked].terms
    }
}

/// A request that was routed and has not ended. Not reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub(crate) u64);
