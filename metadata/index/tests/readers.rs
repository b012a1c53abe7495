//! Readers in threads of their own while the writer goes on: what they are told was true of each block at some moment.
//!
//! Gross faults show here, not every one: a reader has to be interrupted between two loads that lie nanoseconds apart. With the
//! comparison of a slot's version left out, this test has passed; `src/slab/interleaved_test.rs` interrupts readers there on
//! purpose. That of a set's is argued in `sets.rs`. Whoever holds a block of a chain has the chain's number modulo [`CLASSES`], whatever the writer
//! does, and chains that it leaves alone have one right answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_index::{Change, IndexReader, Match, PrefixIndex};
use weft_types::{HolderId, IndexKey};

/// Holders of a chain's blocks have its number modulo this.
const CLASSES: u32 = 16;
/// Holders of a class: more than a list keeps, fewer than all sets would be distinct for.
const HOLDERS: u32 = 24;
const CHAINS: u32 = 64;
/// Chains before this one stay as they are.
const STILL: u32 = 8;
const BLOCKS: u32 = 48;
const CHANGES: u32 = 150_000;

fn key(chain: u32, at: u32) -> IndexKey {
    let mut dice = ChaCha8Rng::seed_from_u64(u64::from(chain) << 32 | u64::from(at));
    IndexKey::from_bytes(dice.random())
}

fn chain(number: u32) -> Vec<IndexKey> {
    (0..BLOCKS).map(|at| key(number, at)).collect()
}

fn holder(chain: u32, place: u32) -> HolderId {
    HolderId::new(chain % CLASSES + CLASSES * place)
}

/// Of a chain that stays: holder `n` of its class has `BLOCKS - n` leading blocks.
fn still(chain: u32) -> Vec<Match> {
    (0..HOLDERS).map(|place| Match { holder: holder(chain, place), blocks: BLOCKS - place }).collect()
}

struct Writer {
    index: PrefixIndex,
    chains: Vec<Vec<IndexKey>>,
    dice: ChaCha8Rng,
}

impl Writer {
    fn new(chains: Vec<Vec<IndexKey>>) -> Self {
        let mut index = PrefixIndex::new();
        for number in 0..STILL {
            for place in 0..HOLDERS {
                let keys = &chains[number as usize][..(BLOCKS - place) as usize];
                apply(&mut index, holder(number, place), keys.iter().copied().map(Change::Stored));
            }
        }
        Self { index, chains, dice: ChaCha8Rng::seed_from_u64(7) }
    }

    /// A holder stores or removes a stretch of a chain.
    fn change(&mut self) {
        let number = self.dice.random_range(STILL..CHAINS);
        let holder = holder(number, self.dice.random_range(0..HOLDERS));
        let from = self.dice.random_range(0..BLOCKS) as usize;
        let until = self.dice.random_range(from..BLOCKS as usize) + 1;
        let keys = self.chains[number as usize][from..until].iter().copied();
        match self.dice.random_range(0..5) {
            0..=2 => apply(&mut self.index, holder, keys.map(Change::Stored)),
            _ => apply(&mut self.index, holder, keys.rev().map(Change::Removed)),
        }
    }

    /// A holder that no still chain has goes, and comes again under its number.
    fn retire(&mut self) {
        let gone = holder(STILL, self.dice.random_range(0..HOLDERS));
        self.index.retire(gone);
        while self.index.retired().next().is_some() {
            self.index.sweep(512);
        }
    }
}

fn apply(index: &mut PrefixIndex, holder: HolderId, changes: impl Iterator<Item = Change>) {
    let changes: Vec<Change> = changes.collect();
    index.apply_all(holder, &changes, usize::MAX, |_, _| ());
}

/// Asks until the writer is done; returns how many answers it got.
fn ask(reader: &IndexReader, chains: &[Vec<IndexKey>], seed: u64, done: &AtomicBool) -> u64 {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut answers = 0;
    while !done.load(Ordering::Relaxed) {
        let number = dice.random_range(0..CHAINS);
        let found = reader.leading(&chains[number as usize]);
        if number < STILL {
            assert_eq!(found, still(number), "chain {number} was never touched");
        }
        for Match { holder, blocks } in found {
            assert_eq!(holder.get() % CLASSES, number % CLASSES, "{holder} never held a block of chain {number}");
            assert!(blocks <= BLOCKS);
        }
        answers += 1;
    }
    answers
}

#[test]
fn readers_beside_the_writer_are_never_misled() {
    let chains: Vec<Vec<IndexKey>> = (0..CHAINS).map(chain).collect();
    let mut writer = Writer::new(chains.clone());
    let (done, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in 0..3 {
            let (reader, chains, done, answers) = (writer.index.reader(), &chains, &done, &answers);
            scope.spawn(move || answers.fetch_add(ask(&reader, chains, seed, done), Ordering::Relaxed));
        }
        // Readers that saw a fault have panicked; the writer must end even so.
        for round in 0..CHANGES {
            writer.change();
            if round % 1_000 == 0 {
                writer.retire();
                // Views keep sets that are named no more from being used again, for a while.
                let frozen = writer.index.freeze();
                writer.change();
                assert!(frozen.map(|run| run.keys.len()).sum::<usize>() > 0);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(answers.into_inner() > 0, "no reader got an answer");
    for number in 0..STILL {
        assert_eq!(writer.index.leading(&chains[number as usize]), still(number));
    }
}
