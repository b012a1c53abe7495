//! A node as a bench plays it: it joins, and reports what it is told to hold.

use std::time::Duration;

use anyhow::{Context, ensure};
use weft_index::{Change, Report, ReportAck, ReportForm};
use weft_metadata_client::MetadataClient;
use weft_types::{ByteSize, HolderGrant, Incarnation, IndexKey, NodeSpec, Tier};

/// One node with one holder.
pub(crate) struct Holder {
    client: MetadataClient,
    pub(crate) grant: HolderGrant,
    /// Of the last report that was acknowledged.
    pub(crate) number: u64,
    /// Longest wait for an acknowledgement.
    deadline: Duration,
}

impl Holder {
    pub(crate) async fn join(client: MetadataClient, name: &str, deadline: Duration) -> anyhow::Result<Self> {
        let grant = join(&client, &node(name, 1)?, deadline).await?;
        Ok(Self { client, grant, number: 0, deadline })
    }

    /// Sends the next report until it is acknowledged.
    pub(crate) async fn report(&mut self, changes: Vec<Change>) -> anyhow::Result<()> {
        let number = self.number + 1;
        let acks = self.client.report(&[report(&self.grant, number, changes)], self.deadline).await?;
        ensure!(acks == [ReportAck::Applied { number }], "report {number} was answered {acks:?}");
        self.number = number;
        Ok(())
    }
}

/// Joins, and returns its one grant.
pub(crate) async fn join(client: &MetadataClient, node: &NodeSpec, deadline: Duration) -> anyhow::Result<HolderGrant> {
    client.join(node, deadline).await?.grants.into_iter().next().context("a tier without a grant")
}

/// A node with host memory.
pub(crate) fn node(name: &str, incarnation: u64) -> anyhow::Result<NodeSpec> {
    Ok(NodeSpec {
        id: name.parse()?,
        incarnation: Incarnation::new(incarnation),
        fabric: "127.0.0.1:7410".parse()?,
        bulk: "127.0.0.1:7412".parse()?,
        capacity: [(Tier::Host, ByteSize::from_mib(64))].into(),
        labels: Default::default(),
    })
}

/// A report of a holder.
pub(crate) fn report(grant: &HolderGrant, number: u64, changes: Vec<Change>) -> Report {
    Report {
        holder: grant.holder,
        generation: grant.generation,
        incarnation: grant.incarnation,
        number,
        form: ReportForm::default(),
        changes,
    }
}

/// A block of its own for each place and number; spread as hashes are.
pub(crate) fn key(place: usize, number: u64) -> IndexKey {
    let hash = blake3::hash(&[(place as u64).to_le_bytes(), number.to_le_bytes()].concat());
    IndexKey::from_bytes(*hash.as_bytes().first_chunk().expect("32 bytes have 16"))
}
