//! What engines publish of their KV caches, as weft blocks: decoding, numbering, and the translation from engine blocks.
//!
//! ```text
//!   engine ── ZeroMQ: topic, number, MessagePack ──► Batch ──► Sequence: next, gap, restart
//!                                                      │
//!                                                      └─────► DeviceBlocks ──► stored and removed weft blocks
//! ```
//! vLLM and SGLang publish the same events in the same form ([`Batch`] says which forms are understood). An engine names
//! its blocks by hashes of its own, over 16 or 32 tokens; weft hashes the tokens again, in blocks of 64, since only its own
//! hash is the same for all engines. The engine's is nothing but a name, by which a block is removed.
//!
//! # Invariants
//! - a weft block is resident while all engine blocks that it is made of are, and goes with the first that goes;
//! - what can't be understood (an event of a later release, a block whose parent was never seen) is counted and left out:
//!   then less is known to be resident than is, never more;
//! - memory is bounded by [`DeviceBlocks::ENGINE_BLOCKS_MAX`].
//!
//! # Absent on purpose
//! - sockets, replay and time: whoever subscribes has them.

mod batch;
mod blocks;
mod sequence;

pub use batch::{Batch, BlockRemoved, BlockStored, EngineEvent, EngineHash, ExtraKey, MalformedBatch};
pub use blocks::{BlockChange, DeviceBlocks, LeftOut};
pub use sequence::{Arrival, Sequence};
