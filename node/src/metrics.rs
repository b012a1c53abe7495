//! Counters of a node daemon, `weft_node_*`.

use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use weft_store::Held;
use weft_types::Tier;

use crate::arenas::Arenas;
use crate::disk::Disk;
use crate::roll::Roll;

mod disk;

pub(crate) use self::disk::{Demotions, DiskWork, Promotions};

/// Seconds a fetch may take: from a small block of a near peer to the longest deadline.
const FETCH_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5];

/// Made once by the daemon, from its registry. Clone is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) attached_engines: IntGauge,
    pub(crate) loaded_host_blocks: IntCounter,
    pub(crate) loaded_disk_blocks: IntCounter,
    pub(crate) loaded_peer_blocks: IntCounter,
    pub(crate) missed_blocks: IntCounter,
    pub(crate) stored_blocks: IntCounter,
    pub(crate) stored_bytes: IntCounter,
    pub(crate) refused_blocks: IntCounter,
    pub(crate) fetched_blocks: IntCounter,
    pub(crate) fetched_bytes: IntCounter,
    pub(crate) fetch_seconds: Histogram,
    pub(crate) served_blocks: IntCounter,
    pub(crate) served_bytes: IntCounter,
    pub(crate) checksum_failures: IntCounter,
    pub(crate) fetch_failures: FetchFailures,
    pub(crate) demotions: Demotions,
    pub(crate) promotions: Promotions,
    pub(crate) reports: Reports,
    pub(crate) reports_waiting: IntGauge,
    pub(crate) resyncs: Resyncs,
    pub(crate) comparisons: Comparisons,
    pub(crate) divergence: Divergence,
}

/// What made a holder more than send its changes.
#[derive(Clone, Debug)]
pub(crate) struct Resyncs {
    /// A new grant, under which everything is reported.
    pub(crate) grant: IntCounter,
    /// Changes were too many to keep; what is held was compared.
    pub(crate) overflow: IntCounter,
    /// Metadata missed a report that is no longer kept; what is held was compared.
    pub(crate) gap: IntCounter,
}

/// Comparisons of what is held with what the directory lists.
#[derive(Clone, Debug)]
pub(crate) struct Comparisons {
    pub(crate) same: IntCounter,
    pub(crate) different: IntCounter,
}

/// How far apart the two were, by tier.
#[derive(Clone, Debug)]
pub(crate) struct Divergence {
    pub(crate) blocks: IntGaugeVec,
    pub(crate) partitions: IntGaugeVec,
    pub(crate) repaired: IntCounterVec,
}

/// Why fetches brought less than they could have.
#[derive(Clone, Debug)]
pub(crate) struct FetchFailures {
    /// The directory did not say who holds what.
    pub(crate) lookup: IntCounter,
    /// A peer could not be reached, or broke off.
    pub(crate) peer: IntCounter,
    /// A peer no longer held a block.
    pub(crate) gone: IntCounter,
    /// No slot could be freed.
    pub(crate) space: IntCounter,
    /// Too many fetches were under way.
    pub(crate) busy: IntCounter,
}

/// Reports of what this node's holders hold.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    pub(crate) sent: IntCounter,
    pub(crate) acked: IntCounter,
    pub(crate) resent: IntCounter,
    /// Calls to metadata that brought no answer.
    pub(crate) unanswered: IntCounter,
}

impl Metrics {
    /// Registers the family.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let family = |name: &str, help: &str, label: &str| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone())).map(|()| family)
        };
        let loaded =
            family("weft_node_loaded_blocks_total", "Blocks that engines asked for, by where they were.", "source")?;
        let failures = family("weft_node_fetch_failures_total", "What kept a fetch from being whole.", "cause")?;
        let reports = family("weft_node_reports_total", "Reports to metadata, by what became of them.", "outcome")?;
        let attached_engines = IntGauge::new("weft_node_attached_engines", "Engines attached now.")?;
        registry.register(Box::new(attached_engines.clone()))?;
        let reports_waiting =
            IntGauge::new("weft_node_waiting_reports", "Reports that metadata has not acknowledged.")?;
        registry.register(Box::new(reports_waiting.clone()))?;
        let fetch = HistogramOpts::new("weft_node_fetch_duration_seconds", "How long fetches from one peer took.");
        let fetch_seconds = Histogram::with_opts(fetch.buckets(FETCH_SECONDS.to_vec()))?;
        registry.register(Box::new(fetch_seconds.clone()))?;
        let resyncs =
            family("weft_node_resyncs_total", "Holders that did more than send their changes, by cause.", "cause")?;
        let comparisons = family(
            "weft_node_comparisons_total",
            "Comparisons of what a holder holds with what the directory lists, by what they found.",
            "found",
        )?;
        let gauge = |name: &str, help: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["tier"])?;
            registry.register(Box::new(gauge.clone()))?;
            gauge.with_label_values(&[Tier::Host.as_str()]).set(0);
            Ok::<_, prometheus::Error>(gauge)
        };
        let repaired =
            family("weft_node_repaired_blocks_total", "Blocks that a repair put right in the directory.", "tier")?;
        repaired.with_label_values(&[Tier::Host.as_str()]);
        let divergence = Divergence {
            blocks: gauge(
                "weft_node_divergence_blocks",
                "Blocks, at least, that the directory listed wrongly at the last comparison, or not at all.",
            )?,
            partitions: gauge(
                "weft_node_divergence_partitions",
                "Partitions of 4,096 in which the last comparison found a difference.",
            )?,
            repaired,
        };
        Ok(Self {
            divergence,
            resyncs: Resyncs {
                grant: resyncs.with_label_values(&["grant"]),
                overflow: resyncs.with_label_values(&["overflow"]),
                gap: resyncs.with_label_values(&["gap"]),
            },
            comparisons: Comparisons {
                same: comparisons.with_label_values(&["same"]),
                different: comparisons.with_label_values(&["different"]),
            },
            attached_engines,
            reports_waiting,
            loaded_host_blocks: loaded.with_label_values(&["host"]),
            loaded_disk_blocks: loaded.with_label_values(&["disk"]),
            loaded_peer_blocks: loaded.with_label_values(&["peer"]),
            missed_blocks: loaded.with_label_values(&["none"]),
            stored_blocks: counter("weft_node_stored_blocks_total", "Blocks that engines stored.")?,
            stored_bytes: counter("weft_node_stored_bytes_total", "Bytes of blocks that engines stored.")?,
            refused_blocks: counter("weft_node_refused_blocks_total", "Blocks that found no slot when stored.")?,
            fetched_blocks: counter("weft_node_fetched_blocks_total", "Blocks fetched from peers.")?,
            fetched_bytes: counter("weft_node_fetched_bytes_total", "Bytes of blocks fetched from peers.")?,
            fetch_seconds,
            served_blocks: counter("weft_node_served_blocks_total", "Blocks served to peers.")?,
            served_bytes: counter("weft_node_served_bytes_total", "Bytes of blocks served to peers.")?,
            checksum_failures: counter(
                "weft_node_checksum_failures_total",
                "Blocks that arrived with other bytes than their writer wrote. Never served.",
            )?,
            fetch_failures: FetchFailures {
                lookup: failures.with_label_values(&["lookup"]),
                peer: failures.with_label_values(&["peer"]),
                gone: failures.with_label_values(&["gone"]),
                space: failures.with_label_values(&["space"]),
                busy: failures.with_label_values(&["busy"]),
            },
            demotions: Demotions::register(registry)?,
            promotions: Promotions::register(registry)?,
            reports: Reports {
                sent: reports.with_label_values(&["sent"]),
                acked: reports.with_label_values(&["acked"]),
                resent: reports.with_label_values(&["resent"]),
                unanswered: reports.with_label_values(&["unanswered"]),
            },
        })
    }
}

