//! The workload: conversations over shared system prompts, spread over holders that each keep the blocks used last.
//!
//! A request picks one of the conversations that are going on, which adds a turn to it; nine turns in ten go to the holder
//! of the turn before. The holder stores what it lacks and evicts what it used least recently, the deepest blocks of a
//! conversation first, so that what it holds of a chain is always its beginning.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Size and shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args, serde::Serialize)]
pub struct Shape {
    /// Holders.
    #[arg(long, default_value_t = 64)]
    pub holders: u32,
    /// Tokens of a block: 16 or 64; prompts have the same tokens, so a quarter of the blocks, and four times as many
    /// conversations go on.
    #[arg(long, default_value_t = 16)]
    pub block_tokens: u32,
    /// Blocks that all holders together have room for.
    #[arg(long, default_value_t = 1_600_000)]
    pub resident: u32,
    /// Prefixes looked up.
    #[arg(long, default_value_t = 20_000)]
    pub lookups: u32,
    /// Of the dice.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A block: its place in a chain, and the names that different indexes have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What weft keys it by: 16 bytes of a hash over it and everything before it.
    pub key: [u8; 16],
    /// What peers key it by: 8 bytes of such a hash.
    pub chained: u64,
    /// Hash of its own tokens only.
    pub content: u64,
}

/// What one holder did at one time.
#[derive(Clone, Debug)]
pub enum Event {
    /// Stored these blocks, each after the one before, the first after `parent`.
    Stored { holder: u32, parent: Option<u64>, blocks: Vec<Block> },
    /// Evicted these, the deepest first.
    Removed { holder: u32, blocks: Vec<Block> },
}

/// Events that fill and churn an index, and requests that follow.
#[derive(Clone, Debug)]
pub struct Workload {
    pub events: Vec<Event>,
    pub requests: Vec<Vec<Block>>,
}

/// System prompts, each of 1,024 tokens.
const SYSTEM_PROMPTS: u32 = 32;
/// Conversations that go on at a time, with blocks of 16 tokens and 1.6 million blocks.
const CONVERSATIONS: u64 = 4_000;
/// Turns, in multiples of the conversations.
const TURNS: u64 = 10;
/// Tokens of the longest prompt.
const TOKENS_MAX: u32 = 8_192;

/// A stretch of a chain that belongs to one system prompt or conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stretch {
    // Before `System`: of two used at the same time, the deeper goes first.
    Conversation(u32),
    System(u32),
}

#[derive(Clone, Copy, Debug)]
struct Conversation {
    id: u32,
    system: u32,
    holder: u32,
    /// Blocks after the system prompt.
    blocks: u32,
}

/// What one holder has.
#[derive(Debug, Default)]
struct Holder {
    /// Stamp of the last use, and blocks held.
    held: BTreeMap<Stretch, (u64, u32)>,
    by_use: BTreeMap<(u64, Stretch), ()>,
    blocks: u32,
}

struct Generator {
    shape: Shape,
    dice: ChaCha8Rng,
    conversations: Vec<Conversation>,
    holders: Vec<Holder>,
    next_conversation: u32,
    events: Vec<Event>,
}

impl Workload {
    #[must_use]
    pub fn generate(shape: Shape) -> Self {
        let mut generator = Generator {
            shape,
            dice: ChaCha8Rng::seed_from_u64(shape.seed),
            conversations: Vec::new(),
            holders: (0..shape.holders).map(|_| Holder::default()).collect(),
            next_conversation: 0,
            events: Vec::new(),
        };
        let scale = u64::from(16 * shape.resident / 1_600).max(1);
        let count = CONVERSATIONS * u64::from(shape.block_tokens) * scale / 256_000;
        for _ in 0..count.max(1) {
            let conversation = generator.begin();
            generator.conversations.push(conversation);
        }
        for stamp in 0..count * TURNS {
            generator.turn(stamp);
        }
        let requests = (0..shape.lookups).map(|_| generator.request()).collect();
        Self { events: generator.events, requests }
    }

    /// Blocks stored and removed.
    #[must_use]
    pub fn changes(&self) -> usize {
        let blocks = |event: &Event| match event {
            Event::Stored { blocks, .. } | Event::Removed { blocks, .. } => blocks.len(),
        };
        self.events.iter().map(blocks).sum()
    }
}

impl Generator {
    fn begin(&mut self) -> Conversation {
        self.next_conversation += 1;
        Conversation {
            id: self.next_conversation,
            system: self.dice.random_range(0..SYSTEM_PROMPTS),
            holder: self.dice.random_range(0..self.shape.holders),
            blocks: 0,
        }
    }

