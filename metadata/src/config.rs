//! Configuration of a metadata member.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use weft_metadata_state::Limits;
use weft_service::address::Address;
use weft_service::config::{IdentityFiles, duration};
use weft_types::{ByteSize, MemberId};

/// Configuration of a metadata member.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which member this is, from 1; the name in its certificate. No default.
    pub member: MemberId,
    /// Every member and its fabric address, the same in the configuration of each; a name is looked up once, at start. The
    /// member with the lowest id forms the group when it is first started. No default.
    #[serde(deserialize_with = "members")]
    pub members: BTreeMap<MemberId, SocketAddr>,
    /// Directory for the log and snapshots; made if it is not there. No default. Put it on a device that keeps what it
    /// acknowledged when the power goes.
    pub data: PathBuf,
    /// Certificate, key and CA. No default.
    pub identity: IdentityFiles,
    /// Fabric address to bind (UDP). Default `127.0.0.1:7400`.
    #[serde(default = "fabric_default")]
    pub fabric: SocketAddr,
    /// Admin address to bind (HTTP). Default `127.0.0.1:7401`.
    #[serde(default = "admin_default")]
    pub admin: SocketAddr,
    /// How soon a lost leader is replaced.
    #[serde(default)]
    pub raft: RaftConfig,
    /// The log on disk and in memory.
    #[serde(default)]
    pub wal: WalConfig,
    /// When the log is replaced by a snapshot.
    #[serde(default)]
    pub snapshot: SnapshotConfig,
    /// A node that does not keep alive for so long is expired, and its holders are retired. Default `2s`; the worst case is
    /// twice that, right after a change of leader.
    #[serde(default = "node_lease_default", with = "duration")]
    pub node_lease: Duration,
    /// Distinct blocks that the directory takes. Default 16,000,000: about 0.8 GiB of memory at most. The leader's value
    /// counts, so it belongs into the configuration of every member.
    #[serde(default = "blocks_max_default")]
    pub blocks_max: u64,
}

/// How soon a lost leader is replaced. A leader is given up after `election_max`, and the others then wait for between
/// `election_min` and `election_max` before they call an election: with the defaults 0.95 to 1.65 s all in all.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftConfig {
    /// A leader is heard at least so often, and an append that takes longer is sent again. Default `150ms`.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// Shortest wait for an election, more than two heartbeats. Default `400ms`.
    #[serde(with = "duration")]
    pub election_min: Duration,
    /// Longest wait, and how long a leader's word holds. Default `700ms`.
    #[serde(with = "duration")]
    pub election_max: Duration,
}

/// The log on disk and in memory.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WalConfig {
    /// Bytes set aside for a segment file. Default `64MiB`; an entry that is larger gets a segment of its size.
    pub segment: ByteSize,
    /// Recent entries kept in memory for followers that are close behind. Default `64MiB`; older ones are read from disk.
    pub memory: ByteSize,
}

/// When the log is replaced by a snapshot.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// After so many entries. Default 65,536.
    pub entries: u64,
    /// Or after so many bytes of commands, whichever is first. Default `256MiB`; a restart reads that much into memory, and
    /// applies it in a few seconds.
    pub bytes: ByteSize,
    /// Bytes of the log behind the snapshot that are kept, so that a member that was away briefly needs the log only; never
    /// more than `entries` entries. Default `256MiB`. Whole segments are removed: on disk the log takes `keep`, plus `bytes`
    /// and what comes while a snapshot is written, plus two segments.
    pub keep: ByteSize,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The member is not in the list.
    #[error("members lists {listed:?}, not {member}, which is this member: add it")]
    NotListed {
        /// Which.
        member: MemberId,
        /// Who is.
        listed: Vec<MemberId>,
    },
    /// Timings that cannot work.
    #[error(
        "raft.heartbeat {heartbeat:?}, election_min {min:?}, election_max {max:?}: expected 2 × heartbeat < min < max"
    )]
    Timing {
        /// As configured.
        heartbeat: Duration,
        /// As configured.
        min: Duration,
        /// As configured.
        max: Duration,
    },
    /// A size or span below what works.
    #[error("{setting} is {found}: expected at least {least}")]
    TooSmall {
        /// Which.
        setting: &'static str,
        /// As configured.
        found: String,
        /// What works.
        least: &'static str,
    },
}

impl Config {
    /// With defaults for all that has one.
    #[must_use]
    pub fn new(
        member: MemberId,
        members: BTreeMap<MemberId, SocketAddr>,
        data: PathBuf,
        identity: IdentityFiles,
    ) -> Self {
        Self {
            member,
            members,
            data,
            identity,
            fabric: fabric_default(),
            admin: admin_default(),
            raft: RaftConfig::default(),
            wal: WalConfig::default(),
            snapshot: SnapshotConfig::default(),
            node_lease: node_lease_default(),
            blocks_max: blocks_max_default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !self.members.contains_key(&self.member) {
            let listed = self.members.keys().copied().collect();
            return Err(ConfigError::NotListed { member: self.member, listed });
        }
        let RaftConfig { heartbeat, election_min: min, election_max: max } = self.raft;
        if heartbeat < Duration::from_millis(1) || 2 * heartbeat >= min || min >= max {
            return Err(ConfigError::Timing { heartbeat, min, max });
        }
        let too_small = |setting, found, least| Err(ConfigError::TooSmall { setting, found, least });
        match self {
            Self { wal, .. } if wal.segment < SEGMENT_MIN => too_small("wal.segment", wal.segment.to_string(), "64KiB"),
            Self { snapshot, .. } if snapshot.entries == 0 => too_small("snapshot.entries", "0".to_owned(), "1"),
            Self { node_lease, .. } if *node_lease < NODE_LEASE_MIN => {
                too_small("node_lease", format!("{node_lease:?}"), "400ms")
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { blocks: self.blocks_max, ..Limits::default() }
    }
}

/// Smaller segments cost a new file every few entries.
const SEGMENT_MIN: ByteSize = ByteSize::from_bytes(64 << 10);

/// Nodes keep alive four times a lease, and the leader looks every 100 ms.
const NODE_LEASE_MIN: Duration = Duration::from_millis(400);

impl Default for RaftConfig {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self { heartbeat: millis(150), election_min: millis(400), election_max: millis(700) }
    }
}

impl Default for WalConfig {
    fn default() -> Self {
        Self { segment: ByteSize::from_mib(64), memory: ByteSize::from_mib(64) }
    }
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { entries: 65_536, bytes: ByteSize::from_mib(256), keep: ByteSize::from_mib(256) }
    }
}

fn fabric_default() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 7400).into()
}

fn admin_default() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 7401).into()
}

const fn node_lease_default() -> Duration {
    Duration::from_secs(2)
}

fn blocks_max_default() -> u64 {
    Limits::default().blocks
}

/// Keys of a TOML table are texts.
fn members<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<MemberId, SocketAddr>, D::Error> {
    let members = BTreeMap::<String, Address>::deserialize(deserializer)?;
    let member = |(id, Address(addr)): (String, Address)| match id.parse() {
        Ok(number) => Ok((MemberId::new(number), addr)),
        Err(_) => Err(serde::de::Error::custom(format!("'{id}' is not a member id: expected a number, such as 1"))),
    };
    members.into_iter().map(member).collect()
}
