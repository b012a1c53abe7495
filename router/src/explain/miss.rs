//! Why a part of a prompt was not reused, as far as the router can know: from what the index listed when the request was routed, and
//! from what was asked before.

use std::time::Duration;

use serde_json::{Value, json};
use weft_policy::Considered;
use weft_types::EndpointId;

use super::{Entry, Record};
use crate::metrics::Outcome;
use crate::prints::Prints;

/// A store that is younger may not be listed yet: an engine saves, its node reports, the group commits, the router hears.
const LISTED_AFTER: Duration = Duration::from_secs(2);

/// One reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Miss {
    /// Nobody was asked who holds the prompt: it was never read as tokens.
    NotCounted,
    /// The endpoint could have had these tokens from there, and was expected to compute them sooner.
    SlowerThanComputing { from: String, tokens: u32 },
    /// Another endpoint had them, and cost more.
    CostlierThere { endpoint: EndpointId, tokens: u32 },
    /// They were asked for before, at an endpoint that is gone.
    HolderGone { endpoint: EndpointId, tokens: u32 },
    /// They were asked for so shortly before that they were not listed yet, or the index was old.
    NotListedYet { endpoint: EndpointId, tokens: u32 },
    /// They were asked for before, were answered, and were listed nowhere any more.
    Evicted { endpoint: EndpointId, tokens: u32, before: Duration },
    /// Another tenant asked for them.
    OtherTenant { tokens: u32 },
    /// An earlier prompt was the same up to there, and another one after it: the conversation took another way, or its template or
    /// tokenizer did.
    Differs { request: String, same_tokens: u32 },
    /// None of the requests that are remembered began like this one.
    NeverStored { remembered: usize },
}

impl Miss {
    pub(crate) fn as_json(&self) -> Value {
        let says = self.says();
        match self {
            Self::NotCounted => json!({ "reason": "not-counted", "says": says }),
            Self::SlowerThanComputing { from, tokens } => {
                json!({ "reason": "slower-than-computing", "from": from, "tokens": tokens, "says": says })
            }
            Self::CostlierThere { endpoint, tokens } => {
                json!({ "reason": "costlier-there", "endpoint": endpoint, "tokens": tokens, "says": says })
            }
            Self::HolderGone { endpoint, tokens } => {
                json!({ "reason": "holder-gone", "endpoint": endpoint, "tokens": tokens, "says": says })
            }
            Self::NotListedYet { endpoint, tokens } => {
                json!({ "reason": "not-listed-yet", "endpoint": endpoint, "tokens": tokens, "says": says })
            }
            Self::Evicted { endpoint, tokens, .. } => {
                json!({ "reason": "evicted", "endpoint": endpoint, "tokens": tokens, "says": says })
            }
            Self::OtherTenant { tokens } => json!({ "reason": "other-tenant", "tokens": tokens, "says": says }),
            Self::Differs { request, same_tokens } => {
                json!({ "reason": "differs", "request": request, "tokens": same_tokens, "says": says })
            }
            Self::NeverStored { .. } => json!({ "reason": "never-stored", "says": says }),
        }
    }

    fn says(&self) -> String {
        match self {
            Self::NotCounted => {
                "no tokenizer read this prompt, so that nobody was asked who holds it: configure the model's folder in `models`".to_owned()
            }
            Self::SlowerThanComputing { from, tokens } => {
                format!("{tokens} tokens could have come from {from}, and were expected to be computed sooner")
            }
            Self::CostlierThere { endpoint, tokens } => {
                format!("{endpoint} had {tokens} tokens, and would have cost more, queue and all")
            }
            Self::HolderGone { endpoint, tokens } => {
                format!("{tokens} tokens were computed at {endpoint}, which is gone")
            }
            Self::NotListedYet { endpoint, tokens } => {
                format!("{tokens} tokens were asked for at {endpoint} just before, and were not listed when this was routed")
            }
            Self::Evicted { endpoint, tokens, before } => format!(
                "{tokens} tokens were computed at {endpoint} {} s before, and were held nowhere any more: evicted, or never stored there",
                before.as_secs()
            ),
            Self::OtherTenant { tokens } => format!("another tenant asked for the same {tokens} tokens: tenants share nothing"),
            Self::Differs { request, same_tokens } => format!(
                "request {request} began with the same {same_tokens} tokens, and differs within the {} after them: another turn, or a \
                 template or tokenizer that renders the same turn differently",
                Prints::CHUNK_TOKENS
            ),
            Self::NeverStored { remembered } => {
                format!("none of the {remembered} requests remembered before it began like this one")
            }
        }
    }
}

