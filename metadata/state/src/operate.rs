//! What operators ask for: done once however often it comes, and remembered with who asked.

use weft_index::DirectoryChange;
use weft_types::{
    Asker, AuditEntry, AuditOutcome, EndpointId, GroupId, Lease, NodeId, Operated, OperatorAction, RequestId, Salt,
    TenantId,
};

use crate::accounts::{Revocation, check_ttl};
use crate::{Directory, Outcome};

/// One request, at its place in the log.
#[derive(Debug)]
pub(crate) struct OperatorRequest {
    pub(crate) index: u64,
    pub(crate) by: Asker,
    pub(crate) request: RequestId,
    pub(crate) salt: Salt,
    pub(crate) action: OperatorAction,
}

impl Directory {
    pub(crate) fn operate(&mut self, request: OperatorRequest, changes: &mut Vec<DirectoryChange>) -> Outcome {
        let OperatorRequest { index, by, request, salt, action } = request;
        let what = AuditEntry::cut(action.to_string());
        if let Some(before) = self.accounts.audit.find(&by, request) {
            if before.what != what {
                return Outcome::Refused(format!("request {request} was '{}' before: number each anew", before.what));
            }
            let outcome = before.outcome.clone();
            return self.again(&action, outcome);
        }
        let outcome = self.act(action, salt, changes);
        let noted = match &outcome {
            Ok(Operated::Leased { lease, until }) => AuditOutcome::Leased { lease: *lease, until: *until },
            Ok(_) => AuditOutcome::Done,
            Err(reason) => AuditOutcome::Refused(AuditEntry::cut(reason.clone())),
        };
        let at = self.log_time;
        self.accounts.audit.push(AuditEntry { index, at, by, request, what, outcome: noted });
        outcome.map_or_else(Outcome::Refused, Outcome::Operated)
    }

    /// The outcome that the first copy of a request had.
    fn again(&self, action: &OperatorAction, outcome: AuditOutcome) -> Outcome {
        match (outcome, action) {
            (AuditOutcome::Refused(reason), _) => Outcome::Refused(reason),
            (AuditOutcome::Leased { lease, until }, _) => Outcome::Operated(Operated::Leased { lease, until }),
            (AuditOutcome::Done, OperatorAction::ReadSalt { tenant }) => {
                self.salt_of(tenant).map_or_else(Outcome::Refused, Outcome::Operated)
            }
            (AuditOutcome::Done, OperatorAction::ReadGroupSalt { group }) => {
                self.group_salt(group).map_or_else(Outcome::Refused, Outcome::Operated)
            }
            (AuditOutcome::Done, _) => Outcome::Operated(Operated::Done),
        }
    }

