//! [`IndexReader`]: the index for whoever asks, from any thread, while the writer goes on.

use std::fmt;
use std::sync::Arc;

use weft_types::{HolderId, IndexKey};

use crate::sets::SetId;
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

    /// Whether anybody holds the block, or held it and is not swept yet.
    #[must_use]
    pub fn contains(&self, key: &IndexKey) -> bool {
        walk::find(&self.0, *key) != SetId::FREE
    }

    /// Whether this holder is in answers no more: retired, and not swept yet.
    #[must_use]
    pub fn is_retired(&self, holder: HolderId) -> bool {
        u16::try_from(holder.get()).is_ok_and(|number| self.0.retired.contains(number))
    }
}

impl fmt::Debug for IndexReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexReader").finish_non_exhaustive()
    }
}
