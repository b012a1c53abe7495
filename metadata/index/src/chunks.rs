//! An array that grows by whole chunks and never moves one, so that readers need no lock: two levels of cells that are each
//! written once.

use std::sync::OnceLock;

/// Chunks by number. One owner adds them; whoever has a reference reads them.
pub(crate) struct Chunks<T>(Box<[OnceLock<Middle<T>>]>);

type Middle<T> = Box<[OnceLock<Box<T>>]>;

/// Cells of either level. Squared it is 262,144 chunks; an empty array costs 8 KiB.
const WIDTH: usize = 512;

impl<T> Chunks<T> {
    pub(crate) const MAX: usize = WIDTH * WIDTH;

    pub(crate) fn new() -> Self {
        Self((0..WIDTH).map(|_| OnceLock::new()).collect())
    }

    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        self.0.get(number / WIDTH)?.get()?[number % WIDTH].get().map(|chunk| &**chunk)
    }

    /// Adds the chunk of this number, which must not be there yet and be below [`Chunks::MAX`].
    pub(crate) fn add(&self, number: usize, chunk: Box<T>) {
        let middle = self.0[number / WIDTH].get_or_init(|| (0..WIDTH).map(|_| OnceLock::new()).collect());
        let fresh = middle[number % WIDTH].set(chunk).is_ok();
        assert!(fresh, "chunk {number} was added twice");
    }

    /// Bytes of an array with so many chunks, as it is allocated.
    pub(crate) fn bytes(chunks: usize) -> usize {
        let middles = chunks.div_ceil(WIDTH) * WIDTH * size_of::<OnceLock<Box<T>>>();
        WIDTH * size_of::<OnceLock<Middle<T>>>() + middles + chunks * size_of::<T>()
    }
}