    fn act(
        &mut self,
        action: OperatorAction,
        salt: Salt,
        changes: &mut Vec<DirectoryChange>,
    ) -> Result<Operated, String> {
        let (tenants, leases) = (&mut self.accounts.tenants, &mut self.accounts.leases);
        let tenant_now = |id: TenantId, tenant: &weft_types::Tenant| DirectoryChange::Tenant(id, Some(tenant.clone()));
        match action {
            OperatorAction::PutTenant { tenant, settings, unsalted } => {
                let salt = (!unsalted).then_some(salt);
                let put = tenants.put(&tenant, settings, salt, self.limits.tenants)?;
                changes.push(tenant_now(tenant, put));
            }
            OperatorAction::RemoveTenant { tenant } => {
                tenants.remove(&tenant)?;
                leases.release_all(&tenant, changes);
                changes.push(DirectoryChange::Tenant(tenant, None));
            }
            OperatorAction::RenewSalt { tenant } => {
                let put = tenants.renew_salt(&tenant, salt)?;
                changes.push(tenant_now(tenant.clone(), put));
                leases.release_all(&tenant, changes);
            }
            OperatorAction::AddKey { tenant, key, hash } => {
                let put = tenants.add_key(&tenant, key, hash)?;
                changes.push(tenant_now(tenant, put));
            }
            OperatorAction::RemoveKey { tenant, key } => {
                let put = tenants.remove_key(&tenant, &key)?;
                changes.push(tenant_now(tenant, put));
            }
            OperatorAction::PutGroup { group, prefixes } => {
                let put = tenants.put_group(&group, prefixes, salt)?.clone();
                changes.push(DirectoryChange::Group(group, Some(put)));
            }
            OperatorAction::RemoveGroup { group } => {
                tenants.remove_group(&group)?;
                changes.push(DirectoryChange::Group(group, None));
            }
            OperatorAction::GrantLease { tenant, prefix, ttl } => {
                check_ttl(ttl)?;
                let budget = tenants.get(&tenant)?.settings.lease_blocks_max;
                let lease = Lease { tenant, prefix: prefix.into(), until: self.log_time.after(ttl) };
                let (id, lease) = leases.grant(lease, budget, &self.limits)?;
                changes.push(DirectoryChange::Lease(id, Some(lease.clone())));
                return Ok(Operated::Leased { lease: id, until: lease.until });
            }
            OperatorAction::RenewLease { lease: id, ttl } => {
                check_ttl(ttl)?;
                let lease = leases.renew(id, self.log_time, ttl)?;
                changes.push(DirectoryChange::Lease(id, Some(lease.clone())));
                return Ok(Operated::Leased { lease: id, until: lease.until });
            }
            OperatorAction::ReleaseLease { lease } => {
                leases.release(lease)?;
                changes.push(DirectoryChange::Lease(lease, None));
            }
            OperatorAction::Revoke { serial, reason } => {
                if reason.len() > OperatorAction::REASON_BYTES_MAX {
                    let max = OperatorAction::REASON_BYTES_MAX;
                    return Err(format!("a reason of {} bytes: at most {max}", reason.len()));
                }
                if self.accounts.revoked.insert(serial.clone(), Revocation { at: self.log_time, reason })? {
                    changes.push(DirectoryChange::Revoked(serial, true));
                }
            }
            OperatorAction::Reinstate { serial } => {
                if !self.accounts.revoked.remove(&serial) {
                    return Err(format!("certificate {serial} is not revoked"));
                }
                changes.push(DirectoryChange::Revoked(serial, false));
            }
            OperatorAction::RemoveEndpoint { endpoint } => self.remove_endpoint_for_good(&endpoint, changes)?,
            OperatorAction::RemoveNode { node } => self.remove_host(&node, changes),
            OperatorAction::ReadSalt { tenant } => return self.salt_of(&tenant),
            OperatorAction::ReadGroupSalt { group } => return self.group_salt(&group),
            OperatorAction::Note { .. } => {}
            unknown => return Err(format!("this release does not know how to {unknown}")),
        }
        Ok(Operated::Done)
    }

    fn salt_of(&self, tenant: &TenantId) -> Result<Operated, String> {
        Ok(Operated::Salt(self.accounts.tenants.secrets(tenant)?.salt))
    }

    fn group_salt(&self, group: &GroupId) -> Result<Operated, String> {
        Ok(Operated::Salt(self.accounts.tenants.group(group)?.salt))
    }

    /// Whether the node lives knows the leader, which has looked.
    fn remove_host(&mut self, id: &NodeId, changes: &mut Vec<DirectoryChange>) {
        if let Some(node) = self.roster.nodes.get(id) {
            let incarnation = node.incarnation;
            self.remove_node(id, incarnation, changes);
        }
        let here = self.roster.endpoints.values().filter(|endpoint| endpoint.node.as_ref() == Some(id));
        let here: Vec<_> = here.map(|endpoint| (endpoint.id.clone(), endpoint.incarnation)).collect();
        for (endpoint, incarnation) in here {
            self.remove_endpoint(&endpoint, incarnation, changes);
        }
    }

    fn remove_endpoint_for_good(&mut self, id: &EndpointId, changes: &mut Vec<DirectoryChange>) -> Result<(), String> {
        let Some(endpoint) = self.roster.endpoints.get(id) else {
            return Err(format!("no endpoint {id} is listed: see `weft status`"));
        };
        if let Some(node) = endpoint.node.as_ref().filter(|node| self.roster.nodes.contains_key(node)) {
            return Err(format!(
                "endpoint {id} is at node {node}, which is here and would list it again: stop the engine, and the node removes it"
            ));
        }
        let incarnation = endpoint.incarnation;
        self.remove_endpoint(id, incarnation, changes);
        Ok(())
    }
}
