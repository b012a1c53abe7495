//! The messages of the metadata service, shared by its members and their clients. Pure.
//!
//! One module a version. Inside a version everything is additive: messages of neighbouring releases are understood, method
//! numbers and tags are appended, never renumbered or reused. `tests/golden.rs` holds the bytes of each.

pub mod v1;
