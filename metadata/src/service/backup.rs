//! A backup, from this side: the state of one moment, written as a snapshot straight into the caller's stream. Applying goes
//! on meanwhile.

use std::io::{self, BufWriter, Write};

use tokio::sync::mpsc;
use weft_metadata_proto::v1::BackupPiece;
use weft_transport::{Publisher, Refusal, RefusalCode};

use crate::machine::Machine;

/// Pieces that wait for the caller: it is he who sets the pace.
const PIECES_AHEAD_MAX: usize = 4;

/// Sends a backup of what is applied now.
pub(crate) async fn serve(machine: Machine, mut publisher: Publisher<BackupPiece>) -> Result<(), Refusal> {
    let failed = |error: String| Refusal::new(RefusalCode::Failed, format!("the backup was not written: {error}"));
    let (pieces, mut written) = mpsc::channel(PIECES_AHEAD_MAX);
    let writing = tokio::task::spawn_blocking(move || {
        let frozen = machine.state_mut().freeze();
        let mut pieces = BufWriter::with_capacity(BackupPiece::BYTES_MAX, Pieces(pieces));
        frozen.write(&mut pieces)?;
        pieces.flush()
    });
    while let Some(piece) = written.recv().await {
        publisher.publish(&piece).await.map_err(|error| failed(error.to_string()))?;
    }
    writing.await.map_err(io::Error::other).flatten().map_err(|error| failed(error.to_string()))
}

struct Pieces(mpsc::Sender<BackupPiece>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(BackupPiece::BYTES_MAX)];
        let sent = self.0.blocking_send(BackupPiece(piece.to_vec()));
        sent.map_err(|_| io::Error::other("whoever asked for it is gone"))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
