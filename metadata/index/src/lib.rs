//! The prefix index: block → holders, and how many leading blocks of a prompt each holder has. Pure.
//!
//! ```text
//!   node ── Report ──► directory ──► PrefixIndex            (authoritative, one a metadata member)
//!                          └─ DirectoryChange ──► PrefixIndex  (a follower's copy, one a router)
//! ```
//!
//! Both sides use the same [`PrefixIndex`], so both give the same answer to [`PrefixIndex::leading`]. It has one writer,
//! its owner; [`IndexReader`]s read it from any thread and never wait for the writer. Beside it stand the records that feed
//! it: [`Report`] with its fixed [`layout`], and [`DirectoryChange`].
//!
//! ```text
//!   key ──► table ──► slot ──► set        table: hash table, 7 to 9 bytes a block
//!             (mostly skipped:            slab:  slots in the order in which blocks were stored, 20.8 bytes a block
//!              the next slot has          sets:  each set of holders once; a block has its name
//!              the next key)
//! ```
//!
//! # Invariants
//! - a retired holder never appears in an answer, from the moment it was retired;
//! - its number is free again only when no entry of it is left, so that an entry can never be taken for a successor's;
//! - what is answered, swept or refused depends on the changes applied, never on where blocks lie in memory; the order of
//!   [`PrefixIndex::runs`] alone does.
//!
//! # Absent on purpose
//! - hashes of tokens: a block arrives as an [`IndexKey`](weft_types::IndexKey);
//! - generations and incarnations: the directory fences before it applies;
//! - giving memory back: what an index has grown to it keeps for blocks to come.

pub mod layout;

mod atomic;
mod change;
mod chunks;
mod digests;
mod frozen;
mod key;
mod prefix_index;
mod reader;
mod report;
mod room;
mod sets;
mod shared;
mod slab;
mod table;
mod walk;

pub use change::DirectoryChange;
pub use digests::{Digests, PartitionId, Partitions};
pub use frozen::{Frozen, Run};
pub use prefix_index::build::{Builder, Duplicate};
pub use prefix_index::{Effect, PrefixIndex, Stats};
pub use reader::IndexReader;
pub use report::{Change, Report, ReportAck, ReportForm};
pub use walk::Match;