/// Reasons for what was missed, of the part that was nearest to being a hit first; none where nothing much was.
pub(super) fn diagnose(record: &Entry, earlier: &[Entry], lives: &dyn Fn(&EndpointId) -> bool) -> Vec<Miss> {
    let record = record.lock();
    let Some(attempt) = record.attempts.last() else { return Vec::new() };
    let full = record.prints.tokens();
    let reused = record.prompt_tokens.saturating_sub(attempt.picked.terms.computed_tokens);
    let more = |tokens: u32, than: u32| tokens >= than.saturating_add(Prints::CHUNK_TOKENS);
    if !more(full, reused) {
        return Vec::new();
    }
    let mut misses = Vec::new();
    let own = &attempt.picked.overlap;
    if more(own.local_tokens.max(own.peer_tokens), reused) {
        let local = || format!("the node of {}", attempt.picked.endpoint);
        let peer = attempt.picked.peer.as_ref().map(|peer| format!("node {peer}"));
        let (from, tokens) = match peer {
            Some(peer) if own.peer_tokens > own.local_tokens => (peer, own.peer_tokens),
            _ => (local(), own.local_tokens),
        };
        misses.push(Miss::SlowerThanComputing { from, tokens });
    }
    let near = |one: &Considered| one.overlap.device_tokens.max(one.overlap.local_tokens);
    if let Some(best) = attempt.others.iter().max_by_key(|one| near(one)).filter(|one| more(near(one), reused)) {
        misses.push(Miss::CostlierThere { endpoint: best.endpoint.clone(), tokens: near(best) });
    }
    let held = |one: &Considered| near(one).max(one.overlap.peer_tokens);
    let listed = attempt.others.iter().chain([&attempt.picked]).map(held).max().unwrap_or(0).max(reused);
    if more(full, listed) {
        match record.counted {
            true => misses.push(unlisted(&record, listed, earlier, lives)),
            false => misses.push(Miss::NotCounted),
        }
    }
    misses
}

