//! Counters of a fabric socket.

/// Made once a process from its registry; clone is cheap.
#[derive(Clone, Debug)]
pub struct Metrics {}

impl Metrics {
    /// Registers the family `weft_transport_*`.
    pub fn register(_registry: &prometheus::Registry) -> Self {
        Self {}
    }
}
