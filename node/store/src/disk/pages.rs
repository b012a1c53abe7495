//! Memory that begins at a page, as direct I/O wants it.

use std::fmt;

use super::format::{PAGE_BYTES, Page};

/// Whole pages of zeroed memory, aligned to a page.
pub struct PageBuffer {
    /// One page more than asked for, so that a page-aligned run of it fits whatever the allocator gives.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl PageBuffer {
    /// Room for `bytes`, rounded up to pages.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let len = bytes.next_multiple_of(PAGE_BYTES);
        let memory = vec![0; len + PAGE_BYTES];
        let start = memory.as_ptr().align_offset(PAGE_BYTES);
        Self { memory, start, len }
    }

    /// At least so large: made anew when it is not. What was in it is not kept.
    pub fn at_least(&mut self, bytes: usize) {
        if self.len < bytes {
            *self = Self::new(bytes);
        }
    }

    /// Its pages.
    pub fn pages_mut(&mut self) -> &mut [Page] {
        self.bytes_mut().as_chunks_mut().0
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }

    /// Its bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

/// Whether direct I/O takes these bytes as they are.
#[must_use]
pub fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(PAGE_BYTES) == 0 && bytes.len().is_multiple_of(PAGE_BYTES)
}

impl fmt::Debug for PageBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_any_length_is_whole_aligned_pages() {
        for bytes in [0, 1, PAGE_BYTES, PAGE_BYTES + 1, 1_000_000] {
            let mut buffer = PageBuffer::new(bytes);
            assert!(is_aligned(buffer.bytes()) && buffer.bytes().len() >= bytes);
            assert_eq!(buffer.pages_mut().len(), bytes.div_ceil(PAGE_BYTES));
        }
        let buffer = PageBuffer::new(2 * PAGE_BYTES);
        assert!(!is_aligned(&buffer.bytes()[1..]) && !is_aligned(&buffer.bytes()[..100]));
    }
}
