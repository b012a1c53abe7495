//! What leases pin, followed from metadata and told to the arenas and to the disk tier.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_metadata_client::{Accounts, Follower};
use weft_store::LeasedKeys;

use crate::report::Own;

/// Tells the node's tiers whenever a lease comes or goes, until `stop`. While metadata is away, what was leased stays leased.
pub(crate) fn keep(leases: &Follower, own: Own, tasks: &TaskTracker, stop: &CancellationToken) {
    let mut changes = leases.accounts_changes();
    let keeping = async move {
        let mut known = Vec::new();
        loop {
            let accounts = Arc::clone(&changes.borrow_and_update());
            // A lease never changes its blocks; one that is renewed is no news.
            let now: Vec<_> = accounts.leases.keys().copied().collect();
            if now != known {
                known = now;
                let own = own.clone();
                let tell = move || {
                    let leased = Arc::new(keys(&accounts));
                    if let Some(disk) = &own.disk {
                        disk.set_leased(Arc::clone(&leased));
                    }
                    // Every slot is looked at.
                    own.arenas.set_leased(leased);
                };
                let told = tokio::task::spawn_blocking(tell).await;
                if let Err(error) = told {
                    tracing::error!(%error, "cannot look at what is leased");
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(keeping));
}

/// Blocks that leases pin.
pub(crate) fn keys(accounts: &Accounts) -> LeasedKeys {
    accounts.leases.values().flat_map(|lease| lease.prefix.iter().copied()).collect()
}
