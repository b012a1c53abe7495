//! The follower: one task that follows the watch of one member at a time and keeps a [`View`].
//!
//! ```text
//!   watch ──► SnapshotBegin ─► a view built aside ─► SnapshotEnd: published
//!        └──► Changes ───────► the published view, in place
//! ```
//!
//! The task owns the view and is its one writer; readers never wait for it. They always see a whole view: the old one until a
//! snapshot is complete, then the new one. A lost watch is resumed at
//! the next member from the log index reached; that member sends a snapshot if it does not keep changes so far back.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};
use weft_index::{DirectoryChange, IndexReader, Match};
use weft_metadata_proto::v1::{CutOff, WatchFilter, WatchItem, WatchRequest, WatchScope, method};
use weft_transport::CallError;
use weft_types::{ByteSize, IndexKey, Roster};

use crate::attempts::Backoff;
use crate::client::{SHARD, target};
use crate::metrics::End;
use crate::view::{Fault, View};
use crate::{Accounts, FollowerMetrics, MetadataClient};

/// How long opening a watch may take.
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// Silence after which another member is tried: 12 heartbeats, and longer than an election, during which all are silent.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Keys looked at in one step of the sweep, after each item: some 100 µs, in which no other task of the thread goes on.
const SWEEP_STEP: usize = 1024;

/// A local copy of the index and the roster, kept up to date by a task until every clone is dropped. Clone is cheap.
#[derive(Clone, Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    /// Ends the task with the last clone.
    _guard: Arc<DropGuard>,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Current>,
    roster: watch::Sender<Arc<Roster>>,
    accounts: watch::Sender<Arc<Accounts>>,
    scope: WatchScope,
    /// Blocks of these models only.
    models: Option<BTreeSet<String>>,
    /// Bytes that one view's index may take.
    budget: Option<usize>,
    /// Distinct blocks.
    blocks: AtomicUsize,
    /// Log index of which the view is the state; `None` before the first snapshot.
    reached: watch::Sender<Option<u64>>,
    heard: Mutex<Instant>,
    metrics: FollowerMetrics,
}

/// What readers see of the view. Made anew whenever more than blocks changes: before the blocks of a holder that was granted,
/// so that they never meet a roster that is older than those.
#[derive(Debug)]
struct Current {
    index: IndexReader,
    roster: Arc<Roster>,
    accounts: Arc<Accounts>,
}

impl Current {
    fn of(view: &View) -> Arc<Self> {
        let (roster, accounts) = (Arc::clone(&view.roster), Arc::clone(&view.accounts));
        Arc::new(Self { index: view.index.reader(), roster, accounts })
    }
}

impl Follower {
    /// `models`: whose blocks are wanted, all if `None`. `bytes`: what the index may take, that of the next view included.
    pub(crate) fn start(
        client: MetadataClient,
        scope: WatchScope,
        models: Option<BTreeSet<String>>,
        bytes: Option<ByteSize>,
        metrics: FollowerMetrics,
    ) -> Self {
        // Half of it is for the view that is built aside while a snapshot comes in.
        let budget = bytes.map(|bytes| usize::try_from(bytes.bytes() / 2).unwrap_or(usize::MAX));
        let view = View::empty(budget);
        let shared = Arc::new(Shared {
            current: ArcSwap::new(Current::of(&view)),
            roster: watch::Sender::new(Arc::default()),
            accounts: watch::Sender::new(Arc::default()),
            scope,
            models,
            budget,
            blocks: AtomicUsize::new(0),
            reached: watch::Sender::new(None),
            heard: Mutex::new(Instant::now()),
            metrics,
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow(Arc::clone(&shared), view, client)));
        Self { shared, _guard: Arc::new(stop.drop_guard()) }
    }

