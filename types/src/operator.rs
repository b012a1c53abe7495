//! What an operator may ask metadata to change. Every request goes through the log, with who asked, and is remembered there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    EndpointId, GroupId, IndexKey, KeyHash, KeyId, LeaseId, LogTime, Name, NodeId, PublicPrefix, Salt, Serial,
    TenantId, TenantSettings,
};

/// One request. The order of the variants is wire and log identity: append, never reorder. `Display` says it in words,
/// without secrets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OperatorAction {
    /// A tenant appears, with a new salt, or its settings change; its salt and keys stay.
    PutTenant {
        /// Who.
        tenant: TenantId,
        /// From now on.
        settings: TenantSettings,
        /// The empty salt instead of a new one: the tenant of callers that bring no key. Never changes.
        unsalted: bool,
    },
    /// It is gone, with its keys and leases. Its blocks are found by nobody any more, whoever bears its name later.
    RemoveTenant {
        /// Who.
        tenant: TenantId,
    },
    /// Callers with this key are the tenant.
    AddKey {
        /// Whose.
        tenant: TenantId,
        /// By which it is listed.
        key: KeyId,
        /// Of the whole key.
        hash: KeyHash,
    },
    /// They are nobody.
    RemoveKey {
        /// Whose.
        tenant: TenantId,
        /// Which.
        key: KeyId,
    },
    /// A sharing group appears, with a new salt, or its public prefixes change.
    PutGroup {
        /// Which.
        group: GroupId,
        /// All of them, from now on.
        prefixes: BTreeMap<Name, PublicPrefix>,
    },
    /// It is gone; no tenant may be in it.
    RemoveGroup {
        /// Which.
        group: GroupId,
    },
    /// Pins a prefix.
    GrantLease {
        /// On whose budget.
        tenant: TenantId,
        /// From token 0.
        prefix: Vec<IndexKey>,
        /// For how long.
        ttl: Duration,
    },
    /// A lease lasts for so long from now, if that is longer than it would.
    RenewLease {
        /// Which.
        lease: LeaseId,
        /// For how long.
        ttl: Duration,
    },
    /// A lease ends now.
    ReleaseLease {
        /// Which.
        lease: LeaseId,
    },
    /// A certificate is no longer to be trusted, though it has not run out.
    Revoke {
        /// Its serial number.
        serial: Serial,
        /// Why, for those who read the list; at most [`OperatorAction::REASON_BYTES_MAX`].
        reason: String,
    },
    /// It is to be trusted again.
    Reinstate {
        /// Its serial number.
        serial: Serial,
    },
    /// An engine replica is gone for good, and so is the node that would say so.
    RemoveEndpoint {
        /// Which.
        endpoint: EndpointId,
    },
    /// Reads a tenant's salt, to hash prompts as that tenant.
    ReadSalt {
        /// Whose.
        tenant: TenantId,
    },
    /// Something that is done elsewhere, to be remembered with the rest.
    Note {
        /// In words.
        what: String,
    },
    /// Reads a sharing group's salt, to hash a prompt that it makes public.
    ReadGroupSalt {
        /// Which.
        group: GroupId,
    },
    /// A tenant gets another salt, and its leases end: what was stored under the old one is found by nobody any more.
    RenewSalt {
        /// Whose.
        tenant: TenantId,
    },
    /// A host is gone for good: its node, with all it held, and the engine replicas at it. None of them listed: nothing to do.
    RemoveNode {
        /// Which.
        node: NodeId,
    },
}

/// What a request that was done gives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Operated {
    /// Nothing to tell.
    Done,
    /// A lease is granted or renewed.
    Leased {
        /// Which.
        lease: LeaseId,
        /// When it ends.
        until: LogTime,
    },
    /// A tenant's salt, or a group's; `None`: the empty one.
    Salt(Option<Salt>),
}

impl OperatorAction {
    /// Longest reason of a revocation.
    pub const REASON_BYTES_MAX: usize = 200;
}

impl fmt::Display for OperatorAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutTenant { tenant, settings, unsalted } => {
                write!(f, "put tenant {tenant}: {settings}{}", if *unsalted { ", without a salt" } else { "" })
            }
            Self::RemoveTenant { tenant } => write!(f, "remove tenant {tenant}"),
            Self::AddKey { tenant, key, .. } => write!(f, "add key {key} to tenant {tenant}"),
            Self::RemoveKey { tenant, key } => write!(f, "remove key {key} of tenant {tenant}"),
            Self::PutGroup { group, prefixes } => {
                write!(f, "put sharing group {group}, public prefixes")?;
                if prefixes.is_empty() {
                    f.write_str(" none")?;
                }
                prefixes.iter().try_for_each(|(name, prefix)| write!(f, " {name} ({} blocks)", prefix.blocks))
            }
            Self::RemoveGroup { group } => write!(f, "remove sharing group {group}"),
            Self::GrantLease { tenant, prefix, ttl } => {
                write!(f, "pin {} blocks for tenant {tenant} for {ttl:?}", prefix.len())
            }
            Self::RenewLease { lease, ttl } => write!(f, "renew lease {lease} for {ttl:?}"),
            Self::ReleaseLease { lease } => write!(f, "release lease {lease}"),
            Self::Revoke { serial, reason } => write!(f, "revoke certificate {serial}: {reason}"),
            Self::Reinstate { serial } => write!(f, "reinstate certificate {serial}"),
            Self::RemoveEndpoint { endpoint } => write!(f, "remove endpoint {endpoint}"),
            Self::ReadSalt { tenant } => write!(f, "read the salt of tenant {tenant}"),
            Self::Note { what } => f.write_str(what),
            Self::ReadGroupSalt { group } => write!(f, "read the salt of sharing group {group}"),
            Self::RenewSalt { tenant } => write!(f, "renew the salt of tenant {tenant}"),
            Self::RemoveNode { node } => write!(f, "remove node {node} and the endpoints at it"),
        }
    }
}
