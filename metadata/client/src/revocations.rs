//! The deny list, kept where connections are made.

use std::sync::Arc;

use weft_transport::Credentials;

use crate::Follower;

impl Follower {
    /// Tells `credentials` which certificates are revoked, as soon as this copy knows, until dropped. While metadata is away,
    /// those that were revoked stay so.
    pub async fn keep_revoked(self, credentials: Credentials) {
        let mut changes = self.accounts_changes();
        loop {
            let accounts = Arc::clone(&changes.borrow_and_update());
            credentials.revoke(&Arc::new(accounts.revoked.clone()));
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}
