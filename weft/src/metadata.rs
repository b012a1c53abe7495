//! `weft metadata`: run a member of the group, or ask and change the group as its operator.

mod audit;
mod backup;
mod endpoint;
mod members;
mod node;
pub(crate) mod status;

use weft_service::run::RoleArgs;

use self::status::StatusArgs;

/// Runs a member; with a subcommand, asks or changes a running group.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct MetadataArgs {
    /// Of the member.
    #[command(flatten)]
    pub(crate) role: RoleArgs,
    /// For its operator.
    #[command(subcommand)]
    pub(crate) command: Option<MetadataCommand>,
}

/// What an operator asks of the group.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum MetadataCommand {
    /// Show each member: what it does, how far its log and its state are.
    Status(StatusArgs),
    /// List the members that the group agreed on, who leads, and who answers.
    List(members::ListArgs),
    /// Add a member: it takes over what it lacks, then gets its vote. Or tell the group that a member has moved.
    Add(members::AddArgs),
    /// Remove a member. A leader hands over first.
    Remove(members::RemoveArgs),
    /// Put a member in the place of another, such as one whose disk is gone, without a vote less on the way.
    Replace(members::ReplaceArgs),
    /// Hand leadership over, in a few milliseconds instead of an election.
    TransferLeader(members::TransferArgs),
    /// Show what operators asked for: who, when, what, and what came of it.
    Audit(audit::AuditArgs),
    /// Take an engine replica off the list whose node is gone with it.
    Endpoint {
        /// What.
        #[command(subcommand)]
        command: endpoint::EndpointCommand,
    },
    /// Take a node and the engine replicas at it off the list whose host is gone for good.
    Node {
        /// What.
        #[command(subcommand)]
        command: node::NodeCommand,
    },
    /// Write what a member has applied to a file, while the group works.
    Backup(backup::BackupArgs),
    /// Make a new group of a backup: this member's empty data directory becomes its first.
    Restore(backup::RestoreArgs),
    /// When a majority is gone for good: make a new group of what this stopped member has.
    Recover(backup::RecoverArgs),
}

/// Runs an operator's command.
pub(crate) async fn run(command: &MetadataCommand) -> anyhow::Result<()> {
    match command {
        MetadataCommand::Status(args) => status::run(args).await,
        MetadataCommand::List(args) => members::list(args).await,
        MetadataCommand::Add(args) => members::add(args).await,
        MetadataCommand::Remove(args) => members::remove(args).await,
        MetadataCommand::Replace(args) => members::replace(args).await,
        MetadataCommand::Audit(args) => audit::run(args).await,
        MetadataCommand::Endpoint { command } => endpoint::run(command).await,
        MetadataCommand::Node { command } => node::run(command).await,
        MetadataCommand::Backup(args) => backup::backup(args).await,
        MetadataCommand::Restore(args) => backup::restore(args),
        MetadataCommand::Recover(args) => backup::recover(args),
        MetadataCommand::TransferLeader(args) => members::transfer(args).await,
    }
}
