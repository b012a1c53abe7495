//! Nodes that report without end: each report stores a run of blocks, and removes the run that was stored a window ago.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_index::Change;
use weft_metadata_client::MetadataClient;
use weft_metadata_proto::v1::StatusResponse;
use weft_types::IndexKey;

use super::DEADLINE;
use super::journal::Journal;
use crate::bench::holder::{Holder, key};

/// Changes in a report, once the window is full.
pub(crate) const CHANGES: u64 = 512;
/// Blocks that one stores.
const STORED: u64 = CHANGES / 2;
/// Blocks that a node holds, in reports.
const WINDOW: u64 = 128;

/// One node; it has one report on its way at a time.
pub(crate) struct Reporting {
    holder: Holder,
    place: usize,
}

impl Reporting {
    pub(crate) async fn join(client: MetadataClient, place: usize) -> anyhow::Result<Self> {
        Ok(Self { holder: Holder::join(client, &format!("node-{place}"), DEADLINE).await?, place })
    }

    /// Until told to stop; returns what was acknowledged.
    pub(crate) async fn run(mut self, journal: Arc<Journal>, stop: CancellationToken) -> anyhow::Result<Self> {
        while !stop.is_cancelled() {
            let begun = Instant::now();
            self.holder.report(changes(self.place, self.holder.number + 1)).await?;
            journal.acknowledged(self.place, begun, Instant::now());
        }
        Ok(self)
    }

    /// Blocks by which a member's list of this node is wrong.
    pub(crate) fn lost(&self, status: &StatusResponse) -> u64 {
        let listed = status.by_holder.get(&self.holder.grant.holder).copied().unwrap_or(0);
        listed.abs_diff(held(self.holder.number))
    }
}

fn changes(place: usize, number: u64) -> Vec<Change> {
    let removed = number.checked_sub(WINDOW).filter(|before| *before > 0);
    let removed = removed.into_iter().flat_map(|before| run(place, before)).map(Change::Removed);
    run(place, number).map(Change::Stored).chain(removed).collect()
}

fn run(place: usize, number: u64) -> impl Iterator<Item = IndexKey> {
    (0..STORED).map(move |block| key(place, number * STORED + block))
}

/// Blocks held once so many reports are acknowledged.
fn held(reports: u64) -> u64 {
    reports.min(WINDOW) * STORED
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_node_holds_what_its_reports_come_to() {
        let mut holds = BTreeSet::new();
        for number in 1..=WINDOW + 3 {
            for change in changes(1, number) {
                let new = match change {
                    Change::Stored(key) => holds.insert(key),
                    Change::Removed(key) => holds.remove(&key),
                };
                assert!(new, "{change:?} changes nothing");
            }
            assert_eq!(holds.len() as u64, held(number), "after report {number}");
        }
        assert!(run(2, WINDOW).all(|key| !holds.contains(&key)), "another node's blocks are others");
    }
}
