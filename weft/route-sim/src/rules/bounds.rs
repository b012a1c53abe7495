//! What nobody can reach.

use super::least;
use crate::{Choice, Peer, Rule, View};

/// All memories are one, read at no cost, and the least work decides.
#[derive(Debug)]
pub(super) struct Pool;

impl Rule for Pool {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let replica = least(0..view.engines.len(), dice, |replica| view.engines[replica].wait_s);
        Choice { replica, peer: Peer::Never }
    }

    fn pools_memory(&self) -> bool {
        true
    }
}
