//! A snapshot on its way to a member: read from its file a piece at a time, and sent from wherever the other side says it
//! is. A transfer that broke off goes on where it was, also from another leader, if the snapshot is the same.

use std::time::Duration;

use openraft::error::{Fatal, NetworkError, ReplicationClosed, StreamingError};
use openraft::network::RPCOption;
use openraft::raft::SnapshotResponse;
use openraft::{AnyError, Snapshot, StorageIOError};
use tracing::{info, warn};

use super::network::Peer;
use super::wire::{InstallSnapshot, SNAPSHOT_CHUNK_BYTES, SnapshotMessage, SnapshotReply};
use super::{Types, Vote};
use crate::runtime::blocking;

/// Pieces that may fail one after another before openraft is told. It begins again at its next heartbeat, with whatever
/// snapshot is then the newest.
const FAILURES_MAX: u32 = 5;

/// Pause after a piece that failed, times the failures so far: what a lost connection needs to be dialled again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a member has for a piece that it only writes down. An answer that was lost costs as much.
const PIECE_WITHIN: Duration = Duration::from_secs(5);

/// Of a whole snapshot, what a member reads in within a second at the very least. It does so before it answers the last piece.
const READ_IN_BYTES: u64 = 32 << 20;

pub(crate) type SendError = StreamingError<Types, Fatal<u64>>;

/// Sends all of it, unless `cancel` resolves first.
pub(crate) async fn send(
    peer: &mut Peer,
    vote: Vote,
    snapshot: Snapshot<Types>,
    cancel: impl Future<Output = ReplicationClosed>,
) -> Result<SnapshotResponse<u64>, SendError> {
    tokio::select! {
        biased;
        closed = cancel => Err(closed.into()),
        sent = send_all(peer, vote, snapshot) => sent,
    }
}

async fn send_all(peer: &mut Peer, vote: Vote, snapshot: Snapshot<Types>) -> Result<SnapshotResponse<u64>, SendError> {
    let unreadable = |error: std::io::Error| SendError::from(storage_error(&error));
    let Snapshot { meta, snapshot } = snapshot;
    let file = snapshot.file.ok_or_else(|| unreadable(std::io::Error::other("a snapshot without a file")))?;
    let bytes = file.len().map_err(unreadable)?;
    info!(to = peer.id, snapshot = meta.snapshot_id, bytes, "sending a snapshot");
    // An empty piece asks how much is there.
    let (mut offset, mut data, mut failures) = (0, Vec::new(), 0);
    loop {
        let last = !data.is_empty() && offset + data.len() as u64 == bytes;
        let option = RPCOption::new(answer_within(bytes, last));
        let (to, group) = (peer.disk, peer.group());
        let message = SnapshotMessage { to, group, vote, meta: meta.clone(), bytes, offset, data };
        match peer.call::<InstallSnapshot>(&message, &option).await {
            Ok(SnapshotReply::Done(vote)) => return Ok(SnapshotResponse { vote: vote.into() }),
            Ok(SnapshotReply::Next(next)) if next <= bytes => {
                failures = 0;
                offset = next;
            }
            Ok(SnapshotReply::Next(next)) => {
                let reason = format!("member {} wants byte {next} of a snapshot of {bytes}", peer.id);
                return Err(NetworkError::new(&AnyError::error(reason)).into());
            }
            Err(error) => {
                failures += 1;
                warn!(to = peer.id, offset, bytes, failures, "a piece of a snapshot was not taken: {error}");
                tokio::time::sleep(PAUSE * failures).await;
                if failures == FAILURES_MAX {
                    return Err(NetworkError::new(&error).into());
                }
            }
        }
        let (file, len) = (file.clone(), (bytes - offset).min(SNAPSHOT_CHUNK_BYTES as u64));
        let reading = blocking(move || {
            let mut piece = vec![0; usize::try_from(len).map_err(std::io::Error::other)?];
            file.read_at(offset, &mut piece)?;
            Ok(piece)
        });
        data = reading.await.map_err(std::io::Error::other).flatten().map_err(unreadable)?;
    }
}

/// How long a member has for its answer to a piece of a snapshot of so many bytes.
fn answer_within(bytes: u64, last: bool) -> Duration {
    PIECE_WITHIN + Duration::from_secs(if last { bytes / READ_IN_BYTES } else { 0 })
}

fn storage_error(error: &std::io::Error) -> super::StorageError {
    StorageIOError::read_snapshot(None, AnyError::new(error)).into()
}
