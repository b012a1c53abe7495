//! What one watcher is told: its scope is what it asked for, its secrets what its certificate allows.

use std::borrow::Cow;

use weft_metadata_proto::v1::{WatchItem, WatchScope};
use weft_metadata_state::DirectoryChange;
use weft_transport::{Peer, Refusal, RefusalCode};
use weft_types::Role;

/// Who listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Audience {
    scope: WatchScope,
    /// Salts and hashes of keys.
    secrets: bool,
}

impl Audience {
    /// # Errors
    /// A role that may not watch so much.
    pub(crate) fn of(peer: &Peer, scope: WatchScope) -> Result<Self, Refusal> {
        match (peer.role, scope) {
            (Role::Router, _) => Ok(Self { scope, secrets: true }),
            (Role::Node, WatchScope::Accounts) => Ok(Self { scope, secrets: false }),
            (role, scope) => Err(Refusal::new(
                RefusalCode::Forbidden,
                format!("a {role} may not watch the scope {scope:?}: routers watch everything, nodes the accounts"),
            )),
        }
    }

    /// Roster and blocks are told.
    pub(crate) fn hears_directory(self) -> bool {
        self.scope == WatchScope::Directory
    }

    /// The item as it may be told; `None`: nothing of it.
    pub(crate) fn item(self, item: &WatchItem) -> Option<Cow<'_, WatchItem>> {
        let WatchItem::Changes { index, changes } = item else { return Some(Cow::Borrowed(item)) };
        if self.hears_directory() && self.secrets {
            return Some(Cow::Borrowed(item));
        }
        let changes: Vec<DirectoryChange> = changes.iter().filter_map(|change| self.change(change)).collect();
        (!changes.is_empty()).then_some(Cow::Owned(WatchItem::Changes { index: *index, changes }))
    }

    /// A change as it may be told; `None`: not at all.
    pub(crate) fn change(self, change: &DirectoryChange) -> Option<DirectoryChange> {
        match change {
            DirectoryChange::Tenant(id, Some(tenant)) if !self.secrets => {
                Some(DirectoryChange::Tenant(id.clone(), Some(tenant.without_secrets())))
            }
            DirectoryChange::Group(id, Some(group)) if !self.secrets => {
                Some(DirectoryChange::Group(id.clone(), Some(group.without_secrets())))
            }
            DirectoryChange::Tenant(..)
            | DirectoryChange::Group(..)
            | DirectoryChange::Lease(..)
            | DirectoryChange::Revoked(..) => Some(change.clone()),
            _ => self.hears_directory().then(|| change.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_types::{HolderId, Salt, SharingGroup, Tenant, TenantSecrets, TenantSettings};

    use super::*;

    fn peer(role: Role) -> Peer {
        Peer { cluster: "test".parse().unwrap(), role, name: "x".parse().unwrap() }
    }

    #[test]
    fn a_node_hears_of_accounts_without_secrets_and_nothing_else() {
        let node = Audience::of(&peer(Role::Node), WatchScope::Accounts).unwrap();
        let salt = Some(Salt::from_bytes([7; 32]));
        let secrets = Some(TenantSecrets { salt, keys: Default::default() });
        let tenant = Tenant { settings: TenantSettings::default(), secrets };
        let group = SharingGroup { salt, ..SharingGroup::default() };
        let changes = vec![
            DirectoryChange::HolderRetired(HolderId::new(1)),
            DirectoryChange::Tenant("t".parse().unwrap(), Some(tenant.clone())),
            DirectoryChange::Group("g".parse().unwrap(), Some(group.clone())),
        ];
        let item = WatchItem::Changes { index: 3, changes };
        let heard = node.item(&item).unwrap().into_owned();
        let expected = vec![
            DirectoryChange::Tenant("t".parse().unwrap(), Some(tenant.without_secrets())),
            DirectoryChange::Group("g".parse().unwrap(), Some(group.without_secrets())),
        ];
        assert_eq!(heard, WatchItem::Changes { index: 3, changes: expected });
        let blocks_only =
            WatchItem::Changes { index: 4, changes: vec![DirectoryChange::HolderRetired(HolderId::new(1))] };
        assert_eq!(node.item(&blocks_only), None);
        let router = Audience::of(&peer(Role::Router), WatchScope::Directory).unwrap();
        assert_eq!(router.item(&item).unwrap().into_owned(), item);
    }

    #[test]
    fn who_may_watch_what_is_in_the_certificate() {
        for (role, scope) in [
            (Role::Node, WatchScope::Directory),
            (Role::Admin, WatchScope::Directory),
            (Role::Admin, WatchScope::Accounts),
            (Role::Metadata, WatchScope::Accounts),
        ] {
            assert_eq!(Audience::of(&peer(role), scope).unwrap_err().code, RefusalCode::Forbidden, "{role} {scope:?}");
        }
    }
}
