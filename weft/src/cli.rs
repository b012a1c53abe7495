//! The command line.

use weft_service::run::RoleArgs;

use crate::bench::BenchArgs;
use crate::certs::CertsCommand;
use crate::metadata::MetadataArgs;
use crate::status::StatusArgs;
use crate::up::UpArgs;

/// weft keeps the KV cache that inference engines compute, for any engine of the cluster to load again.
#[derive(Debug, clap::Parser)]
#[command(version, about, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One a role, and the operator's tools.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run a whole weft on this host, and show what it saves.
    Up(UpArgs),
    /// Run a member of the metadata group; or, with a subcommand, ask or change a running group.
    Metadata(MetadataArgs),
    /// Run the node daemon of a GPU host.
    Node(RoleArgs),
    /// Run a router in front of the engines.
    Router(RoleArgs),
    /// Run a simulated engine with real KV bytes.
    EngineSim(RoleArgs),
    /// Show members, nodes, endpoints, and blocks by tier.
    Status(StatusArgs),
    /// Measure, against a limit measured in the same run.
    Bench(BenchArgs),
    /// Make the cluster's CA and certificates.
    Certs {
        /// Which.
        #[command(subcommand)]
        command: CertsCommand,
    },
}
