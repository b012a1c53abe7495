//! What a follower counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use weft_index::Stats;

/// Metrics of a follower; clone is cheap.
#[derive(Clone, Debug)]
pub struct FollowerMetrics {
    blocks: IntGauge,
    bytes: IntGauge,
    evicted: IntCounter,
    pub(crate) index: IntGauge,
    pub(crate) changes: IntCounter,
    pub(crate) snapshots: IntCounter,
    ends: IntCounterVec,
}

/// Why a watch ended, as a label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Unreachable,
    Broken,
    Silent,
    Lagged,
    Jumped,
    Closing,
    Filter,
    Fault,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Silent => "silent",
            Self::Lagged => "lagged",
            Self::Jumped => "jumped",
            Self::Closing => "closing",
            Self::Filter => "filter",
            Self::Fault => "fault",
        }
    }
}

impl FollowerMetrics {
    /// Registers the family `weft_follower_*`.
    ///
    /// # Panics
    /// If the registry has it already: a process follows once.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let gauge = |name, help| IntGauge::new(name, help).expect("a constant name is valid");
        let counter = |name, help| IntCounter::new(name, help).expect("a constant name is valid");
        let ends =
            Opts::new("weft_follower_watch_ends_total", "Watches that ended, by reason; each is followed by another.");
        let metrics = Self {
            blocks: gauge("weft_follower_blocks", "Distinct blocks in the local copy of the index."),
            bytes: gauge("weft_follower_index_bytes", "Bytes of the local copy of the index."),
            evicted: counter(
                "weft_follower_evicted_blocks_total",
                "Blocks forgotten, least recently matched first, to stay within the bytes configured.",
            ),
            index: gauge("weft_follower_log_index", "Log index up to which the local copy is complete."),
            changes: counter("weft_follower_block_changes_total", "Changes of blocks applied from the watch."),
            snapshots: counter("weft_follower_snapshots_total", "Snapshots taken in, the first included."),
            ends: IntCounterVec::new(ends, &["reason"]).expect("a constant name is valid"),
        };
        let all: [Box<dyn prometheus::core::Collector>; 7] = [
            Box::new(metrics.blocks.clone()),
            Box::new(metrics.bytes.clone()),
            Box::new(metrics.evicted.clone()),
            Box::new(metrics.index.clone()),
            Box::new(metrics.changes.clone()),
            Box::new(metrics.snapshots.clone()),
            Box::new(metrics.ends.clone()),
        ];
        for collector in all {
            registry.register(collector).expect("a process registers its follower once");
        }
        metrics
    }

    /// Takes over how large the copy is. `before`: blocks that it had evicted when it was looked at last.
    pub(crate) fn observe(&self, stats: Stats, before: u64) {
        self.blocks.set(i64::try_from(stats.blocks).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(stats.bytes).unwrap_or(i64::MAX));
        self.evicted.inc_by(stats.evicted.saturating_sub(before));
    }

    pub(crate) fn ended(&self, end: End) {
        self.ends.with_label_values(&[end.as_str()]).inc();
    }
}
