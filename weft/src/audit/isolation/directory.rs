//! What the directory lists of a prompt, under each tenant's salt.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};
use weft_types::{BlockHash, BlockHasher, Contract};

use super::report::{Finding, Numbers};
use super::tenants::{Pair, Subject};
use crate::cluster::{Cluster, DEADLINE};

/// Longest wait until what a tenant stored is listed: its node reports within milliseconds.
const LISTED_WITHIN: Duration = Duration::from_secs(5);
/// And how often it is asked.
const ASKED_EVERY: Duration = Duration::from_millis(5);

/// Where it is asked, and under what the model's blocks are hashed.
pub(super) struct Directory<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) contracts: Vec<&'a Contract>,
}

impl Directory<'_> {
    /// Blocks of a prompt, under every contract of the model.
    pub(super) fn blocks(&self, subject: &Subject, prompt: &[u32]) -> Vec<BlockHash> {
        let hasher = |contract: &&Contract| BlockHasher::new(&contract.model_key.with_salt(&subject.salt));
        self.contracts.iter().map(hasher).flat_map(|hasher| hasher.prefix(prompt)).collect()
    }

    /// Holders of its beginning, once there are any.
    pub(super) async fn holders(&self, subject: &Subject, prompt: &[u32]) -> anyhow::Result<usize> {
        let keys: Vec<_> = self.blocks(subject, prompt).iter().map(BlockHash::index_key).collect();
        let until = Instant::now() + LISTED_WITHIN;
        loop {
            let found = self.cluster.client.lookup(&keys, DEADLINE).await.context("cannot look the prompt up")?;
            if !found.is_empty() || Instant::now() >= until {
                return Ok(found.len());
            }
            sleep(ASKED_EVERY).await;
        }
    }

    /// Whether the two share a block of a prompt that both computed.
    pub(super) async fn finding(&self, pair: &Pair, prompt: &[u32]) -> anyhow::Result<Finding> {
        let holders = self.holders(&pair.a, prompt).await?;
        let (a, b) = (self.blocks(&pair.a, prompt), self.blocks(&pair.b, prompt));
        let shared = a.iter().filter(|block| b.contains(block)).count();
        Ok(Finding {
            name: "directory".to_owned(),
            says: "Equal prompts of two tenants have no block hash in common".to_owned(),
            control: Some(holders > 0 && !a.is_empty()),
            holds: shared == 0,
            saw: format!("{shared} of {} hashes are equal; {holders} holders are listed for the owner's", a.len()),
            numbers: Numbers::default(),
        })
    }
}
