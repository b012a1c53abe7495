//! openraft's own suite for stores, run over the log and the state machine together.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};

use super::{LogSettings, LogStore};
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::raft::{StorageError, Types};
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
