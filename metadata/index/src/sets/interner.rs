//! The writer's side of the sets: it finds a set by its content, counts the slots that name it, and gives the record of one
//! that is named no more to another.

use crate::atomic::{Ordering, fence};
use std::collections::VecDeque;

use hashbrown::HashTable;

use super::{
    Chunks, Content, FEW, Kind, LISTED_A_WORD, RECORDS_A_CHUNK, Record, SetId, Sets, Shape, WORDS_A_CHUNK, pack, place,
};

/// Powers of two up to the 1,024 words that hold a bit for every holder.
const CLASSES: usize = 11;

/// Which sets there are.
#[derive(Default)]
pub(crate) struct Interner {
    /// Slots that name a record; 0: it is not in use.
    named: Vec<u32>,
    /// Records in use, by the hash of their content.
    known: HashTable<u32>,
    free: Vec<u32>,
    /// Places of words not in use, by the power of two that says how many.
    free_words: [Vec<u32>; CLASSES],
    /// Words ever used, and their chunks.
    words: usize,
    word_chunks: usize,
    record_chunks: usize,
    /// Records named no more, which views of that epoch may still read.
    limbo: VecDeque<(u64, u32)>,
}

/// What a set would contain.
struct Wanted<'a> {
    shape: Shape,
    few: u64,
    words: &'a [u64],
}

impl Wanted<'_> {
    fn hash(&self) -> u64 {
        let mix = |hash: u64, word: &u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let hash = self.words.iter().fold(mix(u64::from(self.shape.to_bits()), &self.few), mix);
        hash.wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn is(&self, sets: &Sets, record: u32) -> bool {
        let record = sets.record(record).expect("known records exist");
        if record.shape.load(Ordering::Relaxed) != self.shape.to_bits() {
            return false;
        }
        let body = record.body.load(Ordering::Relaxed);
        match self.shape.kind {
            Kind::Few => body == self.few,
            Kind::List | Kind::Bits => {
                let words = sets.words(body, self.words.len());
                words.iter().map(|word| word.load(Ordering::Relaxed)).eq(self.words.iter().copied())
            }
        }
    }
}

impl Interner {
    /// Sets of more than one holder.
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    /// Bytes of the sets, and of what finds them.
    pub(crate) fn bytes(&self) -> usize {
        let vectors = 4 * (self.named.capacity() + self.free.capacity())
            + self.free_words.iter().map(|free| 4 * free.capacity()).sum::<usize>()
            + 16 * self.limbo.capacity();
        Chunks::<[Record; RECORDS_A_CHUNK]>::bytes(self.record_chunks)
            + Chunks::<[u64; WORDS_A_CHUNK]>::bytes(self.word_chunks)
            + vectors
            + self.known.allocation_size()
    }

    /// Bytes that another set may add: everything doubles at most, and there is a chunk more of each kind.
    pub(crate) fn growth_bytes(&self) -> usize {
        let chunk_of_each = Chunks::<[Record; RECORDS_A_CHUNK]>::bytes(1) + Chunks::<[u64; WORDS_A_CHUNK]>::bytes(1);
        self.bytes() + chunk_of_each
    }

    /// The set with one holder more.
    pub(crate) fn with(&mut self, sets: &Sets, set: SetId, number: u16) -> SetId {
        match sets.content(set) {
            content if content.contains(number) => set,
            Content::Few(numbers, count) if count < FEW => {
                let at = numbers[..count].partition_point(|held| *held < number);
                let mut grown = [0; FEW];
                grown[..at].copy_from_slice(&numbers[..at]);
                grown[at] = number;
                grown[at + 1..=count].copy_from_slice(&numbers[at..count]);
                self.find_or_make(sets, &few(&grown[..=count]))
            }
            Content::Bits(words) if place(number).0 < words.len() => {
                let mut words: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
                let (word, bit) = place(number);
                words[word] |= bit;
                self.find_or_make(sets, &bits(&words))
            }
            content => {
                let mut numbers = Vec::new();
                content.for_each(|held| numbers.push(held));
                let at = numbers.partition_point(|held| *held < number);
                numbers.insert(at, number);
                self.of(sets, &numbers)
            }
        }
    }

    /// The set without these; [`SetId::FREE`] if nobody is left.
    pub(crate) fn without(&mut self, sets: &Sets, set: SetId, gone: impl Fn(u16) -> bool) -> SetId {
        let mut left = Vec::new();
        let mut all = true;
        sets.content(set).for_each(|number| match gone(number) {
            true => all = false,
            false => left.push(number),
        });
        if all { set } else { self.of(sets, &left) }
    }

    /// The set of these, ascending.
    pub(crate) fn of(&mut self, sets: &Sets, numbers: &[u16]) -> SetId {
        match numbers {
            [] => SetId::FREE,
            [one] => SetId::single(*one),
            numbers if numbers.len() <= FEW => self.find_or_make(sets, &few(numbers)),
            numbers => {
                let last = numbers.last().copied().unwrap_or(0);
                let bit_words = (place(last).0 + 1).next_power_of_two();
                if bit_words <= list_words(numbers.len()) {
                    let mut words = vec![0; bit_words];
                    for (word, bit) in numbers.iter().map(|number| place(*number)) {
                        words[word] |= bit;
                    }
                    return self.find_or_make(sets, &bits(&words));
                }
                let mut words: Vec<u64> = numbers.chunks(LISTED_A_WORD).map(pack).collect();
                words.resize(list_words(numbers.len()), 0);
                let shape = Shape { count: count(numbers.len()), kind: Kind::List, words: count(words.len()) };
                self.find_or_make(sets, &Wanted { shape, few: 0, words: &words })
            }
        }
    }

