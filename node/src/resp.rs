//! The RESP door: a port that speaks as much of the Redis protocol as caches of KV need, so that LMCache gets a store that spans the
//! fleet and its tiers by one URL.
//!
//! ```text
//!   client ── TCP or TLS ──► Connection ─► Decoder ─► commands ─► Values ─► arenas, disk, peers
//!                                                        │          ▲
//!                                              EXISTS ─► Kept ──────┘ pinned until the GET
//! ```
//!
//! # Invariants
//! - a value that is served is whole and as it was set; where that can't be, it is a miss;
//! - a client that says nothing, too much, or something else costs its connection and nothing more;
//! - without passwords and TLS nobody from elsewhere is let in.
//!
//! # Absent on purpose
//! - expiry, lists of keys, `FLUSHALL`: blocks go when their memory is needed, keys are not kept, and `weft clear` clears;
//! - one order of all writes: keys name their content. A key that is set to another value is another value here at once;
//!   elsewhere, and for what is being written to disk, the value before may still be found.

mod commands;
mod config;
mod connection;
mod head;
mod incoming;
mod kept;
mod metrics;
mod tls;
mod users;
mod values;
mod widths;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_types::ByteSize;

pub use self::config::{RespConfig, RespTls, RespUser};
use self::connection::Connection;
use self::kept::Kept;
pub(crate) use self::metrics::RespMetrics;
use self::users::Users;
pub(crate) use self::values::Values;
use self::widths::Widths;
use crate::arenas::{ArenaError, Arenas};
use crate::disk::Disk;
use crate::fetch::Fetcher;

/// Connections at once: 256. LMCache opens eight a worker. Each may hold a part, and a buffer of 256 KiB.
const CONNECTIONS_MAX: usize = 256;

/// Smallest part: a page.
const PART_BYTES_MIN: u64 = 4 << 10;

/// Largest part: 64 MiB; a connection may hold one.
const PART_BYTES_MAX: u64 = 64 << 20;

/// How often values that were kept for their reader are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Why a door cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RespFault {
    /// Anybody could come in.
    #[error("resp.listen is {0}, which others reach: give it resp.tls and resp.users, or listen on 127.0.0.1")]
    Exposed(SocketAddr),
    /// A part that makes no blocks.
    #[error("resp.part is {0}: expected 4KiB to 64MiB")]
    Part(ByteSize),
    /// More than there is.
    #[error("resp.memory is {memory}, and host_memory {host_memory}: it is a share of that")]
    Memory {
        /// For values.
        memory: ByteSize,
        /// For everything.
        host_memory: ByteSize,
    },
    /// The memory cannot be had.
    #[error("resp.memory: {0}")]
    Arena(String),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Empty, or another's.
    #[error("{path}: the password in it is empty, or another user's too: expected one of its own")]
    Password {
        /// Of the password.
        path: PathBuf,
    },
    /// No certificate and key.
    #[error("resp.tls: {0}")]
    Tls(String),
    /// The port cannot be had.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl RespFault {
    /// Whether another configuration would help.
    pub(crate) fn is_of_configuration(&self) -> bool {
        !matches!(self, Self::Listen { .. })
    }
}

/// What all connections share.
#[derive(Debug)]
struct Door {
    values: Values,
    users: Users,
    kept: Kept,
    widths: Widths,
    metrics: RespMetrics,
    stop: CancellationToken,
}

/// Opens the door: takes its memory, and serves until it is stopped. Returns where.
pub(crate) async fn open(
    config: &RespConfig,
    (arenas, disk, fetcher): (&Arc<Arenas>, Option<Arc<Disk>>, Option<Arc<Fetcher>>),
    patience: Duration,
    metrics: RespMetrics,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Result<SocketAddr, RespFault> {
    check(config, arenas.budget().total())?;
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let arena = |error: ArenaError| RespFault::Arena(error.to_string());
    let values = Values::new(arenas, (config.memory, config.part), (disk, fetcher), patience).await.map_err(arena)?;
    let users = Users::read(&config.users, &values)?;
    let fault = |source| RespFault::Listen { addr: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(fault)?;
    let addr = listener.local_addr().map_err(fault)?;
    let kept = Kept::new(values.slots());
    let door = Arc::new(Door { values, users, kept, widths: Widths::default(), metrics, stop: stop.clone() });
    tracing::info!(%addr, tls = tls.is_some(), users = config.users.len(), memory = %config.memory, "the RESP door is open");
    tasks.spawn(sweep(Arc::clone(&door)));
    tasks.spawn(accept(door, listener, tls, tasks.clone()));
    Ok(addr)
}

fn check(config: &RespConfig, host_memory: ByteSize) -> Result<(), RespFault> {
    let RespConfig { listen, memory, part, .. } = *config;
    if !listen.ip().is_loopback() && (config.tls.is_none() || config.users.is_empty()) {
        return Err(RespFault::Exposed(listen));
    }
    if !(PART_BYTES_MIN..=PART_BYTES_MAX).contains(&part.bytes()) {
        return Err(RespFault::Part(part));
    }
    if memory > host_memory { Err(RespFault::Memory { memory, host_memory }) } else { Ok(()) }
}

async fn sweep(door: Arc<Door>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => door.kept.sweep(),
            () = door.stop.cancelled() => return,
        }
    }
}

async fn accept(door: Arc<Door>, listener: TcpListener, tls: Option<TlsAcceptor>, tasks: TaskTracker) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = door.stop.cancelled() => return,
        };
        let stream = match connection {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others have to close theirs first.
                tracing::error!(%error, "cannot accept a RESP client");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            // Closed: a client that is told nothing tries again later.
            door.metrics.refused.connections.inc();
            continue;
        };
        let (door, tls) = (Arc::clone(&door), tls.clone());
        tasks.spawn(async move {
            let _seat = seat;
            door.metrics.connections.inc();
            serve(&door, stream, tls).await;
            door.metrics.connections.dec();
        });
    }
}

async fn serve(door: &Arc<Door>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a RESP client's answers may be late");
    }
    let ended = match tls {
        None => Connection::new(door, stream).serve().await,
        Some(tls) => match tls::greet(&tls, stream).await {
            Ok(stream) => Connection::new(door, stream).serve().await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a RESP client's connection ended");
    }
}
