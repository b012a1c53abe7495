//! The directory, tested as a value: command in, outcome, changes and state out.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage must fail")]

mod actors;
mod anew;
mod leases;
mod operators;
mod replicas;
mod resync;
mod rules;
mod tenants;
