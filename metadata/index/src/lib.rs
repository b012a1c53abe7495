//! The prefix index: block key → holders, longest-prefix match over all holders in one walk. Pure.
use weft_types::{Generation, HolderId, Incarnation, IndexKey};

/// One change in what a holder holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It holds the block now.
    Stored(IndexKey),
    /// It no longer does.
    Removed(IndexKey),
}

/// Numbered changes of one holder. Reports of a (holder, generation, incarnation) are numbered from 1 without a gap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Whose.
    pub holder: HolderId,
    /// Life of the number under which it was granted.
    pub generation: Generation,
    /// Boot counter of the holder.
    pub incarnation: Incarnation,
    /// Number of this report, from 1.
    pub number: u64,
    /// In the order in which they happened.
    pub changes: Vec<Change>,
}

/// How many leading blocks of a prefix one holder holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Who.
    pub holder: HolderId,
    /// Leading blocks, at least 1.
    pub blocks: u32,
}

/// Block key → holders.
#[derive(Debug, Default)]
pub struct PrefixIndex {}

impl PrefixIndex {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
    /// Applies one change; `false` if it was already so.
    pub fn apply(&mut self, _holder: HolderId, _change: Change) -> bool {
        unimplemented!()
    }
    /// Forgets (masks) everything a holder has, at once; entries go by `sweep`.
    pub fn retire(&mut self, _holder: HolderId) {
        unimplemented!()
    }
    /// Removes entries of retired holders, looking at up to `budget` keys. Holders whose last entry went (numbers free to be reused) are returned.
    pub fn sweep(&mut self, _budget: usize) -> Vec<HolderId> {
        unimplemented!()
    }
    /// Per holder, how many leading blocks of `prefix` it holds: exact, holes and all.
    pub fn leading(&self, _prefix: &[IndexKey]) -> Vec<Match> {
        unimplemented!()
    }
    /// Blocks of one holder.
    pub fn blocks_of(&self, _holder: HolderId) -> u64 {
        unimplemented!()
    }
    /// Distinct blocks.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// No blocks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
