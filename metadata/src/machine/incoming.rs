//! A snapshot on its way from the leader: pieces go to a temporary file in order, and whoever sends is told where to go on,
//! so that a transfer that broke off is resumed and one that was overtaken begins anew.
//!
//! The whole is checked and read in before openraft hears of it: one that does not check is refused, and costs this member
//! nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;
use tracing::{info, warn};

use super::snapshot::{self, SnapshotFile, TakenOver, Temporary};
use crate::raft::SnapshotMeta;
use crate::runtime::blocking;
use crate::volume::{FileReader, TEMPORARY_SUFFIX, Volume, VolumeFile};

/// Takes pieces; one snapshot at a time.
#[derive(Debug)]
pub(crate) struct Incoming {
    volume: Arc<dyn Volume>,
    partial: Mutex<Option<Partial>>,
    /// Names that were given so far: one that is being installed keeps its own while the next comes in.
    named: AtomicU64,
}

/// What has come of a snapshot.
#[derive(Debug)]
struct Partial {
    meta: SnapshotMeta,
    bytes: u64,
    temporary: Temporary,
    file: Arc<dyn VolumeFile>,
    /// Offset of the next piece.
    next: u64,
}

/// A piece of a snapshot.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) meta: SnapshotMeta,
    /// Of the whole.
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
    pub(crate) data: Vec<u8>,
}

/// What became of a piece.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Send on from here.
    Next(u64),
    /// It was the last, and the whole is right.
    Whole(SnapshotMeta, Box<SnapshotFile>),
}

impl Incoming {
    pub(crate) fn new(volume: Arc<dyn Volume>) -> Self {
        Self { volume, partial: Mutex::new(None), named: AtomicU64::new(0) }
    }

    /// Takes a piece, or says why the snapshot cannot be used.
    pub(crate) async fn take(self: Arc<Self>, piece: Piece) -> Result<Taken, String> {
        if piece.bytes > snapshot::BYTES_MAX || piece.offset.saturating_add(piece.data.len() as u64) > piece.bytes {
            let (bytes, max) = (piece.bytes, snapshot::BYTES_MAX);
            return Err(format!("a snapshot of {bytes} bytes, or a piece beyond its end: at most {max} are taken"));
        }
        // Held over the write: pieces come one after another.
        let mut partial = self.partial.lock().await;
        let before = partial.take().filter(|partial| partial.is_of(&piece));
        let incoming = self.clone();
        let taking = blocking(move || incoming.take_blocking(before, piece));
        match taking.await.map_err(|error| error.to_string())?? {
            (Some(kept), taken) => {
                *partial = Some(kept);
                Ok(taken)
            }
            (None, taken) => Ok(taken),
        }
    }

    fn take_blocking(&self, before: Option<Partial>, piece: Piece) -> Result<(Option<Partial>, Taken), String> {
        let io = |error: io::Error| format!("cannot keep the snapshot: {error}");
        let mut partial = match before {
            Some(partial) => partial,
            None => self.begin(&piece).map_err(io)?,
        };
        if piece.offset != partial.next {
            let next = partial.next;
            return Ok((Some(partial), Taken::Next(next)));
        }
        partial.file.write_at(piece.offset, &piece.data).map_err(io)?;
        partial.next += piece.data.len() as u64;
        if partial.next < partial.bytes {
            let next = partial.next;
            return Ok((Some(partial), Taken::Next(next)));
        }
        let taken = finish(partial);
        taken.map(|taken| (None, taken)).inspect_err(|reason| {
            warn!(%reason, "the leader's snapshot is not right and is not taken over");
        })
    }

    fn begin(&self, piece: &Piece) -> io::Result<Partial> {
        let name = format!("received-{}{TEMPORARY_SUFFIX}", self.named.fetch_add(1, Ordering::Relaxed));
        info!(snapshot = piece.meta.snapshot_id, bytes = piece.bytes, "taking over a snapshot from the leader");
        let file = self.volume.create(&name, piece.bytes)?;
        let temporary = Temporary { volume: self.volume.clone(), name };
        Ok(Partial { meta: piece.meta.clone(), bytes: piece.bytes, temporary, file, next: 0 })
    }
}

fn finish(partial: Partial) -> Result<Taken, String> {
    partial.file.sync().map_err(|error| error.to_string())?;
    let reader = FileReader::new(partial.file.clone()).map_err(|error| error.to_string())?;
    let (meta, state) = snapshot::read(reader)?;
    if meta != partial.meta {
        return Err("its head says something else than the leader did".to_owned());
    }
    let taken_over = Some(TakenOver { temporary: partial.temporary, state });
    Ok(Taken::Whole(meta, Box::new(SnapshotFile { file: Some(partial.file), taken_over })))
}

impl Partial {
    fn is_of(&self, piece: &Piece) -> bool {
        self.meta == piece.meta && self.bytes == piece.bytes
    }
}
