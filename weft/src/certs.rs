//! `weft certs`: the CA of a cluster, certificates for its processes, and the list of those that are revoked.

mod revoke;
mod secret;

use std::path::PathBuf;
use std::time::Duration;

use weft_service::certs::Ca;
use weft_types::{Name, Role};

use crate::cluster::OperatorArgs;

const DAY: Duration = Duration::from_secs(24 * 3600);

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
        /// Folder of the CA.
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// Folder for the new files, and for a copy of ca.pem; without it, that of the CA.
        #[arg(long)]
        out: Option<PathBuf>,
        /// metadata, node, router or admin.
        #[arg(long)]
        role: Role,
        /// Name of the process: a member's number, a node's name, a router's name, an operator's.
        #[arg(long)]
        name: Name,
        /// Days it is valid.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// How long it is valid, such as 24h, in place of days: for those who renew it on a timer.
        #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "days")]
        valid: Option<Duration>,
    },
    /// Inside a Kubernetes pod: make a CA and keep it in a new Secret. One that is there already stays as it is.
    Secret(secret::SecretArgs),
    /// Put a certificate on the cluster's list of those that are not to be trusted though they have not run out.
    Revoke(revoke::RevokeArgs),
    /// Take a certificate off that list.
    Reinstate(revoke::ReinstateArgs),
    /// Show the list.
    Revoked(OperatorArgs),
}

/// Runs it.
pub(crate) async fn run(command: &CertsCommand) -> anyhow::Result<()> {
    match command {
        CertsCommand::Init { dir, cluster } => {
            Ca::init(dir, cluster.as_str())?;
            let (cert, key) = Ca::files(dir);
            println!("CA of cluster '{cluster}': {} and {}", cert.display(), key.display());
            println!("Next: weft certs issue --dir {} --role metadata --name 1", dir.display());
        }
        CertsCommand::Issue { dir, out, role, name, days, valid } => {
            let ca = Ca::load(dir)?;
            let shown =
                valid.map_or_else(|| format!("{days} days"), |valid| humantime::format_duration(valid).to_string());
            let valid = valid.unwrap_or(DAY * *days);
            let files = ca.issue_to_for(out.as_ref().unwrap_or(dir), role.as_str(), name.as_str(), valid)?;
            let trusted = match out {
                Some(out) => ca.publish_to(out)?,
                None => Ca::files(dir).0,
            };
            println!("weft://{}/{role}/{name} for {shown}, serial {}:", ca.cluster(), revoke::serial_in(&files.cert)?);
            println!(
                "cert = \"{}\"\nkey = \"{}\"\nca = \"{}\"",
                files.cert.display(),
                files.key.display(),
                trusted.display()
            );
        }
        CertsCommand::Secret(args) => return secret::run(args).await,
        CertsCommand::Revoke(args) => return revoke::revoke(args).await,
        CertsCommand::Reinstate(args) => return revoke::reinstate(args).await,
        CertsCommand::Revoked(args) => return revoke::list(args).await,
    }
    Ok(())
}
