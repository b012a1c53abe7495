//! The lookup: one walk along a prompt's blocks, for all holders at once.
//!
//! A block's neighbour in memory is mostly its neighbour in the prompt, so the next slot is looked at first, and the hash
//! table is asked only where a run of neighbours ends. Where the name of the holders' set stays the same, nothing else is to
//! be done. Both are guesses that are always checked: holes and odd orders cost time, never truth.
//!
//! # Beside the writer
//! The walk sees each block as it was at some moment while it went on. If a record of a set was given to another meanwhile,
//! or a holder number to another life, it starts again.

use std::sync::atomic::Ordering;

use weft_types::{HolderId, IndexKey};

use crate::key::Key;
use crate::sets::{Content, SetId, number, place};
use crate::shared::Shared;
use crate::slab::{STRETCH_SLOTS, Segment, Slot, split};
use crate::table::Table;

/// How many leading blocks of a prefix one holder holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Who.
    pub holder: HolderId,
    /// Leading blocks, at least 1.
    pub blocks: u32,
}

/// Something that was read is another thing by now.
struct Overtaken;

/// Leading blocks by holder: longest first, then by number.
pub(crate) fn leading(shared: &Shared, prefix: &[IndexKey]) -> Vec<Match> {
    loop {
        let lives = shared.lives.load(Ordering::Acquire);
        if let Ok(matches) = attempt(shared, prefix)
            && shared.lives.load(Ordering::Acquire) == lives
        {
            return matches;
        }
    }
}

/// The set of a block; [`SetId::FREE`] if nobody holds it.
pub(crate) fn find(shared: &Shared, key: Key) -> SetId {
    Walk { shared, table: &shared.table.load(), near: None }.find(key)
}

fn attempt(shared: &Shared, prefix: &[IndexKey]) -> Result<Vec<Match>, Overtaken> {
    let Some((first, rest)) = prefix.split_first() else { return Ok(Vec::new()) };
    let table = shared.table.load();
    let mut walk = Walk { shared, table: &table, near: None };
    let Some((mut set, mut alive)) = walk.begin(Key::from(*first)) else { return Ok(Vec::new()) };
    let mut answer = Answer::of(alive.count());
    let mut stamped = walk.stamp(usize::MAX);
    let mut depth = 1;
    for key in rest {
        let key = Key::from(*key);
        let mut next = walk.find(key);
        if next != set.id {
            // Every block that had the former set must have had it while its record was the set's.
            if !shared.sets.confirm(set.id, set.version) {
                return Err(Overtaken);
            }
            match walk.narrow(key, &mut next, &alive) {
                Some((narrowed, kept)) => {
                    answer.end(&alive, Some(&kept), depth);
                    (set, alive) = (narrowed, kept);
                }
                None => break,
            }
            if alive.none() {
                return Ok(answer.all());
            }
        }
        stamped = walk.stamp(stamped);
        depth += 1;
    }
    if !shared.sets.confirm(set.id, set.version) {
        return Err(Overtaken);
    }
    answer.end(&alive, None, depth);
    Ok(answer.all())
}

/// A set, as it was read.
struct Read {
    id: SetId,
    version: u32,
}

struct Walk<'a> {
    shared: &'a Shared,
    table: &'a Table,
    /// Where the last block was found.
    near: Option<Near<'a>>,
}

#[derive(Clone, Copy)]
struct Near<'a> {
    number: usize,
    segment: &'a Segment,
    at: usize,
}

impl<'a> Walk<'a> {
    /// The set of a block; [`SetId::FREE`] if nobody holds it.
    #[inline]
    fn find(&mut self, key: Key) -> SetId {
        if let Some(near) = &mut self.near {
            near.at += 1;
            if let Some(next) = near.in_segment(self.shared) {
                *near = next;
                let set = next.segment.read(next.at, key);
                if set != SetId::FREE {
                    return set;
                }
            }
        }
        self.search(key)
    }

    fn search(&mut self, key: Key) -> SetId {
        let found = self.table.find(key, |slot: Slot| {
            let (number, at) = split(slot);
            let segment = self.shared.slab.segment(number)?;
            let set = segment.read(at, key);
            (set != SetId::FREE).then_some((Near { number, segment, at }, set))
        });
        match found {
            Some((near, set)) => {
                self.near = Some(near);
                set
            }
            None => SetId::FREE,
        }
    }

