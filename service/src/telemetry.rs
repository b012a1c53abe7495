//! Tracing and the metrics registry.
