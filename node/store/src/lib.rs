//! What a node keeps, and where: the host tier in shared memory, and the disk tier ([`disk`]) below it. No runtime, no clock;
//! I/O only through [`disk::Device`].
//!
//! ```text
//!            reserve ─► Reserved ─ commit ─► Complete ─ remove, pinned ─► Evicting
//!   Free ◄── abort ─────────┘                   │                             │
//!     ▲                                         ▼                             ▼
//!     └──────────── evicted or removed, not pinned ◄──────────── last unpin ──┘
//! ```
//!
//! [`HostTier`] is that state machine, a value without memory behind it; [`Ledger`] is what one attachment holds of it,
//! so that an engine can give back only what it took; [`Arena`] puts a [`weft_attach::Region`] behind the two.
//!
//! # Invariants
//! - a slot is in one state, and a block has at most one slot;
//! - a block that is pinned, reserved or being written is never evicted, and one that a lease keeps is not while the lease lasts;
//! - only `Complete` blocks are found, counted and reported;
//! - every change of what is found is in the [`ChangeLog`], in order, or the log says that it overflowed.
//!
//! # Absent on purpose
//! - the object tier: it will stand below [`disk`];
//! - last-copy preference: it will be an [`EvictionPolicy`].

mod arena;
mod budget;
mod changes;
pub mod disk;
mod ledger;
mod policy;
mod tier;

pub use arena::{Arena, PinnedBlock, ReservedSlot, TierGuard};
pub use budget::{BudgetError, MemoryBudget, MemoryShare};
pub use changes::{ChangeLog, TierChange};
pub use ledger::{Ledger, LedgerError};
pub use policy::{EvictionPolicy, Lru};
pub use tier::{Cleared, Held, HostTier, LeasedKeys, Offer, Pinned, Reservation, SlotError};
