//! Counters of the disk tier: what went there and what came back, and what the device had to do for it.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::saturating;
use crate::disk::{Disk, Phase};

/// What became of blocks that host memory offered.
#[derive(Clone, Debug)]
pub(crate) struct Demotions {
    pub(crate) stored: IntCounter,
    /// On disk already.
    pub(crate) present: IntCounter,
    /// Not seen twice.
    pub(crate) unearned: IntCounter,
    /// Too large for a segment.
    pub(crate) refused: IntCounter,
    /// The device failed.
    pub(crate) failed: IntCounter,
}

/// What became of blocks that were to be read into host memory.
#[derive(Clone, Debug)]
pub(crate) struct Promotions {
    pub(crate) landed: IntCounter,
    /// Not there when it was read, or not as it was written.
    pub(crate) lost: IntCounter,
    /// Its turn came after the deadline.
    pub(crate) late: IntCounter,
    /// No slot could be freed.
    pub(crate) space: IntCounter,
    /// Too many reads waited.
    pub(crate) busy: IntCounter,
}

impl Demotions {
    /// Registers the family.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let name = "weft_node_demotions_total";
        let family = IntCounterVec::new(Opts::new(name, "Blocks offered to the disk tier, by outcome."), &["outcome"])?;
        registry.register(Box::new(family.clone()))?;
        let of = |outcome| family.with_label_values(&[outcome]);
        Ok(Self {
            stored: of("stored"),
            present: of("present"),
            unearned: of("unearned"),
            refused: of("refused"),
            failed: of("failed"),
        })
    }
}

impl Promotions {
    /// Registers the family.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let name = "weft_node_promotions_total";
        let help = "Blocks to be read from the disk tier into host memory, by outcome.";
        let family = IntCounterVec::new(Opts::new(name, help), &["outcome"])?;
        registry.register(Box::new(family.clone()))?;
        let of = |outcome| family.with_label_values(&[outcome]);
        Ok(Self { landed: of("landed"), lost: of("lost"), late: of("late"), space: of("space"), busy: of("busy") })
    }
}

/// What the tier did, asked when somebody looks.
pub(crate) struct DiskWork {
    disk: Arc<Disk>,
    capacity: IntGauge,
    phase: IntGaugeVec,
    opening: Gauge,
    wear: IntGauge,
    failed_segments: IntGauge,
    blocks: IntCounterVec,
    bytes: IntCounterVec,
    errors: IntCounter,
    /// Two who look at once do not count twice.
    counting: Mutex<()>,
}

impl DiskWork {
    /// Registers the family.
    pub(crate) fn register(disk: Arc<Disk>, registry: &Registry) -> Result<(), prometheus::Error> {
        let work = Self {
            disk,
            capacity: IntGauge::new("weft_node_disk_capacity_bytes", "Disk space that the tier was given.")?,
            phase: IntGaugeVec::new(
                Opts::new("weft_node_disk_phase", "1 where the tier is, 0 elsewhere."),
                &["phase"],
            )?,
            opening: Gauge::new(
                "weft_node_disk_recovery_seconds",
                "How long it took at start to find out what is on disk.",
            )?,
            wear: IntGauge::new("weft_node_disk_wear_bytes", "Written to the device over the life of the store.")?,
            failed_segments: IntGauge::new("weft_node_disk_failed_segments", "Segments that the device failed on.")?,
            blocks: IntCounterVec::new(
                Opts::new("weft_node_disk_blocks_total", "Blocks of the disk tier, by what was done with them."),
                &["what"],
            )?,
            bytes: IntCounterVec::new(
                Opts::new(
                    "weft_node_disk_bytes_total",
                    "Bytes of the disk tier: taken in, written to the device for it, written again, read.",
                ),
                &["what"],
            )?,
            errors: IntCounter::new("weft_node_disk_errors_total", "Calls to the device that failed.")?,
            counting: Mutex::new(()),
        };
        registry.register(Box::new(work))
    }

    fn count(&self) {
        let _one = self.counting.lock();
        self.capacity.set(saturating(self.disk.capacity().bytes()));
        let phase = self.disk.phase();
        for each in Phase::ALL {
            self.phase.with_label_values(&[each.as_str()]).set(i64::from(each == phase));
        }
        self.failed_segments.set(saturating(self.disk.held().failed_segments as u64));
        let (stats, took) = self.disk.did().unwrap_or_default();
        if let Some(took) = took {
            self.opening.set(took.as_secs_f64());
        }
        if stats.wear_bytes > 0 {
            self.wear.set(saturating(stats.wear_bytes));
        }
        let up = |counter: &IntCounter, now: u64| counter.inc_by(now.saturating_sub(counter.get()));
        for (what, blocks) in [
            ("stored", stats.stored_blocks),
            ("read", stats.read_blocks),
            ("rewritten", stats.rewritten_blocks),
            ("evicted", stats.evicted_blocks),
            ("corrupt", stats.corrupt_blocks),
        ] {
            up(&self.blocks.with_label_values(&[what]), blocks);
        }
        for (what, bytes) in [
            ("stored", stats.stored_bytes),
            ("written", stats.written_bytes),
            ("rewritten", stats.rewritten_bytes),
            ("read", stats.read_bytes),
        ] {
            up(&self.bytes.with_label_values(&[what]), bytes);
        }
        up(&self.errors, stats.io_errors);
    }

    fn parts(&self) -> [&dyn Collector; 8] {
        [
            &self.capacity,
            &self.phase,
            &self.opening,
            &self.wear,
            &self.failed_segments,
            &self.blocks,
            &self.bytes,
            &self.errors,
        ]
    }
}

impl Collector for DiskWork {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.count();
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

impl fmt::Debug for DiskWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskWork")
    }
}
