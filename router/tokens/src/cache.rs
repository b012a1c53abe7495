//! Tokens of segments met before, within a number of bytes.
//!
//! Two generations: a hit in the old one moves to the young one, and when the young one is half the bound it becomes
//! the old one, and the old one is dropped. That keeps what was used lately at two map operations a look-up, with
//! nothing to sort. The whole text is the key, so that a cached answer is exact without any argument about hashes.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

/// Text → tokens, bounded by bytes. Shared; the lock is held for one look-up, never while tokenising.
#[derive(Debug)]
pub(crate) struct SegmentCache {
    bytes_max: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Box<str>, Arc<[u32]>>,
    old: HashMap<Box<str>, Arc<[u32]>>,
    young_bytes: usize,
}

impl SegmentCache {
    /// What an entry costs beside its text and tokens: the map's slot, two heap headers, the reference counts.
    const ENTRY_BYTES: usize = 96;

    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, generations: Mutex::default() }
    }

    /// The cached tokens of `text`, or those that `encode` makes of it.
    pub(crate) fn get_or_encode<E>(
        &self,
        text: &str,
        encode: impl FnOnce(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Arc<[u32]>, E> {
        if let Some(tokens) = self.get(text) {
            return Ok(tokens);
        }
        let tokens: Arc<[u32]> = encode(text)?.into();
        self.generations.lock().insert(text.into(), Arc::clone(&tokens), self.bytes_max / 2);
        Ok(tokens)
    }

    fn get(&self, text: &str) -> Option<Arc<[u32]>> {
        let mut generations = self.generations.lock();
        if let Some(tokens) = generations.young.get(text) {
            return Some(Arc::clone(tokens));
        }
        let (text, tokens) = generations.old.remove_entry(text)?;
        generations.insert(text, Arc::clone(&tokens), self.bytes_max / 2);
        Some(tokens)
    }
}

impl Generations {
    fn insert(&mut self, text: Box<str>, tokens: Arc<[u32]>, young_max: usize) {
        let bytes = text.len() + size_of_val(&*tokens) + SegmentCache::ENTRY_BYTES;
        if bytes > young_max {
            return;
        }
        if self.young_bytes + bytes > young_max {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(text, tokens).is_none() {
            self.young_bytes += bytes;
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let entries = self.young.iter().chain(&self.old);
        entries.map(|(text, tokens)| text.len() + size_of_val(&**tokens) + SegmentCache::ENTRY_BYTES).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn lengths(cache: &SegmentCache, text: &str, encoded: &mut usize) {
        let tokens = cache.get_or_encode(text, |text| {
            *encoded += 1;
            Ok::<_, Infallible>(vec![7; text.len()])
        });
        assert_eq!(tokens.unwrap().len(), text.len());
    }

    #[test]
    fn what_is_used_stays_and_the_bytes_are_bounded() {
        let cache = SegmentCache::new(4096);
        let mut encoded = 0;
        for number in 0..500 {
            lengths(&cache, "the system prompt that everybody shares", &mut encoded);
            lengths(&cache, &format!("a turn that is never seen again, number {number:04}"), &mut encoded);
            assert!(cache.generations.lock().bytes() <= 4096);
        }
        assert_eq!(encoded, 501, "the shared prompt was encoded once, every other text once");
    }

    #[test]
    fn a_text_larger_than_half_the_bound_is_not_kept() {
        let cache = SegmentCache::new(1024);
        let (long, mut encoded) = ("x".repeat(600), 0);
        lengths(&cache, &long, &mut encoded);
        lengths(&cache, &long, &mut encoded);
        assert_eq!(encoded, 2);
        assert_eq!(cache.generations.lock().bytes(), 0);
    }
}
