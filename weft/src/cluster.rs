//! How an operator's command reaches a cluster: the members of its metadata group, and a certificate of role admin.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use weft_metadata_client::MetadataClient;
use weft_service::config::IdentityFiles;
use weft_transport::{Fabric, Identity, Metrics, Profile};

use crate::up;

/// Where the cluster is, and who asks.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    /// Folder of a running `weft up`: where to find its members and an operator's certificate.
    #[arg(long, default_value = "run")]
    pub(crate) state: PathBuf,
    /// Fabric addresses of metadata members, instead of those of `weft up`.
    #[arg(long, value_delimiter = ',', requires = "cert")]
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
fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    }
}
