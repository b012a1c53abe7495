//! The process kit: what every process of weft needs and no role owns.
pub mod admin;
pub mod certs;
pub mod config;
pub mod exit;
pub mod shutdown;
pub mod telemetry;
