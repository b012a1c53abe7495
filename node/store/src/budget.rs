//! The memory that all regions of a node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weft_types::ByteSize;

/// Bytes that regions may take together. Clone is cheap, and shares the budget.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    total: u64,
    taken: Arc<AtomicU64>,
}

/// Bytes taken from a budget; they go back when this is dropped.
#[derive(Debug)]
pub struct MemoryShare {
    bytes: u64,
    taken: Arc<AtomicU64>,
}

/// More was asked than is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{asked} of host memory asked, {left} of {total} left: raise host_memory, lower contract_memory, \
     or detach the engines of another contract"
)]
pub struct BudgetError {
    /// Asked for.
    pub asked: ByteSize,
    /// Left.
    pub left: ByteSize,
    /// The whole budget.
    pub total: ByteSize,
}

impl MemoryBudget {
    /// A budget of `total`.
    #[must_use]
    pub fn new(total: ByteSize) -> Self {
        Self { total: total.bytes(), taken: Arc::default() }
    }

    /// Takes `asked`.
    ///
    /// # Errors
    /// Less is left.
    pub fn take(&self, asked: ByteSize) -> Result<MemoryShare, BudgetError> {
        let bytes = asked.bytes();
        let fits = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= self.total);
        match self.taken.try_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(MemoryShare { bytes, taken: Arc::clone(&self.taken) }),
            Err(taken) => Err(BudgetError {
                asked,
                left: ByteSize::from_bytes(self.total - taken),
                total: ByteSize::from_bytes(self.total),
            }),
        }
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> ByteSize {
        ByteSize::from_bytes(self.total - self.taken.load(Ordering::Relaxed))
    }

    /// The whole of it.
    #[must_use]
    pub fn total(&self) -> ByteSize {
        ByteSize::from_bytes(self.total)
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_back() {
        let budget = MemoryBudget::new(ByteSize::from_mib(3));
        let share = budget.take(ByteSize::from_mib(2)).unwrap();
        let error = budget.clone().take(ByteSize::from_mib(2)).unwrap_err();
        assert_eq!((error.left, error.total), (ByteSize::from_mib(1), ByteSize::from_mib(3)));
        drop(share);
        assert_eq!(budget.left(), budget.total());
        assert!(budget.take(ByteSize::from_bytes(u64::MAX)).is_err());
    }
}
