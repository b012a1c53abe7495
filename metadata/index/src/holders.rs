//! Sets of holder numbers: three inline, more as bits.

use weft_types::HolderId;

/// Holders of a block, inside its entry. A block usually lies in one node's host memory and on a device or two; a system
/// prompt lies everywhere. So 8 bytes hold up to three numbers, or say which bit set of the partition has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HolderSet {
    /// `numbers[..len]`, ascending; the rest is 0, so that equal sets have equal bytes.
    Few { len: u8, numbers: [u16; HolderSet::FEW] },
    /// Place in the partition's list of bit sets.
    Many(u32),
}

impl HolderSet {
    pub(crate) const FEW: usize = 3;

    pub(crate) const fn one(number: u16) -> Self {
        Self::Few { len: 1, numbers: [number, 0, 0] }
    }

    /// `numbers`: ascending, at most three.
    pub(crate) fn few(numbers: impl Iterator<Item = u16>) -> Self {
        let mut few = [0; Self::FEW];
        let mut len = 0;
        for (slot, number) in few.iter_mut().zip(numbers) {
            *slot = number;
            len += 1;
        }
        Self::Few { len, numbers: few }
    }
}

/// A set of holder numbers as bits; trailing zero words are not kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn insert(&mut self, number: u16) -> bool {
        let (word, bit) = place(number);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    pub(crate) fn remove(&mut self, number: u16) -> bool {
        let (word, bit) = place(number);
        let Some(bits) = self.0.get_mut(word).filter(|bits| **bits & bit != 0) else {
            return false;
        };
        *bits &= !bit;
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        true
    }

    pub(crate) fn contains(&self, number: u16) -> bool {
        let (word, bit) = place(number);
        self.word(word) & bit != 0
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + use<'_> {
        Ones { words: &self.0, word: 0, bits: self.word(0) }
    }

    /// Word `at`, with 64 numbers; 0 past the end.
    pub(crate) fn word(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// Keeps what is also in `other`, and gives the others to `gone`. `true` if something was kept.
    pub(crate) fn keep(&mut self, other: Holders<'_>, mut gone: impl FnMut(u16)) -> bool {
        let mut kept = false;
        for (at, bits) in self.0.iter_mut().enumerate() {
            let both = *bits & other.word(at);
            let mut lost = *bits & !both;
            while lost != 0 {
                gone(number(at, lost.trailing_zeros()));
                lost &= lost - 1;
            }
            *bits = both;
            kept |= both != 0;
        }
        kept
    }
}

/// Word and bit of a number.
fn place(number: u16) -> (usize, u64) {
    (usize::from(number / 64), 1 << (number % 64))
}

/// Number of a word's bit.
fn number(word: usize, bit: u32) -> u16 {
    u16::try_from(word * 64 + bit as usize).expect("bit sets grow to u16 numbers only")
}

struct Ones<'a> {
    words: &'a [u64],
    word: usize,
    bits: u64,
}

impl Iterator for Ones<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        while self.bits == 0 {
            self.word += 1;
            self.bits = *self.words.get(self.word)?;
        }
        let bit = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        Some(number(self.word, bit))
    }
}

/// Holders of one block, borrowed from the index.
#[derive(Clone, Copy, Debug)]
pub struct Holders<'a> {
    held: Held<'a>,
    /// Numbers that are left out.
    masked: &'a Bits,
}

#[derive(Clone, Copy, Debug)]
enum Held<'a> {
    Few(&'a [u16]),
    Many(&'a Bits),
}

static NOBODY: Bits = Bits(Vec::new());

impl<'a> Holders<'a> {
    pub(crate) fn few(numbers: &'a [u16]) -> Self {
        Self { held: Held::Few(numbers), masked: &NOBODY }
    }

    pub(crate) fn many(bits: &'a Bits) -> Self {
        Self { held: Held::Many(bits), masked: &NOBODY }
    }

    /// The same without these.
    pub(crate) fn without(self, masked: &'a Bits) -> Self {
        Self { masked, ..self }
    }

    /// Ascending.
    pub fn iter(self) -> impl Iterator<Item = HolderId> + use<'a> {
        self.numbers().map(|number| HolderId::new(u32::from(number)))
    }

    pub(crate) fn contains(self, number: u16) -> bool {
        let held = match self.held {
            Held::Few(numbers) => numbers.contains(&number),
            Held::Many(bits) => bits.contains(number),
        };
        held && !self.masked.contains(number)
    }

    pub(crate) fn numbers(self) -> impl Iterator<Item = u16> + use<'a> {
        let (few, many): (&[u16], _) = match self.held {
            Held::Few(numbers) => (numbers, None),
            Held::Many(bits) => (&[], Some(bits)),
        };
        let all = few.iter().copied().chain(many.into_iter().flat_map(Bits::iter));
        all.filter(move |number| !self.masked.contains(*number))
    }

    fn word(self, at: usize) -> u64 {
        let held = match self.held {
            Held::Few(numbers) => {
                numbers.iter().map(|number| place(*number)).filter(|(word, _)| *word == at).map(|(_, bit)| bit).sum()
            }
            Held::Many(bits) => bits.word(at),
        };
        held & !self.masked.word(at)
    }
}
