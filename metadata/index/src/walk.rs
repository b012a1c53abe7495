//! The lookup: one walk along a prompt's blocks, for all holders at once.
//!
//! A block's neighbour in memory is mostly its neighbour in the prompt, so the next slot is looked at first. Where a run of
//! neighbours ends, the hash table is asked for that block and, at the same time, for blocks further on: what the table and the
//! slab answer from main memory is then on its way all at once, and where the next run ends, its successor is already known.
//! Where the name of the holders' set stays the same, nothing else is to be done. All of these are guesses that are always
//! checked: holes and odd orders cost time, never truth.
//!
//! # Beside the writer
//! The walk sees each block as it was at some moment while it went on. If a record of a set was given to another meanwhile,
//! or a holder number to another life, it starts again.

use crate::atomic::Ordering;

use weft_types::{HolderId, IndexKey};

use crate::key::{Key, Print};
use crate::sets::{Content, SetId, number, place};
use crate::shared::Shared;
use crate::slab::{SEGMENT_SLOTS, STRETCH_SLOTS, Segment, Slot, split};
use crate::table::{Place, Table};

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

fn attempt(shared: &Shared, prefix: &[IndexKey]) -> Result<Vec<Match>, Overtaken> {
    let table = shared.table.load();
    let mut walk = Walk::new(shared, &table, prefix);
    let Some(mut set) = walk.begin() else { return Ok(Vec::new()) };
    let mut answer = Answer::of(walk.alive.count());
    let mut depth = 1;
    while depth < prefix.len() {
        depth += walk.run(depth, set.id);
        if depth == prefix.len() {
            break;
        }
        let next = walk.find(depth);
        if next != set.id {
            // Every block that had the former set must have had it while its record was the set's.
            if !shared.sets.confirm(set.id, set.version) {
                return Err(Overtaken);
            }
            let Some(narrowed) = walk.narrow(depth, next) else { break };
            set = narrowed;
            answer.end(&walk.alive, Some(&walk.kept), depth);
            std::mem::swap(&mut walk.alive, &mut walk.kept);
            if walk.alive.none() {
                return Ok(answer.all());
            }
        }
        depth += 1;
    }
    if !shared.sets.confirm(set.id, set.version) {
        return Err(Overtaken);
    }
    answer.end(&walk.alive, None, depth);
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
    prefix: &'a [IndexKey],
    /// Where the last block was found.
    near: Option<Near<'a>>,
    ahead: Ahead,
    /// Who has all blocks so far.
    alive: Holders,
    /// Who of them has the block at hand too.
    kept: Holders,
}

#[derive(Clone, Copy)]
struct Near<'a> {
    number: usize,
    segment: &'a Segment,
    at: usize,
}

/// Where some of the blocks to come may lie.
struct Ahead {
    /// Block of the first of them.
    first: usize,
    /// The others follow so many blocks apart.
    every: usize,
    count: usize,
    slots: [Slot; Ahead::MAX],
}

impl Ahead {
    /// As many loads as a core keeps on their way.
    const MAX: usize = 16;

    const NONE: Self = Self { first: 0, every: 1, count: 0, slots: [Slot::MAX; Self::MAX] };

    /// How far apart they should be, with so many blocks to come: all of a prompt at once, unless it is long.
    fn every(blocks: usize) -> usize {
        (blocks / Self::MAX).clamp(4, 64)
    }

    /// Where a block may lie, if the next one that was asked for lies in the same run.
    fn guess(&self, block: usize) -> Option<Slot> {
        let later = block.checked_sub(self.first)?.div_ceil(self.every);
        let slot = self.slots[..self.count].get(later).filter(|slot| **slot != Slot::MAX)?;
        slot.checked_sub((self.first + later * self.every - block) as Slot)
    }

    /// All of them lie before this block.
    fn is_over(&self, block: usize) -> bool {
        block >= self.first + self.count * self.every
    }
}