    /// Blocks of a turn: 400 to 976 tokens.
    fn turn_blocks(&mut self) -> u32 {
        self.dice.random_range(400..=976) / self.shape.block_tokens
    }

    fn system_blocks(&self) -> u32 {
        1_024 / self.shape.block_tokens
    }

    fn turn(&mut self, stamp: u64) {
        let at = self.dice.random_range(0..self.conversations.len());
        let mut conversation = self.conversations[at];
        if self.dice.random_range(0..10) == 0 {
            conversation.holder = self.dice.random_range(0..self.shape.holders);
        }
        let more = self.turn_blocks();
        if self.system_blocks() + conversation.blocks + more > TOKENS_MAX / self.shape.block_tokens {
            conversation = self.begin();
        }
        conversation.blocks += more;
        self.conversations[at] = conversation;
        self.store(conversation, stamp + 1);
        self.evict(conversation.holder);
    }

    fn store(&mut self, conversation: Conversation, stamp: u64) {
        let system = Stretch::System(conversation.system);
        let own = Stretch::Conversation(conversation.id);
        let system_blocks = self.system_blocks();
        let had_system = self.holders[conversation.holder as usize].touch(system, stamp, system_blocks);
        let had_own = self.holders[conversation.holder as usize].touch(own, stamp, conversation.blocks);
        // What is held is the beginning of the chain, so what is lacking is its end.
        let chain = |from: u32| {
            let system = (from.min(system_blocks)..system_blocks).map(move |at| block(system, at));
            let own_from = from.saturating_sub(system_blocks);
            system.chain((own_from..conversation.blocks).map(move |at| block(own, at)))
        };
        let from = if had_system < system_blocks { had_system } else { system_blocks + had_own };
        let blocks: Vec<Block> = chain(from).collect();
        if blocks.is_empty() {
            return;
        }
        let parent = match from {
            0 => None,
            from if from <= system_blocks => Some(block(system, from - 1).chained),
            from => Some(block(own, from - system_blocks - 1).chained),
        };
        self.events.push(Event::Stored { holder: conversation.holder, parent, blocks });
    }

    fn evict(&mut self, number: u32) {
        let capacity = self.shape.resident / self.shape.holders;
        let holder = &mut self.holders[number as usize];
        let mut gone = Vec::new();
        while holder.blocks > capacity {
            let Some(((stamp, stretch), ())) = holder.by_use.pop_first() else { break };
            let (_, blocks) = holder.held[&stretch];
            let evicted = blocks.min(holder.blocks - capacity);
            gone.extend((blocks - evicted..blocks).rev().map(|at| block(stretch, at)));
            holder.blocks -= evicted;
            if evicted == blocks {
                holder.held.remove(&stretch);
            } else {
                holder.held.insert(stretch, (stamp, blocks - evicted));
                holder.by_use.insert((stamp, stretch), ());
            }
        }
        if !gone.is_empty() {
            self.events.push(Event::Removed { holder: number, blocks: gone });
        }
    }

    /// The next turn of some conversation: all it has, and blocks that nobody has yet.
    fn request(&mut self) -> Vec<Block> {
        let at = self.dice.random_range(0..self.conversations.len());
        let conversation = self.conversations[at];
        let more = self.turn_blocks();
        let system = (0..self.system_blocks()).map(|at| block(Stretch::System(conversation.system), at));
        let own = (0..conversation.blocks).map(|at| block(Stretch::Conversation(conversation.id), at));
        let new = (0..more).map(|at| block(Stretch::Conversation(u32::MAX - conversation.id), at));
        system.chain(own).chain(new).collect()
    }
}

impl Holder {
    /// Uses a stretch, of which it has `blocks` afterwards; returns how many it had.
    fn touch(&mut self, stretch: Stretch, stamp: u64, blocks: u32) -> u32 {
        let had = self.held.insert(stretch, (stamp, blocks));
        if let Some((stamp, _)) = had {
            self.by_use.remove(&(stamp, stretch));
        }
        self.by_use.insert((stamp, stretch), ());
        let had = had.map_or(0, |(_, blocks)| blocks);
        self.blocks += blocks - had;
        had
    }
}

fn block(stretch: Stretch, at: u32) -> Block {
    let name = match stretch {
        Stretch::Conversation(id) => u64::from(id) << 32,
        Stretch::System(id) => u64::from(id) << 32 | 1 << 31,
    };
    let word = |salt: u64| mix(mix(name | u64::from(at)) ^ salt);
    let (chained, content) = (word(1), word(3));
    let mut key = [0; 16];
    key[..8].copy_from_slice(&chained.to_be_bytes());
    key[8..].copy_from_slice(&word(2).to_be_bytes());
    Block { key, chained, content }
}

/// The finalizer of splitmix64: uniform, as hashes are.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
