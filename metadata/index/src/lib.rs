//! The prefix index: block → holders, and how many leading blocks of a prompt each holder has. Pure.
//!
//! ```text
//!   node ── Report ──► directory ──► PrefixIndex            (authoritative, one a metadata member)
//!                          └─ DirectoryChange ──► PrefixIndex  (a follower's copy, one a router)
//! ```
//!
//! Both sides use the same [`PrefixIndex`], so both give the same answer to [`PrefixIndex::leading`]. Beside it stand the
//! records that feed it: [`Report`] with its fixed [`layout`], and [`DirectoryChange`].
//!
//! # Invariants
//! - a retired holder never appears in an answer, from the moment it was retired;
//! - its number is free again only when no entry of it is left, so that an entry can never be taken for a successor's;
//! - what is answered, iterated or swept depends on the operations applied, never on addresses, hash seeds or capacity.
//!
//! # Absent on purpose
//! - hashes of tokens: a block arrives as an [`IndexKey`](weft_types::IndexKey);
//! - generations and incarnations: the directory fences before it applies.

pub mod layout;

mod change;
mod digests;
mod holders;
mod partition;
mod prefix_index;
mod report;

pub use change::DirectoryChange;
pub use digests::{Digests, PartitionId, Partitions};
pub use holders::Holders;
pub use prefix_index::{Match, PrefixIndex};
pub use report::{Change, Report, ReportAck, ReportForm};