impl<'a> Walk<'a> {
    fn new(shared: &'a Shared, table: &'a Table, prefix: &'a [IndexKey]) -> Self {
        let (alive, kept) = (Holders::default(), Holders::default());
        Self { shared, table, prefix, near: None, ahead: Ahead::NONE, alive, kept }
    }

    fn key(&self, block: usize) -> Key {
        Key::from(self.prefix[block])
    }

    fn print(&self, key: Key) -> Print {
        self.shared.slab.print(key)
    }

    /// Goes along neighbours that have the blocks from `block` on, and this set; returns how many they are.
    #[inline]
    fn run(&mut self, block: usize, set: SetId) -> usize {
        let keys = &self.prefix[block..];
        let mut found = 0;
        while let Some(next) = self.near.and_then(|near| near.next(self.shared)) {
            let print = |key: IndexKey| self.shared.slab.print(Key::from(key));
            let some = next.segment.read_run(next.at, &keys[found..], print, set);
            if some == 0 {
                break;
            }
            self.near = Some(Near { at: next.at + some - 1, ..next });
            self.stamp_run(next, some);
            found += some;
        }
        found
    }

    /// The set of a block; [`SetId::FREE`] if nobody holds it.
    #[inline]
    fn find(&mut self, block: usize) -> SetId {
        let key = self.key(block);
        if let Some(next) = self.near.and_then(|near| near.next(self.shared))
            && let Some(set) = self.look(next, self.print(key))
        {
            return set;
        }
        self.search(block, key)
    }

    fn search(&mut self, block: usize, key: Key) -> SetId {
        // The first block is mostly found where it is looked for, with the run that many prompts begin with, or nobody has it.
        if block > 0 && self.ahead.is_over(block) {
            self.look_ahead(block);
        }
        let print = self.print(key);
        if let Some(guess) = self.ahead.guess(block)
            && let Some(near) = Near::of(self.shared, guess)
            && let Some(set) = self.look(near, print)
        {
            return set;
        }
        let found = self.table.find(Place::of(key), |slot: Slot| {
            let near = Near::of(self.shared, slot)?;
            let set = near.segment.read(near.at, print);
            (set != SetId::FREE).then_some((near, set))
        });
        match found {
            Some((near, set)) => self.found(near, set),
            None => SetId::FREE,
        }
    }

    /// The set of a block, if it lies here.
    #[inline]
    fn look(&mut self, here: Near<'a>, print: Print) -> Option<SetId> {
        let set = here.segment.read(here.at, print);
        (set != SetId::FREE).then(|| self.found(here, set))
    }

    fn found(&mut self, here: Near<'a>, set: SetId) -> SetId {
        self.near = Some(here);
        self.stamp_run(here, 1);
        set
    }

    /// Asks the table for this block and some further on.
    fn look_ahead(&mut self, block: usize) {
        let every = Ahead::every(self.prefix.len() - block);
        let mut places = [Place::default(); Ahead::MAX];
        let mut count = 0;
        while count < Ahead::MAX
            && let Some(key) = self.prefix.get(block + count * every)
        {
            places[count] = Place::of(Key::from(*key));
            self.table.touch(places[count]);
            count += 1;
        }
        self.ahead = Ahead { first: block, every, count, ..Ahead::NONE };
        for (place, to) in places[..count].iter().zip(&mut self.ahead.slots) {
            *to = self.table.find(*place, Some).unwrap_or(Slot::MAX);
        }
        // The run of each may begin anywhere between the one before and it.
        for slot in &self.ahead.slots[..count] {
            if let Some(near) = Near::of(self.shared, *slot) {
                near.segment.touch(near.at, every - 1);
            }
        }
    }

