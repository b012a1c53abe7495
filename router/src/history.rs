//! What the router sent where: what stands in for residency where nobody reports any.
//!
//! An endpoint that was sent a prompt is taken to hold it, chunk by chunk, until it is forgotten here. That is a guess: engines
//! evict, and are not asked. It costs no tokenizer and no message. Each tenant has its own chunks.
//!
//! Two generations bound it: a chunk goes into the young one whenever it is sent or met, and when that is full the old one is
//! dropped, with what was not met for a generation.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use parking_lot::Mutex;
use weft_types::{EndpointId, Incarnation};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::callers::Caller;
use crate::prints::Prints;

/// Whom a prompt may be sent to.
pub(crate) type Candidate<'a> = (&'a EndpointId, Incarnation);

/// Chunks, and who was sent them.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, Holders, BuildHasherDefault<PrintHasher>>,
    old: HashMap<u64, Holders, BuildHasherDefault<PrintHasher>>,
    /// Numbers that stand for endpoints in the maps, and the last that was given.
    numbers: HashMap<(EndpointId, Incarnation), u32>,
    last_number: u32,
}

/// The last that were sent a chunk, the latest first; zero is nobody.
type Holders = [u32; History::HOLDERS];

/// Keys are fingerprints: as good as random already.
#[derive(Debug, Default)]
struct PrintHasher(u64);

impl History {
    /// Endpoints remembered of one chunk: a prefix that all prompts share is everywhere soon, whoever is remembered.
    const HOLDERS: usize = 4;
    /// Chunks of a generation: with both, some 32 million tokens in at most 50 MB.
    const GENERATION_CHUNKS: usize = if cfg!(test) { 1 << 10 } else { 1 << 18 };
    /// Numbers given to endpoints; then all begins anew.
    const NUMBERS_MAX: usize = 1 << 16;

    /// Leading tokens of a prompt that each endpoint was sent, in the order of `endpoints`.
    pub(crate) fn leading_tokens(&self, space: u64, prints: &Prints, endpoints: &[Candidate<'_>]) -> Vec<u32> {
        let mut generations = self.0.lock();
        let mut leading = vec![0; endpoints.len()];
        let number = |endpoint: &Candidate<'_>| generations.numbers.get(&(endpoint.0.clone(), endpoint.1)).copied();
        let mut running: Vec<(usize, u32)> =
            endpoints.iter().enumerate().filter_map(|(index, endpoint)| Some((index, number(endpoint)?))).collect();
        for (chunk, print) in prints.chunks().iter().enumerate() {
            let Some(holders) = generations.get(print ^ space) else { break };
            running.retain(|(_, number)| holders.contains(number));
            if running.is_empty() {
                break;
            }
            for (index, _) in &running {
                leading[*index] = Prints::tokens_of(chunk + 1);
            }
        }
        leading
    }

    /// An endpoint is sent a prompt.
    pub(crate) fn sent(&self, space: u64, prints: &Prints, endpoint: Candidate<'_>) {
        let mut generations = self.0.lock();
        let number = generations.number(endpoint);
        for print in prints.chunks() {
            generations.put(print ^ space, number);
        }
    }
}

impl History {
    /// An endpoint went out: it may come back empty.
    pub(crate) fn forget(&self, endpoint: Candidate<'_>) {
        // What stands in the maps under its number is nobody's now.
        self.0.lock().numbers.remove(&(endpoint.0.clone(), endpoint.1));
    }

    /// A request of a session was sent to an endpoint.
    pub(crate) fn stays(&self, session: u64, endpoint: Candidate<'_>) {
        let mut generations = self.0.lock();
        let number = generations.number(endpoint);
        generations.put(session, number);
    }

    /// Where the last request of a session went, of these.
    pub(crate) fn stayed(&self, session: u64, endpoints: &[Candidate<'_>]) -> Option<EndpointId> {
        let mut generations = self.0.lock();
        let [last, ..] = generations.get(session)?;
        let is = |endpoint: &&Candidate<'_>| generations.numbers.get(&(endpoint.0.clone(), endpoint.1)) == Some(&last);
        endpoints.iter().find(is).map(|endpoint| endpoint.0.clone())
    }
}

/// A session, as its caller names it.
pub(crate) fn session(space: u64, name: &[u8]) -> u64 {
    // The seed is another than any print's.
    xxh3_64_with_seed(name, space ^ u64::MAX)
}

/// Whose chunks, of which model.
pub(crate) fn space(model: &str, caller: &Caller) -> u64 {
    xxh3_64_with_seed(caller.salt().as_bytes(), xxh3_64_with_seed(model.as_bytes(), 0))
}

impl Generations {
    /// Who was sent a chunk; it is young again.
    fn get(&mut self, key: u64) -> Option<Holders> {
        if let Some(holders) = self.young.get(&key) {
            return Some(*holders);
        }
        let holders = self.old.remove(&key)?;
        self.insert(key, holders);
        Some(holders)
    }