    /// The set of the first block, and who of it is not retired; `None` if that is nobody.
    fn begin(&mut self, key: Key) -> Option<(Read, Alive)> {
        let mut set = self.find(key);
        let (read, mut alive) = self.read(key, &mut set, Alive::of)?;
        let retired = &self.shared.retired;
        if retired.any() {
            alive.0.iter_mut().enumerate().for_each(|(at, word)| *word &= !retired.word(at));
        }
        (!alive.none()).then_some((read, alive))
    }

    /// The set of a block that was found to have the set `found`, and who of `alive` is in it; `None` if nobody holds it.
    fn narrow(&mut self, key: Key, found: &mut SetId, alive: &Alive) -> Option<(Read, Alive)> {
        self.read(key, found, |content| alive.within(content))
    }

    /// What `take` makes of the content of a block's set, proven to be that.
    fn read<T>(&mut self, key: Key, found: &mut SetId, take: impl Fn(Content<'_>) -> T) -> Option<(Read, T)> {
        let sets = &self.shared.sets;
        while *found != SetId::FREE {
            let set = *found;
            if let Some(version) = sets.version(set) {
                let taken = take(sets.content(set));
                if self.again(key) == set && sets.confirm(set, version) {
                    return Some((Read { id: set, version }, taken));
                }
            }
            // The writer has given the block another set, or has removed it and perhaps stored it elsewhere.
            *found = match self.again(key) {
                SetId::FREE => self.search(key),
                set => set,
            };
        }
        None
    }

    /// The set of the block that was found last, if it is still there.
    fn again(&self, key: Key) -> SetId {
        self.near.map_or(SetId::FREE, |near| near.segment.read(near.at, key))
    }

    /// Stamps the stretch where the last block was found, unless it is the one that was stamped last.
    #[inline]
    fn stamp(&self, stamped: usize) -> usize {
        let recency = &self.shared.recency;
        let (true, Some(near)) = (recency.tracked, self.near) else { return stamped };
        let stretch = (near.number << 16) | (near.at / STRETCH_SLOTS);
        if stretch != stamped {
            near.segment.stamp(near.at, recency.tick.load(Ordering::Relaxed));
        }
        stretch
    }
}

impl<'a> Near<'a> {
    /// This place, in the next segment if it is past the end of its own.
    #[inline]
    fn in_segment(self, shared: &'a Shared) -> Option<Self> {
        if self.at < crate::slab::SEGMENT_SLOTS {
            return Some(self);
        }
        let number = self.number + 1;
        shared.slab.segment(number).map(|segment| Self { number, segment, at: 0 })
    }
}

/// Holders that have all blocks so far: a bit each.
struct Alive(Vec<u64>);

impl Alive {
    fn of(content: Content<'_>) -> Self {
        let mut words = Vec::new();
        if let Content::Bits(bits) = content {
            words.extend(bits.iter().map(|word| word.load(Ordering::Relaxed)));
            return Self(words);
        }
        content.for_each(|number| {
            let (word, bit) = place(number);
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= bit;
        });
        Self(words)
    }

    /// Those that are in a set.
    fn within(&self, content: Content<'_>) -> Self {
        let mut words = vec![0; self.0.len()];
        if let Content::Bits(bits) = content {
            for (word, (alive, bits)) in words.iter_mut().zip(self.0.iter().zip(bits)) {
                *word = alive & bits.load(Ordering::Relaxed);
            }
            return Self(words);
        }
        content.for_each(|number| {
            let (word, bit) = place(number);
            if let Some(alive) = self.0.get(word) {
                words[word] |= alive & bit;
            }
        });
        Self(words)
    }

    fn none(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// The answer, filled from its end, since who drops out first has the fewest blocks.
struct Answer {
    matches: Vec<Match>,
    /// Places not filled yet.
    left: usize,
}

impl Answer {
    fn of(holders: usize) -> Self {
        Self { matches: vec![Match { holder: HolderId::new(0), blocks: 0 }; holders], left: holders }
    }

    /// Those of `alive` that are not in `kept` have `depth` blocks.
    fn end(&mut self, alive: &Alive, kept: Option<&Alive>, depth: usize) {
        let blocks = u32::try_from(depth).unwrap_or(u32::MAX);
        for (at, word) in alive.0.iter().enumerate().rev() {
            let mut gone = word & !kept.map_or(0, |kept| kept.0[at]);
            while gone != 0 {
                let bit = 63 - gone.leading_zeros();
                self.left -= 1;
                self.matches[self.left] = Match { holder: HolderId::new(u32::from(number(at, bit))), blocks };
                gone &= !(1 << bit);
            }
        }
    }

    fn all(self) -> Vec<Match> {
        self.matches
    }
}
