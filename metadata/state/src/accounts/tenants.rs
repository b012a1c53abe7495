//! Tenants and sharing groups: put, changed, removed.

use std::collections::BTreeMap;

use weft_types::{
    GroupId, KeyHash, KeyId, Name, PublicPrefix, Salt, SharingGroup, Tenant, TenantId, TenantSecrets, TenantSettings,
};

/// Sharing groups: each is one system prompt or a family of them.
const GROUPS_MAX: usize = 256;

/// Tenants and the groups in which they share public prefixes.
///
/// # Invariants
/// - every tenant here has its secrets, every group its salt;
/// - an API key's id is one tenant's;
/// - a group that a tenant names is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tenants {
    tenants: BTreeMap<TenantId, Tenant>,
    groups: BTreeMap<GroupId, SharingGroup>,
}

impl Tenants {
    /// By name.
    #[must_use]
    pub fn all(&self) -> &BTreeMap<TenantId, Tenant> {
        &self.tenants
    }

    /// By name.
    #[must_use]
    pub fn groups(&self) -> &BTreeMap<GroupId, SharingGroup> {
        &self.groups
    }

    /// A tenant.
    ///
    /// # Errors
    /// There is none of this name.
    pub(crate) fn get(&self, id: &TenantId) -> Result<&Tenant, String> {
        self.tenants.get(id).ok_or_else(|| unknown(id))
    }

    /// Its secrets, which are always there.
    pub(crate) fn secrets(&self, id: &TenantId) -> Result<&TenantSecrets, String> {
        Ok(self.get(id)?.secrets.as_ref().expect("a tenant of the directory has its secrets"))
    }

    /// A sharing group.
    ///
    /// # Errors
    /// There is none of this name.
    pub(crate) fn group(&self, id: &GroupId) -> Result<&SharingGroup, String> {
        self.groups.get(id).ok_or_else(|| unknown_group(id))
    }

    /// `salt`: for one that is new.
    pub(crate) fn put(
        &mut self,
        id: &TenantId,
        settings: TenantSettings,
        salt: Option<Salt>,
        max: u32,
    ) -> Result<&Tenant, String> {
        self.check(&settings)?;
        let Some(known) = self.tenants.get(id) else {
            if self.tenants.len() >= max as usize {
                return Err(format!("{max} tenants are there, and no more may be: remove some"));
            }
            let secrets = Some(TenantSecrets { salt, keys: BTreeMap::new() });
            return Ok(self.tenants.entry(id.clone()).or_insert(Tenant { settings, secrets }));
        };
        let salted = known.secrets.as_ref().is_some_and(|secrets| secrets.salt.is_some());
        if salted != salt.is_some() {
            return Err(format!(
                "tenant {id} was put {} a salt, and that cannot change: remove it and put it anew, which loses its cache",
                if salted { "with" } else { "without" },
            ));
        }
        let known = self.tenants.get_mut(id).expect("it was found above");
        known.settings = settings;
        Ok(known)
    }

    /// Another salt in the place of its own.
    pub(crate) fn renew_salt(&mut self, id: &TenantId, salt: Salt) -> Result<&Tenant, String> {
        let tenant = self.tenants.get_mut(id).ok_or_else(|| unknown(id))?;
        let secrets = tenant.secrets.as_mut().expect("a tenant of the directory has its secrets");
        match &mut secrets.salt {
            Some(known) => *known = salt,
            None => {
                return Err(format!(
                    "tenant {id} has no salt: its blocks are those of everybody who brings no key; clear them by model, or all"
                ));
            }
        }
        Ok(tenant)
    }

    pub(crate) fn remove(&mut self, id: &TenantId) -> Result<(), String> {
        self.tenants.remove(id).map(|_| ()).ok_or_else(|| unknown(id))
    }

    pub(crate) fn add_key(&mut self, id: &TenantId, key: KeyId, hash: KeyHash) -> Result<&Tenant, String> {
        self.get(id)?;
        if let Some(owner) = self.owner_of(&key) {
            return Err(format!("key {key} is tenant {owner}'s: choose another id, or remove it there"));
        }
        let tenant = self.tenants.get_mut(id).expect("it was found above");
        let secrets = tenant.secrets.as_mut().expect("a tenant of the directory has its secrets");
        if secrets.keys.len() >= TenantSecrets::KEYS_MAX {
            let max = TenantSecrets::KEYS_MAX;
            return Err(format!("tenant {id} has {max} keys, and no more may be: remove one"));
        }
        secrets.keys.insert(key, hash);
        Ok(tenant)
    }

