//! Counters of the fabric sockets of a process.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use quinn::ConnectionStats;

use crate::profile::Profile;

/// How often the counters of an open connection are brought up to date.
const ACCOUNT_EVERY: Duration = Duration::from_secs(1);

/// Family `weft_transport_*`. Made once a process from its registry; clone is cheap.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Requests made, by kind (`call`, `subscribe`, `fetch`) and outcome.
    pub(crate) requests: IntCounterVec,
    /// Requests served, by kind and outcome.
    pub(crate) served: IntCounterVec,
    /// Connection attempts made, by outcome.
    pub(crate) dials: IntCounterVec,
    /// Peers refused, by reason.
    pub(crate) refused: IntCounterVec,
    connections: IntGaugeVec,
    bytes: IntCounterVec,
    lost: IntCounterVec,
    certificate_end: IntGauge,
    renewals: IntCounterVec,
}

/// Kinds of requests.
const KINDS: [&str; 3] = ["call", "subscribe", "fetch"];
/// What becomes of an attempt to connect.
const DIALED: [&str; 3] = ["ok", "refused", "failed"];
/// Why a peer is refused: [`crate::trust::PeerRefusal::reason`], a role that may not ask that, and one connection too many.
const REFUSED: [&str; 10] = [
    "no_certificate",
    "untrusted",
    "expired",
    "revoked",
    "unnamed",
    "cluster",
    "role",
    "version",
    "forbidden",
    "too_many",
];

/// Which side opened a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    In,
    Out,
}

impl Metrics {
    /// Registers the family.
    ///
    /// # Panics
    /// It is registered there already: one process has one.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntCounterVec::new(Opts::new(format!("weft_transport_{name}"), help), labels))
        };
        let metrics = Self {
            requests: counters("requests_total", "Requests made to peers, by kind and outcome.", &["kind", "outcome"]),
            served: counters("served_total", "Requests of peers answered, by kind and outcome.", &["kind", "outcome"]),
            dials: counters("dials_total", "Connections attempted, by outcome.", &["outcome"]),
            refused: counters("refused_peers_total", "Peers refused, by reason.", &["reason"]),
            connections: add(
                registry,
                IntGaugeVec::new(
                    Opts::new("weft_transport_connections", "Open connections, by profile and who opened them."),
                    &["profile", "direction"],
                ),
            ),
            bytes: counters("bytes_total", "UDP payload bytes, by profile and direction.", &["profile", "direction"]),
            lost: counters("lost_packets_total", "Packets sent and found lost, by profile.", &["profile"]),
            renewals: counters(
                "certificate_renewals_total",
                "Certificates taken up while running, by outcome; the files of one that failed are not in use.",
                &["outcome"],
            ),
            certificate_end: add(
                registry,
                IntGauge::new(
                    "weft_transport_certificate_end_timestamp_seconds",
                    "When our certificate ends, in seconds since 1970; no peer takes it from then on.",
                ),
            ),
        };
        metrics.begin();
        metrics
    }

    /// Says when the certificate in use ends.
    pub(crate) fn certified_until(&self, seconds: i64) {
        self.certificate_end.set(seconds);
    }

    /// A certificate was taken up that ends then, or not.
    pub(crate) fn renewed(&self, until: Option<i64>) {
        if let Some(seconds) = until {
            self.certified_until(seconds);
        }
        self.renewals.with_label_values(&[if until.is_some() { "ok" } else { "failed" }]).inc();
    }

    /// Every series from the start, at zero: one that appears with its first event has no rate at that event.
    fn begin(&self) {
        for kind in KINDS {
            self.requests.with_label_values(&[kind, "ok"]);
            self.served.with_label_values(&[kind, "ok"]);
        }
        for outcome in DIALED {
            self.dials.with_label_values(&[outcome]);
        }
        for outcome in ["ok", "failed"] {
            self.renewals.with_label_values(&[outcome]);
        }
        for reason in REFUSED {
            self.refused.with_label_values(&[reason]);
        }
        for profile in [Profile::Control, Profile::Bulk] {
            self.lost.with_label_values(&[profile.as_str()]);
            for direction in ["in", "out"] {
                self.connections.with_label_values(&[profile.as_str(), direction]);
                self.bytes.with_label_values(&[profile.as_str(), direction]);
            }
        }
    }

    /// Keeps the counters of one connection until it ends.
    pub(crate) async fn account(self, connection: quinn::Connection, profile: Profile, direction: Direction) {
        let word = match direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        let open = self.connections.with_label_values(&[profile.as_str(), word]);
        open.inc();
        let mut before = ConnectionStats::default();
        loop {
            let ended = tokio::time::timeout(ACCOUNT_EVERY, connection.closed()).await.is_ok();
            let now = connection.stats();
            self.add(profile, &before, &now);
            before = now;
            if ended {
                break;
            }
        }
        open.dec();
    }

    fn add(&self, profile: Profile, before: &ConnectionStats, now: &ConnectionStats) {
        let bytes = |direction| self.bytes.with_label_values(&[profile.as_str(), direction]);
        bytes("in").inc_by(now.udp_rx.bytes - before.udp_rx.bytes);
        bytes("out").inc_by(now.udp_tx.bytes - before.udp_tx.bytes);
        self.lost.with_label_values(&[profile.as_str()]).inc_by(now.path.lost_packets - before.path.lost_packets);
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels are constants of this file");
    registry.register(Box::new(collector.clone())).expect("a process registers its transport metrics once");
    collector
}
