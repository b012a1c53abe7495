//! The watch, from this side: a snapshot or a place to resume from, then changes as they are applied, then heartbeats.

mod audience;
mod filter;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;
use weft_metadata_proto::v1::{BlockList, CutOff, WatchFilter, WatchItem, WatchRequest};
use weft_metadata_state::Accounts;
use weft_transport::{Peer, Publisher, Refusal, RefusalCode};
use weft_types::Roster;

use self::audience::Audience;
use self::filter::Filter;

use crate::group::Group;
use crate::machine::feed::{Behind, ENTRIES_MAX, Progress, size};
use crate::metrics::Metrics;

/// Watchers that take a snapshot at a time. Each holds on to the blocks of its moment, which cost memory as they change.
const SNAPSHOTS_MAX: usize = 4;

/// Items taken from the feed at a time.
const ITEMS_MAX: usize = 64;

/// A piece of a snapshot's accounts is full from this size on; with the largest lease behind it, it is a third of a message.
const ACCOUNTS_BYTES_MAX: usize = 256 << 10;

/// How long a member that is behind the place where a watcher wants to resume tries to get there. A follower is behind by
/// milliseconds; one that was cut off for longer sends a snapshot, which takes the watcher back but is the truth here.
const RESUME_WAIT: Duration = Duration::from_millis(500);

/// How long a watcher may let an item wait before its watch is broken off: it is not reading.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Serves watches.
#[derive(Debug)]
pub(crate) struct Watches {
    group: Group,
    snapshots: Semaphore,
    metrics: Metrics,
    /// Closing waits for the last word to each watcher.
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// Why a watch ends before its watcher goes.
enum End {
    /// As an item, if it can still be sent.
    CutOff(CutOff),
    /// The watcher does not read.
    Stalled,
    /// The watcher is gone.
    Gone,
}

impl Watches {
    pub(crate) fn new(group: Group, metrics: Metrics, tasks: TaskTracker, closing: CancellationToken) -> Self {
        Self { group, snapshots: Semaphore::new(SNAPSHOTS_MAX), metrics, tasks, closing }
    }

    /// Serves one watch to its end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        peer: Peer,
        request: WatchRequest,
        publisher: Publisher<WatchItem>,
    ) -> Result<(), Refusal> {
        let _watching = (self.metrics.watching(), self.tasks.token());
        let audience = Audience::of(&peer, request.scope)?;
        if let Some(many) =
            request.filter.as_ref().map(|asked| asked.models.len()).filter(|len| *len > WatchFilter::MODELS_MAX)
        {
            let max = WatchFilter::MODELS_MAX;
            return Err(Refusal::new(
                RefusalCode::BadRequest,
                format!("a filter of {many} models: at most {max} are taken; watch without one"),
            ));
        }
        let mut watch =
            Watch { watches: &self, publisher, audience, filter: None, position: 0, silent_since: Instant::now() };
        let Err(end) = watch.run(request).await;
        watch.end(end).await
    }
}

struct Watch<'a> {
    watches: &'a Watches,
    publisher: Publisher<WatchItem>,
    audience: Audience,
    /// Of a watch that asked for some models only.
    filter: Option<Filter>,
    /// Log index up to which the watcher was told everything.
    position: u64,
    /// When it was told something last.
    silent_since: Instant,
}