    /// So many more slots name the set.
    #[inline]
    pub(crate) fn name(&mut self, set: SetId, slots: u32) {
        if let Some(record) = set.record() {
            self.named[record as usize] += slots;
        }
    }

    /// A slot names the set no more; `true` if none does. Then it can be had by its content no longer, and its record is
    /// free once no view older than `epoch` is left.
    #[inline]
    pub(crate) fn unname(&mut self, sets: &Sets, set: SetId, epoch: u64) -> bool {
        let Some(record) = set.record() else { return false };
        let named = &mut self.named[record as usize];
        *named -= 1;
        if *named > 0 {
            return false;
        }
        self.retire(sets, record, epoch);
        true
    }

    /// Frees records that no view reads any more: those retired before `oldest`.
    pub(crate) fn release(&mut self, sets: &Sets, oldest: u64) {
        while let Some((_, record)) = self.limbo.pop_front_if(|(epoch, _)| *epoch < oldest) {
            self.free(sets, record);
        }
    }

    #[cold]
    fn retire(&mut self, sets: &Sets, record: u32, epoch: u64) {
        let wanted_hash = hash_of(sets, record);
        let entry = self.known.find_entry(wanted_hash, |known| *known == record);
        entry.expect("a record in use is known").remove();
        self.limbo.push_back((epoch, record));
    }

    fn free(&mut self, sets: &Sets, record: u32) {
        let entry = sets.record(record).expect("known records exist");
        let shape = Shape::from_bits(entry.shape.load(Ordering::Relaxed));
        // Before another record takes the words: whoever reads them for this one must notice.
        entry.version.store(entry.version.load(Ordering::Relaxed).wrapping_add(2), Ordering::Release);
        if shape.kind != Kind::Few {
            let at = u32::try_from(entry.body.load(Ordering::Relaxed)).expect("places of words are below 2^30");
            self.free_words[shape.words.trailing_zeros() as usize].push(at);
        }
        self.free.push(record);
    }

    fn find_or_make(&mut self, sets: &Sets, wanted: &Wanted<'_>) -> SetId {
        let hash = wanted.hash();
        if let Some(record) = self.known.find(hash, |record| wanted.is(sets, *record)) {
            return SetId::of_record(*record);
        }
        let record = self.free.pop().unwrap_or_else(|| self.another_record(sets));
        let entry = sets.record(record).expect("it was made");
        let version = entry.version.load(Ordering::Relaxed);
        entry.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let body = match wanted.shape.kind {
            Kind::Few => wanted.few,
            Kind::List | Kind::Bits => {
                let at = self.place_words(sets, wanted.shape.words);
                for (word, value) in sets.words(u64::from(at), wanted.words.len()).iter().zip(wanted.words) {
                    word.store(*value, Ordering::Relaxed);
                }
                u64::from(at)
            }
        };
        entry.body.store(body, Ordering::Relaxed);
        entry.shape.store(wanted.shape.to_bits(), Ordering::Relaxed);
        entry.version.store(version.wrapping_add(2), Ordering::Release);
        self.known.insert_unique(hash, record, |record| hash_of(sets, *record));
        SetId::of_record(record)
    }

    fn another_record(&mut self, sets: &Sets) -> u32 {
        let record = self.named.len();
        if record.is_multiple_of(RECORDS_A_CHUNK) {
            let empty = || Record { version: 0.into(), shape: 0.into(), body: 0.into() };
            sets.records.add(self.record_chunks, boxed_array(empty));
            self.record_chunks += 1;
        }
        self.named.push(0);
        count(record)
    }

    /// A place for so many words, a power of two.
    fn place_words(&mut self, sets: &Sets, words: u32) -> u32 {
        let class = words.trailing_zeros() as usize;
        if let Some(at) = self.free_words[class].pop() {
            return at;
        }
        let words = words as usize;
        // What does not fit at a chunk's end begins the next; what is left goes unused.
        let left = self.word_chunks * WORDS_A_CHUNK - self.words;
        if left < words {
            sets.words.add(self.word_chunks, boxed_array(|| 0.into()));
            self.words = self.word_chunks * WORDS_A_CHUNK;
            self.word_chunks += 1;
        }
        let at = self.words;
        self.words += words;
        count(at)
    }
}

fn hash_of(sets: &Sets, record: u32) -> u64 {
    let record = sets.record(record).expect("known records exist");
    let shape = Shape::from_bits(record.shape.load(Ordering::Relaxed));
    let body = record.body.load(Ordering::Relaxed);
    if shape.kind == Kind::Few {
        return Wanted { shape, few: body, words: &[] }.hash();
    }
    let words: Vec<u64> =
        sets.words(body, shape.words as usize).iter().map(|word| word.load(Ordering::Relaxed)).collect();
    Wanted { shape, few: 0, words: &words }.hash()
}

fn few(numbers: &[u16]) -> Wanted<'static> {
    Wanted { shape: Shape { count: count(numbers.len()), kind: Kind::Few, words: 1 }, few: pack(numbers), words: &[] }
}

fn bits(words: &[u64]) -> Wanted<'_> {
    let numbers: u32 = words.iter().map(|word| word.count_ones()).sum();
    Wanted { shape: Shape { count: numbers, kind: Kind::Bits, words: count(words.len()) }, few: 0, words }
}

/// Words of a list of so many numbers.
fn list_words(numbers: usize) -> usize {
    numbers.div_ceil(LISTED_A_WORD).next_power_of_two()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("sets, their words and their holders are fewer than slots")
}

fn boxed_array<T, const N: usize>(mut empty: impl FnMut() -> T) -> Box<[T; N]> {
    let all: Vec<T> = (0..N).map(|_| empty()).collect();
    match all.try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("N were made"),
    }
}
