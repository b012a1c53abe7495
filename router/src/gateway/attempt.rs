//! Where a request goes: the best endpoint, and the next best if that one does not answer.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use tracing::{debug, info, warn};
use weft_policy::Terms;
use weft_types::EndpointId;

use super::Gateway;
use crate::answer::Refusal;
use crate::callers::Caller;
use crate::endpoint::{Change, Endpoint};
use crate::explain::{Attempt, Record};
use crate::models::{Model, Served};
use crate::prompt::Prompt;
use crate::relay::{Booking, Exchange};
use crate::upstream::{Arrived, Ask, Bodies};

/// Endpoints that a request may be sent to, one after the other.
const ATTEMPTS: usize = 2;

/// A request that was understood and is to be sent.
pub(crate) struct Routing {
    pub(crate) id: String,
    pub(super) caller: Arc<Caller>,
    pub(crate) model: Arc<Model>,
    pub(super) prompt: Prompt,
    /// Whose history of which model, and the caller's session in it.
    pub(super) space: u64,
    pub(super) session: Option<u64>,
    pub(crate) streamed: bool,
    pub(crate) bodies: Bodies,
    /// When its body was whole.
    pub(super) whole: Instant,
    /// When it had waited for its turn.
    pub(super) let_through: Instant,
}

/// An endpoint's answer, and how the request came there.
pub(super) struct Routed {
    pub(super) id: String,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) terms: Terms,
    pub(super) prompt_tokens: u32,
    pub(super) streamed: bool,
    pub(super) whole: Instant,
    pub(super) arrived: Arrived,
}

impl Gateway {
    /// Sends it to the best endpoint, and to the next best if that one does not answer.
    pub(super) async fn attempt(&self, routing: Routing, ask: Ask, exchange: &mut Exchange) -> Result<Routed, Refusal> {
        let mut tried: Vec<EndpointId> = Vec::with_capacity(ATTEMPTS);
        let mut unanswered = Refusal::NoEndpoint { model: routing.model.name.clone() };
        let mut busy = None;
        while tried.len() < ATTEMPTS {
            let Some((terms, served)) = self.decide(&routing, &tried, !tried.is_empty(), exchange) else { break };
            let endpoint = Arc::clone(&served.endpoint);
            let asked = tokio::select! {
                asked = self.upstream.ask(&endpoint, &ask, served.takes_salt) => asked,
                () = endpoint.falls_silent() => Err("it leaves probes unanswered".to_owned()),
            };
            match asked {
                Ok(arrived) => {
                    endpoint.answered();
                    let unavailable = unavailable(arrived.head.status);
                    let routed = routing.answered(endpoint, terms, arrived);
                    if !unavailable {
                        return Ok(routed);
                    }
                    exchange.failed(&format!("it answered {}", routed.arrived.head.status));
                    tried.push(routed.endpoint.id.clone());
                    busy = Some(routed);
                }
                Err(reason) => {
                    self.endpoint_failed(&endpoint, &routing.id, &reason);
                    exchange.failed(&reason);
                    unanswered = Refusal::Upstream { endpoint: endpoint.id.to_string(), reason };
                    tried.push(endpoint.id.clone());
                }
            }
            exchange.unbook();
        }
        busy.ok_or(unanswered)
    }

    /// Picks the best endpoint but these, and books the request there; `again`: after it was elsewhere.
    pub(crate) fn decide<'r>(
        &self,
        routing: &'r Routing,
        but: &[EndpointId],
        again: bool,
        exchange: &mut Exchange,
    ) -> Option<(Terms, &'r Served)> {
        let Routing { id, model, prompt, streamed, whole, .. } = routing;
        let endpoints: Vec<_> = model.served.iter().map(|served| served.endpoint.remembered()).collect();
        let sent = match model.served.iter().all(|served| prompt.is_reported(served)) {
            true => vec![0; endpoints.len()],
            false => self.history.leading_tokens(routing.space, &prompt.prints, &endpoints),
        };
        let near = routing.session.and_then(|session| self.history.stayed(session, &endpoints));
        let candidates = prompt.candidates(model, but, &sent);
        let (now, dice) = (Instant::now(), rand::random());
        let ask = weft_policy::Ask { tokens: prompt.tokens, streamed: *streamed };
        let decision = self.fleet.lock().decide_near(now, &ask, &candidates, near.as_ref(), dice)?;
        exchange.book(Booking { fleet: Arc::clone(&self.fleet), ticket: decision.ticket });
        match again {
            false => self.metrics.decided(now - routing.let_through, prompt.tokens, decision.terms()),
            true => self.metrics.retries.inc(),
        }
        let served = model.served.iter().find(|served| served.endpoint.id == *decision.endpoint())?;
        debug!(
            request = id, model = %model.name, tokens = prompt.tokens, endpoint = %decision.endpoint(), beta = decision.beta,
            considered = ?decision.considered, "routed"
        );
        if !prompt.is_reported(served) {
            self.history.sent(routing.space, &prompt.prints, served.endpoint.remembered());
        }
        if let Some(session) = routing.session {
            self.history.stays(session, served.endpoint.remembered());
        }
        let (terms, took) = (*decision.terms(), now - *whole);
        exchange.decided(Attempt::new(decision, took), &self.explain, |attempt| Record {
            request: id.clone(),
            at: *whole,
            model: model.name.clone(),
            tenant: routing.caller.tenant.clone(),
            prompt_tokens: prompt.tokens,
            counted: prompt.counted,
            prints: prompt.prints.clone(),
            index_age: self.prompts.index_age(),
            attempts: vec![attempt],
            ttft: None,
            usage: None,
            ended: None,
        });
        Some((terms, served))
    }

    fn endpoint_failed(&self, endpoint: &Endpoint, request: &str, reason: &str) {
        warn!(request, endpoint = %endpoint.id, url = %endpoint.url, "no answer: {reason}");
        if endpoint.failed(Instant::now()) == Change::Out {
            info!(endpoint = %endpoint.id, "endpoint is out until a probe finds it well");
            self.history.forget(endpoint.remembered());
            self.count_endpoints();
        }
    }
}

impl Routing {
    fn answered(&self, endpoint: Arc<Endpoint>, terms: Terms, arrived: Arrived) -> Routed {
        Routed {
            id: self.id.clone(),
            endpoint,
            terms,
            prompt_tokens: self.prompt.tokens,
            streamed: self.streamed,
            whole: self.whole,
            arrived,
        }
    }
}

/// The endpoint answered that it cannot: another may.
fn unavailable(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}
