//! The process kit: what every process of weft needs and no role owns.
//!
//! ```text
//!   arguments ──► config::load ──► Telemetry ──► role: bind ──► run until shutdown::signal ──► drain ──► exit code
//! ```
//!
//! It knows no role and depends on nothing of ours, so that every crate may depend on it.

pub mod address;
pub mod admin;
pub mod certs;
pub mod config;
pub mod exit;
mod renewal;
pub mod run;
pub mod shutdown;
pub mod telemetry;
