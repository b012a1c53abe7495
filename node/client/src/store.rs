//! Storing: reserve → fill → checksum → commit, in batches.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use weft_attach::{
    BLOCKS_PER_MESSAGE_MAX, Commit, CommitSlot, Reserve, ReservedBlock, SlotRef, ToEngine, ToNode, Touch,
};
use weft_types::{BlockHash, Checksum};

use crate::link::{Link, granted};

/// Blocks reserved at once: 256, so that a round trip is shared by many, and a slow copy holds few slots.
const BATCH_BLOCKS_MAX: usize = 256;

/// Bytes reserved at once: 64 MiB, some 10 ms of copying.
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// What a store did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    /// Blocks written and committed now.
    pub stored: usize,
    /// Blocks the node had already.
    pub present: usize,
    /// Blocks refused (no space, no daemon).
    pub refused: usize,
}

/// Writes the bytes of a batch: positions, and their slots.
type Together<'a> = dyn FnMut(&mut [(usize, &mut [u8])]) -> bool + Send + 'a;

/// Who writes the blocks' bytes.
pub(crate) enum Fill<'a> {
    /// Block by block.
    Each(&'a mut (dyn FnMut(usize, &mut [u8]) + Send)),
    /// A batch at once; whether all of it was written.
    Together(&'a mut Together<'a>),
}

/// Reservations that are given back unless they are committed, also when the store is cancelled.
struct Reservations<'a> {
    link: &'a Link,
    slots: Vec<SlotRef>,
}

impl Drop for Reservations<'_> {
    fn drop(&mut self) {
        if !self.slots.is_empty() {
            self.link.give_up(self.slots.drain(..));
        }
    }
}

/// Stores the blocks that the node lacks.
pub(crate) async fn store(link: &Arc<Link>, blocks: &[BlockHash], fill: &mut Fill<'_>, deadline: Duration) -> Stored {
    let mut total = Stored::default();
    let by_bytes = usize::try_from(BATCH_BYTES_MAX / link.region().geometry().slot_bytes).unwrap_or(usize::MAX);
    let step = by_bytes.clamp(1, BATCH_BLOCKS_MAX);
    for start in (0..blocks.len()).step_by(step) {
        let batch = start..(start + step).min(blocks.len());
        let Some(done) = store_batch(link, blocks, batch, fill, deadline).await else { break };
        total.stored += done.stored;
        total.present += done.present;
        if done.refused > 0 {
            // A block whose predecessor is missing is never found: the rest is not worth its space.
            break;
        }
    }
    total.refused = blocks.len() - total.stored - total.present;
    if total.stored + total.present > step || total.present > 0 {
        // Batches became recent one by one, the front first; this puts the chain as a whole in order.
        let here = (total.stored + total.present).min(BLOCKS_PER_MESSAGE_MAX);
        link.tell(&ToNode::Touch(Touch { blocks: blocks[..here].to_vec() }));
    }
    total
}

/// `None` when the daemon did not answer.
async fn store_batch(
    link: &Arc<Link>,
    blocks: &[BlockHash],
    batch: Range<usize>,
    fill: &mut Fill<'_>,
    deadline: Duration,
) -> Option<Stored> {
    let mut done = Stored::default();
    let request = ToNode::Reserve(Reserve { blocks: blocks[batch.clone()].to_vec() });
    let ToEngine::Reserved(reserved) = link.call(&request, deadline).await? else { return None };
    let mut reservations = Reservations { link, slots: granted(&reserved.blocks).collect() };
    let mut writers = Vec::with_capacity(reservations.slots.len());
    for (position, block) in batch.zip(&reserved.blocks) {
        match block {
            ReservedBlock::Present => done.present += 1,
            ReservedBlock::Full => {
                done.refused += 1;
                break;
            }
            ReservedBlock::Slot(slot) => {
                let Ok(writer) = link.region().write(slot.slot) else {
                    done.refused += 1;
                    break;
                };
                writers.push((position, *slot, writer));
            }
        }
    }
    if let Fill::Together(fill) = fill
        && !fill(&mut writers.iter_mut().map(|(position, _, writer)| (*position, &mut **writer)).collect::<Vec<_>>())
    {
        done.refused += writers.len();
        writers.clear();
    }
    let mut commit = Vec::with_capacity(writers.len());
    for (position, slot, mut writer) in writers {
        if let Fill::Each(fill) = fill {
            fill(position, &mut writer);
        }
        commit.push(CommitSlot { slot, checksum: Some(Checksum::of(&writer)) });
        drop(writer);
        // A block is a millisecond of copying: let others run in between.
        tokio::task::yield_now().await;
    }
    if commit.is_empty() {
        return Some(done);
    }
    reservations.slots.retain(|slot| !commit.iter().any(|committed| committed.slot == *slot));
    let request = ToNode::Commit(Commit { slots: commit });
    let ToEngine::Committed(committed) = link.call(&request, deadline).await? else { return None };
    done.stored = committed.blocks as usize;
    Some(done)
}
