//! The command line.

use weft_service::run::RoleArgs;

use crate::audit::AuditCommand;
use crate::bench::BenchArgs;
use crate::certs::CertsCommand;
use crate::clear::ClearArgs;
use crate::cluster::OperatorArgs;
use crate::doctor::DoctorArgs;
use crate::explain::ExplainArgs;
use crate::lookup::LookupArgs;
use crate::metadata::MetadataArgs;
use crate::pin::{PinArgs, RepinArgs, UnpinArgs};
use crate::prepare::PrepareArgs;
use crate::status::StatusArgs;
use crate::tenant::TenantCommand;
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
    /// Look at this host, a certificate and the cluster, and say how to mend what is wrong.
    Doctor(DoctorArgs),
    /// Manage tenants: their quotas and weights, API keys, and the groups in which they share public prefixes.
    Tenant {
        /// What.
        #[command(subcommand)]
        command: TenantCommand,
    },
    /// Show who has how much of a prompt, as a router would find it, and why not more.
    Lookup(LookupArgs),
    /// Show why a router sent a request where it did, what came of it, and why a part of its prompt was not reused.
    Explain(ExplainArgs),
    /// Pin the blocks of a prompt for a time, on a tenant's budget.
    Pin(PinArgs),
    /// List the pins that have not ended, and what they take of their tenants' budgets.
    Pins(OperatorArgs),
    /// Let a pin last longer.
    Repin(RepinArgs),
    /// End a pin before its time.
    Unpin(UnpinArgs),
    /// Have nodes drop blocks: all, those of a node or a model, or those of a prompt. What is pinned stays.
    Clear(ClearArgs),
    /// Try on a running cluster what is promised of it.
    Audit {
        /// What.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Measure, against a limit measured in the same run.
    Bench(BenchArgs),
    /// Make directories and give them to a user: for an init container that runs as root, before a daemon that does not.
    #[command(hide = true)]
    Prepare(PrepareArgs),
    /// Make the cluster's CA and certificates, and revoke certificates.
    Certs {
        /// Which.
        #[command(subcommand)]
        command: CertsCommand,
    },
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn error(line: &str) -> String {
        Cli::try_parse_from(line.split(' ')).unwrap_err().to_string()
    }

    #[test]
    fn every_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_prompt_is_given_once_and_in_one_way() {
        let pin = "weft pin --tenant acme --for 2h --prompt p.txt";
        assert!(Cli::try_parse_from(pin.split(' ')).is_ok());
        assert!(error("weft pin --tenant acme --for 2h").contains("<--prompt <FILE>|--chat <FILE>|--tokens <FILE>>"));
        assert!(error(&format!("{pin} --tokens t.json")).contains("cannot be used with"));
        assert!(error("weft pin --tenant acme --prompt p.txt").contains("--for <TIME>"));
        assert!(error("weft pin --tenant acme --for 2 --prompt p.txt").contains("time unit needed"));
    }

    #[test]
    fn what_is_cleared_has_to_be_said() {
        assert!(error("weft clear").contains("--all|--node <NODE>|--model <MODEL>|--prompt <FILE>"));
        assert!(error("weft clear --all --node n1").contains("cannot be used with"));
        assert!(error("weft clear --prompt a --chat b").contains("cannot be used with"));
        assert!(Cli::try_parse_from("weft clear --tenant acme -y".split(' ')).is_ok(), "a whole tenant, everywhere");
        assert!(Cli::try_parse_from("weft clear --node n1 --model m --prompt a --tenant t -y".split(' ')).is_ok());
    }

    #[test]
    fn what_is_no_number_name_or_quota_is_told_before_anybody_is_asked() {
        assert!(error("weft unpin x").contains("`weft pins` lists"));
        assert!(error("weft tenant add two/words").contains("expected 1 to 63 characters"));
        assert!(error("weft tenant set-quota acme ram=1GiB").contains("device, host, disk or object"));
        assert!(error("weft tenant set-weight acme 0").contains("not in 1..=10000"));
        assert!(error("weft tenant set-quota acme").contains("<TIER=SIZE>"));
    }
}