    pub(crate) fn remove_key(&mut self, id: &TenantId, key: &KeyId) -> Result<&Tenant, String> {
        let tenant = self.tenants.get_mut(id).ok_or_else(|| unknown(id))?;
        let secrets = tenant.secrets.as_mut().expect("a tenant of the directory has its secrets");
        match secrets.keys.remove(key) {
            Some(_) => Ok(tenant),
            None => Err(format!("tenant {id} has no key {key}: see `weft tenant show {id}`")),
        }
    }

    /// `salt`: for one that is new.
    pub(crate) fn put_group(
        &mut self,
        id: &GroupId,
        prefixes: BTreeMap<Name, PublicPrefix>,
        salt: Salt,
    ) -> Result<&SharingGroup, String> {
        if prefixes.len() > SharingGroup::PREFIXES_MAX {
            let (asked, max) = (prefixes.len(), SharingGroup::PREFIXES_MAX);
            return Err(format!("sharing group {id} would have {asked} public prefixes: at most {max}"));
        }
        if let Some((name, _)) = prefixes.iter().find(|(_, prefix)| prefix.blocks == 0) {
            return Err(format!("public prefix {name} has no blocks: a prompt must fill one to be cached"));
        }
        if !self.groups.contains_key(id) && self.groups.len() >= GROUPS_MAX {
            return Err(format!("{GROUPS_MAX} sharing groups are there, and no more may be: remove some"));
        }
        let group =
            self.groups.entry(id.clone()).or_insert(SharingGroup { salt: Some(salt), ..SharingGroup::default() });
        group.prefixes = prefixes;
        Ok(group)
    }

    pub(crate) fn remove_group(&mut self, id: &GroupId) -> Result<(), String> {
        if let Some((tenant, _)) = self.tenants.iter().find(|(_, tenant)| tenant.settings.groups.contains(id)) {
            return Err(format!(
                "tenant {tenant} is in sharing group {id}: take it out first, with `weft tenant group leave {id} {tenant}`"
            ));
        }
        self.groups.remove(id).map(|_| ()).ok_or_else(|| unknown_group(id))
    }

    /// From a snapshot. `false`: it is there already, or breaks an invariant.
    pub(super) fn restore_tenant(&mut self, id: TenantId, tenant: Tenant) -> bool {
        let Some(secrets) = &tenant.secrets else { return false };
        let sound = tenant.settings.groups.iter().all(|group| self.groups.contains_key(group))
            && secrets.keys.keys().all(|key| self.owner_of(key).is_none());
        sound && self.tenants.insert(id, tenant).is_none()
    }

    /// From a snapshot, before the tenants that name it. `false`: it is there already, or breaks an invariant.
    pub(super) fn restore_group(&mut self, id: GroupId, group: SharingGroup) -> bool {
        group.salt.is_some() && self.groups.insert(id, group).is_none()
    }

    fn owner_of(&self, key: &KeyId) -> Option<&TenantId> {
        let has = |tenant: &Tenant| tenant.secrets.as_ref().is_some_and(|secrets| secrets.keys.contains_key(key));
        self.tenants.iter().find(|(_, tenant)| has(tenant)).map(|(id, _)| id)
    }

    fn check(&self, settings: &TenantSettings) -> Result<(), String> {
        let TenantSettings { weight, groups, .. } = settings;
        if !(1..=TenantSettings::WEIGHT_MAX).contains(weight) {
            return Err(format!("a weight of {weight}: expected 1 to {}", TenantSettings::WEIGHT_MAX));
        }
        if groups.len() > TenantSettings::GROUPS_MAX {
            return Err(format!(
                "{} sharing groups of one tenant: at most {}",
                groups.len(),
                TenantSettings::GROUPS_MAX
            ));
        }
        match groups.iter().find(|group| !self.groups.contains_key(group)) {
            Some(missing) => {
                Err(format!("no sharing group {missing}: add it first, with `weft tenant group add {missing}`"))
            }
            None => Ok(()),
        }
    }
}

fn unknown(id: &TenantId) -> String {
    format!("no tenant {id}: add it first, with `weft tenant add {id}`")
}

fn unknown_group(id: &GroupId) -> String {
    format!("no sharing group {id}: see `weft tenant group list`")
}