    /// The set of the first block, with whoever of it is not retired alive; `None` if that is nobody.
    fn begin(&mut self) -> Option<Read> {
        if self.prefix.is_empty() {
            return None;
        }
        let found = self.find(0);
        let read = self.read(0, found, |content, _, kept| kept.take(content))?;
        std::mem::swap(&mut self.alive, &mut self.kept);
        let retired = &self.shared.retired;
        if retired.any() {
            self.alive.0.iter_mut().enumerate().for_each(|(at, word)| *word &= !retired.word(at));
        }
        if self.alive.none() {
            return None;
        }
        Some(read)
    }

    /// The set of a block that was found to have the set `found`, with those of it kept that are alive; `None` if nobody
    /// holds it.
    fn narrow(&mut self, block: usize, found: SetId) -> Option<Read> {
        self.read(block, found, |content, alive, kept| kept.take_within(alive, content))
    }

    /// The set of a block, after `take` has taken what it wants of the set's content, proven to be that.
    fn read(
        &mut self,
        block: usize,
        mut found: SetId,
        take: impl Fn(Content<'_>, &Holders, &mut Holders),
    ) -> Option<Read> {
        let (sets, key) = (&self.shared.sets, self.key(block));
        while found != SetId::FREE {
            if let Some(version) = sets.version(found) {
                take(sets.content(found), &self.alive, &mut self.kept);
                if self.again(key) == found && sets.confirm(found, version) {
                    return Some(Read { id: found, version });
                }
            }
            // The writer has given the block another set, or has removed it and perhaps stored it elsewhere.
            found = match self.again(key) {
                SetId::FREE => self.search(block, key),
                set => set,
            };
        }
        None
    }

    /// The set of the block that was found last, if it is still there.
    fn again(&self, key: Key) -> SetId {
        self.near.map_or(SetId::FREE, |near| near.segment.read(near.at, self.print(key)))
    }

    /// Stamps the stretches of blocks that were found from here on.
    #[inline]
    fn stamp_run(&self, first: Near<'_>, blocks: usize) {
        let recency = &self.shared.recency;
        if recency.tracked {
            let tick = recency.tick.load(Ordering::Relaxed);
            let stretches = first.at / STRETCH_SLOTS..=(first.at + blocks - 1) / STRETCH_SLOTS;
            stretches.for_each(|stretch| first.segment.stamp(stretch * STRETCH_SLOTS, tick));
        }
    }
}

impl<'a> Near<'a> {
    #[inline]
    fn of(shared: &'a Shared, slot: Slot) -> Option<Self> {
        let (number, at) = split(slot);
        shared.slab.segment(number).map(|segment| Self { number, segment, at })
    }

    /// The next place.
    #[inline]
    fn next(self, shared: &'a Shared) -> Option<Self> {
        let at = self.at + 1;
        if at < SEGMENT_SLOTS {
            return Some(Self { at, ..self });
        }
        let number = self.number + 1;
        shared.slab.segment(number).map(|segment| Self { number, segment, at: 0 })
    }
}

/// Holders: a bit each.
#[derive(Default)]
struct Holders(Vec<u64>);

impl Holders {
    /// Takes over what a set contains.
    fn take(&mut self, content: Content<'_>) {
        self.0.clear();
        if let Content::Bits(bits) = content {
            self.0.extend(bits.iter().map(|word| word.load(Ordering::Relaxed)));
            return;
        }
        content.for_each(|number| {
            let (word, bit) = place(number);
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            self.0[word] |= bit;
        });
    }

    /// Takes over those of `alive` that a set contains.
    fn take_within(&mut self, alive: &Self, content: Content<'_>) {
        self.0.clear();
        self.0.resize(alive.0.len(), 0);
        if let Content::Bits(bits) = content {
            for (word, (alive, bits)) in self.0.iter_mut().zip(alive.0.iter().zip(bits)) {
                *word = alive & bits.load(Ordering::Relaxed);
            }
            return;
        }
        content.for_each(|number| {
            let (word, bit) = place(number);
            if let Some(alive) = alive.0.get(word) {
                self.0[word] |= alive & bit;
            }
        });
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
    fn end(&mut self, alive: &Holders, kept: Option<&Holders>, depth: usize) {
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