/// What is held, counted when somebody looks: no gauge can drift from the truth.
pub(crate) struct Holdings {
    arenas: Arc<Arenas>,
    disk: Option<Arc<Disk>>,
    roll: Arc<Roll>,
    blocks: IntGaugeVec,
    bytes: IntGaugeVec,
    slots: IntGaugeVec,
    memory: IntGaugeVec,
    evicted: IntGauge,
}

impl Holdings {
    /// Registers the gauges.
    pub(crate) fn register(
        (arenas, disk): (Arc<Arenas>, Option<Arc<Disk>>),
        roll: Arc<Roll>,
        registry: &Registry,
    ) -> Result<(), prometheus::Error> {
        let gauge = |name: &str, help: &str, label| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let holdings = Self {
            arenas,
            disk,
            roll,
            blocks: gauge("weft_node_blocks", "Blocks held, by tier; on devices, as their engines say.", "tier")?,
            bytes: gauge(
                "weft_node_bytes",
                "Bytes of blocks held, by tier; on devices, as their engines say.",
                "tier",
            )?,
            slots: gauge(
                "weft_node_host_slots",
                "Slots of the host tier, by state; pinned and leased ones are complete too.",
                "state",
            )?,
            memory: gauge("weft_node_memory_bytes", "Shared memory: given to arenas, or left.", "use")?,
            evicted: IntGauge::new("weft_node_evicted_blocks", "Blocks evicted from the arenas that are here now.")?,
        };
        registry.register(Box::new(holdings))
    }

    fn count(&self) {
        let (mut total, mut bytes) = (Held::default(), 0);
        for arena in self.arenas.all() {
            let held = arena.tier().held();
            total.complete += held.complete;
            total.pinned += held.pinned;
            total.leased += held.leased;
            total.reserved += held.reserved;
            total.evicting += held.evicting;
            total.evicted += held.evicted;
            bytes += held.complete as u64 * arena.region().geometry().block_bytes;
        }
        let set = |gauge: &IntGaugeVec, label, value| gauge.with_label_values(&[label]).set(saturating(value));
        let (device_blocks, device_bytes) = self.roll.device_held();
        set(&self.blocks, Tier::Host.as_str(), total.complete as u64);
        set(&self.bytes, Tier::Host.as_str(), bytes);
        set(&self.blocks, Tier::Device.as_str(), device_blocks);
        set(&self.bytes, Tier::Device.as_str(), device_bytes);
        if let Some(disk) = &self.disk {
            let held = disk.held();
            set(&self.blocks, Tier::Disk.as_str(), held.blocks as u64);
            set(&self.bytes, Tier::Disk.as_str(), held.bytes);
        }
        set(&self.slots, "complete", total.complete as u64);
        set(&self.slots, "pinned", total.pinned as u64);
        set(&self.slots, "leased", total.leased as u64);
        set(&self.slots, "reserved", total.reserved as u64);
        set(&self.slots, "evicting", total.evicting as u64);
        let (left, all) = (self.arenas.budget().left().bytes(), self.arenas.budget().total().bytes());
        set(&self.memory, "left", left);
        set(&self.memory, "arenas", all - left);
        self.evicted.set(saturating(total.evicted));
    }

    fn parts(&self) -> [&dyn Collector; 5] {
        [&self.blocks, &self.bytes, &self.slots, &self.memory, &self.evicted]
    }
}

fn saturating(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Collector for Holdings {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.count();
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

impl fmt::Debug for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Holdings")
    }
}