    /// A first snapshot has been taken in.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.shared.reached.borrow().is_some()
    }

    /// Resolves once warm.
    pub async fn warm(&self) {
        self.reached(0).await;
    }

    /// Resolves once the copy is the directory's state as of this log index or a later one.
    pub async fn reached(&self, index: u64) {
        let mut reached = self.shared.reached.subscribe();
        let outcome = reached.wait_for(|reached| reached.is_some_and(|reached| reached >= index)).await;
        outcome.expect("the sender lives in self");
    }

    /// Leading blocks by holder, longest first.
    #[must_use]
    pub fn leading(&self, prefix: &[IndexKey]) -> Vec<Match> {
        self.shared.current.load().index.leading(prefix)
    }

    /// Leading blocks by holder, with the roster they belong to: every holder matched is in it.
    #[must_use]
    pub fn lookup(&self, prefix: &[IndexKey]) -> (Vec<Match>, Arc<Roster>) {
        loop {
            let current = self.shared.current.load();
            let matches = current.index.leading(prefix);
            // If the same is current still, whatever was matched is of its roster: a number's next life begins after another.
            if Arc::ptr_eq(&current, &self.shared.current.load()) {
                return (matches, Arc::clone(&current.roster));
            }
        }
    }

    /// As last heard.
    #[must_use]
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.shared.current.load().roster)
    }

    /// Changes whenever the roster does.
    #[must_use]
    pub fn roster_changes(&self) -> watch::Receiver<Arc<Roster>> {
        self.shared.roster.subscribe()
    }

    /// Tenants, sharing groups, leases and the deny list, as last heard.
    #[must_use]
    pub fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.shared.current.load().accounts)
    }

    /// Changes whenever the accounts do.
    #[must_use]
    pub fn accounts_changes(&self) -> watch::Receiver<Arc<Accounts>> {
        self.shared.accounts.subscribe()
    }

    /// Log index of which this is the state; `None` before it is warm.
    #[must_use]
    pub fn log_index(&self) -> Option<u64> {
        *self.shared.reached.borrow()
    }

    /// Distinct blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.shared.blocks.load(Ordering::Relaxed)
    }

    /// Time since a metadata member that knew a leader was last heard from.
    #[must_use]
    pub fn staleness(&self) -> Duration {
        self.shared.heard.lock().elapsed()
    }
}

