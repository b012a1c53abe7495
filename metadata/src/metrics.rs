//! Counters of a metadata member, registered once from its registry.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use weft_metadata_state::Directory;

use crate::raft::RaftMetrics;

macro_rules! family {
    ($(#[$doc:meta])* pub(crate) struct $family:ident {
        $(#[doc = $help:literal] $field:ident: $kind:ty = $make:expr;)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $family {
            $(#[doc = $help] pub(crate) $field: $kind,)+
        }

        impl $family {
            /// Registers the family. A second member in one process needs a registry of its own.
            pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
                Ok(Self { $($field: register(registry, $make($help.trim())?)?,)+ })
            }
        }
    };
}

fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> Result<M, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(name: &'static str) -> impl Fn(&str) -> Result<IntCounter, prometheus::Error> {
    move |help| IntCounter::new(name, help)
}

fn gauge(name: &'static str) -> impl Fn(&str) -> Result<IntGauge, prometheus::Error> {
    move |help| IntGauge::new(name, help)
}

/// Syncs take 100 µs on a quiet NVMe device and tens of milliseconds on a busy or virtual one.
fn sync_histogram(help: &str) -> Result<Histogram, prometheus::Error> {
    let buckets = prometheus::exponential_buckets(0.0001, 2.0, 15)?;
    Histogram::with_opts(HistogramOpts::new("weft_metadata_log_sync_seconds", help).buckets(buckets))
}

/// A lookup takes microseconds, unless it has to wait.
fn lookup_histogram(help: &str) -> Result<Histogram, prometheus::Error> {
    let buckets = prometheus::exponential_buckets(0.000_001, 2.0, 18)?;
    Histogram::with_opts(HistogramOpts::new("weft_metadata_lookup_seconds", help).buckets(buckets))
}

fn cut_offs(help: &str) -> Result<IntCounterVec, prometheus::Error> {
    let vec = IntCounterVec::new(Opts::new("weft_metadata_watch_cut_offs_total", help), &["reason"])?;
    for reason in ["lagged", "jumped", "closing", "filter", "stalled"] {
        vec.with_label_values(&[reason]);
    }
    Ok(vec)
}

fn operator_requests(help: &str) -> Result<IntCounterVec, prometheus::Error> {
    let vec = IntCounterVec::new(Opts::new("weft_metadata_operator_requests_total", help), &["outcome"])?;
    for outcome in ["done", "refused"] {
        vec.with_label_values(&[outcome]);
    }
    Ok(vec)
}

family! {
    /// Family `weft_metadata_*`. Clone is cheap; all clones count together.
    pub(crate) struct Metrics {
        /// Seconds that a sync of the log took.
        log_sync_seconds: Histogram = sync_histogram;
        /// Bytes written to the log.
        log_bytes: IntCounter = counter("weft_metadata_log_bytes_total");
        /// Segments of the log on disk.
        log_segments: IntGauge = gauge("weft_metadata_log_segments");
        /// Bytes of those segments, set aside or written.
        log_disk_bytes: IntGauge = gauge("weft_metadata_log_disk_bytes");
        /// Log entries applied.
        applied_entries: IntCounter = counter("weft_metadata_applied_entries_total");
        /// Log index up to which entries are applied.
        applied_index: IntGauge = gauge("weft_metadata_applied_index");
        /// Index of the last entry in the log, applied or not.
        last_log_index: IntGauge = gauge("weft_metadata_last_log_index");
        /// Changes that applied entries made to the directory.
        changes: IntCounter = counter("weft_metadata_changes_total");
        /// Snapshots written by this member.
        snapshots: IntCounter = counter("weft_metadata_snapshots_total");
        /// Snapshots taken over from a leader.
        snapshots_installed: IntCounter = counter("weft_metadata_snapshots_installed_total");
        /// 1 while this member leads with a majority behind it.
        leader: IntGauge = gauge("weft_metadata_leader");
        /// Raft term.
        term: IntGauge = gauge("weft_metadata_term");
        /// Voters that the group agreed on, as this member knows it.
        voters: IntGauge = gauge("weft_metadata_voters");
        /// Reports folded into entries while this member led.
        reports: IntCounter = counter("weft_metadata_reports_total");
        /// Entries that they were folded into.
        report_entries: IntCounter = counter("weft_metadata_report_entries_total");
        /// Report calls refused because too much waited.
        reports_overloaded: IntCounter = counter("weft_metadata_reports_overloaded_total");
        /// Seconds that answering a lookup took, apart from the call it came by.
        lookup_seconds: Histogram = lookup_histogram;
        /// Nodes expired while this member led.
        expired_nodes: IntCounter = counter("weft_metadata_expired_nodes_total");
        /// Distinct blocks in the directory's index.
        index_blocks: IntGauge = gauge("weft_metadata_index_blocks");
        /// Bytes of the directory's index.
        index_bytes: IntGauge = gauge("weft_metadata_index_bytes");
        /// Tenants.
        tenants: IntGauge = gauge("weft_metadata_tenants");
        /// Leases that have not ended.
        leases: IntGauge = gauge("weft_metadata_leases");
        /// Blocks of all leases, each counted once a lease.
        leased_blocks: IntGauge = gauge("weft_metadata_leased_blocks");
        /// Requests of operators answered while this member led, by outcome.
        operator_requests: IntCounterVec = operator_requests;
        /// Watches being served.
        watchers: IntGauge = gauge("weft_metadata_watchers");
        /// Snapshots sent to watchers.
        watch_snapshots: IntCounter = counter("weft_metadata_watch_snapshots_total");
        /// Watches that this member ended, by reason.
        watch_cut_offs: IntCounterVec = cut_offs;
    }
}

impl Metrics {
    /// Takes over what openraft says of itself.
    pub(crate) fn observe(&self, raft: &RaftMetrics, leads: bool) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.leader.set(i64::from(leads));
        self.term.set(number(raft.current_term));
        self.voters.set(number(raft.membership_config.membership().voter_ids().count() as u64));
        self.last_log_index.set(number(raft.last_log_index.unwrap_or(0)));
    }

    /// Takes over what is agreed.
    pub(crate) fn observe_directory(&self, directory: &Directory) {
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let (index, accounts) = (directory.index().stats(), directory.accounts());
        self.index_blocks.set(number(index.blocks));
        self.index_bytes.set(number(index.bytes));
        self.tenants.set(number(accounts.tenants().all().len()));
        self.leases.set(number(accounts.leases().all().len()));
        self.leased_blocks.set(i64::try_from(accounts.leases().blocks()).unwrap_or(i64::MAX));
    }

    /// Counts a watcher until it is dropped.
    pub(crate) fn watching(&self) -> Watching {
        self.watchers.inc();
        Watching(self.watchers.clone())
    }
}

/// A watcher, as it is counted.
#[derive(Debug)]
pub(crate) struct Watching(IntGauge);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.dec();
    }
}
