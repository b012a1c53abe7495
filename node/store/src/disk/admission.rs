//! Which blocks earn their way to disk: flash wears with every write, and most blocks of most workloads are never asked for
//! again.

use std::fmt;

use weft_types::BlockHash;

/// What is known of a block that leaves host memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub block: BlockHash,
    /// Somebody loaded it since it was stored.
    pub used: bool,
    /// A lease says that it should stay.
    pub leased: bool,
}

/// Decides what is written to disk.
pub trait Admission: fmt::Debug + Send {
    /// Whether to write it. Asked once each time the block is about to leave host memory.
    fn admit(&mut self, candidate: &Candidate) -> bool;
}

/// Everything.
#[derive(Debug)]
pub struct AdmitAll;

/// Blocks that were seen twice: loaded after they were stored, or stored again after they had left. Leased ones too.
///
/// What left is remembered by 4 bytes a block, in a table of fixed size; within a bucket the oldest is forgotten first. A
/// block that was never seen passes for one that was with a chance of 8 in 4 billion, which costs one write.
#[derive(Debug)]
pub struct SeenTwice {
    buckets: Vec<[u32; BUCKET]>,
}

/// Fingerprints in a bucket: half a cache line.
const BUCKET: usize = 8;

impl Admission for AdmitAll {
    fn admit(&mut self, _: &Candidate) -> bool {
        true
    }
}

impl SeenTwice {
    /// Remembers about `blocks` that left, 4 bytes each.
    #[must_use]
    pub fn new(blocks: usize) -> Self {
        Self { buckets: vec![[0; BUCKET]; blocks.div_ceil(BUCKET).max(1)] }
    }

    /// Whether the block was here before; it is from now on.
    fn seen(&mut self, block: &BlockHash) -> bool {
        let bytes = block.as_bytes();
        let (low, high) = (u64_at(bytes, 0), u64_at(bytes, 8));
        let bucket = usize::try_from(low % self.buckets.len() as u64).expect("below the number of buckets");
        // 0 is an empty place.
        let fingerprint = u32::try_from(high & 0xffff_ffff).expect("32 bits").max(1);
        let bucket = &mut self.buckets[bucket];
        let seen = bucket.iter().position(|other| *other == fingerprint);
        bucket[..=seen.unwrap_or(BUCKET - 1)].rotate_right(1);
        bucket[0] = fingerprint;
        seen.is_some()
    }
}

impl Admission for SeenTwice {
    fn admit(&mut self, candidate: &Candidate) -> bool {
        candidate.used || candidate.leased || self.seen(&candidate.block)
    }
}

fn u64_at(bytes: &[u8; 32], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a place in a hash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64) -> BlockHash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        BlockHash::from_bytes(bytes)
    }

    fn cold(number: u64) -> Candidate {
        Candidate { block: block(number), used: false, leased: false }
    }

    #[test]
    fn a_block_earns_its_place_by_use_by_lease_or_by_coming_again() {
        let mut admission = SeenTwice::new(1024);
        assert!(!admission.admit(&cold(1)) && admission.admit(&cold(1)) && !admission.admit(&cold(2)));
        assert!(admission.admit(&Candidate { used: true, ..cold(3) }));
        assert!(admission.admit(&Candidate { leased: true, ..cold(4) }));
    }

    #[test]
    fn what_left_long_ago_is_forgotten_and_memory_stays_as_it_is() {
        let mut admission = SeenTwice::new(1024);
        let admitted = (0..100_000).filter(|number| admission.admit(&cold(*number))).count();
        assert_eq!(admitted, 0, "nothing came twice");
        assert!(admission.admit(&cold(99_999)) && !admission.admit(&cold(0)));
        assert_eq!(admission.buckets.len(), 128);
    }
}
