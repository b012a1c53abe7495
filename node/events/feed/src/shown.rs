//! How it goes with the events of all engines that a process follows, as metrics: read when somebody looks.

use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};
use weft_types::EndpointId;

use crate::progress::{Progress, Snapshot};

/// Name after the prefix, meaning, and value.
type Gauge = (&'static str, &'static str, fn(&Snapshot) -> f64);

const GAUGES: [Gauge; 7] = [
    ("connected", "1 while the KV-cache events of an engine are followed.", |now| f64::from(u8::from(now.connected))),
    ("blocks", "Blocks in device memory, by the events of the engine.", |now| now.resident as f64),
    ("batches", "Batches of events applied since the start.", |now| now.batches as f64),
    ("replayed_batches", "Of them, batches that were missed and had again.", |now| now.replayed as f64),
    (
        "lost_batches",
        "Batches missed for good since the start; each time all that was known of the engine was forgotten.",
        |now| now.lost as f64,
    ),
    (
        "left_out_blocks",
        "Engine blocks not understood since the start: parent unknown, or no part of a block of block_tokens.",
        |now| now.left_out as f64,
    ),
    ("lag_seconds", "How old the batch that was applied last was then, by the clocks of both.", |now| {
        now.lag.as_secs_f64()
    }),
];

/// Adds `<prefix>_kv_events_*` to a process's metrics, with the endpoint's name as label.
///
/// # Errors
/// There are such metrics already.
pub fn register(
    registry: &Registry,
    prefix: &str,
    engines: Vec<(EndpointId, Arc<Progress>)>,
) -> Result<(), prometheus::Error> {
    let gauge =
        |(name, help, _): &Gauge| GaugeVec::new(Opts::new(format!("{prefix}_kv_events_{name}"), *help), &["endpoint"]);
    let gauges = GAUGES.iter().map(gauge).collect::<Result<_, _>>()?;
    registry.register(Box::new(Shown { engines, gauges }))
}

struct Shown {
    engines: Vec<(EndpointId, Arc<Progress>)>,
    gauges: Vec<GaugeVec>,
}

impl Collector for Shown {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(|gauge| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (endpoint, progress) in &self.engines {
            let (endpoint, now) = (endpoint.to_string(), progress.snapshot());
            for (gauge, (_, _, value)) in self.gauges.iter().zip(&GAUGES) {
                gauge.with_label_values(&[&endpoint]).set(value(&now));
            }
        }
        self.gauges.iter().flat_map(Collector::collect).collect()
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("engines", &self.engines.len()).finish_non_exhaustive()
    }
}
