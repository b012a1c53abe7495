//! Comparing what a holder holds with what the directory lists of it, and putting the list right.
//!
//! ```text
//!   Outbox, all acknowledged up to N ─► cut: sums of what is held, as of N ─► leader: its sums at N
//!                                                                                  │ partitions that differ
//!                              replace them ◄─ cut: the keys held there now ◄──────┘
//! ```
//! It happens after a loss (a resync, at once) and on a timer (anti-entropy). What was repaired is compared again at once, until
//! nothing differs, or nothing more can be put right: a directory that is full takes no more blocks.

use std::time::Duration;

use weft_index::{Change, Digests, PartitionId};
use weft_metadata_client::{HolderDigests, MetadataClient, MetadataError};
use weft_types::IndexKey;

use super::held::Held;
use super::outbox::Outbox;
use crate::metrics::Metrics;

/// What became of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Compared {
    /// The list is right, or is left as it is for now.
    Done,
    /// There is something to send.
    Repairing,
    /// The leader has not applied everything yet: ask again in a while.
    Early,
}

/// Compares one holder whose reports are all acknowledged.
pub(crate) async fn compare(
    metadata: &MetadataClient,
    outbox: &mut Outbox,
    truth: &dyn Held,
    deadline: Duration,
    metrics: &Metrics,
) -> Result<Compared, MetadataError> {
    let Some((grant, number)) = outbox.reported() else { return Ok(Compared::Done) };
    let mut held = Digests::new();
    let Some(changes) = truth.cut(&mut |key| held.insert(&key)) else {
        outbox.break_off();
        metrics.resyncs.overflow.inc();
        return Ok(Compared::Repairing);
    };
    undo(&mut held, &changes);
    outbox.note(changes);
    let Some(listed) = metadata.digests(&grant, &held, deadline).await? else {
        outbox.make_stale();
        return Ok(Compared::Repairing);
    };
    if listed.number < number {
        return Ok(Compared::Early);
    }
    if listed.number > number {
        tracing::error!(holder = %grant.holder, number, theirs = listed.number, "somebody else reports under our grant");
        outbox.make_stale();
        return Ok(Compared::Repairing);
    }
    let differing = differing(&held, &listed);
    let Some(_) = differing.first() else {
        metrics.comparisons.same.inc();
        outbox.found_same();
        return Ok(Compared::Done);
    };
    metrics.comparisons.different.inc();
    let blocks = held.blocks().abs_diff(listed.blocks).max(differing.len() as u64);
    tracing::warn!(holder = %grant.key, partitions = differing.len(), blocks, "the directory's list differs from what is held");
    if !outbox.found_different(differing.len() as u64, blocks) {
        return Ok(Compared::Done);
    }
    let mut wanted = vec![false; PartitionId::COUNT];
    differing.iter().for_each(|partition| wanted[usize::from(partition.get())] = true);
    let mut keys: Vec<IndexKey> = Vec::new();
    let changes = truth.cut(&mut |key| {
        if wanted[usize::from(PartitionId::of(&key).get())] {
            keys.push(key);
        }
    });
    match changes {
        Some(changes) => {
            outbox.note(changes);
            outbox.replace(&differing, keys);
        }
        None => {
            outbox.break_off();
            metrics.resyncs.overflow.inc();
        }
    }
    Ok(Compared::Repairing)
}

/// Digests as they were before changes, each of which took effect.
fn undo(digests: &mut Digests, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Stored(key) => digests.remove(key),
            Change::Removed(key) => digests.insert(key),
        }
    }
}

/// Ascending.
fn differing(held: &Digests, listed: &HolderDigests) -> Vec<PartitionId> {
    let groups = listed.differing.iter().filter(|group| usize::from(group.group) < Digests::GROUPS);
    let mut differing: Vec<_> =
        groups.flat_map(|group| held.differing(usize::from(group.group), &group.sums)).collect();
    differing.sort_unstable();
    differing.dedup();
    differing
}
