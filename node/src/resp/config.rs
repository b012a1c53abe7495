//! Configuration of the RESP door.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_types::{ByteSize, TenantId};

/// A port that speaks the Redis protocol, for caches that know nothing of weft, such as LMCache's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RespConfig {
    /// TCP address, such as `127.0.0.1:6379`. No default. Any but a loopback address needs `tls` and `users`.
    pub listen: SocketAddr,
    /// Shared memory for its values, out of `host_memory`. Default 256MiB. What does not fit goes to disk if it is used, and out.
    #[serde(default = "default_memory")]
    pub memory: ByteSize,
    /// Values are cut into parts of this, at least 4KiB and at most 64MiB; the last one takes a whole one's memory. Default 1MiB.
    /// Values up to 8,176 bytes take 8KiB instead, and none may have more than 255 parts. The same at all nodes: doors that
    /// differ share nothing. Best is what divides the values of your cache.
    #[serde(default = "default_part")]
    pub part: ByteSize,
    /// Certificate and key. Default none: plain TCP.
    #[serde(default)]
    pub tls: Option<RespTls>,
    /// Who may speak to it. Default none: everybody, without a password.
    #[serde(default)]
    pub users: Vec<RespUser>,
}

/// What a door shows to its clients. Read at start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RespTls {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// A client of the door, and whose values it sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RespUser {
    /// Its values are found under this tenant only, at any node. Also its name in `AUTH name password`.
    pub tenant: TenantId,
    /// File with the password; a line end after it is not part of it. Read at start.
    pub password_file: PathBuf,
}

fn default_memory() -> ByteSize {
    ByteSize::from_mib(256)
}

fn default_part() -> ByteSize {
    ByteSize::from_mib(1)
}

impl RespConfig {
    /// A door with every default.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, memory: default_memory(), part: default_part(), tls: None, users: Vec::new() }
    }
}
