//! How an operator's command reaches a cluster: the members of its metadata group, and a certificate of role admin.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use weft_metadata_client::MetadataClient;
use weft_service::address::resolve;
use weft_service::config::IdentityFiles;
use weft_transport::{Fabric, Identity, Metrics, Profile};

use crate::up;

/// Longest wait for what an operator's command asks of the group.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Longest wait for a member to say who leads.
const LEADER_WITHIN: Duration = Duration::from_secs(2);

/// What every operator's command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct OperatorArgs {
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// One JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the cluster is, and who asks.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    /// Folder of a running `weft up`: where to find its members and an operator's certificate.
    #[arg(long, default_value = "run")]
    pub(crate) state: PathBuf,
    /// Fabric addresses of metadata members, instead of those of `weft up`.
    #[arg(long, value_delimiter = ',', requires = "cert", value_parser = resolve)]
    pub(crate) metadata: Vec<SocketAddr>,
    /// Operator's certificate (`weft certs issue --role admin`), PEM.
    #[arg(long, requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, requires = "ca")]
    pub(crate) key: Option<PathBuf>,
    /// The cluster's CA, PEM.
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
}

/// A cluster that can be asked.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Fabric addresses of metadata members, as given.
    pub(crate) members: Vec<SocketAddr>,
    /// Close it before the process ends, so that nobody waits for us.
    pub(crate) fabric: Fabric,
    /// Asks them.
    pub(crate) client: MetadataClient,
}

impl Cluster {
    /// A client whose reads go to the leader, while one is known: what was just changed must be seen by the next command, and
    /// what is changed on the ground of a read should be the newest there is.
    pub(crate) async fn newest(&self) -> MetadataClient {
        for member in &self.members {
            let Ok(status) = self.client.status(*member, LEADER_WITHIN).await else { continue };
            return match status.leader_addr {
                Some(leader) => MetadataClient::new(self.fabric.clone(), vec![leader]),
                None => self.client.clone(),
            };
        }
        self.client.clone()
    }
}

impl OperatorArgs {
    /// Opens the cluster for `ask`, and closes it whatever came of it.
    pub(crate) async fn with<T>(&self, ask: impl AsyncFnOnce(&Cluster) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let cluster = self.cluster.open()?;
        let answer = ask(&cluster).await;
        cluster.fabric.close().await;
        answer
    }

    /// Prints one of the two.
    pub(crate) fn print(&self, json: &serde_json::Value, text: &str) {
        match self.json {
            true => println!("{json:#}"),
            false => println!("{}", text.trim_end()),
        }
    }
}

impl ClusterArgs {
    /// Reads the certificate and opens a port of our own. Nobody is asked yet.
    pub(crate) fn open(&self) -> anyhow::Result<Cluster> {
        let (members, files) = self.target()?;
        let pem = files.read()?;
        let identity = Identity::from_pem(&pem.cert, &pem.key, &pem.ca)?;
        let metrics = Metrics::register(&prometheus::Registry::new());
        let fabric = Fabric::bind(unspecified(members[0]), Profile::Control, &identity, metrics)?;
        let client = MetadataClient::new(fabric.clone(), members.clone());
        Ok(Cluster { members, fabric, client })
    }

    /// Whose certificate would be shown, if any is known.
    pub(crate) fn identity(&self) -> Option<IdentityFiles> {
        match (&self.cert, &self.key, &self.ca) {
            (Some(cert), Some(key), Some(ca)) => {
                Some(IdentityFiles { cert: cert.clone(), key: key.clone(), ca: ca.clone() })
            }
            _ => Some(up::operator(&self.state)).filter(|files| files.cert.exists()),
        }
    }

    /// Folder of the `weft up` that is meant; `None`: another cluster is.
    pub(crate) fn up_state(&self) -> Option<&Path> {
        self.metadata.is_empty().then_some(&self.state)
    }

    fn target(&self) -> anyhow::Result<(Vec<SocketAddr>, IdentityFiles)> {
        if let (Some(cert), Some(key), Some(ca)) = (&self.cert, &self.key, &self.ca) {
            if self.metadata.is_empty() {
                bail!(
                    "--cert goes with --metadata: expected the fabric address of at least one member, such as 10.0.0.1:7400"
                );
            }
            return Ok((self.metadata.clone(), IdentityFiles { cert: cert.clone(), key: key.clone(), ca: ca.clone() }));
        }
        let members = up::members(&self.state).with_context(|| {
            format!(
                "no `weft up` runs in {}: start it, name its folder with --state, or give --metadata, --cert, --key and --ca",
                self.state.display()
            )
        })?;
        Ok((members, up::operator(&self.state)))
    }
}

/// An address of our own from which `peer` can be reached.
pub(crate) fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    }
}
