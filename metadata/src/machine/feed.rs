//! The change feed: what the last entries changed, in log order, for as many watchers as there are. Bounded: whoever
//! falls behind the oldest change kept is told so, and starts again with a snapshot.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_metadata_proto::v1::WatchItem;
use weft_metadata_state::DirectoryChange;
use weft_types::LogTime;

/// Entries that are kept: some 10 minutes of a busy group at 100 entries a second.
pub(crate) const ENTRIES_MAX: usize = 65_536;

/// Bytes of changes that are kept: several seconds at a million changes a second, which is longer than a router needs to
/// come back after its connection broke.
const BYTES_MAX: usize = 128 << 20;

/// How far the member has applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Progress {
    /// Log index.
    pub(crate) index: u64,
    /// Log-stamped time there.
    pub(crate) at: LogTime,
}

/// Why there is no next change for a watcher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Behind {
    /// It is no longer kept.
    Lagged,
    /// It was never here: the member took over a snapshot.
    Jumped,
}

#[derive(Debug)]
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    progress: watch::Sender<Progress>,
    entries_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Ring {
    items: VecDeque<Kept>,
    bytes: usize,
    /// Every change of a higher index is in `items`.
    complete_after: u64,
    /// Index to which the member jumped last.
    jumped_to: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    index: u64,
    item: Arc<WatchItem>,
    bytes: usize,
}

impl Feed {
    /// Of a member that has applied up to `index`.
    pub(crate) fn new(index: u64, at: LogTime) -> Self {
        Self::bounded(index, at, ENTRIES_MAX, BYTES_MAX)
    }

    fn bounded(index: u64, at: LogTime, entries_max: usize, bytes_max: usize) -> Self {
        let ring = Ring { items: VecDeque::new(), bytes: 0, complete_after: index, jumped_to: index };
        let (progress, _) = watch::channel(Progress { index, at });
        Self { ring: Mutex::new(ring), progress, entries_max, bytes_max }
    }

    /// Entry `index` was applied.
    pub(crate) fn publish(&self, index: u64, at: LogTime, changes: Vec<DirectoryChange>) {
        if !changes.is_empty() {
            let bytes = changes.iter().map(size).sum();
            let item = Arc::new(WatchItem::Changes { index, changes });
            let mut ring = self.ring.lock();
            ring.bytes += bytes;
            ring.items.push_back(Kept { index, item, bytes });
            while ring.items.len() > self.entries_max || ring.bytes > self.bytes_max {
                let Some(oldest) = ring.items.pop_front() else { break };
                ring.bytes -= oldest.bytes;
                ring.complete_after = oldest.index;
            }
        }
        self.progress.send_replace(Progress { index, at });
    }

    /// The member took over a snapshot of `index`.
    pub(crate) fn jump(&self, index: u64, at: LogTime) {
        let mut ring = self.ring.lock();
        *ring = Ring { items: VecDeque::new(), bytes: 0, complete_after: index, jumped_to: index };
        drop(ring);
        self.progress.send_replace(Progress { index, at });
    }

    /// How far the member has applied, now and from now on.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Up to `count` items behind `index`, oldest first; none if there is nothing new.
    pub(crate) fn after(&self, index: u64, count: usize) -> Result<Vec<Arc<WatchItem>>, Behind> {
        let ring = self.ring.lock();
        if index < ring.jumped_to {
            return Err(Behind::Jumped);
        }
        if index < ring.complete_after {
            return Err(Behind::Lagged);
        }
        let start = ring.items.partition_point(|kept| kept.index <= index);
        Ok(ring.items.range(start..).take(count).map(|kept| kept.item.clone()).collect())
    }
}

/// Bytes that a change takes in memory, roughly.
pub(crate) fn size(change: &DirectoryChange) -> usize {
    /// A grant or a specification, strings and all.
    const SPEC_BYTES: usize = 512;
    match change {
        DirectoryChange::Blocks(report) => size_of_val(report.changes.as_slice()) + size_of_val(report),
        DirectoryChange::HolderRetired(_) => size_of_val(change),
        DirectoryChange::Lease(_, Some(lease)) => SPEC_BYTES + size_of_val(lease.prefix.as_ref()),
        _ => SPEC_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_types::HolderId;

    fn change(number: u32) -> Vec<DirectoryChange> {
        vec![DirectoryChange::HolderRetired(HolderId::new(number))]
    }

    fn indices(items: &[Arc<WatchItem>]) -> Vec<u64> {
        let index = |item: &Arc<WatchItem>| match **item {
            WatchItem::Changes { index, .. } => index,
            _ => unreachable!("the feed holds changes only"),
        };
        items.iter().map(index).collect()
    }

    #[test]
    fn a_watcher_gets_what_follows_its_index_or_is_told_why_not() {
        let feed = Feed::bounded(10, LogTime::ZERO, 3, usize::MAX);
        assert_eq!(feed.after(10, 9), Ok(vec![]));
        assert_eq!(feed.after(9, 9), Err(Behind::Jumped), "before the start it is as after a snapshot");
        for index in 11..=13 {
            feed.publish(index, LogTime::ZERO, change(1));
        }
        feed.publish(14, LogTime::ZERO, vec![]);
        assert_eq!(indices(&feed.after(10, 9).unwrap()), [11, 12, 13]);
        assert_eq!(indices(&feed.after(11, 1).unwrap()), [12]);
        assert_eq!(feed.progress().borrow().index, 14, "an entry that changed nothing is progress too");
        feed.publish(15, LogTime::ZERO, change(2));
        assert_eq!(feed.after(10, 9), Err(Behind::Lagged), "11 went when a fourth came");
        assert_eq!(indices(&feed.after(11, 9).unwrap()), [12, 13, 15]);
        feed.jump(20, LogTime::ZERO);
        assert_eq!(feed.after(15, 9), Err(Behind::Jumped));
        assert_eq!(feed.after(20, 9), Ok(vec![]));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let feed = Feed::bounded(0, LogTime::ZERO, usize::MAX, 3 * size(&change(1)[0]));
        for index in 1..=9 {
            feed.publish(index, LogTime::ZERO, change(1));
        }
        assert_eq!(indices(&feed.after(6, 9).unwrap()), [7, 8, 9]);
        assert_eq!(feed.after(5, 9), Err(Behind::Lagged));
    }
}
