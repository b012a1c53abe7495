//! Bringing the disk tier up: its folder at once, so that a mistake is told at start; what is in it on a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_store::disk::format::StoreId;
use weft_store::disk::{
    Admission, AdmitAll, Device, DiskError, DiskOptions, DiskTier, FileDevice, FileDeviceError, SeenTwice,
};
use weft_types::{ByteSize, NodeId};

use super::demote::{Bell, Demoter};
use super::reads::{READERS, Reads};
use super::{Disk, reads};
use crate::arenas::Arenas;
use crate::config::{DiskAdmission, DiskConfig};
use crate::metrics::Demotions;

/// Bytes a block has at least, as far as remembering those that left goes: 256 KiB. Smaller ones are forgotten sooner.
const REMEMBERED_BLOCK: u64 = 256 << 10;

/// Blocks that left and are remembered: at least 64 Ki, 256 KiB of memory; at most 16 Mi, 64 MiB.
const REMEMBERED: (u64, u64) = (64 << 10, 16 << 20);

/// Of the bytes taken in, how many more may be written to keep used blocks when their segment goes: a quarter.
const REWRITE_PERCENT: u32 = 25;

/// Why a node starts without its disk tier: not at all, that is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskFault {
    /// The folder cannot be used.
    #[error("the disk tier in {}: {source}", path.display())]
    Folder {
        /// As configured.
        path: PathBuf,
        /// Why.
        #[source]
        source: FileDeviceError,
    },
    /// It makes no store.
    #[error(transparent)]
    Size(#[from] DiskError),
    /// No thread for it.
    #[error("cannot start a thread for the disk tier: {0}")]
    Thread(#[source] std::io::Error),
}

/// Opens the folder, and has everything else done by threads that end with `stop`. `changed` is called whenever there is
/// something to report.
pub(crate) fn start(
    (config, owner): (&DiskConfig, NodeId),
    (arenas, bell): (&Arc<Arenas>, Arc<Bell>),
    metrics: Demotions,
    changed: Arc<dyn Fn() + Send + Sync>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Result<Arc<Disk>, DiskFault> {
    let options = options(config.size, owner);
    options.check()?;
    let failed = |source| DiskFault::Folder { path: config.path.clone(), source };
    let device = Arc::new(FileDevice::open(&config.path).map_err(failed)?);
    let admission: Box<dyn Admission> = match config.admission {
        DiskAdmission::All => Box::new(AdmitAll),
        DiskAdmission::SeenTwice => {
            let blocks = (config.size.bytes() / REMEMBERED_BLOCK).clamp(REMEMBERED.0, REMEMBERED.1);
            Box::new(SeenTwice::new(usize::try_from(blocks).unwrap_or(usize::MAX)))
        }
    };
    let (reads, queue) = Reads::new();
    let disk = Arc::new(Disk::new(config.size, bell, reads, changed));
    run((disk, queue), (device, options), (Arc::clone(arenas), admission, metrics), (tasks, stop))
}

pub(super) fn options(size: ByteSize, owner: NodeId) -> DiskOptions {
    DiskOptions {
        owner,
        fresh_id: StoreId(rand::random()),
        size,
        segment_bytes: None,
        rewrite_percent: REWRITE_PERCENT,
    }
}

/// Starts the threads.
pub(super) fn run(
    (disk, queue): (Arc<Disk>, reads::Queue),
    (device, options): (Arc<dyn Device>, DiskOptions),
    (arenas, admission, metrics): (Arc<Arenas>, Box<dyn Admission>, Demotions),
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Result<Arc<Disk>, DiskFault> {
    // Each thread holds one end: nobody says a word, and the other end hears when all are gone.
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let thread = |name: String, body: Box<dyn FnOnce() + Send>| {
        let alive = alive.clone();
        let whole = move || {
            body();
            drop(alive);
        };
        std::thread::Builder::new().name(name).spawn(whole).map(drop).map_err(DiskFault::Thread)
    };
    for reader in 0..READERS {
        let (disk, queue) = (Arc::clone(&disk), Arc::clone(&queue));
        thread(format!("weft-disk-{reader}"), Box::new(move || reads::read(&disk, &queue, reader)))?;
    }
    let writes = Arc::clone(&disk);
    let write = move || {
        write(&writes, (device, options), (arenas, admission, metrics));
        writes.close();
    };
    thread("weft-disk-write".into(), Box::new(write))?;
    let (stopped, stop) = (Arc::clone(&disk), stop.clone());
    tasks.spawn(async move {
        stop.cancelled().await;
        stopped.stop();
        drop(stopped);
        // Whoever drains waits for this, within its time; a device that hangs is left to the kernel.
        gone.recv().await;
    });
    Ok(disk)
}

fn write(
    disk: &Arc<Disk>,
    (device, options): (Arc<dyn Device>, DiskOptions),
    (arenas, admission, metrics): (Arc<Arenas>, Box<dyn Admission>, Demotions),
) {
    let begun = Instant::now();
    let changed = Arc::clone(&disk.changed);
    match DiskTier::open(device, options, Box::new(move || changed())) {
        Ok((tier, writer)) => {
            disk.open(tier, begun.elapsed());
            Demoter { disk: Arc::clone(disk), arenas, writer, admission, metrics }.run();
        }
        Err(error) => {
            tracing::error!(%error, "the node goes on without its disk tier");
            disk.set_aside(weft_store::disk::DiskStats::default());
        }
    }
}
