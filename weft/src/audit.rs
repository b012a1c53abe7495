//! `weft audit`: what is promised of a running cluster, tried on it.

mod isolation;
mod ranks;

/// What is tried.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditCommand {
    /// Try to see one tenant's blocks as another: by answers, counters, timing, forged salts and stolen certificates.
    Isolation(isolation::IsolationArgs),
}

/// Runs it.
pub(crate) async fn run(command: &AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Isolation(args) => isolation::run(args).await,
    }
}
