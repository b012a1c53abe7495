//! The cost of one endpoint.

use crate::{Overlap, Priors, Rates, Source, Terms};

/// An endpoint, as far as its cost goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) overlap: Overlap,
    pub(crate) rates: Rates,
    /// Seconds until its turn would come.
    pub(crate) wait: f64,
    /// Seconds until it has memory.
    pub(crate) memory: f64,
    /// Seconds until both links of the best fetch are free.
    pub(crate) links: f64,
    /// What a second of prefill is weighed with, beyond the request's own.
    pub(crate) beta: f64,
}

/// Terms of the source that costs least on this endpoint.
pub(crate) fn score(tokens: u32, standing: &Standing, priors: &Priors) -> Terms {
    let [nothing, loads @ ..] = Source::ALL.map(|source| cost(tokens, standing, source, priors));
    loads.into_iter().fold(nothing, |best, next| if next.cost_seconds < best.cost_seconds { next } else { best })
}

fn cost(tokens: u32, standing: &Standing, source: Source, priors: &Priors) -> Terms {
    let Standing { overlap, rates, wait, memory, links, beta } = standing;
    // The last token is computed whatever is held.
    let device = overlap.device_tokens.min(tokens.saturating_sub(1));
    let local = overlap.local_tokens.clamp(device, tokens.max(device));
    let peer = overlap.peer_tokens.clamp(local, tokens.max(local));
    let (local_tokens, peer_tokens) = match source {
        Source::Nothing => (0, 0),
        Source::Local => (local - device, 0),
        Source::Peer => (local - device, peer - local),
    };
    let load = |tokens, queue: f64, rate: &crate::Rate| match tokens {
        0 => 0.0,
        tokens => queue + priors.load_start_ms / 1e3 + rate.seconds_for(tokens),
    };
    let computed_tokens = tokens.saturating_sub(device + local_tokens + peer_tokens).max(1);
    // Two links, two queues: both loads run at once.
    let fetch_seconds = load(local_tokens, 0.0, &rates.local).max(load(peer_tokens, *links, &rates.peer));
    let prefill_seconds = priors.prefill_overhead_ms / 1e3 + rates.prefill.seconds_for(computed_tokens);
    Terms {
        source,
        local_tokens,
        peer_tokens,
        computed_tokens,
        wait_seconds: *wait,
        memory_seconds: *memory,
        fetch_seconds,
        prefill_seconds,
        cost_seconds: (wait + memory).max(fetch_seconds) + (1.0 + beta) * prefill_seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 tokens a second of prefill, 10,000 from the node, 2,000 from a peer, nothing on top.
    const PRIORS: Priors = Priors {
        prefill_tokens_per_second: 1_000.0,
        local_tokens_per_second: 10_000.0,
        peer_tokens_per_second: 2_000.0,
        prefill_overhead_ms: 0.0,
        load_start_ms: 0.0,
        device_tokens: 0,
        learn: true,
    };

    fn standing(overlap: Overlap, priors: &Priors, wait: f64, beta: f64) -> Standing {
        Standing { overlap, rates: Rates::new(priors), wait, memory: 0.0, links: 0.0, beta }
    }

    fn terms(overlap: Overlap, wait: f64, beta: f64) -> Terms {
        score(4_000, &standing(overlap, &PRIORS, wait, beta), &PRIORS)
    }

    #[test]
    fn a_cold_prompt_is_computed() {
        let terms = terms(Overlap::default(), 0.5, 0.0);
        assert_eq!((terms.source, terms.computed_tokens), (Source::Nothing, 4_000));
        assert_eq!(terms.cost_seconds, 0.5 + 4.0);
    }

    #[test]
    fn a_prefix_is_loaded_from_where_it_comes_fastest() {
        let overlap = Overlap { device_tokens: 1_000, local_tokens: 2_000, peer_tokens: 3_000 };
        let terms = terms(overlap, 0.0, 0.0);
        assert_eq!((terms.source, terms.local_tokens, terms.peer_tokens), (Source::Peer, 1_000, 1_000));
        assert_eq!(terms.fetch_seconds, 0.5, "the node and the peer send at once");
        assert_eq!(terms.cost_seconds, 0.5 + 1.0);
    }

    #[test]
    fn a_fetch_slower_than_prefill_is_made_only_if_it_hides_or_spares_others() {
        let slow = Priors { peer_tokens_per_second: 800.0, ..PRIORS };
        let overlap = Overlap { peer_tokens: 2_000, ..Overlap::default() };
        let source = |wait, beta| score(4_000, &standing(overlap, &slow, wait, beta), &slow).source;
        assert_eq!(source(0.0, 0.0), Source::Nothing);
        assert_eq!(source(2.5, 0.0), Source::Peer, "it hides behind the queue");
        assert_eq!(source(0.0, 1.0), Source::Peer, "one more waits for this prefill");
    }

    #[test]
    fn the_last_token_is_computed_whatever_is_held() {
        let terms = terms(Overlap { device_tokens: 4_000, local_tokens: 4_000, peer_tokens: 4_000 }, 0.0, 0.0);
        assert_eq!((terms.source, terms.computed_tokens), (Source::Nothing, 1));
    }
}
