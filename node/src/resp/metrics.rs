//! Counters of the RESP door, `weft_node_resp_*`.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Made once by the daemon, from its registry. Clone is cheap.
#[derive(Clone, Debug)]
pub(crate) struct RespMetrics {
    pub(super) connections: IntGauge,
    pub(super) found: IntCounter,
    pub(super) missed: IntCounter,
    pub(super) set: IntCounter,
    pub(super) set_bytes: IntCounter,
    pub(super) got_bytes: IntCounter,
    pub(super) refused: Refused,
}

/// What was not done, by cause.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    /// Wrong password, or none.
    pub(super) auth: IntCounter,
    /// What came was not the protocol.
    pub(super) protocol: IntCounter,
    /// A command that is not known, or not in this form.
    pub(super) command: IntCounter,
    /// Values that found no slot.
    pub(super) space: IntCounter,
    /// Values that are too long.
    pub(super) length: IntCounter,
    /// Values of a key that somebody else was writing.
    pub(super) busy: IntCounter,
    /// Connections beyond the bound.
    pub(super) connections: IntCounter,
    /// Connections that stood still in the middle of something.
    pub(super) stuck: IntCounter,
}

impl RespMetrics {
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
        let connections = IntGauge::new("weft_node_resp_connections", "Connections of the RESP door now.")?;
        registry.register(Box::new(connections.clone()))?;
        let looked = family("weft_node_resp_keys_total", "Keys that clients asked for, by what was found.", "outcome")?;
        let refused = family("weft_node_resp_refused_total", "What the RESP door did not do, by cause.", "cause")?;
        let cause = |cause| refused.with_label_values(&[cause]);
        Ok(Self {
            connections,
            found: looked.with_label_values(&["found"]),
            missed: looked.with_label_values(&["missed"]),
            set: counter("weft_node_resp_set_total", "Values that clients set.")?,
            set_bytes: counter("weft_node_resp_set_bytes_total", "Bytes of those values.")?,
            got_bytes: counter("weft_node_resp_got_bytes_total", "Bytes of values that clients got.")?,
            refused: Refused {
                auth: cause("auth"),
                protocol: cause("protocol"),
                command: cause("command"),
                space: cause("space"),
                length: cause("length"),
                busy: cause("busy"),
                connections: cause("connections"),
                stuck: cause("stuck"),
            },
        })
    }
}