/// Why nobody was listed with more than `listed` tokens.
fn unlisted(record: &Record, listed: u32, earlier: &[Entry], lives: &dyn Fn(&EndpointId) -> bool) -> Miss {
    let more = |tokens: u32| tokens >= listed.saturating_add(Prints::CHUNK_TOKENS);
    let (mut ours, mut theirs) = (None::<(u32, &Entry)>, 0);
    for entry in earlier {
        let other = entry.lock();
        if other.model != record.model || !other.counted {
            continue;
        }
        let common = record.prints.common_tokens(&other.prints);
        if other.tenant != record.tenant {
            theirs = theirs.max(common);
        } else if ours.is_none_or(|(best, _)| common >= best) {
            ours = Some((common, entry));
        }
    }
    if let Some((tokens, entry)) = ours.filter(|(tokens, _)| more(*tokens)) {
        let other = entry.lock();
        if let Some(attempt) = other.attempts.last() {
            let endpoint = attempt.picked.endpoint.clone();
            let fresh = match other.ended {
                None => true,
                Some((_, took)) => other.at + took + LISTED_AFTER > record.at,
            };
            if !lives(&endpoint) {
                return Miss::HolderGone { endpoint, tokens };
            }
            if fresh || record.index_age.is_some_and(|age| age > LISTED_AFTER) {
                return Miss::NotListedYet { endpoint, tokens };
            }
            if matches!(other.ended, Some((Outcome::Answered, _))) {
                let before = record.at.saturating_duration_since(other.at);
                return Miss::Evicted { endpoint, tokens, before };
            }
        }
    }
    if more(theirs) {
        return Miss::OtherTenant { tokens: theirs };
    }
    match ours {
        Some((same_tokens @ 1.., entry)) => Miss::Differs { request: entry.lock().request.clone(), same_tokens },
        _ => Miss::NeverStored { remembered: earlier.len() },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use parking_lot::Mutex;
    use weft_policy::{Overlap, Source, Terms};

    use super::super::Attempt;
    use super::*;

    fn considered(endpoint: &str, overlap: Overlap, reused: u32) -> Considered {
        let terms = Terms {
            source: Source::Nothing,
            local_tokens: 0,
            peer_tokens: 0,
            computed_tokens: 640 - reused,
            wait_seconds: 0.0,
            memory_seconds: 0.0,
            fetch_seconds: 0.0,
            prefill_seconds: 0.1,
            cost_seconds: 0.1,
        };
        Considered {
            endpoint: endpoint.parse().unwrap(),
            in_flight: 0,
            overlap,
            peer: Some("n9".parse().unwrap()),
            terms,
        }
    }

    struct Sample {
        start: Instant,
        entries: Vec<Entry>,
    }

    impl Sample {
        /// A request at `seconds`, answered a second later, whose prompt begins with `same` tokens as the others' and is its own then.
        fn asked(&mut self, seconds: u64, tenant: &str, same: u32, endpoint: &str) {
            let number = u32::try_from(self.entries.len()).unwrap();
            let tokens: Vec<u32> =
                (0..640).map(|token| if token < same { token } else { 1000 * (number + 1) + token }).collect();
            let attempt = Attempt {
                picked: considered(endpoint, Overlap::default(), 0),
                others: Vec::new(),
                left_out: 0,
                beta: 0.0,
                took: Duration::ZERO,
                failed: None,
            };
            self.entries.push(Arc::new(Mutex::new(Record {
                request: format!("r{number}"),
                at: self.start + Duration::from_secs(seconds),
                model: "m".to_owned(),
                tenant: Some(tenant.parse().unwrap()),
                prompt_tokens: 640,
                counted: true,
                prints: Prints::of_tokens(1, &tokens),
                index_age: Some(Duration::from_millis(10)),
                attempts: vec![attempt],
                ttft: None,
                usage: None,
                ended: Some((Outcome::Answered, Duration::from_secs(1))),
            })));
        }

        fn last(&self, change: impl FnOnce(&mut Record)) -> Vec<Miss> {
            let (record, earlier) = self.entries.split_last().unwrap();
            change(&mut record.lock());
            diagnose(record, earlier, &|endpoint| endpoint.to_string() != "gone")
        }
    }

    fn sample() -> Sample {
        Sample { start: Instant::now(), entries: Vec::new() }
    }

    #[test]
    fn what_nobody_lists_is_told_from_what_was_asked_before() {
        let endpoint: EndpointId = "e1".parse().unwrap();
        let mut never = sample();
        never.asked(0, "a", 0, "e1");
        never.asked(10, "a", 640, "e1");
        assert_eq!(never.last(|_| {}), [Miss::NeverStored { remembered: 1 }]);

        let mut evicted = sample();
        evicted.asked(0, "a", 640, "e1");
        evicted.asked(10, "a", 640, "e2");
        let before = Duration::from_secs(10);
        let expected = Miss::Evicted { endpoint: endpoint.clone(), tokens: 640, before };
        assert_eq!(evicted.last(|_| {}), [expected]);
        let unlisted = Miss::NotListedYet { endpoint: endpoint.clone(), tokens: 640 };
        assert_eq!(
            evicted.last(|record| record.index_age = Some(Duration::from_secs(60))),
            std::slice::from_ref(&unlisted)
        );

        let mut fresh = sample();
        fresh.asked(0, "a", 640, "e1");
        fresh.asked(2, "a", 640, "e2");
        assert_eq!(fresh.last(|_| {}), [unlisted]);

        let mut gone = sample();
        gone.asked(0, "a", 640, "gone");
        gone.asked(10, "a", 640, "e2");
        assert!(matches!(&gone.last(|_| {})[..], [Miss::HolderGone { .. }]));

        let mut other = sample();
        other.asked(0, "b", 640, "e1");
        other.asked(10, "a", 640, "e2");
        assert_eq!(other.last(|_| {}), [Miss::OtherTenant { tokens: 640 }]);

        let mut drift = sample();
        drift.asked(0, "a", 200, "e1");
        drift.asked(10, "a", 640, "e2");
        let listed = |record: &mut Record| record.attempts[0].picked = considered("e2", Overlap::default(), 192);
        assert_eq!(drift.last(listed), [Miss::Differs { request: "r0".to_owned(), same_tokens: 192 }]);
    }

    #[test]
    fn what_is_listed_and_not_taken_was_too_dear() {
        let mut sample = sample();
        sample.asked(0, "a", 640, "e1");
        let found = sample.last(|record| {
            let peer = Overlap { device_tokens: 64, local_tokens: 64, peer_tokens: 640 };
            record.attempts[0].picked = considered("e1", peer, 64);
            record.attempts[0].others = vec![considered("e2", Overlap { device_tokens: 640, ..peer }, 640)];
        });
        let (from, endpoint) = ("node n9".to_owned(), "e2".parse().unwrap());
        assert_eq!(
            found,
            [Miss::SlowerThanComputing { from, tokens: 640 }, Miss::CostlierThere { endpoint, tokens: 640 }]
        );
        assert_eq!(sample.last(|record| record.attempts[0].picked = considered("e1", Overlap::default(), 600)), []);
        let uncounted = sample.last(|record| {
            record.attempts[0].others.clear();
            record.attempts[0].picked = considered("e1", Overlap::default(), 0);
            record.counted = false;
        });
        assert_eq!(uncounted, [Miss::NotCounted]);
    }
}
