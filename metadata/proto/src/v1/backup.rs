//! A backup on its way: the bytes of a snapshot file, in order.

use serde::{Deserialize, Serialize};
use weft_types::codec::DecodeError;
use weft_types::rpc::Message;
use weft_types::{ShardId, control_message};

/// Request of [`super::method::Backup`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackupRequest {
    /// Which group.
    pub shard: ShardId,
}

/// The next bytes of it. The file ends with a checksum of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackupPiece(pub Vec<u8>);

impl BackupPiece {
    /// Bytes in a piece at most.
    pub const BYTES_MAX: usize = 1 << 20;
}

control_message!(BackupRequest);

impl Message for BackupPiece {
    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(bytes.to_vec()))
    }
}