/// Why one watch ended.
#[derive(Debug, thiserror::Error)]
enum WatchEnd {
    #[error("it could not be opened: {0}")]
    Unreachable(#[source] CallError),
    #[error("it broke: {0}")]
    Broken(#[source] CallError),
    #[error("it ended without a reason")]
    Ended,
    #[error("nothing was heard for {SILENCE_MAX:?}")]
    Silent,
    #[error("the member cut it off: {0:?}")]
    CutOff(CutOff),
    #[error("the member broke the protocol: {0}")]
    Fault(#[from] Fault),
}

impl WatchEnd {
    fn reason(&self) -> End {
        match self {
            Self::Unreachable(_) => End::Unreachable,
            Self::Broken(_) | Self::Ended => End::Broken,
            Self::Silent => End::Silent,
            Self::CutOff(CutOff::Lagged { .. }) => End::Lagged,
            Self::CutOff(CutOff::Jumped) => End::Jumped,
            Self::CutOff(CutOff::Closing) => End::Closing,
            Self::CutOff(CutOff::Filter) => End::Filter,
            Self::Fault(_) => End::Fault,
        }
    }
}

/// Follows one member after another, until the fabric is closed.
async fn follow(shared: Arc<Shared>, mut view: View, client: MetadataClient) {
    let began = Instant::now();
    let mut backoff = Backoff::new(&client.jitter);
    let mut resume = None;
    // Told once, not at every attempt.
    let mut alone = false;
    loop {
        let member = client.group.lock().reader();
        let mut session = Session { shared: &shared, view: &mut view, began, resume, aside: None, following: false };
        let end = session.run(&client, member).await;
        if client.fabric.is_closed() {
            return;
        }
        shared.metrics.ended(end.reason());
        if session.following {
            backoff = Backoff::new(&client.jitter);
            alone = false;
            info!(%member, reason = %end, "a watch of the directory ended; trying the next member");
        } else if !std::mem::replace(&mut alone, true) {
            warn!(%member, reason = %end, "no watch of the directory; trying the other members until one answers");
        } else {
            debug!(%member, reason = %end, "no watch of the directory");
        }
        // After a fault the copy may be half changed, and by a filter it may lack blocks: only a snapshot makes it whole.
        let whole = !matches!(end, WatchEnd::Fault(_) | WatchEnd::CutOff(CutOff::Filter));
        resume = shared.reached.borrow().filter(|_| whole);
        client.group.lock().failed(member);
        tokio::time::sleep(backoff.next()).await;
    }
}

/// One watch of one member.
struct Session<'a> {
    shared: &'a Shared,
    /// The copy.
    view: &'a mut View,
    /// When following began: recency of what is matched is counted in seconds since.
    began: Instant,
    /// Where the watch should go on.
    resume: Option<u64>,
    /// The snapshot being taken in.
    aside: Option<(u64, View)>,
    /// The copy is the member's state, and its changes go to it.
    following: bool,
}

impl Session<'_> {
    async fn run(&mut self, client: &MetadataClient, member: SocketAddr) -> WatchEnd {
        match self.follow(client, member).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn follow(&mut self, client: &MetadataClient, member: SocketAddr) -> Result<Infallible, WatchEnd> {
        let holders = self.view.selection.as_ref().map(|selection| selection.chosen().clone()).unwrap_or_default();
        let filter = self.shared.models.clone().map(|models| WatchFilter { models, holders });
        let request = WatchRequest { shard: SHARD, resume: self.resume, scope: self.shared.scope, filter };
        let member = target(member);
        let opening = client.fabric.subscribe::<method::Watch>(&member, &request, OPEN_WITHIN);
        let mut items = opening.await.map_err(WatchEnd::Unreachable)?;
        loop {
            let item = timeout(SILENCE_MAX, items.next()).await.map_err(|_| WatchEnd::Silent)?;
            let item = item.map_err(WatchEnd::Broken)?.ok_or(WatchEnd::Ended)?;
            self.take(item)?;
            *self.shared.heard.lock() = Instant::now();
        }
    }

    fn take(&mut self, item: WatchItem) -> Result<(), WatchEnd> {
        match item {
            WatchItem::SnapshotBegin { index, roster } => {
                self.following = false;
                self.aside = Some((index, View::begin(roster, self.shared.budget, self.shared.models.as_ref())?));
            }
            WatchItem::SnapshotBlocks(blocks) => self.aside.as_mut().ok_or(Fault::OutOfPlace)?.1.fill(&blocks)?,
            WatchItem::SnapshotAccounts(changes) => {
                let (_, view) = self.aside.as_mut().ok_or(Fault::OutOfPlace)?;
                for change in changes {
                    if !Accounts::are_changed_by(&change) {
                        return Err(Fault::OutOfPlace.into());
                    }
                    view.roster_change(change)?;
                }
            }
            WatchItem::SnapshotEnd => self.install()?,
            WatchItem::Resumed if self.resume.is_some() && self.aside.is_none() => self.following = true,
            WatchItem::Changes { index, changes } if self.following => self.change(index, changes)?,
            WatchItem::Heartbeat { index, .. } if self.following => self.reached(index),
            WatchItem::CutOff(reason) => return Err(WatchEnd::CutOff(reason)),
            WatchItem::Resumed | WatchItem::Changes { .. } | WatchItem::Heartbeat { .. } => {
                return Err(Fault::OutOfPlace.into());
            }
        }
        Ok(())
    }

    /// Publishes the snapshot.
    fn install(&mut self) -> Result<(), Fault> {
        let (at, view) = self.aside.take().ok_or(Fault::OutOfPlace)?;
        *self.view = view;
        self.following = true;
        let current = self.publish();
        self.shared.roster.send_replace(Arc::clone(&current.roster));
        self.shared.accounts.send_replace(Arc::clone(&current.accounts));
        self.shared.metrics.snapshots.inc();
        self.reached(at);
        Ok(())
    }

    fn change(&mut self, index: u64, changes: Vec<DirectoryChange>) -> Result<(), Fault> {
        let (mut roster_changed, mut accounts_changed) = (false, false);
        // Each time it is published, the next change copies roster or accounts: a thousand grants are published once.
        let mut published = true;
        for change in changes {
            if let DirectoryChange::Blocks(report) = change {
                if !std::mem::replace(&mut published, true) {
                    self.publish();
                }
                self.view.blocks(report.holder, &report.changes)?;
                self.shared.metrics.changes.inc_by(report.changes.len() as u64);
                continue;
            }
            if let DirectoryChange::HolderGranted(grant) = &change {
                // The directory has swept this number before it granted it again; here the sweep may lag behind.
                while self.view.must_sweep(grant) {
                    self.view.index.sweep(SWEEP_STEP);
                }
            }
            let of_accounts = Accounts::are_changed_by(&change);
            self.view.roster_change(change)?;
            published = false;
            roster_changed |= !of_accounts;
            accounts_changed |= of_accounts;
        }
        if !published {
            self.publish();
        }
        if accounts_changed {
            self.shared.accounts.send_replace(Arc::clone(&self.view.accounts));
        }
        if roster_changed {
            self.shared.roster.send_replace(Arc::clone(&self.view.roster));
        }
        self.reached(index);
        Ok(())
    }

    /// Shows readers the view as it is.
    fn publish(&self) -> Arc<Current> {
        let current = Current::of(self.view);
        self.shared.current.store(Arc::clone(&current));
        current
    }

    /// The copy is the directory's state as of `index`.
    fn reached(&mut self, index: u64) {
        let view = &mut *self.view;
        view.index.set_tick(u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX));
        view.index.sweep(SWEEP_STEP);
        let stats = view.index.stats();
        self.shared.blocks.store(stats.blocks, Ordering::Relaxed);
        self.shared.reached.send_replace(Some(index));
        self.shared.metrics.index.set(i64::try_from(index).unwrap_or(i64::MAX));
        let before = std::mem::replace(&mut view.evicted, stats.evicted);
        self.shared.metrics.observe(stats, before);
    }
}
