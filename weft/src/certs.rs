//! `weft certs`: the CA of a cluster, and certificates for its processes.

use std::path::PathBuf;

use weft_service::certs::Ca;
use weft_types::{Name, Role};

/// Makes the cluster's CA and certificates.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CertsCommand {
    /// Make the CA of a new cluster: ca.pem (give it to every process) and ca.key (keep it off the hosts).
    Init {
        /// Folder for the two files.
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// Name of the cluster; it stands in every certificate.
        #[arg(long, default_value = "weft")]
        cluster: Name,
    },
    /// Issue a certificate, ROLE-NAME.pem, with its key, ROLE-NAME.key.
    Issue {
        /// Folder of the CA, where the new files go too.
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// metadata, node, router or admin.
        #[arg(long)]
        role: Role,
        /// Name of the process: a member's number, a node's name, a router's name, an operator's.
        #[arg(long)]
        name: Name,
        /// Days it is valid.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
}

/// Runs it.
pub(crate) fn run(command: &CertsCommand) -> anyhow::Result<()> {
    match command {
        CertsCommand::Init { dir, cluster } => {
            Ca::init(dir, cluster.as_str())?;
            let (cert, key) = Ca::files(dir);
            println!("CA of cluster '{cluster}': {} and {}", cert.display(), key.display());
            println!("Next: weft certs issue --dir {} --role metadata --name 1", dir.display());
        }
        CertsCommand::Issue { dir, role, name, days } => {
            let ca = Ca::load(dir)?;
            let files = ca.issue_to(dir, role.as_str(), name.as_str(), *days)?;
            println!("weft://{}/{role}/{name} for {days} days:", ca.cluster());
            println!(
                "cert = \"{}\"\nkey = \"{}\"\nca = \"{}\"",
                files.cert.display(),
                files.key.display(),
                Ca::files(dir).0.display()
            );
        }
    }
    Ok(())
}
