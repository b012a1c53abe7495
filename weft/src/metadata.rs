//! `weft metadata`: run a member of the group, or ask and change the group as its operator.

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
}

/// Runs an operator's command.
pub(crate) async fn run(command: &MetadataCommand) -> anyhow::Result<()> {
    match command {
        MetadataCommand::Status(args) => status::run(args).await,
    }
}
