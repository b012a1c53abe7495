//! Clearing: an operator has the node drop blocks, of everything, of some contracts, or of one prefix.
//!
//! The node really drops them, and reports it as it reports any eviction, so that the directory follows. What a lease pins
//! stays, unless the operator insists. On disk they are forgotten, not erased: after a restart those may be back. What engines have in their device memory is theirs, and stays too.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_metadata_client::Follower;
use weft_store::{Arena, LeasedKeys};
use weft_transport::{Peer, Refusal, RefusalCode};
use weft_types::rpc::Method;
use weft_types::{BlockHash, ContractId, control_message};

use crate::leases;
use crate::report::Own;

/// Longest wait to hear of the leases that an operator knows of: a watch brings them within milliseconds, or another member is
/// followed after three seconds of silence.
const LEASES_WITHIN: Duration = Duration::from_secs(5);

/// Drops blocks. For operators.
#[derive(Clone, Copy, Debug)]
pub enum Clear {}

impl Method for Clear {
    // Numbers are wire identity: append, never reuse. The node has 60 to 69.
    const ID: u16 = 60;
    const NAME: &'static str = "clear";
    type Request = ClearRequest;
    type Response = ClearResponse;
}

/// Which blocks are to go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClearRequest {
    /// Those of these contracts; none: of all.
    pub contracts: Vec<ContractId>,
    /// Of those, only these blocks; `None`: all.
    pub blocks: Option<Vec<BlockHash>>,
    /// Respects the leases that were granted up to this log index, and those after it that the node has heard of; `None`: drops
    /// what is pinned, too.
    pub pins: Option<u64>,
}

/// What became of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClearResponse {
    /// Dropped; a block that was in memory and on disk counts twice, here and below.
    pub removed: u64,
    /// Stay, for a lease.
    pub leased: u64,
    /// All that the node holds now, of whatever contract.
    pub held: u64,
}

control_message!(ClearRequest, ClearResponse);

/// Drops what is asked for. `followed`: who knows what is pinned.
pub(crate) async fn clear(
    own: Own,
    followed: Follower,
    peer: Peer,
    request: ClearRequest,
) -> Result<ClearResponse, Refusal> {
    let pinned = match request.pins {
        Some(as_of) => pinned(&followed, as_of).await?,
        None => LeasedKeys::new(),
    };
    let force = request.pins.is_none();
    let clearing = tokio::task::spawn_blocking(move || drop_blocks(&own, &pinned, &request));
    let cleared = clearing
        .await
        .map_err(|error| Refusal::new(RefusalCode::Failed, format!("clearing was broken off: {error}")))?;
    let ClearResponse { removed, leased, held } = cleared;
    tracing::info!(by = %peer.name, force, removed, leased, held, "cleared");
    Ok(cleared)
}

/// Blocks that are not to be dropped.
async fn pinned(followed: &Follower, as_of: u64) -> Result<LeasedKeys, Refusal> {
    if tokio::time::timeout(LEASES_WITHIN, followed.reached(as_of)).await.is_err() {
        let message = format!(
            "this node knows which blocks are pinned as of log index {:?}, and {as_of} is asked for: try again once it hears from \
             metadata, or insist with --force",
            followed.log_index(),
        );
        return Err(Refusal::new(RefusalCode::Overloaded, message));
    }
    Ok(leases::keys(&followed.accounts()))
}

fn drop_blocks(own: &Own, pinned: &LeasedKeys, request: &ClearRequest) -> ClearResponse {
    let wanted: Option<HashSet<&BlockHash>> = request.blocks.as_ref().map(|blocks| blocks.iter().collect());
    let mut cleared = ClearResponse { removed: 0, leased: 0, held: 0 };
    let all = own.arenas.all();
    let is_asked =
        |arena: &&Arc<Arena>| request.contracts.is_empty() || request.contracts.contains(&arena.contract().id());
    for arena in all.iter().filter(is_asked) {
        let mut others = 0;
        let step = arena.clear(|block| {
            let other = wanted.as_ref().is_some_and(|wanted| !wanted.contains(block));
            others += u64::from(other);
            other || pinned.contains(&block.index_key())
        });
        cleared.removed += step.removed;
        cleared.leased += step.kept - others;
    }
    cleared.held = all.iter().map(|arena| arena.tier().held().complete as u64).sum();
    if let Some(tier) = own.disk.as_ref().and_then(|disk| disk.tier()) {
        let contracts: Vec<_> = request.contracts.iter().map(|contract| contract.checksum()).collect();
        let mut others = 0;
        let step = tier.clear(&contracts, |block| {
            let other = wanted.as_ref().is_some_and(|wanted| !wanted.contains(block));
            others += u64::from(other);
            other || pinned.contains(&block.index_key())
        });
        cleared.removed += step.removed;
        cleared.leased += step.kept - others;
        cleared.held += tier.held().blocks as u64;
    }
    cleared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::contract;
    use weft_types::codec::encode;

    #[test]
    fn messages_keep_their_bytes() {
        let blocks = Some(vec![BlockHash::from_bytes([7; 32])]);
        let request = ClearRequest { contracts: vec![contract(1).id()], blocks, pins: Some(9) };
        let bytes = encode(&request);
        // One contract; its id, 8 bytes at most; some blocks: one; its hash; leases as of: index 9.
        assert_eq!((bytes[0], bytes[bytes.len() - 36..].to_vec()), (1, [&[1, 1], &[7; 32][..], &[1, 9]].concat()));
        let response = ClearResponse { removed: 300, leased: 2, held: 0 };
        // Removed: 251 says that two bytes follow. Leased. Held.
        assert_eq!(encode(&response), [251, 0x2c, 0x01, 2, 0]);
    }
}
