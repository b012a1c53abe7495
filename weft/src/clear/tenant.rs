//! `weft clear --tenant`: all of one tenant. No node can tell whose a block is, so none is asked: the tenant gets another salt, and what was
//! stored under the old one is found by nobody from then on. Its bytes leave as they are evicted.

use serde_json::json;
use weft_types::{OperatorAction, TenantId};

use crate::cluster::OperatorArgs;
use crate::confirm::ConfirmArgs;
use crate::fault::Fault;
use crate::tenant::{counted, find, operate, tenants};

/// Clears. Its pins hold, unless `force`.
pub(super) async fn clear(
    tenant: &TenantId,
    force: bool,
    operator: &OperatorArgs,
    confirm: ConfirmArgs,
) -> anyhow::Result<()> {
    let pins = operator
        .with(async |cluster| {
            let known = find(&tenants(cluster).await?, tenant)?.clone();
            let pins = counted(known.leases as usize, "pin");
            if known.leases > 0 && !force {
                return Err(Fault::Refused(format!(
                    "tenant {tenant} has {pins}: end them first, with `weft unpin`, or say --force to have them end with this"
                ))
                .into());
            }
            confirm.confirm(&format!(
                "All that tenant {tenant} stored will be found by nobody any more, and {pins} will end. It has to be computed again."
            ))?;
            operate(cluster, OperatorAction::RenewSalt { tenant: tenant.clone() }).await?;
            anyhow::Ok(known.leases)
        })
        .await?;
    let json = json!({ "tenant": tenant, "pins_ended": pins });
    let text = format!(
        "tenant {tenant} has another salt: nothing that it stored is found any more, at any node. The bytes leave as they are evicted"
    );
    operator.print(&json, &text);
    Ok(())
}
