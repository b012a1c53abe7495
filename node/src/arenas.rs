//! The arenas of a node, one a contract, within one budget.
//!
//! The first engine of a contract makes its arena; the arena stays when the last one leaves, so that an engine which comes
//! back finds its blocks. It goes only when the memory is needed for another contract and nobody is attached to it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_attach::{Geometry, GeometryError, Region, RegionError};
use weft_store::{Arena, BudgetError, LeasedKeys, MemoryBudget, PinnedBlock, TierChange};
use weft_types::{BlockHash, ByteSize, Contract, ContractConflict};

/// Why an engine's contract has no arena.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArenaError {
    /// Engines attached here agreed on another contract for this model key.
    #[error(transparent)]
    Conflict(#[from] ContractConflict),
    /// The memory is taken by contracts whose engines are attached.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The contract's blocks make no region.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The kernel gives no memory.
    #[error(transparent)]
    Region(#[from] RegionError),
}

/// All arenas.
pub(crate) struct Arenas {
    budget: MemoryBudget,
    contract_memory: ByteSize,
    changed: Arc<dyn Fn() + Send + Sync>,
    /// There is a tier below.
    offering: bool,
    /// Told when slots of any arena became ready.
    populated: watch::Sender<()>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    arenas: Vec<Entry>,
    /// Changes of arenas that are gone.
    orphaned: Vec<TierChange>,
    /// They were too many to keep.
    orphans_lost: bool,
    /// What leases pin.
    leased: Arc<LeasedKeys>,
}

struct Entry {
    arena: Arc<Arena>,
    leases: usize,
}

/// An arena in use by an attachment.
pub(crate) struct ArenaLease {
    arenas: Arc<Arenas>,
    arena: Arc<Arena>,
}

impl Arenas {
    /// None yet. `changed` is called when there is something to report; `offering`: a tier below wants to know what leaves.
    pub(crate) fn new(
        budget: MemoryBudget,
        contract_memory: ByteSize,
        changed: Arc<dyn Fn() + Send + Sync>,
        offering: bool,
    ) -> Arc<Self> {
        let populated = watch::Sender::new(());
        Arc::new(Self { budget, contract_memory, changed, offering, populated, inner: Mutex::default() })
    }

    /// The memory they share.
    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// The arena of a contract, made if there is none.
    pub(crate) fn attach(self: &Arc<Self>, contract: &Contract) -> Result<ArenaLease, ArenaError> {
        self.attach_within(contract, self.contract_memory)
    }

    /// As [`Arenas::attach`]; an arena that is made gets so much memory.
    pub(crate) fn attach_within(
        self: &Arc<Self>,
        contract: &Contract,
        memory: ByteSize,
    ) -> Result<ArenaLease, ArenaError> {
        let mut inner = self.inner.lock();
        let known = inner.arenas.iter().position(|entry| entry.arena.contract().model_key == contract.model_key);
        let position = match known {
            Some(position) => {
                inner.arenas[position].arena.contract().check(contract)?;
                position
            }
            None => {
                let arena = self.make(&mut inner, contract, memory)?;
                inner.arenas.push(Entry { arena, leases: 0 });
                inner.arenas.len() - 1
            }
        };
        let entry = &mut inner.arenas[position];
        entry.leases += 1;
        Ok(ArenaLease { arenas: Arc::clone(self), arena: Arc::clone(&entry.arena) })
    }

    fn make(&self, inner: &mut Inner, contract: &Contract, memory: ByteSize) -> Result<Arc<Arena>, ArenaError> {
        let geometry = Geometry::fit(contract.block_bytes(), memory.bytes())?;
        let asked = ByteSize::from_bytes(geometry.region_bytes());
        let share = loop {
            match self.budget.take(asked) {
                Ok(share) => break share,
                Err(error) if !inner.give_up_idle() => return Err(error.into()),
                Err(_) => {}
            }
        };
        let name = format!("weft-{}", contract.id());
        let region = Region::create(&name, geometry)?;
        tracing::info!(
            contract = %contract.id(),
            model = %contract.model_key.model,
            memory = %asked,
            slots = geometry.slots,
            huge_pages = region.is_huge(),
            "made an arena",
        );
        let changed = Arc::clone(&self.changed);
        let arena = Arena::new(contract.clone(), region, share, Box::new(move || changed()));
        if self.offering {
            arena.tier().make_offers();
        }
        arena.tier().set_leased(Arc::clone(&inner.leased));
        populate(&arena, self.populated.clone());
        Ok(arena)
    }

    /// From now on these are the blocks that leases pin.
    pub(crate) fn set_leased(&self, leased: Arc<LeasedKeys>) {
        let arenas: Vec<_> = {
            let mut inner = self.inner.lock();
            inner.leased = Arc::clone(&leased);
            inner.arenas.iter().map(|entry| Arc::clone(&entry.arena)).collect()
        };
        // Outside the lock: each walks over its slots.
        arenas.iter().for_each(|arena| arena.set_leased(Arc::clone(&leased)));
    }

    /// Resolves when the arena has slots to offer: a few milliseconds after it was made.
    pub(crate) async fn ready(&self, arena: &Arena) {
        let mut populated = self.populated.subscribe();
        while arena.tier().ready() == 0 && populated.changed().await.is_ok() {}
    }

    /// Every arena.
    pub(crate) fn all(&self) -> Vec<Arc<Arena>> {
        self.inner.lock().arenas.iter().map(|entry| Arc::clone(&entry.arena)).collect()
    }

    /// Pins a block, whichever arena has it.
    pub(crate) fn pin(&self, block: &BlockHash) -> Option<(Arc<Arena>, PinnedBlock)> {
        self.all().into_iter().find_map(|arena| arena.pin(block).map(|pinned| (arena, pinned)))
    }

    /// What changed since this was last called, in order for each block; `None` when that was too much to keep, and
    /// [`Arenas::cut`] has to be asked.
    pub(crate) fn take_changes(&self) -> Option<Vec<TierChange>> {
        let mut inner = self.inner.lock();
        let mut whole = !std::mem::take(&mut inner.orphans_lost);
        let mut changes = std::mem::take(&mut inner.orphaned);
        for entry in &inner.arenas {
            match entry.arena.tier().changes().take() {
                Some(more) => changes.extend(more),
                None => whole = false,
            }
        }
        whole.then_some(changes)
    }

    /// Gives everything that is held to `each`, and takes the changes as [`Arenas::take_changes`] does: for each arena both at
    /// one moment. The arena is locked meanwhile, for a few nanoseconds a slot.
    pub(crate) fn cut(&self, mut each: impl FnMut(BlockHash)) -> Option<Vec<TierChange>> {
        let mut inner = self.inner.lock();
        let mut whole = !std::mem::take(&mut inner.orphans_lost);
        let mut changes = std::mem::take(&mut inner.orphaned);
        for entry in &inner.arenas {
            let mut tier = entry.arena.tier();
            tier.blocks().for_each(&mut each);
            match tier.changes().take() {
                Some(more) => changes.extend(more),
                None => whole = false,
            }
        }
        whole.then_some(changes)
    }
}

impl Inner {
    /// Lets go of an arena that nobody is attached to. Its memory is free as soon as peers have read what they are reading.
    fn give_up_idle(&mut self) -> bool {
        let Some(position) = self.arenas.iter().position(|entry| entry.leases == 0) else { return false };
        let Entry { arena, .. } = self.arenas.swap_remove(position);
        tracing::info!(contract = %arena.contract().id(), "gave up an idle arena: its memory is needed");
        let mut tier = arena.tier();
        match tier.changes().take() {
            Some(changes) => self.orphaned.extend(changes),
            None => self.orphans_lost = true,
        }
        self.orphaned.extend(tier.blocks().map(TierChange::Removed));
        true
    }
}

/// Faults the pages in, on a thread of its own: the kernel takes its time to clear them.
fn populate(arena: &Arc<Arena>, populated: watch::Sender<()>) {
    let arena = Arc::downgrade(arena);
    let populate = move || {
        if let Err(error) = Arena::populate(&arena, || populated.send_replace(())) {
            tracing::error!(%error, "the arena stays smaller than configured");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("weft-populate".into()).spawn(populate) {
        tracing::error!(%error, "cannot start a thread: the arena takes no blocks");
    }
}

impl Deref for ArenaLease {
    type Target = Arc<Arena>;

    fn deref(&self) -> &Arc<Arena> {
        &self.arena
    }
}

impl Drop for ArenaLease {
    fn drop(&mut self) {
        let mut inner = self.arenas.inner.lock();
        if let Some(entry) = inner.arenas.iter_mut().find(|entry| Arc::ptr_eq(&entry.arena, &self.arena)) {
            entry.leases -= 1;
        }
    }
}

impl fmt::Debug for Arenas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arenas").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl fmt::Debug for ArenaLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ArenaLease").field(&self.arena).finish()
    }
}