    fn put(&mut self, key: u64, number: u32) {
        let mut holders = self.get(key).unwrap_or_default();
        let at = holders.iter().position(|holder| *holder == number).unwrap_or(History::HOLDERS - 1);
        holders[..=at].rotate_right(1);
        holders[0] = number;
        self.insert(key, holders);
    }

    fn insert(&mut self, key: u64, holders: Holders) {
        if self.young.len() >= History::GENERATION_CHUNKS && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, holders);
    }

    fn number(&mut self, (endpoint, incarnation): Candidate<'_>) -> u32 {
        if let Some(number) = self.numbers.get(&(endpoint.clone(), incarnation)) {
            return *number;
        }
        if self.numbers.len() >= History::NUMBERS_MAX || self.last_number == u32::MAX {
            *self = Self::default();
        }
        self.last_number += 1;
        self.numbers.insert((endpoint.clone(), incarnation), self.last_number);
        self.last_number
    }
}

impl Hasher for PrintHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, print: u64) {
        self.0 = print;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(first: u32, chunks: u32) -> Prints {
        let tokens: Vec<u32> = (0..chunks * Prints::CHUNK_TOKENS).map(|token| token + first).collect();
        Prints::of_tokens(7, &tokens)
    }

    #[test]
    fn whoever_was_sent_a_prompt_has_what_it_shares_with_the_next() {
        let history = History::default();
        let [e1, e2, e3]: [EndpointId; 3] = ["e1", "e2", "e3"].map(|name| name.parse().unwrap());
        let boot = Incarnation::new(1);
        history.sent(0, &prints(0, 4), (&e1, boot));
        history.sent(0, &prints(0, 2), (&e2, boot));
        let all = [(&e1, boot), (&e2, boot), (&e3, boot), (&e1, boot.next())];
        assert_eq!(history.leading_tokens(0, &prints(0, 6), &all), [256, 128, 0, 0], "a restart empties an engine");
        assert_eq!(history.leading_tokens(1, &prints(0, 6), &all), [0; 4], "another tenant's are not these");
        assert_eq!(history.leading_tokens(0, &prints(9, 6), &all), [0; 4]);
        history.forget((&e1, boot));
        assert_eq!(history.leading_tokens(0, &prints(0, 6), &all), [0, 128, 0, 0], "it may have come back empty");
        history.sent(0, &prints(0, 4), (&e1, boot));
        for number in 0..History::HOLDERS {
            history.sent(0, &prints(0, 1), (&format!("x{number}").parse().unwrap(), boot));
        }
        assert_eq!(history.leading_tokens(0, &prints(0, 6), &all), [0; 4], "the latest are remembered");
    }

    #[test]
    fn a_session_is_where_its_last_request_went() {
        let history = History::default();
        let [e1, e2]: [EndpointId; 2] = ["e1", "e2"].map(|name| name.parse().unwrap());
        let (boot, ours) = (Incarnation::new(1), session(1, b"s"));
        for endpoint in [&e1, &e2] {
            history.stays(ours, (endpoint, boot));
        }
        let both = [(&e1, boot), (&e2, boot)];
        assert_eq!(history.stayed(ours, &both), Some(e2.clone()));
        assert_eq!(history.stayed(session(2, b"s"), &both), None, "another tenant's session of that name");
        history.forget((&e2, boot));
        assert_eq!(history.stayed(ours, &both), None);
    }

    #[test]
    fn what_is_not_met_for_a_generation_is_forgotten_and_no_more_is_kept_than_two() {
        let history = History::default();
        let (e1, boot): (EndpointId, _) = ("e1".parse().unwrap(), Incarnation::new(1));
        let (kept, lost) = (prints(1, 3), prints(2, 3));
        for met in [&kept, &lost] {
            history.sent(0, met, (&e1, boot));
        }
        for round in 0..6 {
            for number in 0..History::GENERATION_CHUNKS as u64 / 2 {
                history.0.lock().put(xxh3_64_with_seed(&number.to_le_bytes(), round), 1);
            }
            history.leading_tokens(0, &kept, &[(&e1, boot)]);
        }
        let generations = history.0.lock();
        assert!(generations.young.len().max(generations.old.len()) <= History::GENERATION_CHUNKS);
        drop(generations);
        assert_eq!(history.leading_tokens(0, &kept, &[(&e1, boot)]), [192]);
        assert_eq!(history.leading_tokens(0, &lost, &[(&e1, boot)]), [0]);
    }
}
