//! Leases: timed promises not to evict a prefix.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{IndexKey, LogTime, TenantId};

/// A tenant's pin on a prefix. It ends at `until` unless it is renewed, and not before: time runs only while the group has a
/// leader, so an outage prolongs it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// On whose budget.
    pub tenant: TenantId,
    /// What nobody may evict, from token 0. Shared, since a copy of all leases is taken with every snapshot.
    #[serde(serialize_with = "serialize_keys", deserialize_with = "deserialize_keys")]
    pub prefix: Arc<[IndexKey]>,
    /// When it ends.
    pub until: LogTime,
}

impl Lease {
    /// Blocks of one lease: a prompt of a million tokens in 16-token blocks. Their keys take 1 MiB, a quarter of a message.
    pub const BLOCKS_MAX: usize = 65_536;
}

fn serialize_keys<S: Serializer>(keys: &Arc<[IndexKey]>, serializer: S) -> Result<S::Ok, S::Error> {
    keys.as_ref().serialize(serializer)
}

fn deserialize_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[IndexKey]>, D::Error> {
    Vec::deserialize(deserializer).map(Arc::from)
}
