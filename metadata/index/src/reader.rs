//! [`IndexReader`]: the index for whoever asks, from any thread, while the writer goes on.

use std::fmt;
use std::sync::Arc;

use weft_types::IndexKey;

use crate::shared::Shared;
use crate::walk::{self, Match};

/// Reads an index; clone is cheap, and all clones read the same one.
///
/// Never waits for the writer. An answer given beside it sees each block as it was at some moment of the walk.
#[derive(Clone)]
pub struct IndexReader(pub(crate) Arc<Shared>);

impl IndexReader {
    /// Per holder, how many leading blocks of `prefix` it holds: exact, holes and all. Longest first, then by number.
    #[must_use]
    pub fn leading(&self, prefix: &[IndexKey]) -> Vec<Match> {
        walk::leading(&self.0, prefix)
    }
}

impl fmt::Debug for IndexReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexReader").finish_non_exhaustive()
    }
}
