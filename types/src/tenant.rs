//! Tenants: whose blocks are whose, and what each may use. Nothing here is enforced; it is what metadata agrees on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BlockHash, ByteSize, GroupId, KeyHash, KeyId, Name, Tier};

/// The secret of a tenant or a sharing group: it is part of every hash under it, so that nobody without it can name, find
/// or time a block. Made by the metadata leader. `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Salt([u8; 32]);

impl Salt {
    /// From random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it goes into [`crate::ModelKey::salt`] and an engine's `cache_salt`: 64 hexadecimal digits. A secret.
    #[must_use]
    pub fn reveal(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(secret)")
    }
}

/// What an operator sets for a tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TenantSettings {
    /// Bytes that its blocks may take, by tier, over the whole cluster. A tier that is not listed is not limited.
    pub quota: BTreeMap<Tier, ByteSize>,
    /// Its share when tenants compete, in relation to the others'. Default 100; 1 to [`TenantSettings::WEIGHT_MAX`].
    pub weight: u16,
    /// Distinct blocks that its leases may pin. Default 16,384: a million tokens at 64 a block.
    pub lease_blocks_max: u32,
    /// Sharing groups whose public prefixes it uses.
    pub groups: BTreeSet<GroupId>,
}

impl TenantSettings {
    /// A hundred times the default share.
    pub const WEIGHT_MAX: u16 = 10_000;

    /// Groups of one tenant.
    pub const GROUPS_MAX: usize = 16;
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self { quota: BTreeMap::new(), weight: 100, lease_blocks_max: 16_384, groups: BTreeSet::new() }
    }
}

impl fmt::Display for TenantSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight {}, {} lease blocks, quota", self.weight, self.lease_blocks_max)?;
        if self.quota.is_empty() {
            f.write_str(" unlimited")?;
        }
        for (tier, bytes) in &self.quota {
            write!(f, " {tier}={bytes}")?;
        }
        if !self.groups.is_empty() {
            f.write_str(", groups")?;
        }
        for group in &self.groups {
            write!(f, " {group}")?;
        }
        Ok(())
    }
}

/// What only routers are told of a tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TenantSecrets {
    /// `None`: the empty salt, for callers that bring no key.
    pub salt: Option<Salt>,
    /// Its API keys, by the part that is no secret.
    pub keys: BTreeMap<KeyId, KeyHash>,
}

impl TenantSecrets {
    /// Keys of one tenant: enough to give each of its services one and to replace them in turn.
    pub const KEYS_MAX: usize = 16;
}

/// A tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tenant {
    /// What an operator set.
    pub settings: TenantSettings,
    /// `None`: kept from whoever was told of the tenant.
    pub secrets: Option<TenantSecrets>,
}

impl Tenant {
    /// What a process other than a router may know.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        Self { settings: self.settings.clone(), secrets: None }
    }
}

/// A prompt's beginning that every tenant of a group may hit: hashed under the group's salt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublicPrefix {
    /// Length in blocks.
    pub blocks: u32,
    /// Hash of its last block, which stands for all before it.
    pub last: BlockHash,
}

/// Tenants that share named public prefixes (one system prompt for all), and nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SharingGroup {
    /// `None`: kept from whoever was told of the group.
    pub salt: Option<Salt>,
    /// By name; one for each model key that it is served under.
    pub prefixes: BTreeMap<Name, PublicPrefix>,
}

impl SharingGroup {
    /// Public prefixes of one group.
    pub const PREFIXES_MAX: usize = 32;

    /// What a process other than a router may know.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        Self { salt: None, prefixes: self.prefixes.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_is_shown_only_where_it_is_asked_for() {
        let salt = Salt::from_bytes([0xab; 32]);
        assert_eq!(format!("{salt:?}"), "Salt(secret)");
        assert_eq!(salt.reveal(), "ab".repeat(32));
        let secrets = TenantSecrets { salt: Some(salt), keys: BTreeMap::new() };
        let tenant = Tenant { settings: TenantSettings::default(), secrets: Some(secrets) };
        assert!(!format!("{tenant:?}").contains("abab"));
        assert_eq!(tenant.without_secrets().secrets, None);
    }
}
