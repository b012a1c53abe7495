//! Quotas, keys and leases are linearisable: there is an order of all calls about a tenant, each between its beginning and its
//! end, that explains every answer, and in which every member's state, once quiet, comes last. So no acknowledged tenant, quota,
//! key or lease is lost, none is granted twice, and nothing that timed out happens more than once.
//!
//! What a member says of its applied state may be old; it must have been so at some moment before.

use std::collections::BTreeSet;

use weft_metadata::testing::Member;
use weft_types::TenantId;

use crate::accounts::model::{Account, Action, Answer, Call, Settings, Tag, Tenant};
use crate::accounts::record::Record;
use crate::accounts::{tag_of, tenants};
use crate::chronicle::Chronicle;
use crate::linear::{self, Refused, Timed};

pub(crate) const NAME: &str = "accounts are linearisable";

/// Looks for the order; called once quiet.
pub(crate) fn check<'a>(
    record: &Record,
    members: impl Iterator<Item = (u64, &'a Member)> + Clone,
    chronicle: &Chronicle,
) {
    let now = record.now();
    for tenant in tenants() {
        let mut history = record.calls(&tenant).to_vec();
        for answer in members.clone().flat_map(|(_, member)| seen(member, &tenant)) {
            history.push(Timed { call: Call { action: Action::Read, answer }, began: now, ended: Some(now) });
        }
        let checked = linear::check::<Account>(Account::default(), &history);
        chronicle.judged(checked != Err(Refused::Undecided));
        match checked {
            Ok(()) => {}
            Err(Refused::Undecided) => chronicle.note(format_args!("{NAME}: {tenant}: not decided")),
            Err(refused) => chronicle.violated(NAME, format_args!("{tenant}: {refused:?}")),
        }
    }
}

/// What a member's directory says of a tenant.
fn seen(member: &Member, tenant: &TenantId) -> [Answer; 2] {
    member.directory(|directory, _| {
        let accounts = directory.accounts();
        let found = accounts.tenants().all().get(tenant).map(|found| Tenant {
            settings: Settings::from(&found.settings),
            keys: found.secrets.iter().flat_map(|secrets| secrets.keys.keys().cloned()).collect(),
        });
        let its = accounts.leases().all().values().filter(|lease| lease.tenant == *tenant);
        let tags: BTreeSet<Tag> = its.filter_map(|lease| lease.prefix.first().map(tag_of)).collect();
        [Answer::Tenant(found), Answer::Leases(tags)]
    })
}
