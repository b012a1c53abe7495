//! When to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal as unix_signal};

/// Resolves at the first SIGINT (Ctrl-C) or SIGTERM (supervisors, Kubernetes).
///
/// # Errors
/// The signal handlers could not be installed.
pub async fn signal() -> io::Result<()> {
    let (mut interrupt, mut terminate) = (unix_signal(SignalKind::interrupt())?, unix_signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
        _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
    }
    Ok(())
}
