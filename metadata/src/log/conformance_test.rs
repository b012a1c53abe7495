//! openraft's own suite for stores, run over the log and the state machine together.

use std::sync::Arc;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader};

use super::{LogSettings, LogStore};
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::raft::{Entry, StorageError, Types, log_id};
use crate::volume::{LocalVolume, Volume};

struct OnDisk;

impl StoreBuilder<Types, LogStore, Machine, tempfile::TempDir> for OnDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let volume: Arc<dyn Volume> = Arc::new(LocalVolume::open(folder.path()).unwrap());
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let machine = Machine::open(volume.clone(), metrics.clone()).unwrap();
        let settings = LogSettings { segment_bytes: 4096, tail_bytes_max: 256 };
        let log = LogStore::open(volume, settings, metrics).unwrap();
        Ok((folder, log, machine))
    }
}

#[test]
fn the_store_passes_openrafts_suite() {
    Suite::test_all(OnDisk).unwrap();
}

#[tokio::test]
async fn what_follows_on_nothing_is_not_replicated() {
    let (_folder, mut log, _) = OnDisk.build().await.unwrap();
    let entry = |index| Entry { log_id: log_id(1, 1, index), payload: EntryPayload::Blank };
    log.blocking_append((0..9).map(entry)).await.unwrap();
    log.purge(log_id(1, 1, 4)).await.unwrap();
    // A deposed leader's replication, which was at entry 3.
    assert_eq!(log.limited_get_log_entries(3, 9).await.unwrap(), []);
    assert_eq!(log.limited_get_log_entries(5, 9).await.unwrap().len(), 4);
}