impl Watch<'_> {
    async fn run(&mut self, request: WatchRequest) -> Result<std::convert::Infallible, End> {
        let resumed = match request.resume {
            Some(index) => self.resume(index, request.filter.as_ref()).await?,
            None => false,
        };
        if !resumed {
            self.snapshot(request.filter.as_ref()).await?;
        }
        let mut progress = self.watches.group.machine.feed().progress();
        loop {
            let reached = *progress.borrow_and_update();
            let more = self.catch_up(reached).await?;
            let heartbeat = self.silent_since + WatchItem::HEARTBEAT_EVERY;
            // Changes may go by for long of which this watcher hears nothing.
            if heartbeat <= Instant::now() {
                self.heartbeat(reached).await?;
            }
            if more {
                continue;
            }
            let heartbeat = self.silent_since + WatchItem::HEARTBEAT_EVERY;
            tokio::select! {
                biased;
                () = self.watches.closing.cancelled() => return Err(End::CutOff(CutOff::Closing)),
                _ = progress.changed() => {}
                () = tokio::time::sleep_until(heartbeat) => {
                    self.heartbeat(reached).await?;
                }
                () = self.publisher.closed() => return Err(End::Gone),
            }
        }
    }

    /// `true` if the watcher may go on from `index`.
    async fn resume(&mut self, index: u64, asked: Option<&WatchFilter>) -> Result<bool, End> {
        let feed = self.watches.group.machine.feed();
        let mut progress = feed.progress();
        let behind = timeout(RESUME_WAIT, progress.wait_for(|progress| progress.index >= index)).await;
        let here = behind.is_ok_and(|waited| waited.is_ok());
        if !here || feed.after(index, 0).is_err() {
            return Ok(false);
        }
        if let Some(asked) = asked {
            let state = self.watches.group.machine.state();
            let Ok(missed) = feed.after(index, usize::MAX) else { return Ok(false) };
            self.filter = Filter::resume(asked, state.directory.roster(), state.index(), &missed);
            if self.filter.is_none() {
                return Ok(false);
            }
        }
        self.position = index;
        self.send(&WatchItem::Resumed).await?;
        Ok(true)
    }

    async fn snapshot(&mut self, asked: Option<&WatchFilter>) -> Result<(), End> {
        let watches = self.watches;
        let _permit = watches.snapshots.acquire().await.expect("nobody closes it");
        let (directory, index) = {
            let mut state = watches.group.machine.state_mut();
            (state.directory.freeze(), state.index())
        };
        watches.metrics.watch_snapshots.inc();
        let whole = self.audience.hears_directory();
        let roster = if whole { directory.roster().clone() } else { Roster::default() };
        self.send(&WatchItem::SnapshotBegin { index, roster }).await?;
        self.accounts(directory.accounts()).await?;
        let mut filter = asked.filter(|_| whole).map(|asked| Filter::new(asked, directory.roster(), index));
        if whole {
            let told = |run| match &mut filter {
                Some(filter) => filter.run(run),
                None => Some(run),
            };
            for blocks in BlockList::pieces(directory.into_blocks().filter_map(told)) {
                self.send(&WatchItem::SnapshotBlocks(blocks)).await?;
            }
        }
        self.filter = filter;
        self.send(&WatchItem::SnapshotEnd).await?;
        self.position = index;
        Ok(())
    }

    async fn accounts(&mut self, accounts: &Accounts) -> Result<(), End> {
        let (mut piece, mut bytes) = (Vec::new(), 0);
        let audience = self.audience;
        for change in accounts.as_changes().filter_map(|change| audience.change(&change)) {
            bytes += size(&change);
            piece.push(change);
            if bytes >= ACCOUNTS_BYTES_MAX {
                self.send(&WatchItem::SnapshotAccounts(std::mem::take(&mut piece))).await?;
                bytes = 0;
            }
        }
        if piece.is_empty() { Ok(()) } else { self.send(&WatchItem::SnapshotAccounts(piece)).await }
    }

    /// Sends what was applied up to `reached` and is not sent yet, or the first of it; `true` if there was any.
    async fn catch_up(&mut self, reached: Progress) -> Result<bool, End> {
        let items = self.watches.group.machine.feed().after(self.position, ITEMS_MAX).map_err(|behind| {
            End::CutOff(match behind {
                Behind::Lagged => CutOff::Lagged { entries_max: u32::try_from(ENTRIES_MAX).unwrap_or(u32::MAX) },
                Behind::Jumped => CutOff::Jumped,
            })
        })?;
        for item in &items {
            let told = match (self.audience.item(item), &mut self.filter) {
                (Some(told), Some(filter)) => filter.item(told).map_err(End::CutOff)?,
                (told, _) => told,
            };
            if let Some(told) = told {
                self.send(&told).await?;
            }
            if let WatchItem::Changes { index, .. } = **item {
                self.position = index;
            }
        }
        if items.is_empty() {
            // Every change up to here was in the feed before `reached` was told.
            self.position = self.position.max(reached.index);
        }
        Ok(!items.is_empty())
    }

    async fn heartbeat(&mut self, reached: Progress) -> Result<(), End> {
        self.silent_since = Instant::now();
        if self.watches.group.leader().is_none() {
            return Ok(());
        }
        self.send(&WatchItem::Heartbeat { index: self.position, at: reached.at }).await
    }

    async fn send(&mut self, item: &WatchItem) -> Result<(), End> {
        match timeout(STALL_MAX, self.publisher.publish(item)).await {
            Ok(Ok(())) => {
                self.silent_since = Instant::now();
                Ok(())
            }
            Ok(Err(_gone)) => Err(End::Gone),
            Err(_) => Err(End::Stalled),
        }
    }

    async fn end(mut self, end: End) -> Result<(), Refusal> {
        let metrics = &self.watches.metrics;
        match end {
            End::Gone => Ok(()),
            End::Stalled => {
                metrics.watch_cut_offs.with_label_values(&["stalled"]).inc();
                info!("a watcher did not read for {STALL_MAX:?}; its watch is broken off");
                Err(Refusal::new(RefusalCode::Overloaded, format!("nothing was read for {STALL_MAX:?}: watch again")))
            }
            End::CutOff(reason) => {
                let label = match reason {
                    CutOff::Lagged { .. } => "lagged",
                    CutOff::Jumped => "jumped",
                    CutOff::Closing => "closing",
                    CutOff::Filter => "filter",
                };
                metrics.watch_cut_offs.with_label_values(&[label]).inc();
                info!(?reason, position = self.position, "a watch is cut off");
                // If the watcher is gone meanwhile, it needs no reason.
                let _ = self.send(&WatchItem::CutOff(reason)).await;
                Ok(())
            }
        }
    }
}
