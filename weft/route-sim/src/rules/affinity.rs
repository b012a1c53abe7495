//! Rules that keep a prefix where it was.

use super::least;
use crate::{Choice, Peer, Rule, View};

/// Whoever holds most; among equals, by the dice.
#[derive(Debug)]
pub(super) struct LongestPrefix;

impl Rule for LongestPrefix {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let key = |replica: usize| -(view.engines[replica].local_blocks as f64);
        Choice { replica: least(0..view.engines.len(), dice, key), peer: Peer::IfFaster }
    }
}

/// A hash of the first two blocks, with bounded load: whoever has over 1.25 times the mean is passed over.
#[derive(Debug)]
pub(super) struct PrefixHash;

impl PrefixHash {
    const BLOCKS: usize = 2;
    const LOAD_MAX: f64 = 1.25;
}

impl Rule for PrefixHash {
    fn route(&mut self, view: &View<'_>, _dice: u64) -> Choice {
        let count = view.engines.len();
        let seed = view.number as u64;
        let blocks = view.request.blocks.iter().take(Self::BLOCKS).map(|block| u64::from(*block));
        // A prompt without a full block has no prefix to keep.
        let hash = blocks.reduce(|hash, block| mix(hash ^ mix(block))).map_or(mix(seed), mix);
        let in_flight: u32 = view.engines.iter().map(|engine| engine.in_flight).sum();
        let most = (f64::from(in_flight + 1) / count as f64 * Self::LOAD_MAX).ceil();
        let ring = (0..count).map(|step| (hash as usize % count + step) % count);
        let free = |replica: &usize| f64::from(view.engines[*replica].in_flight) < most;
        let replica = ring.clone().find(free).or_else(|| ring.clone().next()).unwrap_or(0);
        Choice { replica, peer: Peer::IfFaster }
    }
}

/// SplitMix64's last steps.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// SGLang router's `cache_aware`, with its launcher's defaults: a tree of what was routed where, never corrected; all
/// affinity is dropped while requests in flight differ by more than 64 and by half.
#[derive(Debug)]
pub(super) struct Sglang {
    /// Who got a block last, by block.
    last: Vec<Option<u8>>,
}

impl Sglang {
    const MATCH_MIN: f64 = 0.3;
    const UNBALANCED_BY: u32 = 64;
    const UNBALANCED_TIMES: f64 = 1.5;

    pub(super) fn new(blocks: usize) -> Self {
        Self { last: vec![None; blocks] }
    }
}

impl Rule for Sglang {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let in_flight = |replica: usize| view.engines[replica].in_flight;
        let loads = (0..view.engines.len()).map(in_flight);
        let (least_load, most) = (loads.clone().min().unwrap_or(0), loads.max().unwrap_or(0));
        let unbalanced =
            most - least_load > Self::UNBALANCED_BY && f64::from(most) > Self::UNBALANCED_TIMES * f64::from(least_load);
        let owners = view.request.blocks.iter().map_while(|block| self.last[*block as usize]);
        let (matched, owner) = owners.fold((0_u32, None), |(matched, _), owner| (matched + 1, Some(owner)));
        let share = f64::from(matched * view.block_tokens) / f64::from(view.request.input_tokens);
        let replica = match owner {
            Some(owner) if share > Self::MATCH_MIN && !unbalanced => usize::from(owner),
            _ => least(0..view.engines.len(), dice, |replica| f64::from(in_flight(replica))),
        };
        for block in &view.request.blocks {
            self.last[*block as usize] = u8::try_from(replica).ok();
        }
        Choice { replica, peer: Peer::IfFaster }
    }
}
