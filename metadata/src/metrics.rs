//! Counters of a metadata member, registered once from its registry.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Family `weft_metadata_*`. Clone is cheap; all clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Seconds that a sync of the log took.
    pub(crate) log_sync_seconds: Histogram,
    /// Bytes written to the log.
    pub(crate) log_bytes: IntCounter,
    /// Segments of the log on disk.
    pub(crate) log_segments: IntGauge,
}

/// Syncs take 100 µs on a quiet NVMe device and tens of milliseconds on a busy or virtual one.
const SYNC_BUCKETS: [f64; 12] = [0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.1, 0.4, 1.6];

impl Metrics {
    /// Registers the family. A second member in one process needs a registry of its own.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        Ok(Self {
            log_sync_seconds: histogram(
                "weft_metadata_log_sync_seconds",
                "Seconds that a sync of the log took.",
                &SYNC_BUCKETS,
            )?,
            log_bytes: counter("weft_metadata_log_bytes_total", "Bytes written to the log.")?,
            log_segments: gauge("weft_metadata_log_segments", "Segments of the log on disk.")?,
        })
    }
}
